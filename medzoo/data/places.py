"""Where in a scan training cubes are centred, and where none may be."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from medzoo import types
from medzoo.data import lungs

# LUNA16 gives a finding without a measured diameter one of 10 mm.
_UNKNOWN_DIAMETER_MM = 10.0


@dataclasses.dataclass(frozen=True)
class Spheres:
  """Findings and their surroundings, in a volume's index coordinates.

  Attributes:
    centers: (n, 3) index coordinates (z, y, x).
    radii: (n,) mm.
    spacing: of the volume, (z, y, x) mm.
  """

  centers: np.ndarray
  radii: np.ndarray
  spacing: Sequence[float]

  def are_clear(self, places: np.ndarray) -> np.ndarray:
    """Returns which of (m, 3) places lie outside every sphere, (m,) bool."""
    clear = np.ones(len(places), bool)
    for center, radius in zip(self.centers, self.radii, strict=True):
      gaps = (places - center) * np.asarray(self.spacing)
      clear &= (gaps**2).sum(axis=1) > radius**2
    return clear

  def erased(self, mask: np.ndarray) -> np.ndarray:
    """Returns a (d, h, w) mask without the voxels inside the spheres."""
    mask = mask.copy()
    for center, radius in zip(self.centers, self.radii, strict=True):
      reach = radius / np.asarray(self.spacing)
      low = np.clip(np.floor(center - reach), 0, mask.shape).astype(int)
      high = np.clip(np.ceil(center + reach) + 1, 0, mask.shape).astype(int)
      box = tuple(map(slice, low, high))
      square = sum(
        ((axis - c) * step) ** 2
        for axis, c, step in zip(
          np.ogrid[box], center, self.spacing, strict=True
        )
      )
      mask[box] &= square > radius**2
    return mask


def forbidden(
  case: types.Case, volume: types.Volume, exclusion_mm: float
) -> Spheres:
  """Returns what no negative may have its centre in.

  Args:
    case: its lesions and its excluded findings both count, those of unknown
      diameter as 10 mm ones.
    volume: the case's scan on the grid of the cubes.
    exclusion_mm: distance to keep from the rim of a finding.

  Returns:
    One sphere for each finding whose place is known.
  """
  findings = (case.lesions, case.excluded)
  world = np.concatenate([f.centers.reshape(-1, 3) for f in findings])
  diameters = np.concatenate([f.diameters.ravel() for f in findings])
  # NaN and the -1 of LUNA16's tables both mean unknown.
  measured = np.nan_to_num(diameters, nan=-1) > 0
  diameters = np.where(measured, diameters, _UNKNOWN_DIAMETER_MM)
  placed = np.isfinite(world).all(axis=1)
  return Spheres(
    centers=volume.world_to_index(world[placed]),
    radii=diameters[placed] / 2 + exclusion_mm,
    spacing=volume.spacing,
  )


def lesion_index(lesions: types.Findings, volume: types.Volume) -> np.ndarray:
  """Returns the places of lesions on the grid of a volume.

  Args:
    lesions: with known places.
    volume: the scan on the grid of the cubes.

  Returns:
    (n, 3) index coordinates (z, y, x).

  Raises:
    ValueError: a lesion lies outside the scan.
  """
  index = volume.world_to_index(lesions.centers.reshape(-1, 3))
  last = np.array(volume.voxels.shape) - 1
  # The new grid may end up to a voxel before the old one.
  outside = ((index < -1) | (index > last + 1)).any(axis=1)
  if outside.any():
    raise ValueError(
      f'{volume.series_uid}: lesion centre at voxel (z, y, x) '
      f'{index[outside][0].round(1).tolist()} of a grid of {volume.spacing} '
      f'mm; expected inside {volume.voxels.shape}'
    )
  return index


def surest(
  volume: types.Volume, candidates: np.ndarray, spheres: Spheres, count: int
) -> np.ndarray:
  """Returns the places of the highest candidates that are false.

  Args:
    volume: the grid of the cubes.
    candidates: (m, 4) world x, y, z in mm and score.
    spheres: what they must lie outside of.
    count: how many are wanted.

  Returns:
    (n, 3) index coordinates (z, y, x), n <= count, by falling score; of equal
    scores the earlier first.
  """
  order = np.argsort(-candidates[:, 3], kind='stable')
  index = volume.world_to_index(candidates[order, :3])
  last = np.array(volume.voxels.shape) - 1
  inside = ((index >= 0) & (index <= last)).all(axis=1)
  return index[inside & spheres.are_clear(index)][:count]


def anywhere(
  volume: types.Volume,
  region: str,
  spheres: Spheres,
  count: int,
  *,
  whole_shape: Sequence[int] | None,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws voxels of the search region outside the spheres.

  Args:
    volume: scan on the grid of the cubes, not windowed.
    region: see `lungs.search_region`.
    spheres: what they must lie outside of.
    count: how many are wanted.
    whole_shape: (D, H, W) of a patch that must lie inside the scan as a whole
      when it is centred there; None asks this of the centre alone.
    rng: decides.

  Returns:
    (n, 3) index coordinates (z, y, x), no two alike; n < count only where there
    is no room for more.
  """
  if not count:
    return np.zeros((0, 3))
  mask = spheres.erased(lungs.search_region(volume, region))
  if whole_shape is not None:
    rims = [
      _whole(n, size) for n, size in zip(mask.shape, whole_shape, strict=True)
    ]
    mask &= rims[0][:, None, None] & rims[1][:, None] & rims[2]
  free = np.flatnonzero(mask)
  chosen = rng.choice(free, min(count, len(free)), replace=False)
  return np.stack(np.unravel_index(chosen, mask.shape), axis=-1).astype(float)


def _whole(length: int, size: int) -> np.ndarray:
  """Marks the voxels of an axis round which `size` voxels fit."""
  start = np.round(np.arange(length) - (size - 1) / 2)
  return (start >= 0) & (start + size <= length)
