"""Brings shapes onto the grid of a scan, with partial volume.

Two ways are enough. Large smooth shapes are functions sampled on a coarse
lattice and interpolated; where such a function crosses zero lies a surface.
Small shapes are clouds of little volumes, and each of them is shared out
among the eight voxels round it.
"""

import dataclasses

import numpy as np

from datasets.phantoms import chest_ct_records as records


@dataclasses.dataclass(frozen=True)
class Grid:
  """Where the voxels of a scan lie in the patient.

  Attributes:
    shape: (d, h, w).
    spacing: (z, y, x), mm.
    origin: world (x, y, z) of the first voxel's centre, mm.
    rotation: (3, 3), turns the patient's axes (x to the left, y to the back,
      z to the head) into the world's.
    isocenter: (3,) world (x, y, z) of the patient's own origin, mm.
  """

  shape: tuple[int, int, int]
  spacing: tuple[float, float, float]
  origin: np.ndarray
  rotation: np.ndarray
  isocenter: np.ndarray

  def world(self, positions: np.ndarray) -> np.ndarray:
    """Maps (..., 3) positions in the patient to world (x, y, z), mm."""
    return _turn(positions, self.rotation) + self.isocenter

  def patient(self, world: np.ndarray) -> np.ndarray:
    """Maps (..., 3) world (x, y, z) to positions in the patient, mm."""
    return _turn(world - self.isocenter, self.rotation.T)

  def index(self, positions: np.ndarray) -> np.ndarray:
    """Maps (..., 3) positions to float32 index coordinates (z, y, x)."""
    matrix = self.rotation / np.asarray(self.spacing)[::-1, None]
    shift = (self.isocenter - self.origin) / np.asarray(self.spacing)[::-1]
    index = _turn(positions, matrix[::-1].astype(np.float32))
    return index + shift[::-1].astype(np.float32)

  def positions(self, index: np.ndarray) -> np.ndarray:
    """Maps (..., 3) index coordinates (z, y, x) to positions, mm."""
    steps = np.asarray(index)[..., ::-1] * np.asarray(self.spacing)[::-1]
    return self.patient(steps + self.origin)


def _turn(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Multiplies (..., 3) vectors by a matrix."""
  # einsum stays in one thread, where BLAS would start more; scans are made
  # one on each core.
  return np.einsum('...i,ki->...k', vectors, matrix)


class Lattice:
  """Coarse points over a grid, and the way back from them to its voxels."""

  def __init__(self, grid: Grid, step: tuple[float, float, float]):
    """Spreads the points.

    Args:
      grid: the voxels.
      step: about how far the points are apart, (z, y, x), mm.
    """
    axes = []
    for size, spacing, aim in zip(grid.shape, grid.spacing, step, strict=True):
      count = max(int(np.ceil((size - 1) * spacing / aim)) + 1, 2)
      axes.append(np.linspace(0, size - 1, count))
    self._shape = grid.shape
    index = np.stack(np.meshgrid(*axes, indexing='ij'), -1)
    self.positions = grid.positions(index).astype(np.float32)

  def refine(self, values: np.ndarray) -> np.ndarray:
    """Interpolates values at the points to float32 at every voxel."""
    values = values.astype(np.float32)
    for axis, size in enumerate(self._shape):
      place = np.linspace(0, values.shape[axis] - 1, size)
      first = np.minimum(place.astype(int), values.shape[axis] - 2)
      part = (place - first).astype(np.float32)
      part = part.reshape([-1 if a == axis else 1 for a in range(3)])
      low = values.take(first, axis)
      step = values.take(first + 1, axis)
      step -= low
      step *= part
      low += step
      values = low
    return values


def cover(level: np.ndarray, edge: float) -> np.ndarray:
  """Returns the share of every voxel inside a surface, in place.

  Args:
    level: distance from the surface, positive inside, mm; overwritten.
    edge: width over which the share goes from 0 to 1, mm.
  """
  level *= np.float32(1 / edge)
  level += np.float32(0.5)
  return np.clip(level, 0, 1, out=level)


def add(image: np.ndarray, grid: Grid, points: records.Points) -> None:
  """Puts clouds of small volumes into an image, in place.

  Where clouds overlap, a voxel is filled once and takes the mean of their
  intensities.

  Args:
    image: (d, h, w) HU.
    grid: its voxels.
    points: what to add; whatever lies outside the grid is dropped.
  """
  index = grid.index(points.positions)
  first = np.floor(index.min(0)).astype(int) if len(index) else np.zeros(3, int)
  last = np.floor(index.max(0)).astype(int) + 2 if len(index) else first
  low, high = np.maximum(first, 0), np.minimum(last, grid.shape)
  if (high <= low).any():
    return
  kept = ((index >= low) & (index < high - 1)).all(1)
  index = index[kept] - low.astype(np.float32)
  shape = tuple(high - low)
  share = points.volumes[kept] / np.float32(np.prod(grid.spacing))
  cells, weights = _share_out(index, share, shape)
  size = int(np.prod(shape))
  filled = np.bincount(cells.ravel(), weights.ravel(), size)
  weights = weights * points.hu[kept]
  total = np.bincount(cells.ravel(), weights.ravel(), size)
  touched = np.flatnonzero(filled)
  filled, total = filled[touched], total[touched]
  part = image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
  z, y, x = np.unravel_index(touched, shape)
  cover_ = np.minimum(filled, 1)
  part[z, y, x] += cover_ * (total / filled - part[z, y, x])


def _share_out(
  index: np.ndarray, share: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns (8, n) flat cells round each point and what each of them gets."""
  base = index.astype(np.int32)
  upper = index - base
  weight = np.stack([1 - upper, upper])
  step = np.array([shape[1] * shape[2], shape[2], 1], np.int32)
  flat = np.einsum('ni,i->n', base, step)
  cells, weights = [], []
  for z in (0, 1):
    for y in (0, 1):
      plane = share * weight[z, :, 0] * weight[y, :, 1]
      for x in (0, 1):
        cells.append(flat + (z * step[0] + y * step[1] + x))
        weights.append(plane * weight[x, :, 2])
  return np.stack(cells), np.stack(weights)
