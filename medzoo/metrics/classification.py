"""Scores of yes-or-no classifiers.

Class 1 is the positive one, what one looks for. Whatever does not follow from
the order alone is of probabilities and a threshold that were made on other
pictures, see `calibration`.
"""

import dataclasses
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap

# Bins of equal width in which probabilities are compared with what happened.
NUM_BINS = 10

# Rows of resamples that are worked on at once: 100 of 10,000 items are 8 MB.
_ROWS = 100
_ONE_CLASS = 'one of the two classes is missing'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a classifier said of pictures, and what they are.

  Attributes:
    positive: (n,) bool, whether a picture is of class 1.
    logits: (n,) log-odds that it is, which order pictures even where
      probabilities round to 0 or 1.
    probability: (n,) that it is, calibrated.
    threshold: the probability from which on a picture is called positive.
  """

  positive: np.ndarray
  logits: np.ndarray
  probability: np.ndarray
  threshold: float

  @property
  def called(self) -> np.ndarray:
    """(n,) bool, whether a picture was called positive."""
    return self.probability >= self.threshold


@dataclasses.dataclass(frozen=True)
class Curve:
  """What a classifier is worth at each threshold.

  Attributes:
    thresholds: (m,) falling, the first infinite.
    sensitivity: (m,) share of the positives at or above it, rising from 0.
    false_positive_rate: (m,) the same of the negatives.
    precision: (m,) share of what lies there that is positive; 1 at the first.
  """

  thresholds: np.ndarray
  sensitivity: np.ndarray
  false_positive_rate: np.ndarray
  precision: np.ndarray


@dataclasses.dataclass(frozen=True)
class Bins:
  """How often pictures of about one probability were positive.

  Attributes:
    count: (bins,) pictures in each bin.
    probability: (bins,) their mean probability, NaN in an empty bin.
    positive: (bins,) their share of positives, NaN in an empty bin.
  """

  count: np.ndarray
  probability: np.ndarray
  positive: np.ndarray


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
  """Returns the area under the ROC curve, NaN where a class is missing.

  It is the probability that a positive scores above a negative, ties counting
  half: the Mann-Whitney U statistic over the number of pairs.

  Args:
    positive: (n,) bool.
    scores: (n,) higher is surer.
  """
  positive = np.asarray(positive, bool)
  num_positive = int(positive.sum())
  num_negative = len(positive) - num_positive
  if not num_positive or not num_negative:
    return float('nan')
  _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
  # Equal scores share the mean of their ranks.
  ranks = (np.cumsum(counts) - (counts - 1) / 2)[place][positive].sum()
  u = ranks - num_positive * (num_positive + 1) / 2
  return float(u / (num_positive * num_negative))


def auc_samples(
  positive: np.ndarray,
  scores: np.ndarray,
  index: np.ndarray,
  draws: np.ndarray,
) -> tuple[float, np.ndarray]:
  """Computes the area under the ROC curve of every resample.

  An item that is drawn k times counts k times, and equals count half, so that
  each is exactly the `auc` of a list in which items stand as often as drawn.

  Args:
    positive: (n,) bool.
    scores: (n,) higher is surer.
    index: (n,) group number of each item.
    draws: (r, num_groups) from `bootstrap.draw`.

  Returns:
    The area of all items, and (r,) that of each resample; NaN where undefined.
  """
  if not len(scores):
    return float('nan'), np.full(len(draws), np.nan)
  order = np.argsort(scores, kind='stable')
  positive, index = np.asarray(positive, bool)[order], index[order]
  rising = np.asarray(scores)[order]
  starts = np.append(0, np.flatnonzero(rising[1:] > rising[:-1]) + 1)
  parts = [
    _areas(draws[first : first + _ROWS, index], positive, starts)
    for first in range(0, len(draws), _ROWS)
  ]
  (value,) = _areas(np.ones((1, len(order))), positive, starts)
  return float(value), np.concatenate(parts)


def curve(positive: np.ndarray, scores: np.ndarray) -> Curve:
  """Returns the points of the ROC and the precision-recall curve.

  Args:
    positive: (n,) bool, with both classes.
    scores: (n,) higher is surer; equal ones make one point.
  """
  order = np.argsort(-np.asarray(scores, float), kind='stable')
  positive, falling = np.asarray(positive, bool)[order], scores[order]
  last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
  hits = np.append(0, np.cumsum(positive)[last])
  called = np.append(0, last + 1)
  return Curve(
    thresholds=np.append(np.inf, falling[last]),
    sensitivity=hits / hits[-1],
    false_positive_rate=(called - hits) / (called - hits)[-1],
    precision=np.append(1, hits[1:] / called[1:]),
  )


def choose_threshold(positive: np.ndarray, probability: np.ndarray) -> float:
  """Chooses the threshold of the largest Youden index, on validation pictures.

  The index is sensitivity + specificity - 1 (Youden 1950), so that both classes
  count the same however rare one of them is. Thresholds lie half way between
  neighbouring probabilities; of equally good ones that nearest to 0.5.

  Args:
    positive: (n,) bool.
    probability: (n,) of being positive.

  Returns:
    A probability; 0.5 where a class is missing or all probabilities are the
    same.
  """
  if positive.all() or not positive.any():
    return 0.5
  points = curve(positive, probability)
  levels = points.thresholds[1:]
  if len(levels) == 1:
    return 0.5
  middles = (levels[1:] + levels[:-1]) / 2
  youden = points.sensitivity - points.false_positive_rate
  # Between neighbours all down to the upper one is called positive.
  best = np.flatnonzero(np.isclose(youden[1:-1], youden[1:-1].max()))
  return float(middles[best[np.abs(middles[best] - 0.5).argmin()]])


def bins(predictions: Predictions) -> Bins:
  """Compares probabilities with what happened, in `NUM_BINS` bins."""
  place, probability = _bin(predictions), predictions.probability
  count = np.bincount(place, minlength=NUM_BINS)
  with np.errstate(invalid='ignore'):
    return Bins(
      count,
      np.bincount(place, probability, NUM_BINS) / count,
      np.bincount(place, predictions.positive, NUM_BINS) / count,
    )


def most_certain(
  predictions: Predictions, *, mistakes: int = 12, hits: int = 6
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses pictures to look at.

  Args:
    predictions: of n pictures.
    mistakes: at most so many that were called what they are not.
    hits: at most so many of each class that were called what they are.

  Returns:
    Indices of mistakes, and of hits class by class from 1 down, each the
    surest first: those whose class as called has the highest probability.
  """
  called, probability = predictions.called, predictions.probability
  certainty = np.where(called, probability, 1 - probability)
  return choose_certain(
    predictions.positive, called, certainty, 2, mistakes=mistakes, hits=hits
  )


def choose_certain(
  labels: np.ndarray,
  called: np.ndarray,
  certainty: np.ndarray,
  num_classes: int,
  *,
  mistakes: int,
  hits: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses pictures to look at, of any number of classes.

  Args:
    labels: (n,) classes.
    called: (n,) classes that pictures were called.
    certainty: (n,) probability of the class that each was called.
    num_classes: how many there are.
    mistakes: at most so many that were called what they are not.
    hits: at most so many of each class that were called what they are.

  Returns:
    Indices of mistakes, and of hits class by class from the last one down,
    each the surest first.
  """
  surest = np.argsort(-certainty, kind='stable')
  right = (called == labels)[surest]
  found = [
    surest[right & (labels == value)[surest]][:hits]
    for value in reversed(range(num_classes))
  ]
  return surest[~right][:mistakes], np.concatenate(found)


def metrics(
  predictions: Predictions, index: np.ndarray, draws: np.ndarray
) -> dict[str, dict[str, Any]]:
  """Scores a classifier for `results.json`.

  Args:
    predictions: of n pictures.
    index: (n,) group of each picture.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    Entries of `accuracy`, `auc`, `sensitivity`, which is the recall of class
    1, `specificity`, that of class 0, `precision` of class 1,
    `negative_predictive_value`, which is the precision of class 0, and `f1` of
    class 1; of `brier`, the mean square of probability less truth (Brier 1950);
    of `ece`, the expected calibration error (Guo et al. 2017), which is the
    mean over pictures of how far the probabilities of a bin are from the share
    of positives in it, with `NUM_BINS` bins of equal width; and
    `confusion_matrix`, rows of truth and columns of calls, without an interval.
  """
  entries = {
    name: bootstrap.ratio(above, below, index, draws, why)
    for name, (above, below, why) in _ratios(predictions).items()
  }
  num_groups = draws.shape[1]
  areas = _areas_of(predictions, index, draws)
  errors = calibration_errors(predictions, index, draws)
  return {
    'accuracy': entries.pop('accuracy'),
    'auc': bootstrap.entry(*areas, num_groups, _ONE_CLASS),
    **entries,
    'ece': bootstrap.entry(*errors, num_groups),
    'confusion_matrix': {
      'value': confusion_matrix(predictions).tolist(),
      'labels': ['class 0', 'class 1'],
    },
  }


def calibration_errors(
  predictions: Predictions, index: np.ndarray, draws: np.ndarray
) -> tuple[float, np.ndarray]:
  """Computes the expected calibration error, see `metrics`.

  Args:
    predictions: of n pictures.
    index: (n,) group of each picture.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    The error, and (r,) that of each resample.
  """
  gaps = np.zeros((draws.shape[1], NUM_BINS))
  excess = predictions.probability - predictions.positive
  np.add.at(gaps, (index, _bin(predictions)), excess)
  sizes = np.bincount(index, minlength=draws.shape[1])
  # 0 / 0 where there is no picture.
  with np.errstate(invalid='ignore'):
    samples = np.abs(draws @ gaps).sum(axis=1) / (draws @ sizes)
    return np.abs(gaps.sum(axis=0)).sum() / sizes.sum(), samples


def confusion_matrix(predictions: Predictions) -> np.ndarray:
  """Returns [[TN, FP], [FN, TP]], int."""
  cells = 2 * predictions.positive.astype(int) + predictions.called
  return np.bincount(cells, minlength=4).reshape(2, 2)


def differences(
  predictions: Predictions,
  others: Predictions,
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, dict[str, Any]]:
  """Returns paired differences of `auc`, `accuracy` and `f1`.

  Args:
    predictions: of the first classifier.
    others: of the second, of the same pictures.
    index: (n,) group of each picture.
    draws: (r, groups) from `bootstrap.draw`.
  """
  pair = predictions, others
  areas = [_areas_of(each, index, draws) for each in pair]
  entries = {'auc': bootstrap.difference(*areas[0], *areas[1], draws.shape[1])}
  for name in ('accuracy', 'f1'):
    first, second = (
      bootstrap.ratio_samples(*_ratios(each)[name][:2], index, draws)
      for each in pair
    )
    entries[name] = bootstrap.difference(*first, *second, draws.shape[1])
  return entries


def _ratios(
  predictions: Predictions,
) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
  """Returns each metric's summands above and below the line, and why not."""
  positive, called = predictions.positive, predictions.called
  every = np.ones(len(positive))
  hit = positive & called
  right_no = ~positive & ~called
  square = (predictions.probability - positive) ** 2
  either = positive.astype(int) + called
  return {
    'accuracy': (positive == called, every, 'there is no picture'),
    'sensitivity': (hit, positive, 'no picture is of class 1'),
    'specificity': (right_no, ~positive, 'no picture is of class 0'),
    'precision': (hit, called, 'no picture was called class 1'),
    'negative_predictive_value': (
      right_no,
      ~called,
      'no picture was called class 0',
    ),
    'f1': (2 * hit, either, 'no picture is of class 1 or was called so'),
    'brier': (square, every, 'there is no picture'),
  }


def _areas_of(
  predictions: Predictions, index: np.ndarray, draws: np.ndarray
) -> tuple[float, np.ndarray]:
  return auc_samples(predictions.positive, predictions.logits, index, draws)


def _areas(
  weights: np.ndarray, positive: np.ndarray, starts: np.ndarray
) -> np.ndarray:
  """Returns (r,) areas from (r, n) weights of items by rising score.

  Args:
    weights: how often each item counts.
    positive: (n,) bool.
    starts: where a higher score begins than before.
  """
  raised = np.add.reduceat(weights * positive, starts, axis=1)
  level = np.add.reduceat(weights * ~positive, starts, axis=1)
  below = np.cumsum(level, axis=1) - level / 2
  pairs = raised.sum(axis=1) * level.sum(axis=1)
  with np.errstate(invalid='ignore'):
    return (raised * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def _bin(predictions: Predictions) -> np.ndarray:
  place = (predictions.probability * NUM_BINS).astype(int)
  return np.minimum(place, NUM_BINS - 1)
