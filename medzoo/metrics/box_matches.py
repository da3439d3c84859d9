"""Matches detected boxes with true ones, in images, by two rules.

`match` is COCO's, to the letter of pycocotools at area 'all' (Lin et al.,
Microsoft COCO, ECCV 2014). `match_bipartite` is that of TensorBox and the
programs that came from it (Stewart et al., CVPR 2016). Boxes are
(y0, x0, y1, x1), half-open, in pixels; classes are matched apart. Objects of
any other shape are matched by overlaps that the caller computes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import scipy.sparse.csgraph

from medzoo.ops import boxes

MAX_DETECTIONS = 100


@dataclasses.dataclass(frozen=True)
class Detections:
  """What a detector found in one image, in any order.

  Attributes:
    boxes: (n, 4) y0, x0, y1, x1.
    scores: (n,) higher is surer.
    labels: (n,) int class ids.
  """

  boxes: np.ndarray
  scores: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Truths:
  """What there is in one image.

  Attributes:
    boxes: (m, 4) y0, x0, y1, x1.
    labels: (m,) int class ids.
    ignored: (m,) true where finding it is neither right nor wrong; like any
      truth it takes one detection.
    crowd: (m,) true where it is ignored and takes every detection that lies
      on it, measured by the share of the detection's own area. This is
      `iscrowd`, the only mark of an ignored truth in COCO's files.
  """

  boxes: np.ndarray
  labels: np.ndarray
  ignored: np.ndarray
  crowd: np.ndarray


_Rows = TypeVar('_Rows', Detections, Truths)


@dataclasses.dataclass(frozen=True)
class Matches:
  """What is left of detections and truths once they have been matched.

  Detections stand by image, then class, then falling score.

  Attributes:
    scores: (n,) of the detections.
    labels: (n,) their class ids.
    image: (n,) number of their image.
    hit: (n,) true where a truth that counts was found.
    ignored: (n,) true where an ignored truth was: neither hit nor false.
    truths: class id -> (images,) how many truths count in each image.
    num_images: how many images there are.
  """

  scores: np.ndarray
  labels: np.ndarray
  image: np.ndarray
  hit: np.ndarray
  ignored: np.ndarray
  truths: dict[int, np.ndarray]
  num_images: int


def match(
  detections: Sequence[Detections],
  truths: Sequence[Truths],
  *,
  iou: float = 0.5,
  max_detections: int = MAX_DETECTIONS,
  overlaps: Sequence[np.ndarray] | None = None,
) -> Matches:
  """Matches by COCO's rule.

  By falling score each detection takes, of the truths that are still free and
  overlap it enough, the one that does so most (the last of equals), and an
  ignored truth only where no other is to be had.

  Args:
    detections: of each image.
    truths: of each image, in the same order.
    iou: the least intersection over union of a match.
    max_detections: how many of an image and class count, the highest first.
    overlaps: of each image, (n, m) intersection over union of its detections
      and truths (of a crowd the share of the detection that lies on it), by
      their masks say; None for that of the boxes.

  Returns:
    The matches that precision and recall are made of.

  Raises:
    ValueError: no image, unequal numbers of images or of rows, or a number
      that is not finite.
  """
  return _match(detections, truths, overlaps, _greedy, iou, max_detections)


def match_bipartite(
  detections: Sequence[Detections],
  truths: Sequence[Truths],
  *,
  iou: float = 0.5,
) -> Matches:
  """Matches as many as can be at every threshold.

  A matching of the greatest size among the detections above a threshold grows
  by one or not at all as the threshold falls past the next. The detections
  that make it grow are the hits, so that at any threshold the number of hits
  above it is that greatest size. Of the others, one that overlaps an ignored
  truth enough is ignored.

  Args:
    detections: of each image.
    truths: of each image, in the same order.
    iou: the least intersection over union of a match.

  Returns:
    The matches that precision and recall are made of.

  Raises:
    ValueError: as `match`.
  """
  return _match(detections, truths, None, _bipartite, iou, None)


def _match(
  detections: Sequence[Detections],
  truths: Sequence[Truths],
  overlaps: Sequence[np.ndarray] | None,
  rule: Callable[..., tuple[np.ndarray, np.ndarray]],
  iou: float,
  max_detections: int | None,
) -> Matches:
  _check(detections, truths)
  labels = np.unique(np.concatenate([x.labels for x in (*detections, *truths)]))
  counts = {int(label): np.zeros(len(truths), int) for label in labels}
  nothing = np.zeros(0, bool)
  parts = [(np.zeros(0), np.zeros(0, int), np.zeros(0, int), nothing, nothing)]
  for image, label in np.ndindex(len(truths), len(labels)):
    label = int(labels[label])
    mine = np.flatnonzero(detections[image].labels == label)
    order = np.argsort(-detections[image].scores[mine], kind='stable')
    mine = mine[order[:max_detections]]
    theirs = np.flatnonzero(truths[image].labels == label)
    found = _take(detections[image], mine)
    there = _take(truths[image], theirs)
    ignored = there.ignored | there.crowd
    if overlaps is None:
      shares = _overlaps(found.boxes, there)
    else:
      shares = overlaps[image][np.ix_(mine, theirs)]
    enough = shares >= min(iou, 1 - 1e-10)
    hit, skipped = rule(enough, shares, ignored, there.crowd)
    numbers = np.full(len(mine), image)
    parts.append((found.scores, found.labels, numbers, hit, skipped))
    counts[label][image] = (~ignored).sum()
  columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
  return Matches(*columns, counts, len(truths))


def _greedy(
  enough: np.ndarray,
  overlaps: np.ndarray,
  ignored: np.ndarray,
  crowd: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """COCO's rule on (n, m) overlaps: (n,) hit and (n,) ignored."""
  free = np.ones(len(ignored), bool)
  outcome = np.zeros((2, len(overlaps)), bool)
  for i, row in enumerate(overlaps):
    for kind in (False, True):
      able = np.flatnonzero(enough[i] & (free | crowd) & (ignored == kind))
      if len(able):
        best = able[row[able] == row[able].max()][-1]
        free[best] = False
        outcome[int(kind), i] = True
        break
  return outcome[0], outcome[1]


def _bipartite(
  enough: np.ndarray,
  overlaps: np.ndarray,
  ignored: np.ndarray,
  crowd: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """TensorBox's rule on (n, m) overlaps: (n,) hit and (n,) ignored."""
  del overlaps, crowd
  # A box that finds nothing lets no matching grow.
  able = np.flatnonzero(enough[:, ~ignored].any(axis=1))
  graph = scipy.sparse.csr_array(enough[np.ix_(able, ~ignored)])
  sizes = [0]
  for i in range(1, len(able) + 1):
    partner = scipy.sparse.csgraph.maximum_bipartite_matching(graph[:i])
    sizes.append(int((partner >= 0).sum()))
  hit = np.zeros(len(enough), bool)
  hit[able] = np.diff(sizes) > 0
  return hit, ~hit & enough[:, ignored].any(axis=1)


def _overlaps(found: np.ndarray, there: Truths) -> np.ndarray:
  """(n, m) IoU, of a crowd the share of the detection that lies on it."""
  shared = boxes.intersection(found, there.boxes)
  area = boxes.size(found)[:, None]
  share = shared / np.where(area > 0, area, 1)
  return np.where(there.crowd, share, boxes.iou(found, there.boxes))


def _take(rows: _Rows, index: np.ndarray) -> _Rows:
  columns = dataclasses.fields(rows)
  return type(rows)(*(getattr(rows, c.name)[index] for c in columns))


def _check(detections: Sequence[Detections], truths: Sequence[Truths]) -> None:
  if not len(truths) or len(detections) != len(truths):
    raise ValueError(
      f'detections of {len(detections)} images and truths of {len(truths)}:'
      ' expected as many, and at least one'
    )
  for image, pair in enumerate(zip(detections, truths, strict=True)):
    for rows in pair:
      name = type(rows).__name__.lower()
      values = vars(rows)
      if rows.boxes.shape != (len(rows.labels), 4) or any(
        len(column) != len(rows.labels) for column in values.values()
      ):
        shapes = {key: column.shape for key, column in values.items()}
        raise ValueError(
          f'image {image}: expected (n, 4) boxes and n of all else in its'
          f' {name}, found {shapes}'
        )
      if not all(np.isfinite(column).all() for column in values.values()):
        raise ValueError(f'image {image}: its {name} are not all finite')
