"""Scores finished runs on whole cases, baselines and ablations beside them.

What is predicted on which split, tuned on which and compared with what is the
same for all experiments and stands here. What counts as found is the
protocol's, see `train.protocols`.
"""

import dataclasses
import functools
import json
import pathlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo.train import build
from medzoo.train import mapping
from medzoo.train import stages

Outputs = dict[str, mapping.Output]


@dataclasses.dataclass(frozen=True)
class _System:
  """What is compared with the model.

  Attributes:
    kind: where its metrics go in the results, 'baselines' or 'ablations'.
    name: its own.
    validated: its outputs on the validation cases; None where it is scored
      without an operating threshold.
    tested: its outputs on the test cases.
  """

  kind: str
  name: str
  validated: Outputs | None
  tested: Outputs


def evaluate(
  runs: Sequence[stages.Run], folder: pathlib.Path
) -> dict[str, Any]:
  """Scores runs on their test splits and writes `predictions`.

  Folds are pooled: every case is scored once, by the run that did not see it.
  Operating thresholds come from the validation splits.

  Args:
    runs: one, or one a fold.
    folder: gets `predictions/`, and a folder in it for each other system.

  Returns:
    The parts of the results that come from scoring: `metrics`, `threshold`
    and `seconds_per_case` of the model; `folds`, each with its main metric;
    `baselines` and `ablations`, by name; `other_thresholds` of those that have
    one; `paired_differences`, by 'METRIC - NAME'.

  Raises:
    build.ConfigError: there is no such protocol or baseline.
    ValueError: the cases do not hold what the protocol scores.
  """
  spec = runs[0].config['evaluation']
  rules = protocol(runs[0].config)
  options = _options(runs[0])
  validation, test = (
    rules.merge([rules.read_truth(run.cases[split]) for run in runs])
    for split in ('validation', 'test')
  )
  validated, tested = (
    _predict(runs, split, lambda _: spec['predictor'], split)
    for split in ('validation', 'test')
  )
  threshold = rules.choose_threshold(validated, validation, spec)
  rules.write_predictions(folder / 'predictions', tested, test, threshold)
  results = {
    'metrics': rules.score(tested, test, threshold, **options),
    'threshold': threshold,
    'seconds_per_case': _seconds(tested, test.keys),
    'folds': [_fold(run, tested, threshold) for run in runs if len(runs) > 1],
    'baselines': {},
    'ablations': {},
    'other_thresholds': {},
    'paired_differences': {},
  }
  for other in _others(runs, rules, validated, tested):
    own = None
    if other.validated is not None:
      own = rules.choose_threshold(other.validated, validation, spec)
      results['other_thresholds'][other.name] = own
    results[other.kind][other.name] = rules.score(
      other.tested, test, own, **options
    )
    differences = rules.differences(
      tested, other.tested, test, (threshold, own), **options
    )
    for metric, entry in differences.items():
      results['paired_differences'][f'{metric} - {other.name}'] = entry
    rules.write_predictions(
      folder / 'predictions' / other.name, other.tested, test, own
    )
  return results


def evaluate_all(
  run: stages.Run, folder: pathlib.Path, threshold: Any
) -> dict[str, Any]:
  """Scores a run on its split `all` at a threshold that was chosen before.

  Args:
    run: of the model, with the cases to score as `all`.
    folder: gets `predictions/` and `outputs/`.
    threshold: the operating point, as the protocol made it.

  Returns:
    `metrics`, `threshold` and `seconds_per_case`.
  """
  rules = protocol(run.config)
  truth = rules.read_truth(run.cases['all'])
  outputs = stages.predict(
    run,
    'all',
    run.config['evaluation']['predictor'],
    'all',
    folder=folder / 'outputs',
  )
  rules.write_predictions(folder / 'predictions', outputs, truth, threshold)
  return {
    'metrics': rules.score(outputs, truth, threshold, **_options(run)),
    'threshold': threshold,
    'seconds_per_case': _seconds(outputs, truth.keys),
  }


def protocol(config: Mapping[str, Any]) -> types.ModuleType:
  """Returns the module of the protocol that a config names."""
  return build.module('train.protocols', config['evaluation']['protocol'])


def _others(
  runs: Sequence[stages.Run],
  rules: types.ModuleType,
  validated: Outputs,
  tested: Outputs,
) -> Iterator[_System]:
  """Yields baselines, then what the model says without one of its parts."""
  for name, spec in runs[0].config['evaluation']['baselines'].items():
    tuned = functools.partial(
      _tuned, name=name, spec=spec, objective=rules.objective
    )
    on_validation = None
    if rules.BASELINE_THRESHOLDS:
      on_validation = _predict(runs, name, tuned, 'validation')
    on_test = _predict(runs, name, tuned, 'test')
    yield _System('baselines', name, on_validation, on_test)
  before = rules.ablated(validated)
  for name, outputs in rules.ablated(tested).items():
    yield _System('ablations', name, before[name], outputs)


def _predict(
  runs: Sequence[stages.Run],
  name: str,
  spec: Callable[[stages.Run], Mapping[str, Any]],
  split: str,
) -> Outputs:
  """Runs a predictor over a split of every run; `spec` gives a run's own."""
  outputs = {}
  for run in runs:
    outputs |= stages.predict(run, name, spec(run), split)
  return outputs


def _tuned(
  run: stages.Run,
  name: str,
  spec: Mapping[str, Any],
  objective: Callable[..., float],
) -> dict[str, Any]:
  """Returns a baseline's predictor, tuned on training cases if it has a grid.

  What was chosen is kept in `tuned.json`.
  """
  if 'grid' not in spec:
    return dict(spec)
  note = run.folder / name / 'tuned.json'
  if not note.exists():
    training = run.cases['train']
    number = min(spec['tuning_cases'], len(training))
    cases = training.subset(range(number))
    run.writer.log(f'{run.name}{name}: tuning on {len(cases)} training cases')
    module = build.module('predictors', spec['name'])
    settings = module.tune(cases, objective, grid=spec['grid'])
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(dataclasses.asdict(settings)))
  return {'name': spec['name'], **json.loads(note.read_text())}


def _fold(run: stages.Run, tested: Outputs, threshold: Any) -> dict[str, Any]:
  """Scores one fold by itself."""
  rules = protocol(run.config)
  truth = rules.read_truth(run.cases['test'])
  mine = {key: tested[key] for key in truth.keys}
  metrics = rules.score(mine, truth, threshold, **_options(run))
  main = run.config['main_metric']
  return {
    'name': run.name.removesuffix('/'),
    'examples': len(mine),
    main: metrics[main],
  }


def _options(run: stages.Run) -> dict[str, int]:
  """Returns the options of the intervals."""
  return {
    'resamples': run.config['evaluation']['resamples'],
    'seed': run.config['seed'],
  }


def _seconds(outputs: Outputs, keys: Sequence[str]) -> float:
  """Returns the median time of a case, s."""
  return float(np.median([outputs[key].seconds for key in keys]))
