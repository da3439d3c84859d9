"""The kinds of stage: fit, load, map and pseudo.

Fit trains a task's model and load takes one as it is; map runs a predictor over
cases; pseudo labels films. Fit and load leave their parameters in `model/`, map
one file a case in the stage's folder. A stage that is finished is not done
again; one that was interrupted goes on where it stopped.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from medzoo import tasks
from medzoo import types
from medzoo.data import views
from medzoo.train import build
from medzoo.train import feeds
from medzoo.train import initial
from medzoo.train import loop
from medzoo.train import mapping
from medzoo.train import pseudo
from medzoo.train import state
from medzoo.train import writers
from medzoo.weights import native


@dataclasses.dataclass(frozen=True)
class Run:
  """What the stages of one run share; each fold is a run of its own.

  Attributes:
    config: the whole config, as plain dicts.
    folder: the folder of stages and parameters: the work folder or a fold's.
    name: prefix of what is logged, '' or 'fold_K/'.
    cases: the cases of each split.
    inputs: identifies the prepared dataset; part of what outputs depend on.
    writer: of the work folder.
  """

  config: Mapping[str, Any]
  folder: pathlib.Path
  name: str
  cases: Mapping[str, Sequence[types.Case]]
  inputs: str
  writer: writers.Writer

  @functools.cached_property
  def pictures(self) -> views.Viewed:
    """What classifiers look at of the cases, as the config's `view` says."""
    return views.Viewed(self.cases, self.config['view'])

  def parameters(self, stage: str) -> pathlib.Path:
    """The file of a stage's parameters, after it was fitted or loaded."""
    return self.folder / 'model' / f'{stage}.safetensors'


def run_stages(run: Run) -> list[dict[str, Any]]:
  """Runs every stage in order; returns a row on each for the results."""
  rows = []
  for name in run.config['stages']['order']:
    kind = run.config['stages'][name]['kind']
    if kind == 'fit':
      rows.append(fit(run, name))
    elif kind == 'load':
      rows.append(load(run, name))
    elif kind == 'map':
      rows.append(map_stage(run, name))
    elif kind == 'pseudo':
      rows.append(label(run, name))
    else:
      raise build.ConfigError(
        f'stages.{name}.kind: found {kind!r}, expected fit, load, map or pseudo'
      )
  return rows


def models(config: Mapping[str, Any]) -> dict[str, Any]:
  """Builds the network of every stage that has one, by stage."""
  stages = config['stages']
  return {
    name: build.build('models', stages[name]['model'])
    for name in stages['order']
    if 'model' in stages[name]
  }


def load_variables(
  folder: pathlib.Path, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Reads the parameters of stages from a `model` folder."""
  return {
    name: native.load(folder / f'{name}.safetensors')[0] for name in names
  }


def fit(run: Run, name: str) -> dict[str, Any]:
  """Fits a stage's task and writes its selected parameters.

  Returns:
    The stage's row of the results: name, steps, params, seconds and more.
  """
  spec = run.config['stages'][name]
  checkpoints = run.folder / name / 'checkpoints'
  done = loop.finished(checkpoints, warn=run.writer.log)
  if done is None or not run.parameters(name).exists():
    model, task = _task(json.dumps([spec['model'], spec['task']]))
    feed = feeds.make(run, name)
    run.writer.log(
      f'{run.name}{name}: {len(feed.training)} training examples '
      f'({_count_positive(feed.training.positive)}), '
      f'{len(feed.validation)} for validation'
    )
    seed = run.config['seed']
    done = loop.fit(
      task,
      loop.Settings(
        steps=spec['steps'],
        optimizer=spec['optimizer'],
        seed=seed,
        eval_every=spec['eval_every'],
        checkpoint_every=spec['checkpoint_every'],
        trainable=spec['trainable'] or None,
        select=spec['select'],
      ),
      stage=run.name + name,
      batches=feed.batches(spec, seed),
      eval_batches=lambda: feed.eval_batches(spec),
      directory=checkpoints,
      writer=run.writer,
      initial=_initial(
        run, name, model, task, lambda: feed.batches(spec, seed)
      ),
    )
    if jax.process_index() == 0:
      facts = {'stage': name, 'model': dict(spec['model'])}
      native.save(run.parameters(name), done.variables, facts)
  return {
    'name': run.name + name,
    'kind': 'fit',
    'steps': done.steps,
    'best_step': done.best_step,
    'params': _count(done.variables['params']),
    'seconds': done.seconds,
    'compile_seconds': done.compile_seconds,
    'peak_memory_mb': int(done.peak_memory_mb),
  }


def load(run: Run, name: str) -> dict[str, Any]:
  """Takes a model as its `init_from` says, untrained where that is empty.

  Returns:
    The stage's row of the results.
  """
  spec = run.config['stages'][name]
  path = run.parameters(name)
  if not path.exists() and jax.process_index() == 0:
    model = build.build('models', spec['model'])
    image = np.zeros((1, *spec['input_shape']), np.float32)
    key = state.init_key(run.config['seed'])
    variables = tasks.init(model, key, {'image': image})
    variables = initial.start(
      model, variables, spec['init_from'], run.parameters
    )
    facts = {'stage': name, 'model': dict(spec['model'])}
    native.save(path, jax.tree.map(np.asarray, variables), facts)
  variables, _ = native.load(path)
  return {
    'name': run.name + name,
    'kind': 'load',
    'params': _count(variables['params']),
    'seconds': 0.0,
  }


def map_stage(run: Run, name: str) -> dict[str, Any]:
  """Maps a stage's predictor over its cases; returns the stage's row."""
  spec = run.config['stages'][name]
  viewed = dataclasses.replace(run, cases=run.pictures)
  outputs = predict(viewed, name, spec['predictor'], spec['data']['split'])
  return {
    'name': run.name + name,
    'kind': 'map',
    'cases': len(outputs),
    'seconds': sum(output.seconds for output in outputs.values()),
  }


def label(run: Run, name: str) -> dict[str, Any]:
  """Labels the films of a stage's split that have no masks.

  Returns:
    The stage's row of the results.
  """
  spec = run.config['stages'][name]
  split = spec['data']['split']
  _, films = pseudo.split(run.cases[split])
  alone = dataclasses.replace(run, cases={split: films})
  outputs = predict(alone, name, spec['predictor'], split)
  kept = pseudo.write(run.folder / name, outputs, films, spec['min_confidence'])
  run.writer.log(
    f'{run.name}{name}: kept {kept} of {len(films)} films without masks, the'
    f' others are for a person to judge, see {run.folder / name / "panels"}'
  )
  return {
    'name': run.name + name,
    'kind': 'pseudo',
    'cases': len(films),
    'kept': kept,
    'seconds': sum(output.seconds for output in outputs.values()),
  }


def predict(
  run: Run,
  name: str,
  spec: Mapping[str, Any],
  split: str,
  *,
  folder: pathlib.Path | None = None,
) -> dict[str, mapping.Output]:
  """Runs a predictor with the run's parameters over the cases of splits.

  Args:
    run: its finished fit stages give the parameters.
    name: of the stage, for the progress.
    spec: the predictor's.
    split: 'validation' or 'train+validation', say.
    folder: gets a file a case; the stage's `outputs` by default.

  Returns:
    What the predictor gave, by case.
  """
  predictor = build.build(
    'predictors', spec, models(run.config), run.config['preprocess']
  )
  files = [run.parameters(stage) for stage in predictor.stages]
  cases = [
    (source, i)
    for part in split.split('+')
    for source in [run.cases[part]]
    for i in range(len(source))
  ]
  return mapping.map_cases(
    predictor,
    load_variables(run.folder / 'model', predictor.stages),
    cases,
    folder or run.folder / name / 'outputs',
    mapping.fingerprint(files, spec, run.config['preprocess'], run.inputs),
    title=run.name + name,
    log=run.writer.log,
  )


@functools.lru_cache(maxsize=16)
def _task(words: str) -> tuple[Any, Any]:
  """Builds model and task; folds share them, and what is compiled of them."""
  model, task = json.loads(words)
  model = build.build('models', model)
  return model, build.build('tasks', task, model)


def _initial(
  run: Run, name: str, model: Any, task: Any, batches: Callable[[], Any]
) -> dict[str, Any] | None:
  """Returns the variables that a stage's `init_from` describes."""
  sources = run.config['stages'][name]['init_from']
  if not sources:
    return None
  key = state.init_key(run.config['seed'])
  variables = state.init(task, key, next(batches()))
  variables = initial.start(model, variables, sources, run.parameters)
  return jax.tree.map(np.asarray, variables)


def _count_positive(kinds: np.ndarray) -> str:
  """Says how many examples are positive, or of each of several classes."""
  counts = np.bincount(kinds)
  if len(counts) <= 2:
    return f'{np.count_nonzero(kinds)} positive'
  return f'{", ".join(map(str, counts))} by class'


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))
