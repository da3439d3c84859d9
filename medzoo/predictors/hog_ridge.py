"""Tells classes by edges and colours, without a network.

Histograms of oriented gradients (Dalal and Triggs 2005), a histogram of colours
or greys and a thumbnail, which says where they are, go into a kernel ridge
regression, of three classes and more one against all others. The baseline that
a network has to beat to be worth its while: all of it is older than deep
learning, and it learns in seconds.
"""

import base64
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import linalg
from skimage import feature

from medzoo import types
from medzoo.data import pictures
from medzoo.data import sources
from medzoo.metrics import calibration

_SHAPE = (64, 64)
_THUMBNAIL = (8, 8)
# Bins of each channel, and how much their histogram counts beside the rest.
_BINS = 8
_HISTOGRAM_WEIGHT = 0.5
_FOLDS = 5
# Kernels grow with the square of what they are of; 5,000 pictures are 200 MB.
_MOST = 5000
# What `tune` tries: the width of the kernel in units of the root of the median
# squared distance, and the ridge.
GRID = {'width': (0.7, 1.0, 1.4), 'ridge': (0.03, 0.1, 0.3, 1.0)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    gamma: of the kernel exp(-gamma |x - y|^2).
    examples: (n, k) float16 features of the training pictures, in base 64.
    weights: (n,) float32 weights of them, of three classes and more
      (n, classes), in base 64.
    scale: of the calibration of what the ridge gives to log-odds; of three
      classes and more a number for each, against all others.
    shift: of the same.
  """

  gamma: float
  examples: str
  weights: str
  scale: float | tuple[float, ...]
  shift: float | tuple[float, ...]


def features(volume: types.Volume) -> np.ndarray:
  """Describes a picture of any size.

  It is brought to 64 x 64 pixels, so that its size and aspect are lost. Of a
  picture in colour the strongest gradient of the three channels counts. Greys
  are colours of three equal channels, so that a folder may hold both.

  Args:
    volume: a picture, (1, h, w) or (1, h, w, 3); white is 255 where it is of 8
      bits, else its largest value.

  Returns:
    (k,) float16: gradients and the thumbnail, each of length 1, and roots of
    the shares of the 512 colours, of length 0.5.
  """
  pixels = volume.voxels[0]
  if pixels.ndim == 2:
    pixels = np.stack([pixels] * 3, axis=-1)
  white = 255 if pixels.dtype == np.uint8 else max(float(pixels.max()), 1.0)
  small = pictures.resize(pixels.transpose(2, 0, 1) / white, _SHAPE)
  edges = feature.hog(
    small,
    orientations=9,
    pixels_per_cell=(8, 8),
    cells_per_block=(2, 2),
    channel_axis=0,
  )
  levels = np.clip(small * _BINS, 0, _BINS - 1).astype(int)
  place = np.ravel_multi_index(tuple(levels.reshape(3, -1)), (_BINS,) * 3)
  counts = np.bincount(place, minlength=_BINS**3)
  parts = (
    _unit(edges),
    _unit(pictures.resize(small, _THUMBNAIL).ravel()),
    _HISTOGRAM_WEIGHT * np.sqrt(counts / counts.sum()),
  )
  return np.concatenate(parts).astype(np.float16)


def tune(
  cases: sources.Cases,
  score: Callable[[sources.Cases, Sequence[types.PictureScore]], float],
  grid: Mapping[str, Sequence[float]] = GRID,
) -> Settings:
  """Chooses kernel and ridge by cross-validation, then fits to all pictures.

  Args:
    cases: pictures of the training split, with classes; of more than 5,000 so
      many by chance. The folds share no group.
    score: says how good log-odds are; higher is better.
    grid: values of `width` and `ridge` to try.

  Returns:
    The best settings, the first among equals.

  Raises:
    ValueError: the pictures are of one group only.
  """
  chosen = np.random.default_rng(0).permutation(len(cases))[:_MOST]
  cases = cases.subset(np.sort(chosen))
  examples = np.stack([features(cases[i].volume) for i in range(len(cases))])
  positive = _one_versus_rest(cases.labels)
  signs = np.where(positive, 1.0, -1.0)
  squares = _squares(examples, examples)
  folds = sources.kfold(
    cases.groups, min(_FOLDS, len(set(cases.groups))), seed=0
  )
  unit = max(float(np.median(squares)), 1e-12)
  choices = []
  for width, ridge in itertools.product(grid['width'], grid['ridge']):
    gamma = float(1 / (width**2 * unit))
    held_out = _held_out(np.exp(-gamma * squares), signs, folds, ridge)
    found = [types.PictureScore(value) for value in held_out]
    choices.append((score(cases, found), gamma, ridge, held_out))
  _, gamma, ridge, held_out = max(choices, key=lambda choice: choice[0])
  weights = _solve(np.exp(-gamma * squares), signs, ridge)
  return Settings(
    gamma,
    base64.b64encode(examples.tobytes()).decode(),
    base64.b64encode(weights.astype(np.float32).tobytes()).decode(),
    *_calibrate(positive, held_out),
  )


class HogRidge:
  """The regression as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    gamma: float,
    examples: str,
    weights: str,
    scale: float | tuple[float, ...],
    shift: float | tuple[float, ...],
  ):
    # It has no network, and its own size of pictures.
    del models, preprocess
    self._gamma = gamma
    scale, shift = np.array(scale), np.array(shift)
    flat = np.frombuffer(base64.b64decode(weights), np.float32)
    self._weights = flat.reshape(-1, *scale.shape)
    values = np.frombuffer(base64.b64decode(examples), np.float16)
    self._examples = values.reshape(len(self._weights), -1).astype(np.float64)
    self._calibration = scale, shift

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.PictureScore]:
    """Returns what edges and colours say of one `picture`."""
    del variables
    squares = _squares(features(volume)[None], self._examples)[0]
    value = np.exp(-self._gamma * squares) @ self._weights
    scale, shift = self._calibration
    return {'picture': types.PictureScore(scale * value + shift)}


def _one_versus_rest(labels: Sequence[int]) -> np.ndarray:
  """Returns (n,) bool, of class 1 or not; of three and more (n, classes)."""
  labels = np.array(labels)
  if labels.max() <= 1:
    return labels > 0
  return labels[:, None] == np.arange(labels.max() + 1)


def _calibrate(positive: np.ndarray, values: np.ndarray) -> tuple[Any, Any]:
  """Returns scale and shift, or tuples with those of each class."""
  if positive.ndim == 1:
    fitted = calibration.platt(positive, values)
    return fitted.scale, fitted.shift
  each = [
    calibration.platt(*column)
    for column in zip(positive.T, values.T, strict=True)
  ]
  return tuple(x.scale for x in each), tuple(x.shift for x in each)


def _unit(values: np.ndarray) -> np.ndarray:
  return values / max(float(np.linalg.norm(values)), 1e-12)


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Returns (n, m) squared distances of (n, k) and (m, k)."""
  one, other = one.astype(np.float64), other.astype(np.float64)
  lengths = np.add.outer((one**2).sum(axis=1), (other**2).sum(axis=1))
  # Rounding leaves what is equal a little above or below 0.
  return np.maximum(lengths - 2 * one @ other.T, 0)


def _held_out(
  kernel: np.ndarray,
  signs: np.ndarray,
  folds: Sequence[np.ndarray],
  ridge: float,
) -> np.ndarray:
  """Returns what is said of each picture by those of the other folds.

  Its shape is that of the signs, (n,) or (n, classes).
  """
  values = np.zeros(signs.shape)
  for fold in folds:
    rest = np.setdiff1d(np.arange(len(signs)), fold)
    weights = _solve(kernel[np.ix_(rest, rest)], signs[rest], ridge)
    values[fold] = kernel[np.ix_(fold, rest)] @ weights
  return values


def _solve(kernel: np.ndarray, signs: np.ndarray, ridge: float) -> np.ndarray:
  """Returns the weights of kernel ridge regression."""
  damped = kernel + ridge * np.eye(len(kernel))
  return linalg.solve(damped, signs, assume_a='pos')


Predictor = HogRidge
