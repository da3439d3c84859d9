"""Square tiles of slices, sorted by what readers marked in their middle."""

import dataclasses
import hashlib

import numpy as np

from medzoo.data import lidc_scans
from medzoo.io import lidc_lesions

# Two points nearer than this mean the same place: LUNA16's hit distance for
# marks without a size.
_SAME_PLACE_MM = 5.0
# Between a tile without findings and the nearest finding.
_FAR_MM = 10.0


@dataclasses.dataclass(frozen=True)
class Tile:
  """A piece of a slice.

  Attributes:
    kind: 'none', 'nodule', 'small' or 'non_nodule'.
    index: (z, y, x) of the voxel in the tile's middle, which in a tile of
      even size is the first one of its second half.
    pixels: (size, size) uint8, the lung window; black beyond the image.
  """

  kind: str
  index: tuple[int, int, int]
  pixels: np.ndarray


def of_findings(reading: lidc_scans.Reading, size: int) -> list[Tile]:
  """Cuts tiles round everything that was marked.

  A lesion, which is what readers' marks of 3 mm and more cluster into, gives a
  tile on every slice that one of them outlined it on, centred on what is
  within their outlines there. A small nodule or a non-nodule gives one, unless
  it is within 5 mm of a lesion or of a point that gave one; small nodules go
  first.

  Args:
    reading: the scan.
    size: rows and columns of a tile, pixels.

  Returns:
    Nodules, then small nodules, then non-nodules.
  """
  spacing = np.array(reading.volume.spacing)
  taken = [np.zeros((0, 3))]
  places = []
  for lesion in lidc_lesions.cluster(reading.marks):
    voxels = np.concatenate([mark.voxels for mark in lesion.marks])
    voxels = np.unique(voxels, axis=0)
    taken.append(voxels)
    for z in np.unique(voxels[:, 0]):
      places.append(('nodule', voxels[voxels[:, 0] == z].mean(axis=0)))
  for kind in ('small', 'non_nodule'):
    for point in reading.points:
      gaps = (np.concatenate(taken) - point.index) * spacing
      nearest = np.linalg.norm(gaps, axis=1).min(initial=np.inf)
      if point.kind == kind and nearest >= _SAME_PLACE_MM:
        taken.append(point.index[None])
        places.append((kind, point.index))
  # Lesions that one reader drew into each other may share a middle.
  middles = dict.fromkeys(
    (kind, tuple(np.rint(place).astype(int).tolist())) for kind, place in places
  )
  return [_cut(reading, kind, index, size) for kind, index in middles]


def of_nothing(
  reading: lidc_scans.Reading,
  lungs: np.ndarray,
  *,
  size: int,
  stride: int,
  count: int,
  seed: int,
) -> list[Tile]:
  """Cuts tiles of lung without findings, drawn from a grid on every slice.

  The middle of each is in the mask, and no mark is within 10 mm of it.

  Args:
    reading: the scan.
    lungs: (d, h, w) bool, where middles may be.
    size: rows and columns of a tile, pixels.
    stride: distance of neighbouring middles, pixels.
    count: how many, if there are so many.
    seed: of the draw, which depends on it and on the series' UID alone.

  Returns:
    The tiles, from the first slice to the last.
  """
  centers = np.argwhere(lungs[:, ::stride, ::stride]) * (1, stride, stride)
  start = centers - (0, size // 2, size // 2)
  stop = start + (1, size, size)
  margin = _FAR_MM / np.array(reading.volume.spacing)
  free = np.ones(len(centers), bool)
  for found in (
    *(mark.voxels for mark in reading.marks),
    *(point.index[None] for point in reading.points),
  ):
    low, high = found.min(axis=0) - margin, found.max(axis=0) + 1 + margin
    free &= ((stop <= low) | (start >= high)).any(axis=1)
  centers = centers[free]
  name = hashlib.sha256(reading.volume.series_uid.encode()).digest()
  rng = np.random.default_rng([seed, *name])
  chosen = rng.choice(len(centers), min(count, len(centers)), replace=False)
  return [
    _cut(reading, 'none', tuple(centers[i].tolist()), size)
    for i in np.sort(chosen)
  ]


def _cut(
  reading: lidc_scans.Reading,
  kind: str,
  index: tuple[int, int, int],
  size: int,
) -> Tile:
  z, y, x = index
  plane = reading.volume.voxels[z]
  top, left = y - size // 2, x - size // 2
  inside = lidc_scans.gray(
    plane[max(top, 0) : top + size, max(left, 0) : left + size]
  )
  above, before = max(-top, 0), max(-left, 0)
  height, width = inside.shape
  pixels = np.zeros((size, size), np.uint8)
  pixels[above : above + height, before : before + width] = inside
  return Tile(kind, index, pixels)
