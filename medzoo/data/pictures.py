"""Films as networks see them: grey, evenly spread, all of one size.

A film is a picture of its own size: grey or colour, 8 or 16 bits. Training,
prediction and pseudo-labels all go through `prepare`, so that a network meets
the same pixels in all of them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from medzoo import types

# What is darker or brighter than these shares of a film, percent, is cut off:
# letters, metal, and the black round it.
_WINDOW = (0.5, 99.5)
# Of red, green and blue in luminance (ITU-R BT.601, as in JPEG).
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A film in the upper left corner of what a network reads.

  Attributes:
    pixels: (h, w) uint8; 0 outside the film.
    inner: (h, w) of the part that is the film.
    size: (h, w) of the film itself, its own pixels.
  """

  pixels: np.ndarray
  inner: tuple[int, int]
  size: tuple[int, int]

  @property
  def scale(self) -> tuple[float, float]:
    """Network pixels per pixel of the film, (y, x)."""
    return self.inner[0] / self.size[0], self.inner[1] / self.size[1]

  def to_network(self, corners: np.ndarray) -> np.ndarray:
    """Maps (n, 4) corners in pixels of the film to network pixels."""
    return corners * np.tile(self.scale, 2)

  def to_picture(self, corners: np.ndarray) -> np.ndarray:
    """Maps (n, 4) corners in network pixels to pixels of the film."""
    return corners / np.tile(self.scale, 2)

  def place(self, maps: np.ndarray) -> np.ndarray:
    """Brings maps at the film's own size to where a network sees them.

    Args:
      maps: (n, H, W) of any kind of number.

    Returns:
      (n, h, w) float32, 0 outside the film.
    """
    placed = np.zeros((len(maps), *self.pixels.shape), np.float32)
    placed[:, : self.inner[0], : self.inner[1]] = resize(maps, self.inner)
    return placed

  def restore(self, maps: np.ndarray) -> np.ndarray:
    """Brings a network's maps back to the film's own size.

    Args:
      maps: (n, h, w), of the size of `pixels`; what lies outside the film is
        left out; see `resize`.

    Returns:
      (n, H, W) float32.
    """
    return resize(maps[:, : self.inner[0], : self.inner[1]], self.size)


def prepare(
  volume: types.Volume, *, shape: Sequence[int], equalize: bool
) -> Picture:
  """Turns a film into what a network reads.

  Colour becomes luminance. The film is brought to the largest size of its own
  proportions that fits (see `resize`) and padded with 0 at the right and at
  the bottom, and its greys are spread from the 0.5th to the 99.5th percentile.
  With `equalize` they are then spread so that each is as frequent as any
  other, the darkest left out of account: it is 0, however much of the film is
  black margin.

  Args:
    volume: a picture, (1, h, w) or in colour (1, h, w, 3), of any type.
    shape: (h, w) pixels of the result.
    equalize: whether to equalise the histogram.

  Returns:
    The film in its place; one grey all over becomes 0.

  Raises:
    ValueError: the volume has several slices.
  """
  voxels = volume.voxels
  if len(voxels) != 1:
    raise ValueError(
      f'{volume.series_uid}: found {len(voxels)} slices, expected one picture'
    )
  grey = _luminance(voxels[0])
  size, shape = grey.shape, tuple(shape)
  factor = min(shape[0] / size[0], shape[1] / size[1])
  inner = tuple(
    min(max(round(n * factor), 1), most)
    for n, most in zip(size, shape, strict=True)
  )
  levels = _window(resize(grey[None], inner)[0])
  if equalize:
    levels = _equalized(levels)
  pixels = np.zeros(shape, np.uint8)
  pixels[: inner[0], : inner[1]] = levels
  return Picture(pixels, inner, size)


def resize(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Scales maps; they are linear between pixels.

  Where they shrink, a pixel is the mean of those that it spans and, ever less,
  of those as far again on either side.

  Args:
    maps: (n, h, w) of any kind of number.
    size: (h, w) to bring them to.

  Returns:
    (n, *size) float32.
  """
  resized = np.empty((len(maps), *size), np.float32)
  for result, plane in zip(resized, maps, strict=True):
    image = Image.fromarray(np.asarray(plane, np.float32))
    result[...] = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
  return resized


def mirror(maps: np.ndarray, width: int) -> np.ndarray:
  """Turns left and right about within a film.

  Args:
    maps: (..., h, w), the film in their upper left corner.
    width: of the film, pixels of the maps.

  Returns:
    A copy with the film's columns in reverse; what lies outside stays.
  """
  turned = maps.copy()
  turned[..., :width] = maps[..., :width][..., ::-1]
  return turned


def mirror_corners(corners: np.ndarray, width: float) -> np.ndarray:
  """Returns (..., 4) corners where `mirror` puts what they hold."""
  y0, x0, y1, x1 = np.moveaxis(corners, -1, 0)
  return np.stack([y0, width - x1, y1, width - x0], -1)


def _luminance(film: np.ndarray) -> np.ndarray:
  if film.ndim == 2:
    return film
  if film.dtype == np.uint8:
    return np.asarray(Image.fromarray(film).convert('L'))
  return film.astype(np.float32) @ _LUMINANCE


def _window(grey: np.ndarray) -> np.ndarray:
  """Returns uint8, of which the percentiles are 0 and 255."""
  low, high = np.percentile(grey, _WINDOW)
  if high <= low:
    low, high = grey.min(), max(grey.max(), np.nextafter(grey.min(), np.inf))
  share = np.clip((grey - low) / (high - low), 0, 1)
  return np.round(255 * share).astype(np.uint8)


def _equalized(levels: np.ndarray) -> np.ndarray:
  """Returns each level's rank among those brighter than the darkest."""
  counts = np.bincount(levels.ravel(), minlength=256)
  below = np.cumsum(counts)
  darkest = below[levels.min()]
  brighter = max(levels.size - darkest, 1)
  ranks = np.clip((below - darkest) / brighter, 0, 1)
  return np.round(255 * ranks).astype(np.uint8)[levels]
