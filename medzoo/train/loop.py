"""Fits a task: steps, validation, the choice of the best, resuming.

Whatever the loop knows is in the checkpoint: the state, the position of the
data, the best variables, the early-stop counter, the history. Keys come from
the seed and the step. So a killed run, started again, does the very same
steps, and ends with the same bits where the device computes the same bits.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from medzoo.train import build
from medzoo.train import checkpoints
from medzoo.train import devices
from medzoo.train import memory
from medzoo.train import optim
from medzoo.train import progress
from medzoo.train import record as record_lib
from medzoo.train import state as state_lib
from medzoo.train import step as step_lib
from medzoo.train import writers

# Steps dispatched ahead of the device: enough to keep it busy while the next
# batch is made, few enough to hold little memory.
_STEPS_AHEAD = 2

EvalBatches = Callable[[], Iterable[Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a task is fitted.

  Attributes:
    steps: optimiser steps.
    optimizer: see `optim.make`.
    seed: of parameters, dropout and sampling within the loss.
    trainable: prefixes of the modules to train; None for all.
    eval_every: steps between validations; the last step always has one.
    checkpoint_every: steps between checkpoints; the last step has one.
    log_every: steps between rows of metrics.jsonl.
    select: dict(metric, mode, patience) chooses the variables on validation;
      mode is 'max' or 'min', patience the number of validations without a
      better value after which training stops, or None. None takes the last.
  """

  steps: int
  optimizer: Mapping[str, Any]
  seed: int
  eval_every: int
  checkpoint_every: int
  log_every: int = 20
  trainable: Sequence[str] | None = None
  select: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class FitResult:
  """What a fit leaves.

  Attributes:
    variables: the selected variables, numpy arrays.
    steps: steps done; fewer than asked after an early stop.
    best_step: the step of `variables`.
    best_value: the selecting metric there; None without `select`.
    seconds: time of all runs that led here, compilation included.
    compile_seconds: of which compiling the training step.
    peak_memory_mb: the most memory of these runs, see `memory.peak_mb`.
    history: rows by step of 'train' terms and 'validation' metrics.
  """

  variables: Any
  steps: int
  best_step: int
  best_value: float | None
  seconds: float
  compile_seconds: float
  peak_memory_mb: float
  history: dict[str, list[dict[str, float]]]


def fit(
  task: Any,
  settings: Settings,
  *,
  stage: str,
  batches: grain.DatasetIterator,
  eval_batches: EvalBatches | None,
  directory: str | os.PathLike[str],
  writer: writers.Writer,
  initial: Mapping[str, Any] | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> FitResult:
  """Trains until done, from the newest checkpoint if there is one.

  Args:
    task: follows the task protocol.
    settings: how to train.
    stage: names the rows that are written.
    batches: endless training batches whose position can be saved.
    eval_batches: starts a pass over the validation batches; None for none.
    directory: the folder of the checkpoints.
    writer: of the work folder.
    initial: complete variables to start from; None for fresh ones.
    mesh: the devices; None for all.

  Returns:
    The result, at once if the fit was finished before.

  Raises:
    ValueError: a setting is wrong.
    record.Diverged: a term is not finite.
    checkpoints.CheckpointError: a checkpoint could not be written.
  """
  _check(settings, eval_batches)
  store = checkpoints.Checkpoints(directory, warn=writer.log)
  mesh = devices.make_mesh() if mesh is None else mesh
  with jax.set_mesh(mesh):
    run = _Fit(task, settings, stage, eval_batches, store, writer, mesh)
    run.start(batches, initial)
    run.train(batches)
    return run.result()


def finished(
  directory: str | os.PathLike[str],
  *,
  warn: Callable[[str], None] = logging.warning,
) -> FitResult | None:
  """Returns the result of a fit that is done, None of any other.

  Needs neither task nor data.

  Args:
    directory: the folder of the checkpoints.
    warn: takes the line about a damaged checkpoint.
  """
  store = checkpoints.Checkpoints(directory, warn=warn)
  extra = store.read_extra()
  if extra is None or not extra['finished']:
    return None
  return _result(record_lib.Record(**extra), store.read_best())


class _Fit:
  """One call of `fit`: the parts that change while it runs."""

  def __init__(
    self,
    task: Any,
    settings: Settings,
    stage: str,
    eval_batches: EvalBatches | None,
    store: checkpoints.Checkpoints,
    writer: writers.Writer,
    mesh: jax.sharding.Mesh,
  ):
    self.task = task
    self.settings = settings
    self.stage = stage
    self.eval_batches = eval_batches
    self.store = store
    self.writer = writer
    self.mesh = mesh
    self.began = time.monotonic()
    self.record = record_lib.Record(stage)
    self.best: Any = None
    self.predict = step_lib.make_predict_step(task, mesh)
    # The best are kept as a copy: a step overwrites the state in place.
    self.copy = jax.jit(
      lambda tree: jax.tree.map(jnp.copy, tree),
      out_shardings=devices.replicated(mesh),
    )
    # Terms of the steps since the last row, still on the device.
    self.pending: list[dict[str, jax.Array]] = []
    self.row_time = self.began

  def start(
    self, batches: grain.DatasetIterator, initial: Mapping[str, Any] | None
  ) -> None:
    """Restores the newest checkpoint or makes a fresh state."""
    settings = self.settings
    # The shapes are needed before the first step; restoring rewinds this.
    self.batch = self._next(batches)
    init_key, self.key = (
      state_lib.init_key(settings.seed),
      jax.random.key(settings.seed),
    )
    params = state_lib.shapes(self.task, init_key, self.batch)['params']
    self.tx, schedule = optim.make(
      settings.optimizer,
      steps=settings.steps,
      params=params,
      trainable=settings.trainable,
    )
    self.schedule = jax.jit(schedule)
    args = (self.task, init_key, self.batch, self.tx)
    options = {'mesh': self.mesh, 'trainable': settings.trainable}
    restored = self.store.restore_latest(
      state_lib.template(*args, **options), batches
    )
    if restored is None:
      self.state = state_lib.create(*args, **options, initial=initial)
    else:
      self.state, self.best = restored.state, restored.best
      self.record = record_lib.Record(**restored.extra)
      self.batch = None
      if not self.record.finished:
        self.writer.log(
          f'{self.stage}: going on from the checkpoint of step '
          f'{self.record.step}'
        )
    self.earlier = self.record.seconds
    if not self.record.finished:
      self.writer.truncate(self.stage, self.record.step)

  def train(self, batches: grain.DatasetIterator) -> None:
    """Does the steps that are left."""
    record, settings = self.record, self.settings
    if record.finished:
      return
    self._compile(batches)
    with progress.Progress(
      self.stage, settings.steps, start=record.step, emit=self.writer.log
    ) as bar:
      while not record.finished:
        self._step(batches)
        if record.step % settings.log_every == 0:
          self._write_row()
        if self._is_due(settings.eval_every):
          self._validate()
        record.finished |= record.step >= settings.steps
        if record.finished or record.step % settings.checkpoint_every == 0:
          self._save(batches)
        bar.update(record.step, self._note())

  def result(self) -> FitResult:
    """The selected variables on the host, with the record."""
    best = self.state.variables if self.best is None else self.best
    return _result(self.record, jax.tree.map(np.asarray, best))

  def _is_due(self, every: int) -> bool:
    step = self.record.step
    last = step == self.settings.steps
    return self.eval_batches is not None and (step % every == 0 or last)

  def _compile(self, batches: grain.DatasetIterator) -> None:
    """Compiles ahead, so that the time it takes is known."""
    if self.batch is None:
      self.batch = self._next(batches)
    began = time.monotonic()
    trainable = self.settings.trainable
    train_step = step_lib.make_train_step(
      self.task, self.tx, self.mesh, trainable and tuple(trainable)
    )
    batch = devices.shard_batch(self.batch, self.mesh)
    self.step = train_step.lower(self.state, batch, self.key).compile()
    self.row_time = time.monotonic()
    self.record.compile_seconds += self.row_time - began

  def _next(self, batches: grain.DatasetIterator) -> dict[str, np.ndarray]:
    try:
      return next(batches)
    except StopIteration:
      raise build.ConfigError(
        f'{self.stage}: the training batches ended at step '
        f'{self.record.step}, expected an endless sequence'
      ) from None

  def _step(self, batches: grain.DatasetIterator) -> None:
    """Dispatches one step without waiting for it."""
    batch = self._next(batches) if self.batch is None else self.batch
    self.batch = None
    self.state, terms = self.step(
      self.state, devices.shard_batch(batch, self.mesh), self.key
    )
    self.record.step += 1
    self.pending.append(terms)
    if len(self.pending) > _STEPS_AHEAD:
      jax.block_until_ready(self.pending[-1 - _STEPS_AHEAD])

  def _write_row(self) -> None:
    """Writes the mean terms of the steps since the last row."""
    if not self.pending:
      return
    terms = jax.device_get(self.pending)
    rate = float(self.schedule(self.record.step - 1))
    row = self.record.add_terms(terms, rate)
    now = time.monotonic()
    pace = len(terms) / max(now - self.row_time, 1e-9)
    self.pending, self.row_time = [], now
    self._scalars('train', {**row, 'steps_per_second': pace})

  def _validate(self) -> None:
    """Scores the validation batches, keeps the best, counts the stale."""
    self._write_row()
    evaluator = self.task.evaluator()
    for batch in self.eval_batches():
      predictions = self.predict(self.state.variables, batch)
      evaluator.update(devices.fetch(dict(batch)), predictions)
    row = self.record.add_metrics(evaluator.compute())
    self._scalars('validation', row)
    # Not every task has something to show.
    if hasattr(evaluator, 'pictures'):
      for title, pixels in evaluator.pictures().items():
        self.writer.image(self.stage, self.record.step, title, pixels)
    if self.settings.select is not None:
      self._select(**self.settings.select)
    self.row_time = time.monotonic()

  def _select(self, metric: str, mode: str, patience: int | None) -> None:
    record = self.record
    if record.judge(metric, mode, patience):
      self.best = self.copy(self.state.variables)
    elif record.finished:
      self.writer.log(
        f'{self.stage}: stopped early at step {record.step}, best {metric} '
        f'{record.best_value} at step {record.best_step}'
      )

  def _save(self, batches: grain.DatasetIterator) -> None:
    self._write_row()
    self.writer.flush()
    record = self.record
    if self.best is None:
      record.best_step = record.step
    record.seconds = self.earlier + time.monotonic() - self.began
    record.peak_memory_mb = max(record.peak_memory_mb, memory.peak_mb())
    extra = dataclasses.asdict(record)
    self.store.save(record.step, self.state, batches, extra, best=self.best)
    self.row_time = time.monotonic()

  def _scalars(self, kind: str, row: Mapping[str, float]) -> None:
    values = {f'{kind}/{k}': v for k, v in row.items() if k != 'step'}
    self.writer.scalars(self.stage, self.record.step, values)

  def _note(self) -> str:
    rows = self.record.train
    return f'loss {rows[-1]["loss"]:.4g}' if rows else ''


def _result(record: record_lib.Record, variables: Any) -> FitResult:
  return FitResult(
    variables=variables,
    steps=record.step,
    best_step=record.best_step,
    best_value=record.best_value,
    seconds=record.seconds,
    compile_seconds=record.compile_seconds,
    peak_memory_mb=record.peak_memory_mb,
    history={'train': record.train, 'validation': record.validation},
  )


def _check(settings: Settings, eval_batches: EvalBatches | None) -> None:
  """Refuses settings that cannot be meant."""
  for name in ('steps', 'eval_every', 'checkpoint_every', 'log_every'):
    if getattr(settings, name) < 1:
      raise build.ConfigError(
        f'{name}: found {getattr(settings, name)}, expected at least 1'
      )
  select = settings.select
  if select is None:
    return
  if eval_batches is None:
    raise build.ConfigError(
      'select: there are no validation batches to select on'
    )
  if set(select) != {'metric', 'mode', 'patience'}:
    raise build.ConfigError(
      f'select: found {", ".join(sorted(select))}, expected metric, mode, '
      'patience'
    )
  if select['mode'] not in ('max', 'min'):
    raise build.ConfigError(
      f'select.mode: found {select["mode"]!r}, expected max or min'
    )
