"""Candidate screening over a whole scan, tile by tile.

The screening network is fully convolutional, so a scan could go through it in
one pass; its first layers would then need many gigabytes. Tiles whose origins
are multiples of the output stride give the same scores at a fixed size, which
is compiled once, and they are laid so that few cover the search region.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from scipy import ndimage

from medzoo import types
from medzoo.data import lungs
from medzoo.data import volumes
from medzoo.models import candidate_screening
from medzoo.ops import nms
from medzoo.predictors import overlap

_STRIDE = np.asarray(candidate_screening.STRIDE)
_FIELD = np.asarray(candidate_screening.RECEPTIVE_FIELD)
# Voxels of padding before the scan that put cell 0 on voxel (0, 0.5, 0.5).
_BEFORE = (_FIELD - 1) // 2


class CandidateScreening:
  """Finds candidates in a scan with the screening network alone.

  Attributes:
    models: the networks by stage; `screening` is used, a fully convolutional
      one with the geometry of `models.candidate_screening`.
    preprocess: `spacing` of voxel centres that the network was trained at, mm,
      intensity `window` (see `data.volumes.window`) and search `region` (see
      `data.lungs.search_region`).
    tile: cells (z, y, x) that one call of the network gives.
    threshold: lowest probability of a candidate.
    radius_mm: of two candidates nearer than this the weaker one is dropped.
    max_candidates: the most that a scan keeps.
  """

  stages = ('screening',)

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    tile: tuple[int, int, int],
    threshold: float,
    radius_mm: float,
    max_candidates: int,
  ):
    self.preprocess = preprocess
    self.tile = tile
    self.threshold = threshold
    self.radius_mm = radius_mm
    self.max_candidates = max_candidates
    self._model = models['screening']

  def __call__(
    self, variables: dict[str, Any], volume: types.Volume
  ) -> dict[str, types.Detections]:
    """Returns the `candidates` of one scan, their diameters unknown.

    Args:
      variables: those of each stage by name; `screening` is used.
      volume: the scan as it was acquired.
    """
    prepared, region = self.prepare(volume)
    return {'candidates': self.screen(variables, prepared, region)}

  def prepare(self, volume: types.Volume) -> tuple[types.Volume, np.ndarray]:
    """Returns the network's view of a scan, and where to search in it.

    Returns:
      The volume on the network's grid, in [0, 1], and a mask of its shape.
    """
    resampled = volumes.resample(volume, self.preprocess['spacing'])
    region = lungs.search_region(resampled, self.preprocess['region'])
    voxels = volumes.window(resampled.voxels, self.preprocess['window'])
    return dataclasses.replace(resampled, voxels=voxels), region

  def screen(
    self,
    variables: dict[str, Any],
    prepared: types.Volume,
    region: np.ndarray,
  ) -> types.Detections:
    """Returns the candidates in a prepared scan."""
    apply = functools.partial(
      _probabilities, self._model, variables['screening']
    )
    scores = screen_tiles(apply, prepared.voxels, region, self.tile)
    return self._pick(scores, prepared)

  def _reach(self) -> np.ndarray:
    """Returns half the suppression radius in cells, at least one."""
    cell_mm = _STRIDE * np.asarray(self.preprocess['spacing'])
    cells = self.radius_mm / 2 / cell_mm
    return np.maximum(np.round(cells), 1).astype(int)

  def _pick(
    self, scores: np.ndarray, prepared: types.Volume
  ) -> types.Detections:
    """Turns the score map into separate candidates."""
    foreground = scores[..., 1:].sum(-1)
    cells = find_peaks(foreground, self.threshold, self._reach())
    peak = tuple(cells.T)
    probability = foreground[peak]
    labels = 1 + scores[peak][:, 1:].argmax(-1)
    index = cell_to_index(refine_peaks(foreground, cells))
    centers = prepared.index_to_world(index).reshape(-1, 3)
    keep = nms.nms_spheres(
      centers, probability, self.radius_mm, self.max_candidates
    )
    return types.Detections(
      centers=centers[keep],
      diameters=np.full(len(keep), np.nan),
      scores=probability[keep].astype(np.float64),
      labels=labels[keep],
    )


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(
  model: nn.Module, variables: Any, x: np.ndarray
) -> jax.Array:
  """Compiled once for each model, however many predictors use it."""
  return jax.nn.softmax(model.apply(variables, x, train=False)['logits'])


def screen_tiles(
  apply: Callable[[np.ndarray], np.ndarray],
  image: np.ndarray,
  region: np.ndarray,
  tile: tuple[int, int, int],
) -> np.ndarray:
  """Scores every cell of the search region.

  Args:
    apply: (1, d, h, w, 1) voxels -> (1, *tile, classes) probabilities.
    image: (d, h, w) prepared voxels.
    region: (d, h, w) bool, where to search.
    tile: cells of one call.

  Returns:
    (*cells, classes); background is 1 in cells outside the region. Cell k is
    centred on voxel k * STRIDE + (0, 0.5, 0.5), see `cell_to_index`.
  """
  inside = _cells_of_region(region)
  size = (np.asarray(tile) - 1) * _STRIDE + _FIELD
  # The last tile may start at the last cell.
  total = (np.asarray(inside.shape) + tile - 2) * _STRIDE + _FIELD
  padded = np.zeros(total, np.float32)
  place = tuple(
    slice(b, b + n) for b, n in zip(_BEFORE, image.shape, strict=True)
  )
  padded[place] = image
  scores = None

  def score(place: tuple) -> np.ndarray:
    return np.asarray(apply(padded[place[1]][None, ..., None])[0])

  places = _tiles(inside, np.asarray(tile), size)
  for (cells, _), result in overlap.overlapped(score, places):
    if scores is None:
      scores = np.zeros((*inside.shape, result.shape[-1]), np.float32)
      scores[..., 0] = 1
    kept = inside[cells]
    result = result[tuple(slice(n) for n in kept.shape)]
    scores[cells][kept] = result[kept]
  if scores is None:
    return np.ones((*inside.shape, 2), np.float32) * np.float32([1, 0])
  return scores


def cell_to_index(cells: np.ndarray) -> np.ndarray:
  """Maps (..., 3) cells of `screen_tiles` to index coordinates (z, y, x)."""
  return candidate_screening.cell_to_index(cells) - _BEFORE


def find_peaks(
  scores: np.ndarray, threshold: float, reach: np.ndarray
) -> np.ndarray:
  """Returns (n, 3) cells that no cell within reach exceeds, best first.

  Args:
    scores: (d, h, w).
    threshold: lowest score of a peak.
    reach: (3,) cells to either side.
  """
  highest = ndimage.maximum_filter(
    scores, size=tuple(2 * np.asarray(reach) + 1), mode='constant'
  )
  cells = np.argwhere((scores >= highest) & (scores >= threshold))
  order = np.argsort(-scores[tuple(cells.T)], kind='stable')
  return cells[order]


def refine_peaks(
  scores: np.ndarray, cells: np.ndarray, reach: tuple[int, int, int] = (4, 2, 2)
) -> np.ndarray:
  """Moves each peak to the centre of mass of the scores round it.

  Scores stay high over a plateau as wide as the shifts of the training
  positives, so the highest cell alone is a poor centre. What is below half
  the peak takes no part.

  Returns:
    (n, 3) float cells.
  """
  grid = np.stack(
    np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing='ij'), -1
  ).reshape(-1, 3)
  padded = np.pad(scores, [(r, r) for r in reach])
  around = cells[:, None] + grid + np.asarray(reach)
  weights = padded[tuple(np.moveaxis(around, -1, 0))].astype(np.float64)
  peak = scores[tuple(cells.T)][:, None]
  weights = np.maximum(weights - peak / 2, 0)
  shift = (weights[..., None] * grid).sum(1) / weights.sum(1)[:, None]
  return cells + shift


def _cells_of_region(region: np.ndarray) -> np.ndarray:
  """Returns which cells have any voxel of the region under them."""
  d, h, w = region.shape
  padded = np.pad(region, [(0, 0), (0, h % 2), (0, w % 2)])
  return padded.reshape(d, (h + 1) // 2, 2, (w + 1) // 2, 2).any((2, 4))


def _tiles(
  inside: np.ndarray, tile: np.ndarray, size: np.ndarray
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
  """Yields the cells and the voxels of tiles that cover the region."""
  for start in cover(inside, tuple(tile)):
    first = np.asarray(start) * _STRIDE
    yield (
      tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True)),
      tuple(slice(f, f + n) for f, n in zip(first, size, strict=True)),
    )


def cover(mask: np.ndarray, tile: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
  """Yields where tiles start that cover a mask without overlap.

  The mask is cut into slabs along its first axis, each slab into strips along
  the next and so on, each cut beginning at the first place not yet covered
  where the mask is set. Tiles at multiples of their size would be a quarter
  more for the lungs.

  Args:
    mask: bool, of any rank.
    tile: size along each axis; a tile may reach beyond the mask's end.
  """
  if not tile:
    yield ()
    return
  occupied = np.flatnonzero(mask.any(tuple(range(1, mask.ndim))))
  while len(occupied):
    start = int(occupied[0])
    for rest in cover(mask[start : start + tile[0]].any(0), tile[1:]):
      yield start, *rest
    occupied = occupied[occupied >= start + tile[0]]


Predictor = CandidateScreening
