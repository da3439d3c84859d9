"""Whole pictures as the networks see them that judge them.

Training and prediction both go through `prepare`, so that a network meets the
same pixels in both.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.data import pictures


@dataclasses.dataclass(frozen=True)
class Input:
  """A picture in the upper left corner of what a network reads.

  Attributes:
    pixels: (h, w, c) uint8, red, green and blue or one grey; 0 outside the
      picture.
    inner: (h, w) of the part that is the picture.
  """

  pixels: np.ndarray
  inner: tuple[int, int]


def prepare(
  volume: types.Volume, *, shape: Sequence[int], colour: bool, equalize: bool
) -> Input:
  """Turns a picture into what a network reads.

  In colour it is stretched to fill `shape`, whatever its proportions, and its
  levels stay; where it shrinks, see `pictures.resize`. A grey picture becomes
  three equal channels. Without colour it is taken for a film: see
  `pictures.prepare`, which keeps its proportions and spreads its greys.

  Args:
    volume: a picture, (1, h, w) or in colour (1, h, w, 3); of uint8 where
      `colour` is asked for, else of any type.
    shape: (h, w) pixels of the result.
    colour: whether the result has three channels, or one.
    equalize: whether to equalise a film's histogram.

  Returns:
    The picture in its place.

  Raises:
    ValueError: the volume has several slices, or in colour it is not of uint8
      or its histogram is to be equalised.
  """
  if not colour:
    film = pictures.prepare(volume, shape=shape, equalize=equalize)
    return Input(film.pixels[..., None], film.inner)
  name, voxels = volume.series_uid, volume.voxels
  if equalize:
    raise ValueError(
      f'{name}: found equalize with colour, expected one of the two'
    )
  if len(voxels) != 1:
    raise ValueError(
      f'{name}: found {len(voxels)} slices, expected one picture'
    )
  if voxels.dtype != np.uint8:
    raise ValueError(
      f'{name}: found pixels of {voxels.dtype}, expected uint8; films of more '
      'levels are read without colour'
    )
  height, width = shape
  image = Image.fromarray(voxels[0]).convert('RGB')
  resized = image.resize((width, height), Image.Resampling.BILINEAR)
  return Input(np.array(resized), (height, width))
