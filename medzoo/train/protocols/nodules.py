"""Scores whole scans by the LUNA16 protocol.

`predictions/` holds marks and truth as LUNA16's own CSV files, so that anyone
can score them again with another program.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.metrics import froc
from medzoo.metrics import lesions
from medzoo.metrics import luna16
from medzoo.train import mapping
from medzoo.train import predict

# They are compared by the curve alone.
BASELINE_THRESHOLDS = False
VOTES = False
READS = ('scans',)

Marks = dict[str, np.ndarray]
Outputs = Mapping[str, mapping.Output]


@dataclasses.dataclass(frozen=True)
class Truth:
  """What there is to find in a list of scans.

  Attributes:
    annotations: case key -> (n, 4) world x, y, z and diameter in mm.
    excluded: the same of findings that are neither hit nor false positive.
    groups: case key -> patient pseudonym.
  """

  annotations: Marks
  excluded: Marks
  groups: dict[str, str]

  @property
  def keys(self) -> list[str]:
    """The scans, with and without lesions."""
    return list(self.groups)


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers the findings of cases."""
  annotations, excluded = {}, {}
  for key, (found, left_out) in zip(cases.keys, cases.findings, strict=True):
    annotations[key] = tables.from_findings(found)
    excluded[key] = tables.from_findings(left_out)
  return Truth(
    annotations, excluded, dict(zip(cases.keys, cases.groups, strict=True))
  )


def merge(truths: Sequence[Truth]) -> Truth:
  """Joins the truths of several folds."""
  return Truth(
    *(
      {key: value for truth in truths for key, value in part(truth).items()}
      for part in (
        lambda truth: truth.annotations,
        lambda truth: truth.excluded,
        lambda truth: truth.groups,
      )
    )
  )


def choose_threshold(
  outputs: Outputs, truth: Truth, spec: Mapping[str, Any]
) -> float:
  """Returns the lowest threshold within `max_fps_per_scan`."""
  return lesions.choose_threshold(
    marks_of(outputs, 'detections'),
    truth.annotations,
    truth.keys,
    spec['max_fps_per_scan'],
  )


def score(
  outputs: Outputs,
  truth: Truth,
  threshold: float | None,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores `detections`, and `candidates` where there are any.

  Args:
    outputs: by case key.
    truth: of the same cases.
    threshold: the operating threshold; None leaves out what depends on it.
    resamples: of the patients, how many make an interval.
    seed: of the resampling.

  Returns:
    The metrics.
  """
  detections = marks_of(outputs, 'detections')
  options = {'groups': truth.groups, 'resamples': resamples, 'seed': seed}
  has_candidates = all('candidates' in o.detections for o in outputs.values())
  metrics = luna16.metrics(
    detections,
    marks_of(outputs, 'candidates') if has_candidates else None,
    truth.annotations,
    truth.excluded,
    truth.keys,
    **options,
  )
  if threshold is not None:
    metrics |= lesions.metrics(
      detections, truth.annotations, truth.keys, threshold, **options
    )
  return metrics


def differences(
  outputs: Outputs,
  others: Outputs,
  truth: Truth,
  thresholds: tuple[float | None, float | None],
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Returns the paired difference of `cpm`, which knows no threshold."""
  del thresholds
  difference = luna16.cpm_difference(
    marks_of(outputs, 'detections'),
    marks_of(others, 'detections'),
    truth.annotations,
    truth.excluded,
    truth.keys,
    groups=truth.groups,
    resamples=resamples,
    seed=seed,
  )
  return {'cpm': difference}


def ablated(outputs: Outputs) -> dict[str, Outputs]:
  """Returns {}: the predictor has no part that it can do without."""
  del outputs
  return {}


def objective(cases: sources.Cases, found: Sequence[types.Detections]) -> float:
  """Returns the CPM of detections, one set a case."""
  truth = read_truth(cases)
  marks = {
    key: np.column_stack([one.centers.reshape(-1, 3), one.scores])
    for key, one in zip(truth.keys, found, strict=True)
  }
  matches = luna16.match(marks, truth.annotations, truth.excluded, truth.keys)
  return float(froc.read(froc.curve(matches), froc.RULES[0]).mean())


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: Any
) -> None:
  """Writes marks and truth as LUNA16's CSV files."""
  # Everything is written, whatever its score.
  del threshold
  folder.mkdir(parents=True, exist_ok=True)
  _write_luna16(folder, outputs)
  if all('candidates' in output.detections for output in outputs.values()):
    candidates = marks_of(outputs, 'candidates')
    tables.write_marks(folder / 'candidates.csv', candidates, 'probability')
  tables.write_marks(
    folder / 'annotations.csv', truth.annotations, 'diameter_mm'
  )
  tables.write_marks(
    folder / 'annotations_excluded.csv', truth.excluded, 'diameter_mm'
  )
  tables.write_seriesuids(folder / 'seriesuids.csv', truth.keys)


def describe(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> dict[str, Any]:
  """Returns the lesions whose own score reaches the threshold, world mm."""
  del volume
  found = output.detections['detections']
  return list_lesions(
    found, np.flatnonzero(found.scores >= model.threshold), model
  )


def list_lesions(
  found: types.Detections, sure: np.ndarray, model: predict.Model
) -> dict[str, Any]:
  """Returns those of a scan's lesions whose indices are given, world mm."""
  return {
    'frame': 'LPS mm',
    'detections': [
      {
        **dict(zip('xyz', found.centers[i].tolist(), strict=True)),
        'diameter_mm': _or_none(found.diameters[i]),
        'score': float(found.scores[i]),
        'class': model.class_name(int(found.labels[i])),
      }
      for i in sure
    ],
  }


def draw(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields nothing: lesions are shown by any viewer that takes marks."""
  del output, volume, model
  yield from ()


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `luna16.csv`: up to 100 lesions a scan, whatever their score."""
  del grids, model
  _write_luna16(folder, outputs)
  return ['luna16.csv']


def marks_of(outputs: Outputs, name: str) -> Marks:
  """Returns the LUNA16 rows of each case's detections of that name."""
  return {key: output.marks(name) for key, output in outputs.items()}


def _write_luna16(folder: pathlib.Path, outputs: Outputs) -> None:
  marks = {
    key: luna16.capped(rows, luna16.MAX_MARKS)
    for key, rows in marks_of(outputs, 'detections').items()
  }
  tables.write_marks(folder / 'luna16.csv', marks, 'probability')


def _or_none(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
