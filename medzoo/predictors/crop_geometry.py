"""Tells classes by the size and the place of a crop, not by what it shows.

In CNN4CRCPolyps polyps were tight boxes and the rest were strips as long as the
frame, so that a crop's shape alone told them apart. This baseline says what
shape, and place too, are worth. Shape alone is worth 0.5 in area under the ROC
curve where negatives match the polyps.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import optimize
from scipy import special

from medzoo import types
from medzoo.data import sources

# Of levels from 0 to 255: what is darker in all colours is border.
_BLACK = 20
# Of the sum of squared weights beside the mean cross-entropy.
_PENALTY = 0.01
# What `tune` tries.
GRID = {'position': (False,)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    position: whether the place is looked at, see `features`.
    middle: (k,) mean of each feature in training.
    spread: (k,) its standard deviation.
    weights: (2 k + 1,) of the standardised features, of their squares, and of
      1.
  """

  position: bool
  middle: tuple[float, ...]
  spread: tuple[float, ...]
  weights: tuple[float, ...]


def features(volume: types.Volume, position: bool) -> np.ndarray:
  """Describes a crop without its content.

  Args:
    volume: a picture whose origin is its place in the frame that it was cut
      from, (x0, y0, 0) in pixels.
    position: whether place and border count.

  Returns:
    Logarithms of area and aspect; with `position` also x and y of the middle
    of the crop in its frame and the share of nearly black pixels.
  """
  height, width = volume.voxels.shape[1:3]
  values = [np.log(height * width), np.log(height / width)]
  if position:
    x0, y0 = volume.origin[:2]
    pixels = volume.voxels[0].reshape(height, width, -1)
    border = (pixels < _BLACK).all(axis=-1).mean()
    values += [x0 + width / 2, y0 + height / 2, border]
  return np.array(values, float)


def predict(described: np.ndarray, settings: Settings) -> np.ndarray:
  """Returns (n,) log-odds of class 1 from (n, k) features."""
  return _terms(described, settings.middle, settings.spread) @ np.array(
    settings.weights
  )


def tune(
  cases: sources.Cases,
  score: Callable[[sources.Cases, Sequence[types.PictureScore]], float],
  grid: Mapping[str, Sequence[bool]] = GRID,
) -> Settings:
  """Fits a logistic regression on features and their squares.

  Args:
    cases: pictures of the training split, with classes.
    score: says how good log-odds are; higher is better.
    grid: values of `position` to try.

  Returns:
    The best settings, the first among equals.
  """
  volumes = [cases[i].volume for i in range(len(cases))]
  positive = np.array(cases.labels, bool)
  choices = []
  for position in grid['position']:
    described = np.array([features(volume, position) for volume in volumes])
    settings = _fit(described, positive, bool(position))
    logits = predict(described, settings)
    found = [types.PictureScore(logit) for logit in logits]
    choices.append((score(cases, found), settings))
  return max(choices, key=lambda choice: choice[0])[1]


class CropGeometry:
  """The regression as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    **settings: object,
  ):
    # It has no network, and crops are taken as they were cut.
    del models, preprocess
    self._settings = Settings(**settings)

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.PictureScore]:
    """Returns what shape and place say of one `picture`."""
    del variables
    described = features(volume, self._settings.position)
    logit = predict(described[None], self._settings)[0]
    return {'picture': types.PictureScore(logit)}


def _fit(
  described: np.ndarray, positive: np.ndarray, position: bool
) -> Settings:
  middle, spread = described.mean(axis=0), described.std(axis=0)
  # All crops alike in something say nothing by it.
  spread = np.where(spread > 1e-9 * np.maximum(np.abs(middle), 1), spread, 1)
  terms = _terms(described, middle, spread)

  def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
    logits = terms @ weights
    entropy = np.logaddexp(0, logits) - positive * logits
    slopes = special.expit(logits) - positive
    kept = np.append(weights[:-1], 0)
    return (
      entropy.mean() + _PENALTY * (kept**2).sum(),
      terms.T @ slopes / len(terms) + 2 * _PENALTY * kept,
    )

  found = optimize.minimize(loss, np.zeros(terms.shape[1]), jac=True)
  return Settings(
    position,
    tuple(middle.tolist()),
    tuple(spread.tolist()),
    tuple(found.x.tolist()),
  )


def _terms(
  described: np.ndarray, middle: Sequence[float], spread: Sequence[float]
) -> np.ndarray:
  steps = (described - np.array(middle)) / np.array(spread)
  return np.concatenate([steps, steps**2, np.ones((len(steps), 1))], axis=1)


Predictor = CropGeometry
