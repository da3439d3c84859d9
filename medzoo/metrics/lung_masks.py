"""Scores the right and the left lung in chest X-rays.

The two are classes 1 and 2, at most one of each in an image. What is found of a
class is its surest instance that has a pixel and, at a threshold, a score so
high or higher. Scores of a side are means over the images in whose truth it is:
a lung that is not found has a Dice and an IoU of 0 and a distance as long as
the image's diagonal. Lungs that are absent in truth take part in
`false_lung_rate` only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.metrics import bootstrap
from medzoo.metrics import segmentation

SIDES = {'right': 1, 'left': 2}
# The overlap from which on a lung counts as found.
FOUND_IOU = 0.5

_NO_LUNG = 'no image of these has a {} lung'
_NO_PAIR = 'no image of these has both lungs'
_NONE_ABSENT = 'every image of these has both lungs'


@dataclasses.dataclass(frozen=True)
class Lungs:
  """How the two lungs agree with what was found, whatever its score.

  The last axis is that of `SIDES`, right and left; others before it are of
  images.

  Attributes:
    present: (*n, 2) bool, the lung is in the truth.
    scores: (*n, 2) of what was found; -inf where nothing was.
    dice: (*n, 2) 0 where nothing was found or is to be found.
    iou: (*n, 2) likewise.
    hd95: (*n, 2) 95th-percentile distance of the outlines over the image's
      diagonal, in pixels both; 1 where one of the outlines is missing.
    diagonal_mm: (*n,) of the image; NaN where the spacing is not known.
    hd95_mm: (*n, 2) the distance in mm; the diagonal where one is missing.
  """

  present: np.ndarray
  scores: np.ndarray
  dice: np.ndarray
  iou: np.ndarray
  hd95: np.ndarray
  diagonal_mm: np.ndarray
  hd95_mm: np.ndarray

  def found(self, threshold: float) -> np.ndarray:
    """Returns (*n, 2) bool: something was, scored the threshold or higher."""
    return np.isfinite(self.scores) & (self.scores >= threshold)


def compare(
  truth: types.Masks,
  found: types.MaskDetections,
  spacing: Sequence[float | None],
) -> Lungs:
  """Compares what is in one image with what was found in it.

  Args:
    truth: at most one mask of each class; one without a pixel counts as none.
    found: in any order.
    spacing: (z, y, x) of the image, mm, as in `types.Volume`.

  Returns:
    Of this image alone, n being ().

  Raises:
    ValueError: the masks are not of one size.
  """
  height, width = truth.masks.shape[1:]
  diagonal = np.hypot(height, width)
  # NaN where it is not known.
  steps = np.asarray(spacing[1:], float)
  known = np.isfinite(steps).all()
  diagonal_mm = np.hypot(height * steps[0], width * steps[1])
  rows = []
  for label in SIDES.values():
    there = _mask(truth.masks, truth.labels, np.zeros(len(truth)), label)
    mine = _mask(found.masks, found.labels, found.scores, label)
    row = [there is not None, -np.inf if mine is None else mine[1], 0.0, 0.0]
    row += [1.0, diagonal_mm]
    if there is not None and mine is not None:
      pair = there[0], mine[0]
      edges = [segmentation.surface(mask) for mask in pair]
      row[2:] = [
        segmentation.dice(*pair),
        segmentation.iou(*pair),
        segmentation.apart(*edges) / diagonal,
        segmentation.apart(*(e * steps for e in edges)) if known else np.nan,
      ]
    rows.append(row)
  present, *values, hd95_mm = map(np.array, zip(*rows, strict=True))
  return Lungs(present, *values, np.array(diagonal_mm), hd95_mm)


def stack(images: Sequence[Lungs]) -> Lungs:
  """Joins the comparisons of several images."""
  return Lungs(
    *(
      np.stack([getattr(image, field.name) for image in images])
      for field in dataclasses.fields(Lungs)
    )
  )


def agreement(lungs: Lungs, threshold: float) -> np.ndarray:
  """Returns one number a lung, in [0, 1].

  It is the Dice of a lung that is there, and of one that is absent 1 where
  nothing was found and 0 where something was.

  Args:
    lungs: of any images.
    threshold: see `Lungs.found`.

  Returns:
    (*n, 2).
  """
  found = lungs.found(threshold)
  return np.where(lungs.present, np.where(found, lungs.dice, 0), ~found)


def choose_threshold(lungs: Lungs) -> float:
  """Chooses the threshold of the best mean agreement, on validation images.

  Returns:
    Half way between the lowest score that is kept and the next below it, or 0,
    as scores of other images need some room; of equally good thresholds the
    highest. 0 where nothing was found.
  """
  scores = np.unique(lungs.scores[np.isfinite(lungs.scores)])[::-1]
  if not len(scores):
    return 0.0
  best = np.argmax([agreement(lungs, score).mean() for score in scores])
  below = scores[best + 1] if best + 1 < len(scores) else 0.0
  return float((scores[best] + below) / 2)


def metrics(
  lungs: Lungs, threshold: float, index: np.ndarray, draws: np.ndarray
) -> dict[str, dict[str, Any]]:
  """Scores what was found for `results.json`.

  Args:
    lungs: of all images, n = (images,).
    threshold: chosen on other images.
    index: (images,) group of each image.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    Entries of `dice_SIDE`, `iou_SIDE`, `hd95_SIDE` (a share of the image's
    diagonal) and, where every image's spacing is known, `hd95_SIDE_mm`; of the
    images with both lungs, the shares in which both, one or none has an IoU of
    0.5 or more (`both_lungs_found`, `one_lung_found`, `no_lung_found`); and
    `false_lung_rate`, the share of the absent lungs for which something was
    found.
  """
  return {
    name: bootstrap.ratio(above, below, index, draws, why)
    for name, (above, below, why) in _ratios(lungs, threshold).items()
  }


def differences(
  lungs: Lungs,
  threshold: float,
  others: Lungs,
  other_threshold: float,
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, dict[str, Any]]:
  """Returns paired differences of `dice_SIDE` and `both_lungs_found`.

  Args:
    lungs: of the first system.
    threshold: its own.
    others: of the second system, of the same images.
    other_threshold: its own.
    index: (images,) group of each image.
    draws: (r, groups) from `bootstrap.draw`.
  """
  entries = {}
  first, second = _ratios(lungs, threshold), _ratios(others, other_threshold)
  for name in (*(f'dice_{side}' for side in SIDES), 'both_lungs_found'):
    pairs = [
      part
      for ratios in (first, second)
      for part in bootstrap.ratio_samples(*ratios[name][:2], index, draws)
    ]
    entries[name] = bootstrap.difference(*pairs, draws.shape[1])
  return entries


def _ratios(
  lungs: Lungs, threshold: float
) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
  """Returns each metric's summands above and below the line, and why not."""
  found, present = lungs.found(threshold), lungs.present
  columns = {
    'dice_{}': np.where(found, lungs.dice, 0),
    'iou_{}': np.where(found, lungs.iou, 0),
    'hd95_{}': np.where(found, lungs.hd95, 1),
  }
  if np.isfinite(lungs.diagonal_mm).all():
    diagonal = lungs.diagonal_mm[:, None]
    columns['hd95_{}_mm'] = np.where(found, lungs.hd95_mm, diagonal)
  ratios = {}
  for name, values in columns.items():
    for i, side in enumerate(SIDES):
      above = np.where(present[:, i], values[:, i], 0)
      ratios[name.format(side)] = above, present[:, i], _NO_LUNG.format(side)
  both = present.all(axis=1)
  hits = (found & (lungs.iou >= FOUND_IOU)).sum(axis=1)
  for name, number in (('both_lungs', 2), ('one_lung', 1), ('no_lung', 0)):
    ratios[f'{name}_found'] = both & (hits == number), both, _NO_PAIR
  false, absent = (found & ~present).sum(axis=1), (~present).sum(axis=1)
  ratios['false_lung_rate'] = false, absent, _NONE_ABSENT
  return ratios


def _mask(
  masks: np.ndarray, labels: np.ndarray, scores: np.ndarray, label: int
) -> tuple[np.ndarray, float] | None:
  """Returns mask and score of a class's surest instance with a pixel."""
  for i in np.argsort(-scores, kind='stable'):
    if labels[i] == label and masks[i].any():
      return masks[i], float(scores[i])
  return None
