"""Scores the class of whole pictures.

A predictor gives `picture` (`types.PictureScore`), of which probabilities are
made by calibration on validation pictures, and may give `saliency`
(`types.Saliency`).

Of two classes one is looked for, 1. Log-odds are calibrated by Platt scaling,
and the operating point is of three numbers: `scale` and `shift` of the
calibration, and `threshold`, the probability of the best Youden index on
validation. `metrics.classification` says what is scored. Of three classes and
more logits are calibrated by their `temperature`, which is the operating point,
as a picture is called the likeliest class; `metrics.multiclass` says what is
scored. `why` in the operating point says why there is no calibration, where
there is none. Intervals are over groups: patients, studies or sequences. Into
`predictions/` go

* `predictions.csv`: of every picture its group, class and calibrated
  probability of class 1; of three classes and more also what it was `called`,
  and a `probability_NUMBER` of each class;
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
from scipy import special

from medzoo import types
from medzoo.data import heat_maps
from medzoo.data import sources
from medzoo.metrics import bootstrap
from medzoo.metrics import calibration
from medzoo.metrics import classification
from medzoo.metrics import multiclass
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
    labels: case key -> class, from 0.
    groups: case key -> pseudonym of the patient, study or sequence.
  """

  labels: dict[str, int]
  groups: dict[str, str]

  @property
  def keys(self) -> list[str]:
    """The cases."""
    return list(self.labels)

  @property
  def classes(self) -> np.ndarray:
    """(n,) int, the class of each."""
    return np.array(list(self.labels.values()), int)

  @property
  def positive(self) -> np.ndarray:
    """(n,) bool, whether each of two classes is 1.

    Raises:
      ValueError: a picture is of another class than 0 and 1.
    """
    for key, label in self.labels.items():
      if label > 1:
        raise ValueError(f'{key}: found class {label}, expected class 0 or 1')
    return self.classes > 0


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers the classes of pictures, which are not decoded for it.

  Raises:
    ValueError: a picture has no class.
  """
  for key, label in zip(cases.keys, cases.labels, strict=True):
    if label is None:
      raise ValueError(f'{key}: found no class, expected one')
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
  """Calibrates, and chooses the threshold of probabilities of two classes.

  See `metrics.calibration` and `metrics.classification`.
  """
  del spec
  logits = _logits(outputs, truth.keys)
  if logits.ndim == 2:
    found = dataclasses.asdict(calibration.temperature(truth.classes, logits))
    return found if found['why'] else {'temperature': found['temperature']}
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
    The entries of `metrics.classification.metrics`, or those of
    `metrics.multiclass.metrics`.
  """
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  predictions = _predictions(outputs, truth, threshold)
  return _kind(predictions).metrics(predictions, index, draws)


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
  mine = _predictions(outputs, truth, thresholds[0])
  return _kind(mine).differences(
    mine,
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
  """Returns the area under the ROC curve, 0.5 where a class is missing.

  Of three classes and more it is `metrics.multiclass.auc`.
  """
  truth = read_truth(cases)
  logits = np.array([one.logit for one in found], float)
  if logits.ndim == 2:
    area = multiclass.auc(truth.classes, logits)
  else:
    area = classification.auc(truth.positive, logits)
  return 0.5 if np.isnan(area) else area


def choose_shown(outputs: Outputs, truth: Truth, threshold: Point) -> list[str]:
  """Returns the surest mistakes and the surest hits of each class."""
  predictions = _predictions(outputs, truth, threshold)
  shown = _kind(predictions).most_certain(predictions)
  return [truth.keys[i] for i in np.concatenate(shown).tolist()]


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: Point
) -> None:
  """Writes the files that the module's docstring lists."""
  folder.mkdir(parents=True, exist_ok=True)
  predictions = _predictions(outputs, truth, threshold)
  columns, cells = ['probability'], predictions.probability[:, None].tolist()
  if isinstance(predictions, multiclass.Predictions):
    numbers = range(predictions.num_classes)
    columns = ['called', *(f'probability_{k}' for k in numbers)]
    cells = [
      (called, *row)
      for called, row in zip(
        predictions.called.tolist(),
        predictions.probability.tolist(),
        strict=True,
      )
    ]
  rows = [
    (key, truth.groups[key], truth.labels[key], *row)
    for key, row in zip(truth.keys, cells, strict=True)
  ]
  _write_rows(folder, ('case', 'group', 'label', *columns), rows)
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
  """Returns what a picture was called, and how probable class 1 is.

  Of three classes and more it is how probable the class is that it was called,
  and each other one; there is no threshold then.
  """
  del volume
  if _is_multiclass(output):
    probabilities = _probabilities(output, model)
    name = max(probabilities, key=probabilities.get)
    return {
      'frame': 'picture',
      'detections': [],
      'class': name,
      'probability': probabilities[name],
      'probability_of': name,
      'probabilities': probabilities,
      'threshold': None,
    }
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
  """Yields the picture, beside it what speaks for its class, if it is known.

  The class is the one that `types.Saliency` names.
  """
  del model
  yield 0, heat_maps.row(volume, output.detections.get('saliency'), _SIDE)


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `predictions.csv`.

  Of every picture it holds the probability of class 1 and what it was called;
  of three classes and more what it was called and a column `probability_NAME`
  of each class.
  """
  columns, rows = ['case', 'probability', 'class'], []
  for key in grids:
    if _is_multiclass(outputs[key]):
      found = _probabilities(outputs[key], model)
      columns = ['case', 'class', *(f'probability_{name}' for name in found)]
      rows.append((key, max(found, key=found.get), *found.values()))
    else:
      name, probability = _called(outputs[key], model)
      rows.append((key, probability, name))
  _write_rows(folder, columns, rows)
  return [PREDICTIONS]


Predictions = classification.Predictions | multiclass.Predictions


def _predictions(outputs: Outputs, truth: Truth, point: Point) -> Predictions:
  logits = _logits(outputs, truth.keys)
  if logits.ndim == 2:
    return multiclass.Predictions(truth.classes, logits / point['temperature'])
  return classification.Predictions(
    truth.positive, logits, _probability(logits, point), point['threshold']
  )


def _kind(predictions: Predictions) -> Any:
  """Returns the module that scores them, of `metrics`."""
  if isinstance(predictions, multiclass.Predictions):
    return multiclass
  return classification


def _logits(outputs: Outputs, keys: Sequence[str]) -> np.ndarray:
  """Returns (n,) log-odds, or (n, classes) logits.

  Raises:
    ValueError: one is not finite.
  """
  logits = np.array(
    [outputs[key].detections['picture'].logit for key in keys], float
  )
  if not np.isfinite(logits).all():
    worst = int(np.argwhere(~np.isfinite(logits))[0, 0])
    raise ValueError(
      f'{keys[worst]}: found log-odds {logits[worst]}, expected a number; the '
      'training has diverged'
    )
  return logits


def _probability(logits: np.ndarray, point: Point) -> np.ndarray:
  fitted = calibration.Calibration(point['scale'], point['shift'])
  return calibration.probability(logits, fitted)


def _is_multiclass(output: mapping.Output) -> bool:
  return np.ndim(output.detections['picture'].logit) > 0


def _probabilities(
  output: mapping.Output, model: predict.Model
) -> dict[str, float]:
  """Returns how probable each of three classes and more is, by name."""
  logits = np.asarray(output.detections['picture'].logit, float)
  shares = special.softmax(logits / model.threshold['temperature'])
  return {model.class_name(k): share for k, share in enumerate(shares.tolist())}


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
