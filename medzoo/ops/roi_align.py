"""RoIAlign: features of a fixed size for boxes of any size.

He et al. 2017 (arXiv 1703.06870), section 3. Points are read by gathers, one
for each corner that any point of a bin has, so that memory and time grow with
the bins and not with the maps. (Products with matrices of weights, one an
axis, take 50 times as long on a CPU for a thousand boxes in an image of 800 x
1344 pixels, and 8 times as long backwards.)
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from medzoo.ops import boxes as box_ops


def roi_align(
  features: Float[Array, 'h w c'],
  boxes: Float[Array, 'k 4'],
  stride: float | int,
  output_size: int,
  sampling_ratio: int,
  aligned: bool,
) -> Float[Array, 'k s s c']:
  """Averages features interpolated at points in each bin of a box.

  Torchvision's numbers. No gradient reaches the boxes.

  Args:
    features: one image's map.
    boxes: corners in pixels of the image.
    stride: pixels of the image a cell.
    output_size: bins along each axis.
    sampling_ratio: points a bin along each axis, at least 1.
    aligned: whether a feature lies at the centre of its cell. If not it lies
      at the cell's corner, as in the first publications' code, and boxes have
      sides of at least a cell.

  Returns:
    Means of the bins; a point outside the map reads its edge, as in
    torchvision's Python code. Its compiled operator counts one more than a cell
    outside as 0, which boxes inside an image meet only where they are narrower
    than a cell and lie at its lower or right edge.
  """
  level = jnp.zeros(len(boxes), jnp.int32)
  return _average(
    [features], [stride], boxes, level, output_size, sampling_ratio, aligned
  )


def multilevel(
  features: Sequence[Float[Array, '_ _ c']],
  strides: Sequence[int],
  boxes: Float[Array, 'k 4'],
  output_size: int,
  sampling_ratio: int,
  aligned: bool,
) -> Float[Array, 'k s s c']:
  """Does as `roi_align` on the pyramid's level that suits each box.

  Lin et al. 2017 (arXiv 1612.03144), equation 1: a box of 224 x 224 pixels
  belongs to the level of stride 16, one of half the sides a level finer.

  Args:
    features: one image's maps, finest first.
    strides: of the maps, pixels, each twice the one before.
    boxes: corners in pixels of the image.

  Others, and what it returns, are `roi_align`'s.
  """
  finest, coarsest = (round(math.log2(s)) for s in (strides[0], strides[-1]))
  side = jnp.sqrt(box_ops.size(jax.lax.stop_gradient(boxes)))
  level = jnp.floor(4 + jnp.log2(side / 224) + 1e-6)
  level = jnp.clip(level, finest, coarsest).astype(jnp.int32) - finest
  return _average(
    features, strides, boxes, level, output_size, sampling_ratio, aligned
  )


def _average(
  features: Sequence[Float[Array, '_ _ c']],
  strides: Sequence[float | int],
  boxes: Float[Array, 'k 4'],
  level: Int[Array, ' k'],
  output_size: int,
  sampling_ratio: int,
  aligned: bool,
) -> Float[Array, 'k s s c']:
  """Averages the features that each box finds on its level."""
  stride = jnp.asarray(strides, jnp.float32)[level]
  shapes = np.array([map_.shape[:2] for map_ in features])
  shape = jnp.asarray(shapes)[level]
  low, high = _cells(boxes, stride[:, None], aligned)
  step = (high - low)[..., None] / output_size
  # In torchvision's order, so that places round as they do there.
  places = low[..., None] + jnp.arange(output_size) * step
  sample = jnp.arange(sampling_ratio) + 0.5
  places = places[..., None] + sample * (step / sampling_ratio)[..., None]
  size = shape[..., None, None]
  places = jnp.clip(places, 0, size - 1)
  before = jnp.floor(places)
  share = places - before
  # What a bin reads along an axis, and how much each counts: (k, 2, s, 2r).
  index = before.astype(jnp.int32)
  index = jnp.concatenate([index, jnp.minimum(index + 1, size - 1)], -1)
  weight = jnp.concatenate([1 - share, share], -1) / sampling_ratio
  # All levels' cells in one list.
  cells = jnp.concatenate(
    [map_.reshape(-1, map_.shape[-1]) for map_ in features]
  )
  first = np.concatenate([[0], np.cumsum(shapes.prod(1))[:-1]])
  rows = jnp.asarray(first)[level, None, None] + index[:, 0] * size[:, 1]
  total = 0
  for i, j in np.ndindex(index.shape[-1], index.shape[-1]):
    place = rows[:, :, None, i] + index[:, 1, None, :, j]
    factor = weight[:, 0, :, None, i] * weight[:, 1, None, :, j]
    total += cells[place] * factor[..., None]
  return total


def _cells(
  boxes: Float[Array, 'k 4'],
  stride: Float[Array, 'k 1'] | int,
  aligned: bool,
) -> tuple[Float[Array, 'k 2'], Float[Array, 'k 2']]:
  """Returns both corners in index coordinates of a map."""
  boxes = jax.lax.stop_gradient(boxes) / stride - (0.5 if aligned else 0)
  low, high = boxes[:, :2], boxes[:, 2:]
  return low, high if aligned else jnp.maximum(high, low + 1)


def interpolation(
  places: Float[Array, '*n'], size: int
) -> Float[Array, '*n {size}']:
  """Returns the weights by which linear interpolation reads an axis.

  Args:
    places: index coordinates, clipped to the axis.
    size: of the axis.
  """
  places = jnp.clip(places, 0, size - 1)[..., None]
  return jnp.maximum(1 - jnp.abs(places - jnp.arange(size)), 0)


def matrices(
  boxes: Float[Array, 'k 4'],
  shape: tuple[int, ...],
  output_size: int,
  aligned: bool,
) -> tuple[Float[Array, 'k s h'], Float[Array, 'k s w']]:
  """Returns the weights along y and along x by which bins average pixels.

  For a map of stride 1 with as many points a bin as it has pixels, which are
  too many to gather them.

  Args:
    boxes: corners in pixels.
    shape: (y, x) pixels.
    output_size: bins along each axis.
    aligned: as in `roi_align`.
  """
  low, high = _cells(boxes, 1, aligned)
  rows, columns = (
    _bins(low[:, i], high[:, i], shape[i], output_size) for i in range(2)
  )
  return rows, columns


def _bins(
  low: Float[Array, ' k'], high: Float[Array, ' k'], size: int, output_size: int
) -> Float[Array, 'k {output_size} {size}']:
  """Returns the weights of an axis; a bin has a point a pixel, rounded up."""
  step = ((high - low) / output_size)[:, None, None]
  most = -(-size // output_size)
  count = jnp.clip(jnp.ceil(step), 1, most)
  sample = jnp.arange(most)
  # In torchvision's order, so that places round as they do there.
  places = low[:, None, None] + jnp.arange(output_size)[:, None] * step
  places += (sample + 0.5) * (step / count)
  weights = interpolation(places, size) * (sample < count)[..., None]
  return weights.sum(-2) / count
