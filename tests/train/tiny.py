"""A tiny task with all that a real one has, and ways to fit it.

`fit_and_die` is for a process of its own.
"""

import contextlib
import os
import signal
from unittest import mock

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import (
  compilation_cache as compilation_cache_lib,
)

from medzoo.train import loop
from medzoo.train import writers


class Net(nn.Module):
  """Two layers with BatchNorm and Dropout between them."""

  dropout: float = 0.2

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Dense(16, name='c1')(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.8, name='bn1')(x)
    x = nn.Dropout(self.dropout, deterministic=not train, name='drop')(
      nn.relu(x)
    )
    x = nn.Dense(8, name='c2')(x)
    x = nn.BatchNorm(momentum=0.8, name='bn2')(x, use_running_average=not train)
    return nn.Dense(2, name='head')(nn.relu(x))


class Evaluator:
  def __init__(self):
    self.hits = self.count = 0

  def update(self, batch, predictions):
    found = predictions['logits'].argmax(-1)
    self.hits += int(((found == batch['label']) & batch['valid']).sum())
    self.count += int(batch['valid'].sum())

  def compute(self):
    return {'accuracy': self.hits / self.count}


class Task:
  """Cross-entropy of Net's logits."""

  def __init__(self, net=None):
    self.net = Net() if net is None else net

  def init(self, key, batch):
    return self.net.init(key, batch['image'], train=False)

  def loss(self, variables, batch, key, *, train):
    logits, state = self.net.apply(
      variables,
      batch['image'],
      train=train,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    each = -jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch['label']]
    loss = (each * batch['valid']).sum() / batch['valid'].sum()
    return loss, ({'cross_entropy': loss}, dict(state))

  def predict(self, variables, batch):
    return {'logits': self.net.apply(variables, batch['image'], train=False)}

  def evaluator(self):
    return Evaluator()


# Fits of one task share what is compiled.
_TASK = Task()


def example(i, rng):
  image = rng.normal(size=6).astype(np.float32)
  return {
    'image': image,
    'label': np.int32(image[:3].sum() > image[3:].prod()),
    'valid': np.bool_(True),
  }


@contextlib.contextmanager
def compilation_cache(folder):
  """Keeps compiled programs for this process and those that it starts."""
  changes = {
    'jax_compilation_cache_dir': folder,
    'jax_persistent_cache_min_compile_time_secs': 0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: getattr(jax.config, name) for name in changes}
  for name, value in changes.items():
    jax.config.update(name, value)
  environment = {name.upper(): str(v) for name, v in changes.items()}
  try:
    with mock.patch.dict(os.environ, environment):
      yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    compilation_cache_lib.reset_cache()


def make_batches(size=8, seed=0, count=64):
  return iter(
    grain.MapDataset.range(count)
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(example)
    .batch(size)
    .to_iter_dataset()
  )


def make_eval_batches():
  rng = np.random.default_rng(7)
  for _ in range(2):
    rows = [example(i, rng) for i in range(8)]
    yield {name: np.stack([r[name] for r in rows]) for name in rows[0]}


def settings(**changes):
  values = {
    'steps': 30,
    'optimizer': {
      'name': 'adamw',
      'learning_rate': 0.01,
      'weight_decay': 1e-3,
      'clip_norm': 1.0,
      'schedule': {'name': 'cosine', 'warmup_steps': 4},
    },
    'seed': 3,
    'eval_every': 6,
    'checkpoint_every': 5,
    'log_every': 4,
    'select': {'metric': 'accuracy', 'mode': 'max', 'patience': None},
  }
  return loop.Settings(**{**values, **changes})


def fit(workdir, *, task=None, batches=None, initial=None, **changes):
  writer = writers.Writer(workdir, echo=False)
  options = settings(**changes)
  result = loop.fit(
    _TASK if task is None else task,
    options,
    stage='tiny',
    batches=make_batches() if batches is None else batches,
    eval_batches=make_eval_batches,
    directory=workdir / 'tiny' / 'checkpoints',
    writer=writer,
    initial=initial,
  )
  writer.close()
  return result


class Wrapped(grain.DatasetIterator):
  """Batches that do something more at every call."""

  def __init__(self, batches):
    super().__init__()
    self.batches = batches
    self.count = 0

  def change(self, count, batch):
    raise NotImplementedError

  def __next__(self):
    batch = self.change(self.count, next(self.batches))
    self.count += 1
    return batch

  def get_state(self):
    return self.batches.get_state()

  def set_state(self, state):
    self.batches.set_state(state)


class Stopping(Wrapped):
  """Batches that interrupt the program."""

  def __init__(self, batches, step):
    super().__init__(batches)
    self.step = step

  def change(self, count, batch):
    if count == self.step:
      raise KeyboardInterrupt
    return batch


class Killing(Stopping):
  """Batches that end the process as kill -9 does."""

  def change(self, count, batch):
    if count == self.step:
      os.kill(os.getpid(), signal.SIGKILL)
    return batch


def fit_and_die(workdir, step):
  fit(workdir, batches=Killing(make_batches(), step))
