"""Scans on a common grid and a common intensity scale.

Training patches and whole-scan prediction both go through `prepare`, so that a
network meets the same voxels in both.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from medzoo import types


def resample(
  volume: types.Volume, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> types.Volume:
  """Resamples a scan to another spacing by linear interpolation.

  The new grid starts at the same voxel and has int((n - 1) * old / new + 1)
  voxels along an axis, as LUNA16's and convnet3d's does, so it never leaves the
  old one. There is no low-pass filter before voxels are thinned out, again as
  the field does it: fine detail aliases where the grid becomes much coarser.

  Args:
    volume: (d, h, w) voxels with known spacing along all three axes.
    spacing: new distance of voxel centres along (z, y, x), mm.

  Returns:
    The volume on the new grid, float32; origin, direction and names are kept.

  Raises:
    ValueError: the spacing along z is not known, or a spacing is not positive.
  """
  _check_spacing(volume, spacing)
  axes = [
    _positions(size, old, new)
    for size, old, new in zip(
      volume.voxels.shape, volume.spacing, spacing, strict=True
    )
  ]
  (below, share), rows, columns = axes
  voxels = np.empty([len(axis[0]) for axis in axes], np.float32)
  # One plane after the other: no more than two of them are held beside the
  # scan and the result, and each plane that is needed is interpolated once.
  planes = {}
  for z, (low, part) in enumerate(zip(below, share, strict=True)):
    needed = (low, low + 1) if part else (low,)
    planes = {k: plane for k, plane in planes.items() if k in needed}
    for k in needed:
      if k not in planes:
        planes[k] = _resample_plane(volume.voxels[k], rows, columns)
    voxels[z] = planes[low]
    if part:
      voxels[z] += part * (planes[low + 1] - planes[low])
  return dataclasses.replace(
    volume, voxels=voxels, spacing=tuple(float(step) for step in spacing)
  )


def window(voxels: np.ndarray, spec: Mapping[str, object]) -> np.ndarray:
  """Maps intensities to [0, 1], clipping what lies outside the window.

  Args:
    voxels: intensities of any shape; Hounsfield units in CT.
    spec: `dict(name='window', low=, high=)` in the units of the voxels;
      `dict(name='level', level=, width=)`, DICOM's linear window (PS3.3
      C.11.2.1.2), which runs from level - width / 2 to level + width / 2 - 1;
      or `dict(name='percentile', low=, high=)`, per cent of these voxels, for
      images without an absolute scale.

  Returns:
    float32 of the same shape; all 0 where a percentile window has no width.

  Raises:
    ValueError: the window has an unknown name, a wrong key or no width.
  """
  low, high = _limits(voxels, spec)
  result = np.subtract(voxels, low, dtype=np.float32)
  result *= np.float32(1 / (high - low) if high > low else 0)
  return np.clip(result, 0, 1, out=result)


def prepare(
  volume: types.Volume,
  window_spec: Mapping[str, object],
  spacing: Sequence[float],
) -> types.Volume:
  """Resamples, then windows: what every network is given.

  Args:
    volume: the scan as it was acquired.
    window_spec: intensity window, see `window`.
    spacing: distance of voxel centres along (z, y, x), mm.

  Returns:
    The volume on the new grid, float32 in [0, 1].
  """
  resampled = resample(volume, spacing)
  return dataclasses.replace(
    resampled, voxels=window(resampled.voxels, window_spec)
  )


def _check_spacing(volume: types.Volume, spacing: Sequence[float]) -> None:
  steps = (*volume.spacing, *spacing)
  if any(step is None or not step > 0 for step in steps) or len(steps) != 6:
    raise ValueError(
      f'{volume.series_uid or "volume"}: cannot resample from spacing '
      f'{tuple(volume.spacing)} to {tuple(spacing)}; expected three positive '
      'distances (z, y, x) in mm on both sides'
    )


def _positions(size: int, old: float, new: float) -> tuple:
  """Returns lower neighbour and share of the upper one of each new voxel."""
  count = int((size - 1) * old / new + 1)
  position = np.arange(count) * (new / old)
  # Rounding may put the last voxel a hair past the old grid.
  position = np.minimum(position, size - 1)
  below = np.minimum(position.astype(int), max(size - 2, 0))
  return below, (position - below).astype(np.float32)


def _resample_plane(
  plane: np.ndarray, rows: tuple, columns: tuple
) -> np.ndarray:
  """Interpolates one slice along y, then along x."""
  plane = _lerp(plane.astype(np.float32), *rows)
  # Gathering whole rows is several times faster than gathering columns.
  return _lerp(plane.T, *columns).T


def _lerp(
  lines: np.ndarray, below: np.ndarray, share: np.ndarray
) -> np.ndarray:
  """Interpolates between the rows of an array."""
  lower = lines[below]
  if share.any():
    upper = lines[below + 1]
    upper -= lower
    upper *= share[:, None]
    lower += upper
  return lower


def _limits(
  voxels: np.ndarray, spec: Mapping[str, object]
) -> tuple[float, float]:
  """Returns the intensities that become 0 and 1."""
  keys = {
    'window': {'low', 'high'},
    'level': {'level', 'width'},
    'percentile': {'low', 'high'},
  }
  name = spec.get('name')
  if name not in keys or set(spec) != keys[name] | {'name'}:
    raise ValueError(
      f'intensity window {dict(spec)}; expected a name of {sorted(keys)} with '
      f'the keys {sorted(keys.get(name, ["low", "high"]))}'
    )
  if name == 'level':
    low = spec['level'] - spec['width'] / 2
    high = spec['level'] + spec['width'] / 2 - 1
  else:
    low, high = spec['low'], spec['high']
  if not low < high:
    raise ValueError(f'intensity window {dict(spec)} has no width')
  if name == 'percentile':
    low, high = np.percentile(voxels, (low, high))
  return float(low), float(high)
