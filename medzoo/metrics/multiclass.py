"""Scores of classifiers that tell three or more classes apart.

A picture is called the class of highest probability. What is known of two
classes is asked of each class against all others, and the mean over the classes
that there are pictures of is the whole's ("macro"): every class counts the
same, however rare it is.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from medzoo.metrics import bootstrap
from medzoo.metrics import classification

# What is told of each class; the entries are called METRIC_class_NUMBER.
PER_CLASS = ('sensitivity', 'specificity', 'precision', 'auc')

# So many hits are shown of all classes together, and one of each at least.
_HITS = 12
_NONE = 'there is no picture'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a classifier said of pictures, and what they are.

  Attributes:
    labels: (n,) int, the class of each picture, from 0.
    logits: (n, classes), calibrated; logarithms of probabilities will do.
  """

  labels: np.ndarray
  logits: np.ndarray

  @property
  def num_classes(self) -> int:
    """How many classes are told apart."""
    return self.logits.shape[1]

  @property
  def called(self) -> np.ndarray:
    """(n,) int, the class of highest probability."""
    return self.logits.argmax(axis=1)

  @functools.cached_property
  def log_probability(self) -> np.ndarray:
    """(n, classes) logarithms of the probabilities."""
    return special.log_softmax(self.logits, axis=1)

  @property
  def probability(self) -> np.ndarray:
    """(n, classes), each row adds up to 1."""
    return np.exp(self.log_probability)

  @property
  def certainty(self) -> classification.Predictions:
    """How probable the class is that a picture was called, and if it is it."""
    highest = self.probability.max(axis=1)
    right = self.called == self.labels
    return classification.Predictions(right, highest, highest, 0.0)


def evidence(logits: np.ndarray) -> np.ndarray:
  """Returns (n, classes) log-odds of each class against all others.

  They order pictures as the class's probability does, even where that rounds
  to 0 or 1.
  """
  rest = [
    special.logsumexp(np.delete(logits, k, axis=1), axis=1)
    for k in range(logits.shape[1])
  ]
  return logits - np.stack(rest, axis=1)


def auc(labels: np.ndarray, logits: np.ndarray) -> float:
  """Returns the mean of the areas under the ROC curves of the classes.

  Each is `classification.auc` of a class against all others (Provost and
  Domingos 2001, not weighted). It is NaN where there is one class only.

  Args:
    labels: (n,) int.
    logits: (n, classes).
  """
  scores = evidence(logits)
  areas = [
    classification.auc(labels == k, scores[:, k]) for k in np.unique(labels)
  ]
  return float(np.mean(areas))


def confusion_matrix(predictions: Predictions) -> np.ndarray:
  """Returns (classes, classes) int, rows of truth and columns of calls."""
  number = predictions.num_classes
  cells = number * predictions.labels + predictions.called
  return np.bincount(cells, minlength=number**2).reshape(number, number)


def most_certain(
  predictions: Predictions, *, mistakes: int = 12
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses pictures to look at, as `classification.most_certain` does."""
  return classification.choose_certain(
    predictions.labels,
    predictions.called,
    predictions.certainty.probability,
    predictions.num_classes,
    mistakes=mistakes,
    hits=hits_shown(predictions.num_classes),
  )


def hits_shown(num_classes: int) -> int:
  """Returns how many hits of each class `most_certain` chooses at most."""
  return max(_HITS // num_classes, 1)


def metrics(
  predictions: Predictions, index: np.ndarray, draws: np.ndarray
) -> dict[str, dict[str, Any]]:
  """Scores a classifier for `results.json`.

  Args:
    predictions: of n pictures.
    index: (n,) group of each picture.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    Entries of `accuracy`; of `auc` and `f1`, means over the classes that there
    are pictures of, and undefined in resamples that lack one of them; of
    `brier`, the mean over pictures of the sum over classes of the square of
    probability less truth, from 0 to 2 (Brier 1950); of `ece`, the expected
    calibration error of the class that a picture was called (Guo et al. 2017),
    see `classification.metrics`; of each class the metrics of `PER_CLASS`,
    `sensitivity` being its recall, `specificity` the share of all others that
    were not called it; and `confusion_matrix`, without an interval.
  """
  num_groups = draws.shape[1]
  areas = _areas(predictions, index, draws)
  whole = _macro(predictions, areas, index, draws)
  every = np.ones(len(predictions.labels))
  truth = np.eye(predictions.num_classes)[predictions.labels]
  squares = ((predictions.probability - truth) ** 2).sum(axis=1)
  errors = classification.calibration_errors(
    predictions.certainty, index, draws
  )
  result = {
    'accuracy': bootstrap.entry(*whole['accuracy'], num_groups, _NONE),
    'auc': bootstrap.entry(
      *whole['auc'], num_groups, 'there is one class only'
    ),
    'f1': bootstrap.entry(*whole['f1'], num_groups, _NONE),
    'brier': bootstrap.ratio(squares, every, index, draws, _NONE),
    'ece': bootstrap.entry(*errors, num_groups),
  }
  for k in range(predictions.num_classes):
    for name, (above, below, why) in _ratios(predictions, k).items():
      entry = bootstrap.ratio(above, below, index, draws, why)
      result[f'{name}_class_{k}'] = entry
    result[f'auc_class_{k}'] = bootstrap.entry(
      *areas[k], num_groups, 'all pictures are of it, or none'
    )
  result['confusion_matrix'] = {
    'value': confusion_matrix(predictions).tolist(),
    'labels': [f'class {k}' for k in range(predictions.num_classes)],
  }
  return result


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
  first, second = (
    _macro(each, _areas(each, index, draws), index, draws)
    for each in (predictions, others)
  )
  return {
    name: bootstrap.difference(*first[name], *second[name], draws.shape[1])
    for name in ('auc', 'accuracy', 'f1')
  }


def name_classes(
  entries: Mapping[str, dict[str, Any]], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Calls the entries of `metrics` by the names of the classes.

  Args:
    entries: those of `metrics`, in whose order the result is.
    names: of the classes, from class 0 on.
  """
  named = {
    f'{metric}_class_{k}': f'{metric}_{name}'
    for metric in PER_CLASS
    for k, name in enumerate(names)
  }
  result = {named.get(key, key): entry for key, entry in entries.items()}
  matrix = result['confusion_matrix']
  return {**result, 'confusion_matrix': {**matrix, 'labels': list(names)}}


def _areas(
  predictions: Predictions, index: np.ndarray, draws: np.ndarray
) -> list[tuple[float, np.ndarray]]:
  """Returns each class's area under the ROC curve, and of each resample."""
  scores = evidence(predictions.logits)
  return [
    classification.auc_samples(
      predictions.labels == k, scores[:, k], index, draws
    )
    for k in range(predictions.num_classes)
  ]


def _macro(
  predictions: Predictions,
  areas: Sequence[tuple[float, np.ndarray]],
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, tuple[float, np.ndarray]]:
  """Returns accuracy, AUC and F1, each also of every resample."""
  labels, called = predictions.labels, predictions.called
  present = np.unique(labels)
  harmonic = []
  for k in present:
    own, so = labels == k, called == k
    below = own.astype(int) + so
    harmonic.append(
      bootstrap.ratio_samples(2 * (own & so), below, index, draws)
    )
  every = np.ones(len(labels))
  return {
    'accuracy': bootstrap.ratio_samples(labels == called, every, index, draws),
    'auc': _mean([areas[k] for k in present]),
    'f1': _mean(harmonic),
  }


def _mean(
  parts: Sequence[tuple[float, np.ndarray]],
) -> tuple[float, np.ndarray]:
  values, samples = zip(*parts, strict=True)
  return float(np.mean(values)), np.mean(samples, axis=0)


def _ratios(
  predictions: Predictions, k: int
) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
  """Returns summands above and below the line, and why it is undefined."""
  own, called = predictions.labels == k, predictions.called == k
  return {
    'sensitivity': (own & called, own, 'no picture is of it'),
    'specificity': (~own & ~called, ~own, 'all pictures are of it'),
    'precision': (own & called, called, 'no picture was called so'),
  }
