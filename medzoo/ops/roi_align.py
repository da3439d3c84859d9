"""RoIAlign: features of a fixed size for boxes of any size.

He et al. 2017 (arXiv 1703.06870), section 3. Bilinear interpolation at a grid
of points is two products with matrices of weights, one an axis, which XLA
runs faster than gathers, above all backwards.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo.ops import boxes as box_ops

# Boxes worked on together: what lies between the two products is as wide as
# the map, which for a thousand boxes would be gigabytes.
_AT_ONCE = 64


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
    Means of the bins; a point more than a cell outside the map counts as 0.
  """
  rows, columns = matrices(
    boxes, features.shape[:2], stride, output_size, sampling_ratio, aligned
  )
  return _apply(rows, columns, features)


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
  level = jnp.clip(level, finest, coarsest) - finest
  total = 0
  for i, (stride, map_) in enumerate(zip(strides, features, strict=True)):
    rows, columns = matrices(
      boxes, map_.shape[:2], stride, output_size, sampling_ratio, aligned
    )
    rows = jnp.where((level == i)[:, None, None], rows, 0)
    total += _apply(rows, columns, map_)
  return total


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


def bins(
  low: Float[Array, ' k'],
  high: Float[Array, ' k'],
  size: int,
  output_size: int,
  sampling_ratio: int | None,
) -> Float[Array, 'k {output_size} {size}']:
  """Returns the weights by which bins average an axis.

  Args:
    low: where the first bin begins, index coordinates of the axis.
    high: where the last bin ends.
    size: of the axis.
    output_size: number of bins.
    sampling_ratio: points a bin; None takes one a cell that the bin is long,
      rounded up.
  """
  step = ((high - low) / output_size)[:, None, None]
  if sampling_ratio is None:
    most = -(-size // output_size)
    count = jnp.clip(jnp.ceil(step), 1, most)
  else:
    most = count = sampling_ratio
  sample = jnp.arange(most)
  # In torchvision's order, so that places round as they do there.
  places = low[:, None, None] + jnp.arange(output_size)[:, None] * step
  places += (sample + 0.5) * (step / count)
  counts = (places >= -1) & (places <= size) & (sample < count)
  weights = interpolation(places, size) * counts[..., None]
  return weights.sum(-2) / count


def matrices(
  boxes: Float[Array, 'k 4'],
  shape: tuple[int, ...],
  stride: float | int,
  output_size: int,
  sampling_ratio: int | None,
  aligned: bool,
) -> tuple[Float[Array, 'k s h'], Float[Array, 'k s w']]:
  """Returns the weights along y and along x."""
  boxes = jax.lax.stop_gradient(boxes) / stride - (0.5 if aligned else 0)
  low, high = boxes[:, :2], boxes[:, 2:]
  if not aligned:
    high = jnp.maximum(high, low + 1)
  rows, columns = (
    bins(low[:, i], high[:, i], shape[i], output_size, sampling_ratio)
    for i in range(2)
  )
  return rows, columns


def _apply(
  rows: Float[Array, 'k s h'],
  columns: Float[Array, 'k s w'],
  features: Float[Array, 'h w c'],
) -> Float[Array, 'k s s c']:
  """Multiplies by the weights along y, then along x."""

  def one(weights: tuple[Array, Array]) -> Array:
    lines = jnp.einsum('sh,hwc->swc', weights[0], features)
    return jnp.einsum('tw,swc->stc', weights[1], lines)

  return jax.lax.map(one, (rows, columns), batch_size=_AT_ONCE)
