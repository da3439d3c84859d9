"""The one repair that changes voxels, done only when it is asked for.

Slices that are parallel but unevenly spaced, or shifted against each other as
under a tilted gantry, still say where each of their pixels lies. Here they are
brought onto a regular grid along the normal: each slice is moved within its
plane to where it belongs, and neighbours are blended linearly.
"""

import numpy as np

from medzoo.io import dicom_geometry

# Blending across a wider gap would invent anatomy.
_WIDEST_GAP = 3


def is_sound(pile: dicom_geometry.Stack) -> bool:
  """Whether no gap is so wide that filling it would be invention."""
  gaps = np.diff(pile.heights)
  return bool(gaps.max() <= _WIDEST_GAP * dicom_geometry.middle(gaps) + 0.1)


def resample(
  voxels: np.ndarray, pile: dicom_geometry.Stack, *, air: float | None
) -> tuple[np.ndarray, float, np.ndarray]:
  """Brings a stack onto a regular grid along its normal.

  The new slices lie at multiples of the median gap from the first, and slices
  that lie there already keep their values; the grid is widened in the plane
  so that no pixel of a shifted slice is lost.

  Args:
    voxels: (n, h, w) the slices at the stack's places.
    pile: where they lie.
    air: what stands outside the slices; None for the lowest voxel.

  Returns:
    (d, h', w') voxels of the same type; their spacing along the normal, mm;
    and the world (x, y, z) of the first voxel.
  """
  heights, step = _nominal(pile.heights)
  # Shifts in pixels along a column and a row, not below zero.
  shifts = pile.drift[:, ::-1] / pile.spacing
  low = shifts.min(axis=0)
  shifts = shifts - low
  extra = np.ceil(shifts.max(axis=0) - 1e-6).astype(int)
  wanted = np.arange(int(heights[-1] / step + 1e-6) + 1) * step
  shape = (len(wanted), *(np.array(voxels.shape[1:]) + extra).tolist())
  fill = voxels.min() if air is None else air
  output = np.empty(shape, voxels.dtype)
  for k, height in enumerate(wanted):
    plane = _blend(voxels, heights, shifts, height, shape[1:])
    if np.issubdtype(voxels.dtype, np.integer):
      plane = np.rint(plane)
    output[k] = np.where(np.isnan(plane), fill, plane)
  corner = pile.direction[:, :2] @ (low * pile.spacing)[::-1]
  return output, step, pile.positions[0] + corner


def _nominal(heights: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns heights without rounding noise, and the step of the new grid."""
  times, regular = dicom_geometry.multiples(heights)
  if not regular:
    return heights, dicom_geometry.middle(np.diff(heights))
  step = float(heights[-1] / times.sum())
  return np.concatenate([[0.0], np.cumsum(times)]) * step, step


def _blend(
  voxels: np.ndarray,
  heights: np.ndarray,
  shifts: np.ndarray,
  height: float,
  shape: tuple[int, int],
) -> np.ndarray:
  """Returns the plane at `height`, (h', w'), NaN where no data reach."""
  upper = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
  lower = upper - 1
  share = (height - heights[lower]) / (heights[upper] - heights[lower])
  share = float(np.clip(share, 0, 1))
  plane = np.zeros(shape)
  for index, weight in ((lower, 1 - share), (upper, share)):
    if weight > 1e-6:
      plane += weight * _shift(voxels[index], shifts[index], shape)
  return plane


def _shift(
  plane: np.ndarray, shift: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
  """Moves a plane by a fraction of pixels onto a wider one, bilinearly."""
  canvas = np.full(shape, np.nan)
  whole = np.floor(shift + 1e-6).astype(int)
  canvas[
    whole[0] : whole[0] + plane.shape[0], whole[1] : whole[1] + plane.shape[1]
  ] = plane
  for axis, part in enumerate(shift - whole):
    if part > 1e-6:
      before = np.roll(canvas, 1, axis)
      np.moveaxis(before, axis, 0)[0] = np.nan
      canvas = (1 - part) * canvas + part * before
  return canvas
