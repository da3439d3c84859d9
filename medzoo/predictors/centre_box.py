"""One box of the usual size at the usual place, in every frame.

The baseline that knows where polyps usually are and never looks. It has no
trained variables; `tune` takes the median of the training frames' objects.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medzoo import types

# What `tune` tries: sides, as multiples of the median ones.
GRID = {'scale': (1.0, 1.25, 1.5, 2.0)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    middle: (y, x) of the box, shares of the frame's height and width.
    size: (height, width) of it, likewise.
    scale: factor of the size.
  """

  middle: tuple[float, float]
  size: tuple[float, float]
  scale: float


def predict(
  shape: tuple[int, int], *, settings: Settings
) -> types.BoxDetections:
  """Returns the box, clipped to the frame.

  Args:
    shape: (h, w) of the frame.
    settings: what `tune` chose.
  """
  middle, half = np.array(settings.middle), np.array(settings.size) / 2
  half = half * settings.scale
  corners = np.concatenate([middle - half, middle + half])
  return types.BoxDetections(
    slices=np.zeros(1, np.int32),
    corners=np.clip(corners, 0, 1)[None] * np.tile(shape, 2),
    scores=np.ones(1),
    labels=np.ones(1, np.int32),
    steps=np.zeros(1, np.int32),
    suppressed=np.zeros(1, bool),
    links=np.full(1, -1, np.int32),
  )


def tune(
  cases: Sequence[types.Case],
  score: Callable[[Sequence[types.Case], Sequence[types.BoxDetections]], float],
  grid: Mapping[str, Sequence[float]] = GRID,
) -> Settings:
  """Takes the median box and chooses how much larger it is to be.

  Args:
    cases: frames of the training split, with masks.
    score: says how good boxes are, one set a case; higher is better.
    grid: values of the scale to try.

  Returns:
    The best settings, the first among equals.

  Raises:
    ValueError: a case has no masks, or there is no object in any.
  """
  middles, sizes, shapes = [], [], []
  for index in range(len(cases)):
    case = cases[index]
    if case.masks is None:
      raise ValueError(
        f'{case.volume.series_uid}: found no masks, expected those of every'
        ' frame to train on'
      )
    shape = case.volume.voxels.shape[1:3]
    shapes.append(shape)
    for mask in case.masks.masks:
      places = np.argwhere(mask)
      low, high = places.min(0), places.max(0) + 1
      middles.append((low + high) / 2 / shape)
      sizes.append((high - low) / shape)
  if not sizes:
    raise ValueError(
      f'found nothing outlined in {len(cases)} training frames, expected an'
      ' object at least'
    )
  middle, size = (
    tuple(np.median(rows, axis=0).tolist()) for rows in (middles, sizes)
  )
  choices = [
    Settings(middle, size, **dict(zip(grid, values, strict=True)))
    for values in itertools.product(*grid.values())
  ]
  return max(
    choices,
    key=lambda settings: score(
      cases, [predict(shape, settings=settings) for shape in shapes]
    ),
  )


class CentreBox:
  """The box as a predictor; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    middle: Sequence[float],
    size: Sequence[float],
    scale: float,
  ):
    # It has no network, and looks at no pixel.
    del models, preprocess
    self._settings = Settings(tuple(middle), tuple(size), scale)

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.BoxDetections]:
    """Returns the one box of a frame as `windows`."""
    del variables
    shape = volume.voxels.shape[1:3]
    return {'windows': predict(shape, settings=self._settings)}


Predictor = CentreBox
