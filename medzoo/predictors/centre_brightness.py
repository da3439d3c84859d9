"""Tells classes by how bright the middle of a picture is.

The baseline of tiles round candidates: a nodule is brighter than lung, and lies
in the middle.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.data import sources

# What `tune` tries.
GRID = {'share': (0.1, 0.2, 0.4), 'sign': (1.0, -1.0)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    share: of the height and the width that counts as the middle.
    sign: 1 where bright speaks for class 1, -1 where dark does.
  """

  share: float
  sign: float


def predict(volume: types.Volume, settings: Settings) -> np.ndarray:
  """Returns the mean level of the middle of a picture, from -1 to 1."""
  pixels = volume.voxels[0]
  size = np.array(pixels.shape[:2])
  inner = np.maximum(np.round(settings.share * size), 1).astype(int)
  y, x = (size - inner) // 2
  middle = pixels[y : y + inner[0], x : x + inner[1]]
  return np.asarray(settings.sign * (middle.mean() / 127.5 - 1))


def tune(
  cases: sources.Cases,
  score: Callable[[sources.Cases, Sequence[types.PictureScore]], float],
  grid: Mapping[str, Sequence[float]] = GRID,
) -> Settings:
  """Chooses the size of the middle, and whether bright or dark counts.

  Args:
    cases: pictures of 8 bits of the training split, with classes.
    score: says how good log-odds are; higher is better.
    grid: values of `share` and `sign` to try.

  Returns:
    The best settings, the first among equals.
  """
  volumes = [cases[i].volume for i in range(len(cases))]
  choices = []
  for share in grid['share']:
    for sign in grid['sign']:
      settings = Settings(share, sign)
      found = [types.PictureScore(predict(x, settings)) for x in volumes]
      choices.append((score(cases, found), settings))
  return max(choices, key=lambda choice: choice[0])[1]


class CentreBrightness:
  """The level of the middle as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    share: float,
    sign: float,
  ):
    # It has no network, and takes pictures as they are.
    del models, preprocess
    self._settings = Settings(share, sign)

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.PictureScore]:
    """Returns what the middle of one `picture` says."""
    del variables
    logit = predict(volume, self._settings)
    return {'picture': types.PictureScore(logit)}


Predictor = CentreBrightness
