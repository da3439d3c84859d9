"""Precision, recall and average precision of boxes or masks in images.

Average precision is COCO's: precision, made to fall, at 101 recalls, averaged
over these and the classes. It is equal to that of pycocotools where the
matches are those of `box_matches.match`. The same functions on
`box_matches.match_bipartite` give the curve of TensorBox's programs.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches

IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_NO_TRUTH = 'there is no true box in these images'


@dataclasses.dataclass(frozen=True)
class Curve:
  """Precision and recall by falling threshold, one point a distinct score.

  Attributes:
    thresholds: (k,) detections scored so or higher count.
    precision: (k,) share of hits among hits and false positives; NaN where
      there is neither.
    recall: (k,) share of the truths found; NaN without any truth.
    false_positives: (k,) per image.
  """

  thresholds: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  false_positives: np.ndarray


def curve(matches: box_matches.Matches) -> Curve:
  """Computes the curve of all images and classes together."""
  order = np.argsort(-matches.scores, kind='stable')
  scores = matches.scores[order]
  ends = np.flatnonzero(np.diff(scores, append=-np.inf))
  hits = np.cumsum(matches.hit[order])[ends]
  false = np.cumsum(~(matches.hit | matches.ignored)[order])[ends]
  truths = sum(counts.sum() for counts in matches.truths.values())
  with np.errstate(divide='ignore', invalid='ignore'):
    precision, recall = hits / (hits + false), hits / truths
  return Curve(scores[ends], precision, recall, false / matches.num_images)


def exact_area(points: Curve) -> float:
  """Computes the area under precision, made to fall, over recall.

  All of it rather than its mean at 101 recalls, and of all classes together,
  so it is near what `average_precision` gives and not equal to it.
  """
  precision = np.nan_to_num(points.precision)
  falling = np.maximum.accumulate(precision[::-1])[::-1]
  return float((falling * np.diff(points.recall, prepend=0)).sum())


def count(matches: box_matches.Matches, threshold: float) -> np.ndarray:
  """Counts what was found in each image at a threshold, which is included.

  Returns:
    (images, 3) int: hits, false positives, truths.
  """
  above = matches.scores >= threshold
  false = ~(matches.hit | matches.ignored)
  counted = [
    np.bincount(matches.image[above & kind], minlength=matches.num_images)
    for kind in (matches.hit, false)
  ]
  truths = sum(matches.truths.values(), np.zeros(matches.num_images, int))
  return np.stack([*counted, truths], axis=1)


def choose_threshold(matches: box_matches.Matches) -> float:
  """Chooses the score at which F1 is best, to be called on validation images.

  Returns:
    A score that some detection has, the highest of equally good ones; 0 where
    there is no detection at all.
  """
  points = curve(matches)
  if not len(points.thresholds):
    return 0.0
  with np.errstate(divide='ignore', invalid='ignore'):
    f1 = 2 / (1 / points.precision + 1 / points.recall)
  return float(points.thresholds[np.nan_to_num(f1).argmax()])


def thinned(points: Curve, most: int) -> Curve:
  """Keeps up to `most` points, evenly along the line that they draw."""
  last = len(points.thresholds) - 1
  if last < most:
    return points
  drawn = np.nan_to_num([points.precision, points.recall])
  length = np.append(0, np.cumsum(np.hypot(*np.diff(drawn))))
  even = np.linspace(0, length[-1], most - 1)
  kept = np.unique(np.append(np.searchsorted(length, even), last))
  return Curve(
    *(getattr(points, f.name)[kept] for f in dataclasses.fields(points))
  )


def match_at_all(
  detections: Sequence[box_matches.Detections],
  truths: Sequence[box_matches.Truths],
  overlaps: Sequence[np.ndarray] | None = None,
) -> list[box_matches.Matches]:
  """Matches at each of `IOUS`; see `box_matches.match`."""
  return [
    box_matches.match(detections, truths, iou=iou, overlaps=overlaps)
    for iou in IOUS
  ]


def average_precision(matches: box_matches.Matches) -> float:
  """Computes COCO's average precision, the mean over classes.

  Classes without a truth that counts are left out; NaN where all are. What
  COCO calls AP is the mean over matches at each of `IOUS`.
  """
  return float(resampled(matches, np.ones((1, matches.num_images), int))[0])


def resampled(
  matches: box_matches.Matches, image_weights: np.ndarray
) -> np.ndarray:
  """Computes the average precision of each resample of the images.

  Args:
    matches: of the images as they are.
    image_weights: (r, images) int, how often each resample holds each image.

  Returns:
    (r,) average precision; NaN where a resample holds no truth.
  """
  total = np.zeros(len(image_weights))
  classes = np.zeros(len(image_weights), int)
  for label, truths in matches.truths.items():
    mine = np.flatnonzero((matches.labels == label) & ~matches.ignored)
    mine = mine[np.argsort(-matches.scores[mine], kind='stable')]
    hit, false = _weigh_hits(
      matches.hit[mine], matches.image[mine], image_weights
    )
    num_truths = image_weights @ truths
    for row in np.flatnonzero(num_truths):
      total[row] += _area(hit[row], false[row], num_truths[row])
    classes += num_truths > 0
  return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)


def entry(
  matches: Sequence[box_matches.Matches], index: np.ndarray, draws: np.ndarray
) -> dict[str, Any]:
  """Makes the entry of average precision in `results.json`.

  Args:
    matches: of the same images at one IoU or several, over which the mean is
      taken.
    index: (images,) group of each image.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    The entry, as `bootstrap.entry` makes it.
  """
  value = np.mean([average_precision(m) for m in matches])
  samples = np.mean([resampled(m, draws[:, index]) for m in matches], axis=0)
  return bootstrap.entry(value, samples, draws.shape[1], _NO_TRUTH)


def metrics(
  detections: Sequence[box_matches.Detections],
  truths: Sequence[box_matches.Truths],
  groups: Sequence[str],
  threshold: float,
  *,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """Scores a detector of boxes for `results.json`, at an IoU of 0.5.

  Args:
    detections: of each image.
    truths: of each image, in the same order.
    groups: patient of each image, what is resampled.
    threshold: chosen on other images, with `choose_threshold`.
    resamples: how many resamples make an interval.
    seed: of the resampling.

  Returns:
    Entries of `ap50`, and of `precision` and `recall` at the threshold.

  Raises:
    ValueError: as `box_matches.match`, or not one group an image.
  """
  if len(groups) != len(truths):
    raise ValueError(
      f'{len(groups)} groups for {len(truths)} images: expected one an image'
    )
  matches = box_matches.match(detections, truths)
  index, num_groups = bootstrap.group_index(groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  hits, false, there = count(matches, threshold).T
  none = f'nothing scores {threshold:g} or higher'
  return {
    'ap50': entry([matches], index, draws),
    'precision': bootstrap.ratio(hits, hits + false, index, draws, none),
    'recall': bootstrap.ratio(hits, there, index, draws, _NO_TRUTH),
  }


def _weigh_hits(
  hit: np.ndarray, image: np.ndarray, image_weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Counts hits and false positives of each resample up to each hit.

  Precision rises nowhere else, so that nothing beside the hits matters.

  Args:
    hit: (n,) whether a detection is a hit or false, by falling score.
    image: (n,) its image.
    image_weights: (r, images), as `resampled` takes them.

  Returns:
    (r, hits) how many hits there are up to each, and as many false positives.
  """
  number = np.cumsum(hit)
  kept = ~hit & (number < hit.sum())
  # Of each image, the false positives between a hit and the one before.
  between = scipy.sparse.coo_array(
    (np.ones(kept.sum(), int), (number[kept], image[kept])),
    shape=(hit.sum(), image_weights.shape[1]),
  ).tocsr()
  hits = np.cumsum(image_weights[:, image[hit]], axis=1)
  return hits, np.cumsum(between @ image_weights.T, axis=0).T


def _area(hits: np.ndarray, false: np.ndarray, num_truths: int) -> float:
  """Mean of one class's falling precision at the 101 recalls."""
  precision = hits / (hits + false + np.spacing(1))
  falling = np.maximum.accumulate(precision[::-1])[::-1]
  at = np.searchsorted(hits / num_truths, _RECALLS, side='left')
  return np.append(falling, 0)[at].mean()
