"""Small made-up pictures with a class, for the tests of several folders."""

import numpy as np

from medzoo import types
from tests.data import phantom_cases


def picture(name='a', shape=(30, 40), label=1, colour=True, seed=0):
  """A smooth picture whose middle is bright and, in colour, red for class 1."""
  rng = np.random.default_rng(seed)
  places = (np.indices(shape) + 0.5) / np.reshape(shape, (2, 1, 1)) - 0.5
  spot = np.exp(-(places**2).sum(0) / 0.03) * (label or 0)
  ground = 80 + 30 * places.sum(0)
  levels = np.stack([ground + 120 * spot, ground, 0.5 * ground], -1)
  levels += rng.normal(0, 4, levels.shape)
  pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
  if not colour:
    pixels = pixels[..., 0]
  nothing = phantom_cases.findings()
  return types.Case(
    types.Volume(pixels[None], (None, None, None), series_uid=name),
    f'group {name}',
    nothing,
    nothing,
    label=label,
  )
