"""The mean mask of the training films, laid over any film.

The baseline that knows where lungs usually are and never looks. It has no
trained variables; `tune` makes the mean and picks the threshold on training
cases.
"""

import base64
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.data import pictures

# Rows and columns of the mean, which spans a film from edge to edge.
_SHAPE = (64, 64)
# What `tune` tries.
GRID = {'threshold': (0.3, 0.4, 0.5, 0.6)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    mean: share of the training films that have the lung at a place, of the
      right and the left lung: (2, 64, 64) uint8, 255 for all, in base 64.
    threshold: share from which on a place counts as lung.
  """

  mean: str
  threshold: float


def predict(
  shape: tuple[int, int], *, settings: Settings
) -> types.MaskDetections:
  """Lays the mean mask over a film.

  Args:
    shape: (h, w) of the film.
    settings: what `tune` chose.

  Returns:
    The mean lungs, cleaned; see `lung_shapes.detections`.
  """
  decoded = np.frombuffer(base64.b64decode(settings.mean), np.uint8)
  maps = decoded.reshape(-1, *_SHAPE) / np.float32(255)
  return lung_shapes.detections(
    pictures.resize(maps, shape),
    threshold=settings.threshold,
  )


def tune(
  cases: Sequence[types.Case],
  score: Callable[
    [Sequence[types.Case], Sequence[types.MaskDetections]], float
  ],
  grid: Mapping[str, Sequence[float]] = GRID,
) -> Settings:
  """Makes the mean mask and chooses its threshold.

  Args:
    cases: films of the training split, with masks.
    score: says how good detections are, one set a case; higher is better.
    grid: values of the threshold to try.

  Returns:
    The best settings, the first among equals.

  Raises:
    ValueError: a case has no masks.
  """
  total = np.zeros((len(lung_shapes.LABELS), *_SHAPE))
  shapes = []
  for index in range(len(cases)):
    case = cases[index]
    if case.masks is None:
      raise ValueError(
        f'{case.volume.series_uid}: found no masks, expected those of every'
        ' film to train on'
      )
    for label, mask in zip(case.masks.labels, case.masks.masks, strict=True):
      total[label - 1] += pictures.resize(mask[None], _SHAPE)[0]
    shapes.append(case.volume.voxels.shape[1:3])
  levels = np.round(255 * total / len(cases)).astype(np.uint8)
  mean = base64.b64encode(levels.tobytes()).decode()
  choices = [
    Settings(mean, **dict(zip(grid, values, strict=True)))
    for values in itertools.product(*grid.values())
  ]
  return max(
    choices, key=lambda settings: score(cases, _Predictions(shapes, settings))
  )


class _Predictions(Sequence[types.MaskDetections]):
  """What is found in films, worked out when it is asked for.

  All masks of all films at their own sizes would fill the memory.
  """

  def __init__(self, shapes: Sequence[tuple[int, int]], settings: Settings):
    self._shapes = shapes
    self._settings = settings

  def __len__(self) -> int:
    return len(self._shapes)

  def __getitem__(self, index: int) -> types.MaskDetections:
    return predict(self._shapes[index], settings=self._settings)


class MeanMask:
  """The mean mask as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    mean: str,
    threshold: float,
  ):
    # It has no network, and looks at no grey.
    del models, preprocess
    self._settings = Settings(mean, threshold)

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.MaskDetections]:
    """Returns the `lungs` of one film."""
    del variables
    shape = volume.voxels.shape[1:3]
    return {'lungs': predict(shape, settings=self._settings)}


Predictor = MeanMask
