"""Polyps in a frame by a network that judges crops: windows that slide.

Windows of several sizes and proportions cover the lit part of a frame. Each is
cut out and brought to the network's size as crops are for training, all on the
device, and judged. What overlaps the surest window is fused with it, for few
windows of a grid fit a polyp well, but their mean does. Nothing at all may be
found.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import special

from medzoo import types
from medzoo.data import borders
from medzoo.ops import boxes as box_ops
from medzoo.predictors import scoring

# Rows of windows, their largest side and frames are padded to multiples of
# these, so that those of nearly one size share a compiled function.
_ROWS, _SIDE, _FRAME = 16, 32, 64


@dataclasses.dataclass(frozen=True)
class Grid:
  """Windows that cover a field.

  Attributes:
    corners: (n, 4) int y0, x0, y1, x1, half-open, pixels of the frame.
    sizes: (s, 2) int, the different (height, width) of windows.
    size: (n,) which of these a window has.
    rows: (r, 2) int, the different (y0, size) of windows.
    row: (n,) which of these a window has.
  """

  corners: np.ndarray
  sizes: np.ndarray
  size: np.ndarray
  rows: np.ndarray
  row: np.ndarray


@functools.lru_cache(maxsize=64)
def make_grid(
  field: tuple[int, int, int, int],
  sides: tuple[float, ...],
  aspects: tuple[float, ...],
  stride: float,
) -> Grid:
  """Lays windows over a field, from edge to edge of it.

  Args:
    field: y0, x0, y1, x1 of the part of a frame to cover, pixels.
    sides: of square windows, shares of the field's shorter side.
    aspects: widths over heights; the area is that of the square.
    stride: the most between two windows, a share of their side.

  Returns:
    Windows size by size, row by row; those that would not fit into the field
    end at its edges.
  """
  low, length = np.array(field[:2]), np.array(field[2:]) - field[:2]
  sizes, corners, size = [], [], []
  for share in sides:
    for aspect in aspects:
      side = share * length.min() * np.array([aspect**-0.5, aspect**0.5])
      window = np.clip(np.round(side), 1, length).astype(int)
      steps = np.ceil((length - window) / (stride * window)).astype(int)
      ys, xs = (
        low[i] + np.round(np.linspace(0, length[i] - window[i], steps[i] + 1))
        for i in range(2)
      )
      first = np.stack(np.meshgrid(ys, xs, indexing='ij'), -1).reshape(-1, 2)
      corners.append(np.concatenate([first, first + window], 1).astype(int))
      size.append(np.full(len(first), len(sizes)))
      sizes.append(window)
  corners, size = np.concatenate(corners), np.concatenate(size)
  rows, row = np.unique(
    np.stack([corners[:, 0], size], 1), axis=0, return_inverse=True
  )
  return Grid(corners, np.array(sizes), size, rows, row.reshape(-1))


def weights(size: int, output: int, padded: int) -> np.ndarray:
  """Returns by what Pillow's bilinear resizing weighs the pixels of a crop.

  A triangle as wide as two pixels of the larger of crop and result.

  Args:
    size: pixels of the crop along an axis.
    output: pixels of the result.
    padded: columns to return, at least `size`.

  Returns:
    (output, padded) float32; rows add up to 1, columns from `size` on are 0.
  """
  scale = size / output
  middles = (np.arange(output)[:, None] + 0.5) * scale
  away = np.abs(np.arange(size) + 0.5 - middles) / max(scale, 1)
  triangle = np.maximum(1 - away, 0)
  result = np.zeros((output, padded), np.float32)
  result[:, :size] = triangle / triangle.sum(1, keepdims=True)
  return result


def fuse(
  corners: np.ndarray, scores: np.ndarray, overlap: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """Fuses windows that overlap, and drops doubles of what comes of it.

  Greedily, the surest window that is left takes all that overlap it. Their
  mean, weighted by their scores, is a box, as in weighted boxes fusion
  (Solovyev et al., Image and Vision Computing 107, 2021), and bears the surest
  one's score. Of boxes that overlap each other, non-maximum suppression then
  keeps the surer one.

  Args:
    corners: (n, 4) of windows.
    scores: (n,) in (0, 1].
    overlap: the intersection over union above which two are one.
    most: how many boxes to keep at most.

  Returns:
    (k, 4) boxes by falling score and (k,) their scores.
  """
  order = np.argsort(-scores, kind='stable')
  corners, scores = corners[order].astype(float), scores[order]
  free = np.ones(len(scores), bool)
  boxes, sure = [], []
  for i in range(len(scores)):
    if not free[i]:
      continue
    members = free & (box_ops.iou(corners[i : i + 1], corners)[0] > overlap)
    members[i] = True
    free &= ~members
    box = np.average(corners[members], axis=0, weights=scores[members])
    if len(boxes) and (box_ops.iou(box[None], np.array(boxes)) > overlap).any():
      continue
    boxes.append(box)
    sure.append(scores[i])
    if len(boxes) == most:
      break
  return np.array(boxes).reshape(-1, 4), np.array(sure)


class Windows:
  """Finds polyps in frames of any size.

  Attributes:
    stages: the fit stages whose networks are used.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    stage: str = '',
    encoder: str = '',
    tap: str = 'pool5',
    head: str = '',
    sides: Sequence[float] = (0.25, 0.4, 0.6, 0.9),
    aspects: Sequence[float] = (0.7, 1.0, 1.4),
    stride: float = 0.5,
    batch: int = 64,
    margin: float = 0.1,
    overlap: float = 0.3,
    min_score: float = 0.05,
    max_detections: int = 10,
  ):
    """Takes the networks, and how windows are laid and fused.

    The windows of the defaults, some 300 a frame, come as near as an
    intersection over union of 0.5 to nine tenths of the polyps of half the
    frames of CVC-ClinicDB that were looked at for this; twice as many that are
    all square, at a stride of 0.25, to less than eight.

    Args:
      models: the networks by stage.
      preprocess: of it `shape`, the (h, w) that crops are brought to.
      stage: as `scoring.Scorer` takes it, like the three that follow.
      encoder: see `stage`.
      tap: see `stage`.
      head: see `stage`.
      sides: see `make_grid`; shares, so that they fit any resolution.
      aspects: see `make_grid`.
      stride: see `make_grid`.
      batch: how many windows are judged at once.
      margin: what crops for training have beyond a polyp's box, see
        `data.crops`; a window that looks like one is larger than the polyp by
        as much, which is taken off.
      overlap: see `fuse`.
      min_score: probability from which on a window counts.
      max_detections: how many boxes are kept, the surest.
    """
    self._scorer = scoring.Scorer(
      models, stage=stage, encoder=encoder, tap=tap, head=head
    )
    self.stages = self._scorer.stages
    self._shape = tuple(preprocess['shape'])
    self._grid = tuple(sides), tuple(aspects), stride
    self._batch = batch
    self._margin = margin
    self._overlap = overlap
    self._min_score = min_score
    self._max_detections = max_detections

  def __call__(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> dict[str, types.BoxDetections]:
    """Finds the polyps of one frame.

    Args:
      variables: those of each stage by name.
      volume: the frame, (1, h, w, 3) uint8; greys are taken as colours.

    Returns:
      `windows`, boxes by falling probability, in pixels of the frame.

    Raises:
      ValueError: the volume has several slices, or more than 8 bits.
    """
    frame = _colours(volume)
    corners, log_odds = self.judge(variables, frame)
    scores = special.expit(log_odds.astype(float))
    kept = scores >= self._min_score
    boxes, scores = fuse(
      corners[kept], scores[kept], self._overlap, self._max_detections
    )
    number = len(scores)
    return {
      'windows': types.BoxDetections(
        slices=np.zeros(number, np.int32),
        corners=_without_margin(boxes, self._margin),
        scores=scores,
        labels=np.ones(number, np.int32),
        steps=np.zeros(number, np.int32),
        suppressed=np.zeros(number, bool),
        links=np.full(number, -1, np.int32),
      )
    }

  def judge(
    self, variables: Mapping[str, Any], frame: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Judges every window of a frame.

    Args:
      variables: those of each stage by name.
      frame: (h, w, 3) uint8.

    Returns:
      (n, 4) corners, pixels, and (n,) log-odds of a polyp.
    """
    height, width = frame.shape[:2]
    field = borders.find_field(frame)
    factor = self._shrinks(field)
    if factor > 1:
      frame = np.asarray(Image.fromarray(frame).reduce(factor))
      field = borders.find_field(frame)
    grid = make_grid(field, *self._grid)
    judged = [
      self._scorer(variables, crops)
      for crops in cut(frame, grid, self._shape, self._batch)
    ]
    log_odds = np.concatenate(jax.device_get(judged))
    # A last row or column of means may be of fewer pixels.
    corners = np.minimum(factor * grid.corners, [height, width] * 2)
    return corners, log_odds[: len(corners)]

  def _shrinks(self, field: tuple[int, int, int, int]) -> int:
    """Returns how many pixels the smallest window has to one of its crop.

    Large frames may be made so much smaller first, which saves most of the
    work of cutting windows out.
    """
    sides, aspects, _ = self._grid
    side = min(sides) * min(field[2] - field[0], field[3] - field[1])
    height, width = (
      side * min(aspect**power for aspect in aspects) for power in (-0.5, 0.5)
    )
    return max(1, int(min(height / self._shape[0], width / self._shape[1])))


def cut(
  frame: np.ndarray, grid: Grid, shape: tuple[int, int], batch: int
) -> list[jax.Array]:
  """Cuts windows out of a frame and brings them to one size.

  Equal to cutting with numpy and resizing with Pillow, but for rounding.

  Args:
    frame: (h, w, 3) uint8.
    grid: the windows.
    shape: (h, w) of the results.
    batch: how many at once.

  Returns:
    Batches of (batch, *shape, 3) uint8, in the order of the grid; the last
    one ends with repeats of the first window.
  """
  height, width = frame.shape[:2]
  frame = np.pad(frame, ((0, -height % _FRAME), (0, -width % _FRAME), (0, 0)))
  side = _SIDE * math.ceil(grid.sizes.max() / _SIDE)
  by_y, by_x = (
    np.stack([weights(n, shape[i], side) for n in grid.sizes[:, i].tolist()])
    for i in range(2)
  )
  rows = _filled(grid.rows, _ROWS)
  strips = _shrink_rows(frame, rows[:, 0], rows[:, 1], by_y)
  columns = np.stack([grid.row, grid.corners[:, 1], grid.size], 1)
  return [
    _shrink_columns(strips, *part.T, by_x)
    for part in _filled(columns, batch).reshape(-1, batch, 3)
  ]


def _filled(rows: np.ndarray, multiple: int) -> np.ndarray:
  """Repeats the first row until there are a multiple of them."""
  missing = -len(rows) % multiple
  return np.concatenate([rows, rows[:1].repeat(missing, 0)]).astype(np.int32)


@jax.jit
def _shrink_rows(
  frame: jax.Array, tops: jax.Array, sizes: jax.Array, by_y: jax.Array
) -> jax.Array:
  """Brings full-width strips to the height of the results: (r, h, W, 3)."""
  height = by_y.shape[-1]
  # So that no slice is moved inwards; what is added has no weight.
  padded = jnp.pad(frame, ((0, height), (0, height), (0, 0)))

  def shrink(row: tuple[jax.Array, jax.Array]) -> jax.Array:
    top, size = row
    strip = jax.lax.dynamic_slice_in_dim(padded, top, height)
    return jnp.tensordot(
      by_y[size], strip.astype(jnp.float32), 1, precision='highest'
    )

  return jax.lax.map(shrink, (tops, sizes))


@jax.jit
def _shrink_columns(
  strips: jax.Array,
  rows: jax.Array,
  lefts: jax.Array,
  sizes: jax.Array,
  by_x: jax.Array,
) -> jax.Array:
  """Cuts windows out of strips: (n, h, w, 3) uint8."""
  width = by_x.shape[-1]
  shape = 1, strips.shape[1], width, 3

  def shrink(row: jax.Array, left: jax.Array, size: jax.Array) -> jax.Array:
    part = jax.lax.dynamic_slice(strips, (row, 0, left, 0), shape)[0]
    return jnp.einsum('hwc,vw->hvc', part, by_x[size], precision='highest')

  crops = jax.vmap(shrink)(rows, lefts, sizes)
  return jnp.clip(jnp.round(crops), 0, 255).astype(jnp.uint8)


def _without_margin(boxes: np.ndarray, margin: float) -> np.ndarray:
  """Returns what boxes with a margin on each side were made of."""
  low, high = boxes[:, :2], boxes[:, 2:]
  middles, halves = (low + high) / 2, (high - low) / (2 + 4 * margin)
  return np.concatenate([middles - halves, middles + halves], 1)


def _colours(volume: types.Volume) -> np.ndarray:
  """Returns the one picture of a volume in colour."""
  voxels = volume.voxels
  if len(voxels) != 1 or voxels.dtype != np.uint8:
    raise ValueError(
      f'{volume.series_uid}: found {len(voxels)} slices of {voxels.dtype}, '
      'expected one picture of 8 bits'
    )
  frame = voxels[0]
  return frame if frame.ndim == 3 else frame[..., None].repeat(3, -1)


Predictor = Windows
