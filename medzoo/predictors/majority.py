"""Takes every picture for what most of the training pictures are.

The baseline that never looks: where one class is rare it is right most of the
time, and its area under the ROC curve is 0.5.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.data import sources


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` finds.

  Attributes:
    logit: log-odds of class 1 among the training pictures; of three classes
      and more the logarithm of each one's share.
  """

  logit: float | tuple[float, ...]


def tune(
  cases: sources.Cases,
  score: Callable[[sources.Cases, Sequence[types.PictureScore]], float],
  grid: Mapping[str, Sequence[float]],
) -> Settings:
  """Counts the classes of the training pictures.

  Args:
    cases: pictures of the training split, with classes; they are not decoded.
    score: not asked, as there is nothing to choose.
    grid: {}.

  Returns:
    The log-odds or logarithms, one picture of each class being added, so that
    they are finite.
  """
  del score, grid
  counts = np.bincount(cases.labels, minlength=2) + 1
  if len(counts) == 2:
    return Settings(math.log(counts[1] / counts[0]))
  return Settings(tuple(np.log(counts / counts.sum()).tolist()))


class Majority:
  """The majority as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    logit: float | tuple[float, ...],
  ):
    # It has no network, and looks at nothing.
    del models, preprocess
    self._logit = logit

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.PictureScore]:
    """Returns the same `picture` for every picture."""
    del variables, volume
    return {'picture': types.PictureScore(np.array(self._logit, np.float64))}


Predictor = Majority
