"""Small made-up films whose lungs are known, for the tests of several folders.

The right lung is the larger one, darker than the body, and lies on the film's
left, where a standard film shows the patient's right. The left one is brighter
than the body.
"""

import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from tests.data import phantom_cases

RIGHT_LUNG, BODY, LEFT_LUNG = 40, 150, 230


class Cases(list):
  """Cases as `sources.Cases` lists them, as far as tests need it."""

  @property
  def keys(self):
    return [case.volume.series_uid for case in self]

  @property
  def groups(self):
    return [case.group for case in self]

  @property
  def grids(self):
    return [case.volume.grid for case in self]

  @property
  def outlined(self):
    return [case.masks is not None for case in self]

  def subset(self, indices):
    return Cases([self[i] for i in indices])


def lung(shape, middle, half):
  """An ellipse, (h, w) bool; middle and half are shares of the film's sides."""
  places = (np.indices(shape) + 0.5) / np.reshape(shape, (2, 1, 1))
  distance = (places - np.reshape(middle, (2, 1, 1))) / np.reshape(
    half, (2, 1, 1)
  )
  return (distance**2).sum(0) < 1


def film(name='a', shape=(120, 100), labels=lung_shapes.LABELS, shift=0.0):
  """A film with the lungs of these labels, moved down by a share of it."""
  masks = {
    lung_shapes.RIGHT: lung(shape, (0.5 + shift, 0.28), (0.35, 0.18)),
    lung_shapes.LEFT: lung(shape, (0.5 + shift, 0.72), (0.3, 0.13)),
  }
  pixels = np.full(shape, BODY, np.uint8)
  for label in labels:
    grey = RIGHT_LUNG if label == lung_shapes.RIGHT else LEFT_LUNG
    pixels[masks[label]] = grey
  # Both ends of the range in a strip, so that the window is known.
  strip = pixels[:, : max(shape[1] // 40, 1)]
  strip[: shape[0] // 2], strip[shape[0] // 2 :] = 0, 255
  volume = types.Volume(pixels[None], (None, None, None), series_uid=name)
  nothing = phantom_cases.findings()
  return types.Case(
    volume,
    f'patient {name}',
    nothing,
    nothing,
    masks=types.Masks(
      np.array([masks[x] for x in labels], bool).reshape(-1, *shape),
      np.array(labels, np.int32),
    ),
  )
