"""The two kinds of stage: fit a task, map a predictor over cases.

A stage leaves what later ones need in its own folder: fit the parameters, map
one file a case. A stage that is finished is not done again; one that was
interrupted goes on where it stopped.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from medzoo import types
from medzoo.data import patches
from medzoo.data import pipeline
from medzoo.data import transforms
from medzoo.train import build
from medzoo.train import initial
from medzoo.train import loop
from medzoo.train import mapping
from medzoo.train import state
from medzoo.train import writers
from medzoo.weights import native

# Keys of a stage's data that say how its cubes are cut.
_DERIVE = (
  'shape',
  'margin',
  'shifted',
  'shift_mm',
  'random_per_scan',
  'hard_per_scan',
  'exclusion_mm',
  'inside',
)


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

  def parameters(self, stage: str) -> pathlib.Path:
    """The file of a fit stage's selected parameters."""
    return self.folder / 'model' / f'{stage}.safetensors'


def run_stages(run: Run) -> list[dict[str, Any]]:
  """Runs every stage in order; returns a row on each for the results."""
  rows = []
  for name in run.config['stages']['order']:
    kind = run.config['stages'][name]['kind']
    if kind == 'fit':
      rows.append(fit(run, name))
    elif kind == 'map':
      rows.append(map_stage(run, name))
    else:
      raise build.ConfigError(
        f'stages.{name}.kind: found {kind!r}, expected fit or map'
      )
  return rows


def models(config: Mapping[str, Any]) -> dict[str, Any]:
  """Builds the network of every fit stage, by stage."""
  stages = config['stages']
  return {
    name: build.build('models', stages[name]['model'])
    for name in stages['order']
    if stages[name]['kind'] == 'fit'
  }


def load_variables(
  folder: pathlib.Path, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Reads the parameters of fit stages from a `model` folder."""
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
    model = build.build('models', spec['model'])
    task = build.build('tasks', spec['task'], model)
    training, validation = _stores(run, name)
    run.writer.log(
      f'{run.name}{name}: {len(training)} training cubes '
      f'({int((training.labels > 0).sum())} of lesions), '
      f'{len(validation)} for validation'
    )
    data, batch = spec['data'], spec['batch_size']

    def batches() -> Any:
      return pipeline.train_batches(
        training,
        batch_size=batch,
        positive_share=data['positive_share'],
        augment=_augment(data, run.config['preprocess']['spacing']),
        shape=data['shape'],
        seed=run.config['seed'],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=data['workers'],
      )

    done = loop.fit(
      task,
      loop.Settings(
        steps=spec['steps'],
        optimizer=spec['optimizer'],
        seed=run.config['seed'],
        eval_every=spec['eval_every'],
        checkpoint_every=spec['checkpoint_every'],
        trainable=spec['trainable'] or None,
        select=spec['select'],
      ),
      stage=run.name + name,
      batches=batches(),
      eval_batches=lambda: pipeline.eval_batches(
        validation, batch_size=batch, shape=data['shape']
      ),
      directory=checkpoints,
      writer=run.writer,
      initial=_initial(run, name, task, batches),
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


def map_stage(run: Run, name: str) -> dict[str, Any]:
  """Maps a stage's predictor over its cases; returns the stage's row."""
  spec = run.config['stages'][name]
  outputs = predict(run, name, spec['predictor'], spec['data']['split'])
  return {
    'name': run.name + name,
    'kind': 'map',
    'cases': len(outputs),
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


def _stores(
  run: Run, name: str
) -> tuple[patches.PatchStore, patches.PatchStore]:
  """Derives a fit stage's cubes, unless they lie there already."""
  data = run.config['stages'][name]['data']
  hard = None
  if data['hard']:
    stage, _, found = data['hard'].partition('/')
    outputs = mapping.read_all(run.folder / stage / 'outputs')
    hard = {key: out.marks(found) for key, out in outputs.items()}
  stores = []
  for split in ('train', 'validation'):
    folder = run.folder / name / 'patches' / split
    if not folder.exists() and jax.process_index() == 0:
      run.writer.log(f'{run.name}{name}: cutting {split} cubes')
      patches.derive(
        run.cases[split],
        folder,
        hard=hard,
        seed=run.config['seed'],
        **run.config['preprocess'],
        **{key: data[key] for key in _DERIVE},
      )
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f'{name} {split} cubes')
    stores.append(patches.PatchStore(folder))
  return stores[0], stores[1]


def _augment(data: Mapping[str, Any], spacing: Sequence[float]) -> list[Any]:
  """Returns the augmentations that a stage's data names."""
  return [
    transforms.RandomAffine(
      shape=tuple(data['shape']), spacing=tuple(spacing), **data['affine']
    ),
    transforms.RandomIntensity(**data['intensity']),
  ]


def _initial(
  run: Run, name: str, task: Any, batches: Callable[[], Any]
) -> dict[str, Any] | None:
  """Returns the variables that a stage's `init_from` describes."""
  sources = run.config['stages'][name]['init_from']
  if not sources:
    return None
  key = state.init_key(run.config['seed'])
  variables = state.init(task, key, next(batches()))
  variables = initial.start(variables, sources, run.parameters)
  return jax.tree.map(np.asarray, variables)


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))
