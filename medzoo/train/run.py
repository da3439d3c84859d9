"""A whole run: prepare the data, run the stages, score, leave the results.

Called again on the same work folder it goes on where it stopped, and does
nothing once finished.
"""

import collections
import contextlib
import copy
import dataclasses
import json
import pathlib
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

import medzoo
from medzoo.data import sources
from medzoo.data import views
from medzoo.metrics import multiclass
from medzoo.train import build
from medzoo.train import classes
from medzoo.train import evaluate
from medzoo.train import memory
from medzoo.train import predict
from medzoo.train import prepared
from medzoo.train import sizes
from medzoo.train import stages
from medzoo.train import workdirs
from medzoo.train import writers

# Takes the folder, the results, the cases that were judged and, where whole
# pictures were searched besides, these.
Report = Callable[..., None]


def train(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  prepare: prepared.Prepare,
  report: Report,
) -> dict[str, Any]:
  """Runs every stage, scores the test split and writes `results.json`.

  Args:
    config: the experiment, as plain dicts.
    workdir: the work folder.
    prepare: `(name, **arguments) -> folder` of a prepared dataset.
    report: writes the page on a folder, its results and the cases scored.

  Returns:
    The results.

  Raises:
    build.ConfigError: the work folder holds another config.
  """
  workdirs.claim(workdir, config)
  path = workdir / 'results.json'
  if path.exists():
    return json.loads(path.read_text())
  memory.reset_peak()
  data = prepared.Data(config, prepare)
  peak = {'prepare': memory.peak_mb()}
  memory.reset_peak()
  with contextlib.closing(writers.Writer(workdir)) as writer:
    runs = make_runs(config, workdir, data, writer)
    rows = [row for run in runs for row in stages.run_stages(run)]
    if len(runs) > 1:
      rows += stages.run_stages(_final(runs, rows, workdir))
    peak['train'] = memory.peak_mb()
    results = {
      'experiment': config['experiment'],
      'variant': config['variant'],
      'finished': True,
      'seed': config['seed'],
      'main_metric': config['main_metric'],
      'grouped_by': config['grouped_by'],
      'stages': rows,
      'peak_memory_mb': peak,
      'timing': {
        'train_seconds': sum(row['seconds'] for row in rows),
        'compile_seconds': sum(row.get('compile_seconds', 0) for row in rows),
      },
      **environment(),
    }
    return score(runs, data, results, workdir, report)


def score(
  runs: Sequence[stages.Run],
  data: prepared.Data,
  results: dict[str, Any],
  workdir: pathlib.Path,
  report: Report,
) -> dict[str, Any]:
  """Scores finished runs on their test splits, writes report and results.

  Args:
    runs: one, or one a fold.
    data: the datasets.
    results: what is known from training; anything of scoring is replaced.
    workdir: the work folder.
    report: writes the page.

  Returns:
    The completed results.
  """
  memory.reset_peak()
  scored = evaluate.evaluate(runs, workdir)
  results['timing']['seconds_per_case'] = scored.pop('seconds_per_case')
  results['peak_memory_mb']['predict'] = memory.peak_mb()
  for fold in scored['folds']:
    fold |= _best_steps(fold['name'], results['stages'])
  results |= {
    'dataset': data.describe(_by_split(runs)),
    **scored,
  }
  results |= data.reading() | {'sizes': sizes.describe(runs[0].config)}
  config = runs[0].config
  _name_classes(results)
  if config['view']['name'] == 'crops':
    results['dataset']['crops'] = _count_crops(runs, 'test')
  facts = {
    'config': config,
    **{key: scored[key] for key in evaluate.sections(config).values()},
    'classes': data.classes,
    'background': data.background,
    'medzoo': medzoo.__version__,
  }
  folder = workdir / 'final' if len(runs) > 1 else workdir
  workdirs.write_json(folder / 'model' / 'config.json', facts)
  report(workdir, results, *_scored(runs, 'test'))
  # Last, for a run that has results is finished.
  workdirs.write_json(workdir / 'results.json', results)
  return results


def evaluate_again(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  prepare: prepared.Prepare,
  report: Report,
) -> dict[str, Any]:
  """Scores a finished work folder on its own test split once more."""
  path = workdir / 'results.json'
  if not path.exists():
    raise build.ConfigError(
      f'{workdir}: found no results.json, expected a finished work folder; '
      'train first'
    )
  workdirs.claim(workdir, config)
  data = prepared.Data(config, prepare)
  with contextlib.closing(writers.Writer(workdir)) as writer:
    runs = make_runs(config, workdir, data, writer)
    results = json.loads(path.read_text())
    return score(runs, data, results, workdir, report)


def evaluate_on(
  dataset: Mapping[str, Any],
  workdir: pathlib.Path,
  prepare: prepared.Prepare,
  report: Report,
  output: pathlib.Path,
) -> dict[str, Any]:
  """Scores a work folder's model on all scans of another dataset.

  Args:
    dataset: the section of the dataset.
    workdir: a finished work folder, of which only the model is read.
    prepare: has the dataset built.
    report: writes the page.
    output: gets `results.json`, `report.html` and `predictions/`.

  Returns:
    The results.
  """
  facts = predict.read_model(workdir)
  config = {**facts.config, 'dataset': dict(dataset), 'more_datasets': {}}
  memory.reset_peak()
  data = prepared.Data(config, prepare)
  peak = {'prepare': memory.peak_mb()}
  memory.reset_peak()
  if facts.background:
    classes.check_same([facts.background, *facts.classes], data.class_names)
  cases = data.open('all')
  with contextlib.closing(writers.Writer(output)) as writer:
    run = stages.Run(
      config=config,
      folder=facts.folder.parent,
      name='',
      cases={'all': cases},
      inputs=data.fingerprint,
      writer=writer,
    )
    scored = evaluate.evaluate_all(run, output, facts.thresholds)
  peak['predict'] = memory.peak_mb()
  results = {
    'experiment': config['experiment'],
    'variant': config['variant'],
    'finished': True,
    'seed': config['seed'],
    'main_metric': config['main_metric'],
    'grouped_by': config['grouped_by'],
    'stages': [],
    'peak_memory_mb': peak,
    'timing': {'seconds_per_case': scored.pop('seconds_per_case')},
    **environment(),
    **data.reading(),
    'sizes': sizes.describe(config),
    'dataset': data.describe({'all': [cases]}),
    'ablations': {},
    'folds': [],
    **scored,
  }
  _name_classes(results)
  if config['view']['name'] == 'crops':
    results['dataset']['crops'] = _count_crops([run], 'all')
  report(output, results, *_scored([run], 'all'))
  workdirs.write_json(output / 'results.json', results)
  return results


def make_runs(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  data: prepared.Data,
  writer: writers.Writer,
) -> list[stages.Run]:
  """Returns the run of a work folder, or one a fold.

  Raises:
    build.ConfigError: a head tells another number of classes than there are.
    ValueError: a class has no training picture, or the splits are at fault.
  """
  config = classes.fill(config, data.class_names)
  splits_of = data.splits()
  for name, splits in splits_of.items():
    prefix = f'{name}/' if name else ''
    classes.check_training(splits['train'].labels, data.class_names, prefix)
  return [
    stages.Run(
      config=config,
      folder=workdir / name,
      name=f'{name}/' if name else '',
      cases=splits,
      inputs=data.fingerprint,
      writer=writer,
    )
    for name, splits in splits_of.items()
  ]


def environment() -> dict[str, Any]:
  """Returns the `device` and `versions` of the results."""
  return {
    'device': f'{jax.default_backend()} x{jax.device_count()}',
    'versions': {
      'medzoo': medzoo.__version__,
      'jax': jax.__version__,
      'python': platform.python_version(),
    },
  }


def _best_steps(fold: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """Returns STAGE_best_step of a fold's fit stages, from the stages' rows."""
  return {
    f'{row["name"].removeprefix(f"{fold}/")}_best_step': row['best_step']
    for row in rows
    if row['kind'] == 'fit' and row['name'].startswith(f'{fold}/')
  }


def _final(
  runs: Sequence[stages.Run],
  rows: Sequence[Mapping[str, Any]],
  workdir: pathlib.Path,
) -> stages.Run:
  """Returns the run on all cases, as long as the folds' best ones were.

  Its validation cases are among its training cases and only draw curves.
  """
  config = copy.deepcopy(dict(runs[0].config))
  for name in config['stages']['order']:
    best = [
      row['best_step']
      for row in rows
      if row['kind'] == 'fit' and row['name'].endswith(f'/{name}')
    ]
    if best:
      config['stages'][name] |= {
        'steps': int(statistics.median(best)),
        'select': None,
      }
  return dataclasses.replace(
    runs[0],
    config=config,
    folder=workdir / 'final',
    name='final/',
    cases={
      'train': _everything(runs),
      'validation': runs[0].cases['validation'],
    },
  )


def _everything(runs: Sequence[stages.Run]) -> sources.Cases:
  """Returns every case of any run once."""
  cases = sources.concatenate(
    [cases for run in runs for cases in run.cases.values()]
  )
  first = {key: i for i, key in reversed(list(enumerate(cases.keys)))}
  return cases.subset(sorted(first.values()))


def _scored(runs: Sequence[stages.Run], split: str) -> list[Any]:
  """Returns the cases of a split that each section of the config scores."""
  cases = [sources.concatenate([run.cases[split] for run in runs])]
  config = runs[0].config
  if config['view']['name']:
    judged = views.Joined([run.pictures[split] for run in runs])
    return [judged, *cases] if 'detection' in config else [judged]
  return cases


def _count_crops(runs: Sequence[stages.Run], split: str) -> dict[str, int]:
  """Counts the crops that were scored, and where mucosa was found."""
  total = collections.Counter()
  for run in runs:
    total.update(run.pictures[split].counts)
  return dict(total)


def _name_classes(results: dict[str, Any]) -> None:
  """Gives metrics and confusion matrices the names of classes, where known."""
  dataset = results['dataset']
  names = [dataset['background'], *dataset['classes']]

  def named(system: dict[str, Any]) -> dict[str, Any]:
    if 'confusion_matrix' not in system or not all(names):
      return system
    number = len(system['confusion_matrix']['value'])
    return multiclass.name_classes(system, names[:number])

  results['metrics'] = named(results['metrics'])
  for name, system in results.get('baselines', {}).items():
    results['baselines'][name] = named(system)


def _by_split(runs: Sequence[stages.Run]) -> dict[str, list[sources.Cases]]:
  return {
    split: [run.cases[split] for run in runs]
    for split in ('train', 'validation', 'test')
  }
