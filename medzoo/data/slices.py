"""Slices as pictures: windowed, cropped to the lungs, all of one size.

Training and whole-scan prediction both go through `prepare`, so that a network
meets the same pixels in both. A picture that is no scan (8-bit voxels) goes
through it too: it is only brought to the size.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from medzoo import types
from medzoo.data import lungs
from medzoo.data import volumes


@dataclasses.dataclass(frozen=True)
class Stack:
  """The slices of one scan as pictures.

  Attributes:
    pixels: (n, h, w) or, in colour, (n, h, w, 3) uint8; one picture a slice.
    center: (y, x) of the pictures' middle, voxels of the scan, half-open
      coordinates as boxes have them.
    step: (y, x) voxels of the scan that a pixel spans.
    apart: how many slices away the channels below and above are.
  """

  pixels: np.ndarray
  center: tuple[float, float]
  step: tuple[float, float]
  apart: int

  def __len__(self) -> int:
    return len(self.pixels)

  def images(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns (k, h, w, 3) uint8; see `with_neighbours`."""
    return with_neighbours(self.pixels, index, 0, len(self.pixels), self.apart)

  def to_pixels(self, corners: np.ndarray) -> np.ndarray:
    """Maps (n, 4) corners in voxels of the scan to pixels."""
    size = np.tile(self.pixels.shape[1:3], 2)
    return (corners - np.tile(self.center, 2)) / np.tile(
      self.step, 2
    ) + size / 2

  def to_voxels(self, corners: np.ndarray) -> np.ndarray:
    """Maps (n, 4) corners in pixels to voxels of the scan."""
    size = np.tile(self.pixels.shape[1:3], 2)
    return (corners - size / 2) * np.tile(self.step, 2) + np.tile(
      self.center, 2
    )


def prepare(
  volume: types.Volume,
  *,
  shape: Sequence[int],
  pixel_mm: float,
  apart_mm: float = 0.0,
  window: Mapping[str, object],
  region: str,
) -> Stack:
  """Turns a scan into pictures of its slices.

  All slices of a scan are kept and are cut alike: round the middle of what the
  search region covers in any slice, at `pixel_mm`, or coarser where the region
  would not fit. Sizes in mm are thus comparable between scans, and a pixel is
  square. Pixels are means of the voxels that they span.

  Args:
    volume: (d, h, w) voxels as acquired; or 8-bit pictures (d, h, w), made
      (d, h, w, 3), or in colour, which are taken as they are and whole.
    shape: (h, w) pixels of the pictures.
    pixel_mm: the finest pixel; of no account for pictures.
    apart_mm: how far away the channels below and above are, to the nearest
      slice; 0 for the next ones. Thin slices hardly differ from the next.
    window: intensity window, see `volumes.window`.
    region: see `lungs.search_region`.

  Returns:
    The pictures; what lies outside the scan is 0.
  """
  voxels = volume.voxels
  # A picture may not say how large its pixels are.
  spacing = np.array([step or 1.0 for step in volume.spacing[1:]])
  if voxels.dtype == np.uint8:
    low, high = np.zeros(2), np.asarray(voxels.shape[1:3], float)
    finest = 0.0
    if voxels.ndim == 3:
      voxels = np.repeat(voxels[..., None], 3, axis=-1)
  else:
    low, high = _extent(volume, region)
    voxels = np.round(255 * volumes.window(voxels, window)).astype(np.uint8)
    finest = pixel_mm
  pixel = max(finest, *((high - low) * spacing / np.asarray(shape)))
  center, step = (low + high) / 2, pixel / spacing
  apart = max(round(apart_mm / (volume.spacing[0] or np.inf)), 1)
  pixels = resize(voxels, center, step, shape)
  return Stack(pixels, tuple(center), tuple(step), apart)


def with_neighbours(
  pixels: np.ndarray,
  index: Sequence[int] | np.ndarray,
  first: int,
  end: int,
  apart: int,
) -> np.ndarray:
  """Gives every slice one below and one above it as channels.

  Args:
    pixels: (n, h, w) uint8 slices, or (n, h, w, 3) pictures in colour, whose
      channels are their own.
    index: (k,) the slices wanted.
    first: of the slices of the same scan, which stands for those below.
    end: past the last of them, which stands for those above.
    apart: how many slices away.

  Returns:
    (k, h, w, 3) uint8.
  """
  index = np.asarray(index)
  if pixels.ndim == 4:
    return pixels[index]
  below = np.maximum(index - apart, first)
  above = np.minimum(index + apart, end - 1)
  return np.stack([pixels[i] for i in (below, index, above)], -1)


def _extent(volume: types.Volume, region: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns what the region spans in any slice: low and high (y, x) voxels."""
  mask = lungs.search_region(volume, region).any(axis=0)
  places = ndimage.find_objects(mask.astype(np.uint8))[0]
  low, high = ([getattr(p, e) for p in places] for e in ('start', 'stop'))
  return np.array(low, float), np.array(high, float)


def resize(
  voxels: np.ndarray,
  center: np.ndarray,
  step: np.ndarray,
  shape: Sequence[int],
) -> np.ndarray:
  """Cuts pictures out of pictures and scales them.

  Args:
    voxels: (n, h, w) or (n, h, w, 3) uint8.
    center: (y, x) of the new pictures' middle in the old ones.
    step: (y, x) old pixels that a new one spans; it is a mean of these.
    shape: (h, w) of the new pictures.

  Returns:
    uint8 of that shape; what lies outside the old pictures is 0.
  """
  half = np.asarray(shape) / 2 * step
  low, high = center - half, center + half
  # Pillow wants a box within the image.
  before = np.maximum(np.ceil(-low), 0).astype(int)
  after = np.maximum(np.ceil(high - voxels.shape[1:3]), 0).astype(int)
  margins = [(b, a) for b, a in zip(before, after, strict=True)]
  margins += [(0, 0)] * (voxels.ndim - 3)
  (y0, x0), (y1, x1) = low + before, high + before
  pixels = np.empty((len(voxels), *shape, *voxels.shape[3:]), np.uint8)
  for result, plane in zip(pixels, voxels, strict=True):
    image = Image.fromarray(np.pad(plane, margins))
    result[...] = image.resize(
      (shape[1], shape[0]), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)
    )
  return pixels
