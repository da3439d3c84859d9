"""Scores whole scans by the LUNA16 protocol, a baseline beside the model.

Predictions and truth are written as LUNA16's own CSV files first, so that
anyone can score them again with another program.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.metrics import froc
from medzoo.metrics import lesions
from medzoo.metrics import luna16
from medzoo.train import build
from medzoo.train import mapping
from medzoo.train import stages

Marks = dict[str, np.ndarray]


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


def evaluate(
  runs: Sequence[stages.Run], folder: pathlib.Path
) -> dict[str, Any]:
  """Scores runs on their test splits and writes `predictions`.

  Folds are pooled: every scan is scored once, by the run that did not see it.
  The operating threshold comes from the validation splits.

  Args:
    runs: one, or one a fold.
    folder: gets `predictions/`.

  Returns:
    The parts of the results that come from scoring: `metrics`, `folds`, each
    with its main metric, `baselines`, `paired_differences`, `threshold` and
    `seconds_per_case`.
  """
  spec, seed = runs[0].config['evaluation'], runs[0].config['seed']
  options = {'resamples': spec['resamples'], 'seed': seed}
  validation = merge([read_truth(run.cases['validation']) for run in runs])
  test = merge([read_truth(run.cases['test']) for run in runs])
  validated, tested = {}, {}
  for run in runs:
    for split, outputs in (('validation', validated), ('test', tested)):
      outputs |= stages.predict(run, split, spec['predictor'], split)
  threshold = choose_threshold(validated, validation, spec)
  results = score(tested, test, threshold, **options)
  write_predictions(folder / 'predictions', tested, test)
  results |= {'folds': [], 'baselines': {}, 'paired_differences': {}}
  main = runs[0].config['main_metric']
  for run in runs if len(runs) > 1 else ():
    truth = read_truth(run.cases['test'])
    found = {key: tested[key] for key in truth.keys}
    metrics = score(found, truth, threshold, **options)['metrics']
    results['folds'].append(
      {
        'name': run.name.removesuffix('/'),
        'examples': len(found),
        main: metrics[main],
      }
    )
  for name, baseline in spec['baselines'].items():
    found = {}
    for run in runs:
      found |= _baseline(run, name, baseline)
    marks = marks_of(found, 'detections')
    results['baselines'][name] = score(found, test, None, **options)['metrics']
    results['paired_differences'][f'cpm - {name}'] = luna16.cpm_difference(
      marks_of(tested, 'detections'),
      marks,
      test.annotations,
      test.excluded,
      test.keys,
      groups=test.groups,
      **options,
    )
    write_predictions(folder / 'predictions' / name, found, test)
  return results


def evaluate_all(
  run: stages.Run, folder: pathlib.Path, threshold: float
) -> dict[str, Any]:
  """Scores a run on its split `all` at a threshold that was chosen before.

  Args:
    run: of the model, with the cases to score as `all`.
    folder: gets `predictions/` and `outputs/`.
    threshold: the operating threshold.

  Returns:
    What `score` returns.
  """
  spec = run.config['evaluation']
  truth = read_truth(run.cases['all'])
  outputs = stages.predict(
    run, 'all', spec['predictor'], 'all', folder=folder / 'outputs'
  )
  write_predictions(folder / 'predictions', outputs, truth)
  return score(
    outputs,
    truth,
    threshold,
    resamples=spec['resamples'],
    seed=run.config['seed'],
  )


def choose_threshold(
  outputs: Mapping[str, mapping.Output],
  truth: Truth,
  spec: Mapping[str, Any],
) -> float:
  """Returns the operating threshold that validation scans give."""
  return lesions.choose_threshold(
    marks_of(outputs, 'detections'),
    truth.annotations,
    truth.keys,
    spec['max_fps_per_scan'],
  )


def score(
  outputs: Mapping[str, mapping.Output],
  truth: Truth,
  threshold: float | None,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores outputs against the truth; intervals are over patients.

  Args:
    outputs: by case key; `candidates` are scored where there are any.
    truth: of the same cases.
    threshold: the operating threshold, None for a system without one.
    resamples: how many resamples make an interval.
    seed: of the resampling.

  Returns:
    `metrics`, `threshold` and `seconds_per_case`.
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
  return {
    'metrics': metrics,
    'threshold': threshold,
    'seconds_per_case': float(
      np.median([outputs[key].seconds for key in truth.keys])
    ),
  }


def marks_of(outputs: Mapping[str, mapping.Output], name: str) -> Marks:
  """Returns the LUNA16 rows of each case's detections of that name."""
  return {key: output.marks(name) for key, output in outputs.items()}


def write_predictions(
  folder: pathlib.Path, outputs: Mapping[str, mapping.Output], truth: Truth
) -> None:
  """Writes marks and truth as LUNA16's CSV files."""
  folder.mkdir(parents=True, exist_ok=True)
  luna = {
    key: luna16.capped(marks, luna16.MAX_MARKS)
    for key, marks in marks_of(outputs, 'detections').items()
  }
  tables.write_marks(folder / 'luna16.csv', luna, 'probability')
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


def _baseline(
  run: stages.Run, name: str, spec: Mapping[str, Any]
) -> dict[str, mapping.Output]:
  """Tunes a baseline on training scans and runs it on the test split."""
  note = run.folder / name / 'tuned.json'
  if not note.exists():
    training = run.cases['train']
    number = min(spec['tuning_cases'], len(training))
    cases = training.subset(range(number))
    run.writer.log(f'{run.name}{name}: tuning on {len(cases)} training scans')
    module = build.module('predictors', spec['name'])
    settings = module.tune(cases, _cpm, grid=spec['grid'])
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(dataclasses.asdict(settings)))
  tuned = {'name': spec['name'], **json.loads(note.read_text())}
  return stages.predict(run, name, tuned, 'test')


def _cpm(cases: sources.Cases, found: Sequence[types.Detections]) -> float:
  """Returns the CPM of detections, one set a case."""
  truth = read_truth(cases)
  marks = {
    key: np.column_stack([one.centers.reshape(-1, 3), one.scores])
    for key, one in zip(truth.keys, found, strict=True)
  }
  matches = luna16.match(marks, truth.annotations, truth.excluded, truth.keys)
  return float(froc.read(froc.curve(matches), froc.RULES[0]).mean())
