"""Scores the class of whole pictures: 1, what one looks for, or 0.

A predictor gives `picture` (`types.PictureScore`), whose log-odds are made a
probability by Platt scaling on validation pictures, and may give `saliency`
(`types.Saliency`). The operating point is therefore of three numbers: `scale`
and `shift` of the calibration, and `threshold`, the probability of the best
Youden index on validation; `why` says why there is no calibration, where there
is none. `metrics.classification` says what is scored. Intervals are over
groups: patients, studies or sequences. Into `predictions/` go

* `predictions.csv`: of every picture its group, class and calibrated
  probability of class 1;
* `saliency/CASE.npz`, where there is saliency: `case`, its `grad_cam` and its
  `gradients`, of the surest mistakes and of the surest hits of each class.

Of pictures without labels `predict` leaves `predictions.csv` with what they
were called.
"""

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import heat_maps
from medzoo.data import sources
from medzoo.metrics import bootstrap
from medzoo.metrics import calibration
from medzoo.metrics import classification
from medzoo.train import mapping
from medzoo.train import predict

BASELINE_THRESHOLDS = True
VOTES = False
READS = ('films', 'pictures')

PREDICTIONS = 'predictions.csv'
SALIENCY = 'saliency'

_SIDE = 512

Outputs = Mapping[str, mapping.Output]
Point = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Truth:
  """What pictures are.

  Attributes:
    labels: case key -> 0 or 1.
    groups: case key -> pseudonym of the patient, study or sequence.
  """

  labels: dict[str, int]
  groups: dict[str, str]

  @property
  def keys(self) -> list[str]:
    """The cases."""
    return list(self.labels)

  @property
  def positive(self) -> np.ndarray:
    """(n,) bool, whether each is of class 1."""
    return np.array(list(self.labels.values()), bool)


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers the classes of pictures, which are not decoded for it.

  Raises:
    ValueError: a picture has no class, or another than 0 and 1.
  """
  for key, label in zip(cases.keys, cases.labels, strict=True):
    if label not in (0, 1):
      found = 'no class' if label is None else f'class {label}'
      raise ValueError(f'{key}: found {found}, expected class 0 or 1')
  return Truth(
    dict(zip(cases.keys, cases.labels, strict=True)),
    dict(zip(cases.keys, cases.groups, strict=True)),
  )


def merge(truths: Sequence[Truth]) -> Truth:
  """Joins the truths of several folds."""
  return Truth(
    {key: label for truth in truths for key, label in truth.labels.items()},
    {key: group for truth in truths for key, group in truth.groups.items()},
  )


def choose_threshold(
  outputs: Outputs, truth: Truth, spec: Mapping[str, Any]
) -> dict[str, Any]:
  """Calibrates log-odds and chooses the threshold of the probabilities.

  See `metrics.calibration.platt` and `metrics.classification`.
  """
  del spec
  logits = _logits(outputs, truth.keys)
  fitted = calibration.platt(truth.positive, logits)
  point = {
    'threshold': classification.choose_threshold(
      truth.positive, calibration.probability(logits, fitted)
    ),
    'scale': fitted.scale,
    'shift': fitted.shift,
  }
  return point | ({'why': fitted.why} if fitted.why else {})


def score(
  outputs: Outputs,
  truth: Truth,
  threshold: Point,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores `picture`.

  Args:
    outputs: by case key.
    truth: of the same cases.
    threshold: what `choose_threshold` returned.
    resamples: of the groups, how many make an interval.
    seed: of the resampling.

  Returns:
    The entries of `metrics.classification.metrics`.
  """
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  predictions = _predictions(outputs, truth, threshold)
  return classification.metrics(predictions, index, draws)


def differences(
  outputs: Outputs,
  others: Outputs,
  truth: Truth,
  thresholds: tuple[Point, Point],
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Returns those of `auc`, `accuracy` and `f1`."""
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  return classification.differences(
    _predictions(outputs, truth, thresholds[0]),
    _predictions(others, truth, thresholds[1]),
    index,
    bootstrap.draw(num_groups, resamples=resamples, seed=seed),
  )


def ablated(outputs: Outputs) -> dict[str, Outputs]:
  """Returns {}: the predictor has no part that it can do without."""
  del outputs
  return {}


def objective(
  cases: sources.Cases, found: Sequence[types.PictureScore]
) -> float:
  """Returns the area under the ROC curve, 0.5 where a class is missing."""
  area = classification.auc(
    read_truth(cases).positive, np.array([float(one.logit) for one in found])
  )
  return 0.5 if np.isnan(area) else area


def choose_shown(outputs: Outputs, truth: Truth, threshold: Point) -> list[str]:
  """Returns the surest mistakes and the surest hits of each class."""
  shown = classification.most_certain(_predictions(outputs, truth, threshold))
  return [truth.keys[i] for i in np.concatenate(shown).tolist()]


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: Point
) -> None:
  """Writes the files that the module's docstring lists."""
  folder.mkdir(parents=True, exist_ok=True)
  predictions = _predictions(outputs, truth, threshold)
  rows = [
    (key, truth.groups[key], truth.labels[key], repr(float(probability)))
    for key, probability in zip(
      truth.keys, predictions.probability, strict=True
    )
  ]
  _write_rows(folder, ('case', 'group', 'label', 'probability'), rows)
  # Of an earlier scoring.
  shutil.rmtree(folder / SALIENCY, ignore_errors=True)
  for key in choose_shown(outputs, truth, threshold):
    if 'saliency' in outputs[key].detections:
      path = folder / SALIENCY / f'{predict.file_name(key)}.npz'
      path.parent.mkdir(exist_ok=True)
      saliency = outputs[key].detections['saliency']
      np.savez_compressed(path, case=key, **dataclasses.asdict(saliency))


def describe(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> dict[str, Any]:
  """Returns what a picture was called, and how probable class 1 is."""
  del volume
  name, probability = _called(output, model)
  return {
    'frame': 'picture',
    'detections': [],
    'class': name,
    'probability': probability,
    'probability_of': model.class_name(1),
    'threshold': model.threshold['threshold'],
  }


def draw(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields the picture, beside it what speaks for class 1, if that is known."""
  del model
  yield 0, heat_maps.row(volume, output.detections.get('saliency'), _SIDE)


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `predictions.csv`."""
  rows = []
  for key in grids:
    name, probability = _called(outputs[key], model)
    rows.append((key, repr(probability), name))
  _write_rows(folder, ('case', 'probability', 'class'), rows)
  return [PREDICTIONS]


def _predictions(
  outputs: Outputs, truth: Truth, point: Point
) -> classification.Predictions:
  logits = _logits(outputs, truth.keys)
  return classification.Predictions(
    truth.positive, logits, _probability(logits, point), point['threshold']
  )


def _logits(outputs: Outputs, keys: Sequence[str]) -> np.ndarray:
  """Returns (n,) log-odds.

  Raises:
    ValueError: one is not finite.
  """
  logits = np.array(
    [float(outputs[key].detections['picture'].logit) for key in keys]
  )
  if not np.isfinite(logits).all():
    worst = int(np.flatnonzero(~np.isfinite(logits))[0])
    raise ValueError(
      f'{keys[worst]}: found log-odds {logits[worst]}, expected a number; the '
      'training has diverged'
    )
  return logits


def _probability(logits: np.ndarray, point: Point) -> np.ndarray:
  fitted = calibration.Calibration(point['scale'], point['shift'])
  return calibration.probability(logits, fitted)


def _called(output: mapping.Output, model: predict.Model) -> tuple[str, float]:
  """Returns the class that a picture was called, and the probability of 1."""
  logit = output.detections['picture'].logit
  probability = float(_probability(logit, model.threshold))
  called = int(probability >= model.threshold['threshold'])
  return model.class_name(called), probability


def _write_rows(
  folder: pathlib.Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
  with (folder / PREDICTIONS).open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(rows)
