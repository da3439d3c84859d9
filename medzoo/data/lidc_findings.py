"""The marks of LIDC-IDRI's readers as JSON, by the image that they are on."""

import json
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from medzoo.io import lidc_contours
from medzoo.io import lidc_types

# Of one image, by what LIDC calls a mark.
Findings = dict[str, list[dict[str, Any]]]


def by_image(document: lidc_types.Document) -> dict[str, Findings]:
  """Sorts the contours and points of a message by image.

  Args:
    document: a message on CT.

  Returns:
    SOPInstanceUID -> `nodules` (3 mm and more, with ratings), `small_nodules`
    and `non_nodules`, each a list of contours, all in index coordinates:

    * `reader`: index of the session; `mark`: of the mark among the session's
      of its kind, the same for all contours of one nodule.
    * `inclusion`: false where the contour is a hole.
    * `points`: [[x, y], ...]; an outline runs just outside of the nodule.
    * `centroid`: [x, y] of the pixels within, or of the points where there
      are none.
    * `box`: [x0, y0, x1, y1] of the points' pixels, half-open: x1 and y1 are
      one more than the largest x and y.
    * `characteristics`: the nine ratings; none but for `nodules`.
  """
  found: dict[str, Findings] = {}

  def add(
    kind: str,
    reader: int,
    mark: int,
    contour: lidc_types.Contour,
    characteristics: dict[str, int],
  ) -> None:
    image = found.setdefault(
      contour.sop_uid, {'nodules': [], 'small_nodules': [], 'non_nodules': []}
    )
    image[kind].append(
      {
        'reader': reader,
        'mark': mark,
        'inclusion': contour.inclusion,
        'points': contour.points.tolist(),
        'centroid': _centroid(contour),
        'box': [
          *contour.points.min(axis=0).tolist(),
          *(contour.points.max(axis=0) + 1).tolist(),
        ],
        'characteristics': characteristics,
      }
    )

  for reader, session in enumerate(document.sessions):
    for kind in ('nodules', 'small_nodules'):
      for mark, nodule in enumerate(getattr(session, kind)):
        for contour in nodule.contours:
          add(kind, reader, mark, contour, dict(nodule.characteristics))
    for mark, contour in enumerate(session.non_nodules):
      add('non_nodules', reader, mark, contour, {})
  return found


def _centroid(contour: lidc_types.Contour) -> list[float]:
  # For the pixels within it does not matter whether they are a hole.
  outline = lidc_types.Contour(contour.sop_uid, contour.z, True, contour.points)
  mask, (row, column) = lidc_contours.interior([outline])
  pixels = np.argwhere(mask)[:, ::-1] + (column, row)
  if not len(pixels):
    pixels = np.unique(contour.points, axis=0)
  return np.round(pixels.mean(axis=0), 3).tolist()


def write(documents: Iterable[lidc_types.Document], file: TextIO) -> int:
  """Writes `by_image` of all messages as one JSON object, as they come.

  Args:
    documents: messages on different CT series.
    file: takes an image a line.

  Returns:
    How many images are marked.
  """
  images = 0
  for document in documents:
    for uid, findings in by_image(document).items():
      file.write(',\n' if images else '{\n')
      file.write(f'{json.dumps(uid)}: {json.dumps(findings)}')
      images += 1
  file.write('\n}\n' if images else '{}\n')
  return images
