"""What a fit remembers besides its states: rows, the best, the patience."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Diverged(ValueError):
  """A loss or a gradient is no longer a finite number."""


@dataclasses.dataclass
class Record:
  """JSON values only, for it is part of every checkpoint.

  Attributes:
    stage: what is fitted, for messages.
    step: steps done.
    best_step: the step of the selected variables.
    best_value: the selecting metric there; None while there is none.
    stale: validations since then.
    finished: whether no more steps are to be done.
    seconds: time of all runs that led here.
    compile_seconds: of which compiling the training step.
    peak_memory_mb: the most memory of these runs, see `memory.peak_mb`.
    train: a row of mean terms and learning rate every few steps.
    validation: a row of metrics for every validation.
  """

  stage: str
  step: int = 0
  best_step: int = 0
  best_value: float | None = None
  stale: int = 0
  finished: bool = False
  seconds: float = 0.0
  compile_seconds: float = 0.0
  peak_memory_mb: float = 0.0
  train: list[dict[str, float]] = dataclasses.field(default_factory=list)
  validation: list[dict[str, float]] = dataclasses.field(default_factory=list)

  def add_terms(
    self, terms: Sequence[Mapping[str, Any]], learning_rate: float
  ) -> dict[str, float]:
    """Adds a row with the mean terms of the last few steps.

    Args:
      terms: of each of these steps, the last one being `step`.
      learning_rate: of the last of them.

    Returns:
      The row.

    Raises:
      Diverged: a term is not finite.
    """
    self._check_finite(terms)
    means = {
      name: float(np.mean([row[name] for row in terms], dtype=np.float64))
      for name in sorted(terms[0])
    }
    row = {'step': self.step, **means, 'learning_rate': learning_rate}
    self.train.append(row)
    return row

  def add_metrics(
    self, metrics: Mapping[str, float | None]
  ) -> dict[str, float]:
    """Adds a row with a validation's metrics; undefined ones become NaN."""
    row = {'step': self.step} | {
      name: math.nan if value is None else float(value)
      for name, value in metrics.items()
    }
    self.validation.append(row)
    return row

  def judge(self, metric: str, mode: str, patience: int | None) -> bool:
    """Decides by the last validation row whether this step is the best.

    Args:
      metric: the name of the selecting metric.
      mode: 'max' or 'min'.
      patience: validations without a better value after which to finish;
        None for any number.

    Returns:
      Whether it is the best so far; a tie is not, nor is NaN.

    Raises:
      ValueError: there is no such metric.
    """
    row = self.validation[-1]
    if metric not in row:
      names = ', '.join(sorted(row.keys() - {'step'}))
      raise ValueError(
        f'{self.stage}.select.metric: found {metric!r}, expected one of '
        + names
      )
    if _is_better(row[metric], self.best_value, mode):
      self.best_step, self.best_value = self.step, row[metric]
      self.stale = 0
      return True
    self.stale += 1
    self.finished |= patience is not None and self.stale >= patience
    return False

  def _check_finite(self, terms: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(terms):
      # The loss and what feeds it first: its gradient is a consequence.
      last = {'loss': 1, 'gradient_norm': 2}
      for name in sorted(row, key=lambda name: (last.get(name, 0), name)):
        if not np.isfinite(row[name]):
          raise Diverged(
            f'{self.stage}: {name} is {row[name]} at step '
            f'{self.step - len(terms) + 1 + i}; try a lower learning rate, or '
            'look for bad values in the data'
          )


def _is_better(value: float, best: float | None, mode: str) -> bool:
  if math.isnan(value):
    return False
  if best is None:
    return True
  return value > best if mode == 'max' else value < best
