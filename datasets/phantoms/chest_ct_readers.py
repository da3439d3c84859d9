"""Four readers who mark the nodules of a phantom, and do not quite agree.

As in LIDC-IDRI a reader outlines what is 3 mm and more on every slice, on the
pixels just outside of the nodule, gives a point for what is smaller, and a
point for what is no nodule.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from datasets.phantoms import chest_ct_grid as grids
from datasets.phantoms import chest_ct_nodules as nodules
from datasets.phantoms import chest_ct_records as records

_READERS = 4
# Clockwise neighbours (y, x), from the left one.
_RING = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))
_CROSS = ndimage.generate_binary_structure(2, 1)


def read(
  grid: grids.Grid,
  found: Sequence[nodules.Nodule],
  others: Sequence[records.Distractor],
  rng: np.random.Generator,
) -> tuple[records.Reading, ...]:
  """Returns what each of the four readers marks.

  Args:
    grid: the scan's.
    found: all true nodules, in the order of `Phantom.nodules`.
    others: what is none; readers point at some of it.
    rng: decides who sees what, and how far outlines stray.
  """
  marks: list[list[records.Mark]] = [[] for _ in range(_READERS)]
  small: list[list[np.ndarray]] = [[] for _ in range(_READERS)]
  points: list[list[np.ndarray]] = [[] for _ in range(_READERS)]
  for number, nodule in enumerate(found):
    for reader in rng.permutation(_READERS)[: nodule.readers]:
      if nodule.kind == 'micro':
        small[reader].append(_point(grid, nodule.center))
        continue
      mark = _mark(grid, number, nodule, rng)
      if mark is not None:
        marks[reader].append(mark)
  for other in others:
    if rng.random() < 0.2:
      for reader in rng.permutation(_READERS)[: rng.integers(1, 4)]:
        points[reader].append(_point(grid, other.center))
  return tuple(
    records.Reading(tuple(m), _inside(grid, s), _inside(grid, p))
    for m, s, p in zip(marks, small, points, strict=True)
  )


def _point(grid: grids.Grid, center: np.ndarray) -> np.ndarray:
  return np.round(grid.index(center[None])[0]).astype(np.int32)


def _inside(grid: grids.Grid, points: list[np.ndarray]) -> np.ndarray:
  rows = np.array(points, np.int32).reshape(-1, 3)
  return rows[((rows >= 0) & (rows < grid.shape)).all(1)]


def _mark(
  grid: grids.Grid,
  number: int,
  nodule: nodules.Nodule,
  rng: np.random.Generator,
) -> records.Mark | None:
  """Outlines a nodule as one reader would; None where nothing is left."""
  mask, corner = _segment(grid, nodule, rng)
  outlines = []
  for z in np.flatnonzero(mask.any((1, 2))):
    for inclusion, points in outline(mask[z]):
      shifted = points + corner[:0:-1].astype(np.int32)
      outlines.append(records.Outline(int(z + corner[0]), inclusion, shifted))
  count = int(mask.sum())
  if not count:
    return None
  center = np.argwhere(mask).mean(0) + corner
  world = center[::-1] * np.array(grid.spacing)[::-1] + grid.origin
  volume = count * np.prod(grid.spacing)
  return records.Mark(
    nodule=number,
    ratings=_ratings(nodule, rng),
    outlines=tuple(outlines),
    center=world,
    diameter=float(np.cbrt(6 * volume / np.pi)),
  )


def _segment(
  grid: grids.Grid, nodule: nodules.Nodule, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Segments a nodule as one reader would.

  Returns:
    (d, h, w) bool, and the index (z, y, x) of its first voxel.
  """
  reach = (1.8 * nodule.radius + 2) / np.asarray(grid.spacing) + 1
  middle = grid.index(nodule.center[None])[0]
  # One pixel of the image is kept free for the outline.
  low = np.maximum(np.floor(middle - reach), (0, 1, 1)).astype(int)
  high = np.ceil(middle + reach).astype(int)
  high = np.minimum(high, np.asarray(grid.shape) - (0, 1, 1))
  if (high <= low).any():
    return np.zeros((0, 0, 0), bool), low
  axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
  index = np.stack(np.meshgrid(*axes, indexing='ij'), -1)
  level = nodule.level(grid.positions(index))
  pixel = grid.spacing[1]
  wobble = ndimage.zoom(
    rng.normal(size=(4, 4, 4)), np.array(level.shape) / 4, order=1
  )
  level = level + pixel * (0.35 * rng.normal() + 0.5 * wobble)
  mask = level > 0
  labels, count = ndimage.label(mask)
  if count > 1:
    sizes = np.bincount(labels.ravel())[1:]
    mask = labels == 1 + sizes.argmax()
  # An outline does not go into notches of a pixel.
  return ndimage.binary_closing(mask, _CROSS[None]), low


def outline(mask: np.ndarray) -> list[tuple[bool, np.ndarray]]:
  """Outlines the parts of a mask, and their holes, from outside of them.

  Args:
    mask: (h, w) bool, empty along its border.

  Returns:
    Pairs of inclusion and (n, 2) int32 x, y of a closed chain of pixels. The
    pixels within all chains that are inclusions, less those on or within the
    others, are the mask again.
  """
  mask = np.pad(mask, 1)
  found = []
  filled = ndimage.binary_fill_holes(mask)
  parts, count = ndimage.label(filled)
  for part in range(1, count + 1):
    grown = ndimage.binary_dilation(parts == part, _CROSS)
    found.append((True, _trace(grown) - 1))
  holes, count = ndimage.label(filled & ~mask)
  for hole in range(1, count + 1):
    found.append((False, _trace(holes == hole) - 1))
  return found


def _trace(region: np.ndarray) -> np.ndarray:
  """Returns the (n, 2) x, y chain of a region's outer pixels.

  Moore's neighbour tracing: from each pixel the next one is the first of the
  region, going round clockwise from where the last step came.
  """
  region = np.pad(region, 1)
  start = tuple(int(v) for v in np.argwhere(region)[0])
  chain, place, back = [start], start, 0
  while True:
    for turn in range(1, 9):
      way = (back + turn) % 8
      step = (place[0] + _RING[way][0], place[1] + _RING[way][1])
      if region[step]:
        break
    else:
      break
    # The free neighbour that was looked at last, seen from the new pixel.
    back = (way + 5) % 8 if way % 2 else (way + 6) % 8
    place = step
    if place == start and _closes(region, start, back, chain):
      break
    chain.append(place)
  return np.array(chain, np.int32)[:, ::-1] - 1


def _closes(
  region: np.ndarray,
  start: tuple[int, int],
  back: int,
  chain: list[tuple[int, int]],
) -> bool:
  """Whether the chain would go on from its start as it began."""
  for turn in range(1, 9):
    way = (back + turn) % 8
    step = (start[0] + _RING[way][0], start[1] + _RING[way][1])
    if region[step]:
      return len(chain) < 2 or step == chain[1]
  return True


def _near(value: float, rng: np.random.Generator) -> int:
  """Returns a rating from 1 to 5 about a value."""
  return int(np.clip(np.round(value + rng.normal(0, 0.5)), 1, 5))


def _ratings(
  nodule: nodules.Nodule, rng: np.random.Generator
) -> tuple[int, ...]:
  """Returns the nine characteristics, each within its own scale."""
  size = 2 * nodule.radius
  texture = {'solid': 5, 'part_solid': 3, 'ground_glass': 1}[nodule.kind]
  lobes, spikes = len(nodule.bumps), len(nodule.spicules)
  return (
    _near(1.5 + min(size / 4, 2.5) + 0.2 * (texture - 3), rng),
    1,
    3 if nodule.hu > 200 else 6,
    _near(4.0, rng),
    _near(2 if texture < 4 else 4, rng),
    _near(1 + 0.6 * lobes, rng),
    _near(1 + 0.3 * spikes, rng),
    _near(texture, rng),
    _near(1.5 + size / 8 + (1.5 if spikes else 0), rng),
  )
