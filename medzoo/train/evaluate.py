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
# How runs are scored: sections of the config, and what the results call the
# threshold of each.
_MAIN = 'evaluation'
_THRESHOLDS = {_MAIN: 'threshold', 'detection': 'detection_threshold'}


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


@dataclasses.dataclass(frozen=True)
class _Section:
  """One way of scoring runs: a section of the config.

  Attributes:
    name: 'evaluation', or 'detection' of whole pictures beside it.
    spec: the section.
    rules: its protocol.
    runs: one, or one a fold, with the cases that are scored.
  """

  name: str
  spec: Mapping[str, Any]
  rules: types.ModuleType
  runs: Sequence[stages.Run]

  def read_truth(self, split: str) -> Any:
    """Returns what there is to find in a split of all runs."""
    truths = [self.rules.read_truth(run.cases[split]) for run in self.runs]
    return self.rules.merge(truths)

  def predict(
    self,
    name: str,
    spec: Callable[[stages.Run], Mapping[str, Any]],
    split: str,
    folder: pathlib.Path | None = None,
  ) -> Outputs:
    """Runs a predictor over a split of every run; `spec` gives a run's own."""
    outputs = {}
    for run in self.runs:
      outputs |= stages.predict(
        run, self.place(name), spec(run), split, folder=folder
      )
    return outputs

  def explain(
    self,
    outputs: Outputs,
    truth: Any,
    threshold: Any,
    split: str,
    folder: pathlib.Path | None = None,
  ) -> Outputs:
    """Returns what the section's `explainer` gives of the cases to be shown."""
    if 'explainer' not in self.spec:
      return {}
    shown = set(self.rules.choose_shown(outputs, truth, threshold))
    runs = []
    for run in self.runs:
      cases = run.cases[split]
      chosen = [i for i, key in enumerate(cases.keys) if key in shown]
      if chosen:
        cases = {split: cases.subset(chosen)}
        runs.append(dataclasses.replace(run, cases=cases))
    few = dataclasses.replace(self, runs=runs)
    return few.predict('shown', lambda _: self.spec['explainer'], split, folder)

  def place(self, name: str) -> str:
    """Returns where a system's outputs lie in a run's folder."""
    return name if self.name == _MAIN else f'{self.name}/{name}'

  @property
  def options(self) -> dict[str, int]:
    """The options of the intervals."""
    config = self.runs[0].config
    return {'resamples': self.spec['resamples'], 'seed': config['seed']}


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
    The parts of the results that come from scoring: `metrics` and
    `seconds_per_case` of the model; `threshold` and, where the config has a
    section `detection`, `detection_threshold`; `folds`, each with its main
    metric; `baselines` and `ablations`, by name; `other_thresholds` of those
    that have one, or `other_detection_thresholds`; `paired_differences`, by
    'METRIC - NAME'.

  Raises:
    build.ConfigError: there is no such protocol or baseline.
    ValueError: the cases do not hold what the protocol scores.
  """
  results: dict[str, Any] = {}
  for section in _sections(runs):
    _merge(results, _evaluate(section, folder))
  return results


def evaluate_all(
  run: stages.Run, folder: pathlib.Path, thresholds: Mapping[str, Any]
) -> dict[str, Any]:
  """Scores a run on its split `all` at thresholds that were chosen before.

  Args:
    run: of the model, with the cases to score as `all`.
    folder: gets `predictions/`, `outputs/` and, where pictures are explained,
      `shown/`; what a search gives is below `detection/`.
    thresholds: the operating thresholds, by their names in the results.

  Returns:
    `metrics`, the thresholds and `seconds_per_case`.
  """
  results: dict[str, Any] = {}
  for section in _sections([run]):
    truth = section.read_truth('all')
    threshold = thresholds[_THRESHOLDS[section.name]]
    outputs = section.predict(
      'all',
      lambda _, section=section: section.spec['predictor'],
      'all',
      folder / section.place('outputs'),
    )
    shown = section.explain(
      outputs, truth, threshold, 'all', folder / section.place('shown')
    )
    section.rules.write_predictions(
      folder / 'predictions', {**outputs, **shown}, truth, threshold
    )
    found = {
      'metrics': section.rules.score(
        outputs, truth, threshold, **section.options
      ),
      _THRESHOLDS[section.name]: threshold,
      'seconds_per_case': _seconds(outputs, truth.keys),
    }
    _merge(results, found)
  return results


def protocol(
  config: Mapping[str, Any], section: str = 'evaluation'
) -> types.ModuleType:
  """Returns the module of the protocol that a section of a config names."""
  return build.module('train.protocols', config[section]['protocol'])


def sections(config: Mapping[str, Any]) -> dict[str, str]:
  """Returns how a config has runs scored.

  Returns:
    By section, the name of its operating threshold in the results. The last
    one is what a trained model is used for.
  """
  return {name: key for name, key in _THRESHOLDS.items() if name in config}


def _sections(runs: Sequence[stages.Run]) -> list[_Section]:
  """Returns the sections: what a view shows is judged, cases are searched."""
  config = runs[0].config
  viewed = [dataclasses.replace(run, cases=run.pictures) for run in runs]
  return [
    _Section(
      name,
      config[name],
      protocol(config, name),
      viewed if name == _MAIN else runs,
    )
    for name in sections(config)
  ]


def _merge(results: dict[str, Any], found: Mapping[str, Any]) -> None:
  """Adds what a section found; metrics of two sections have other names."""
  for key, value in found.items():
    if isinstance(value, dict) and isinstance(results.get(key), dict):
      results[key] |= value
    else:
      results[key] = value


def _evaluate(section: _Section, folder: pathlib.Path) -> dict[str, Any]:
  """Scores all systems on the test split, see `evaluate`."""
  rules, spec, options = section.rules, section.spec, section.options
  key = _THRESHOLDS[section.name]
  validation, test = (
    section.read_truth(split) for split in ('validation', 'test')
  )
  validated, tested = (
    section.predict(split, lambda _: spec['predictor'], split)
    for split in ('validation', 'test')
  )
  threshold = rules.choose_threshold(validated, validation, spec)
  shown = section.explain(tested, test, threshold, 'test')
  rules.write_predictions(
    folder / 'predictions', {**tested, **shown}, test, threshold
  )
  results = {
    'metrics': rules.score(tested, test, threshold, **options),
    key: threshold,
    'seconds_per_case': _seconds(tested, test.keys),
    'baselines': {},
    'ablations': {},
    f'other_{key}s': {},
    'paired_differences': {},
  }
  if section.name == _MAIN:
    folds = section.runs if len(section.runs) > 1 else ()
    results['folds'] = [_fold(section, run, tested, threshold) for run in folds]
  for other in _others(section, validated, tested):
    own = None
    if other.validated is not None:
      own = rules.choose_threshold(other.validated, validation, spec)
      results[f'other_{key}s'][other.name] = own
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


def _others(
  section: _Section, validated: Outputs, tested: Outputs
) -> Iterator[_System]:
  """Yields baselines, then what the model says without one of its parts."""
  rules = section.rules
  for name, spec in section.spec['baselines'].items():
    tuned = functools.partial(
      _tuned,
      place=section.place(name),
      spec=spec,
      objective=rules.objective,
    )
    on_validation = None
    if rules.BASELINE_THRESHOLDS:
      on_validation = section.predict(name, tuned, 'validation')
    on_test = section.predict(name, tuned, 'test')
    yield _System('baselines', name, on_validation, on_test)
  before = rules.ablated(validated)
  for name, outputs in rules.ablated(tested).items():
    yield _System('ablations', name, before[name], outputs)


def _tuned(
  run: stages.Run,
  place: str,
  spec: Mapping[str, Any],
  objective: Callable[..., float],
) -> dict[str, Any]:
  """Returns a baseline's predictor, tuned on training cases if it has a grid.

  What was chosen is kept in `tuned.json`.
  """
  if 'grid' not in spec:
    return dict(spec)
  note = run.folder / place / 'tuned.json'
  if not note.exists():
    training = run.cases['train']
    number = min(spec['tuning_cases'], len(training))
    cases = training.subset(range(number))
    run.writer.log(f'{run.name}{place}: tuning on {len(cases)} training cases')
    module = build.module('predictors', spec['name'])
    settings = module.tune(cases, objective, grid=spec['grid'])
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(dataclasses.asdict(settings)))
  return {'name': spec['name'], **json.loads(note.read_text())}


def _fold(
  section: _Section, run: stages.Run, tested: Outputs, threshold: Any
) -> dict[str, Any]:
  """Scores one fold by itself."""
  truth = section.rules.read_truth(run.cases['test'])
  mine = {key: tested[key] for key in truth.keys}
  metrics = section.rules.score(mine, truth, threshold, **section.options)
  main = run.config['main_metric']
  return {
    'name': run.name.removesuffix('/'),
    'examples': len(mine),
    main: metrics[main],
  }


def _seconds(outputs: Outputs, keys: Sequence[str]) -> float:
  """Returns the median time of a case, s; 0 where there is none."""
  seconds = [outputs[key].seconds for key in keys]
  return float(np.median(seconds)) if seconds else 0.0
