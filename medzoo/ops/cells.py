"""Boxes as a grid of cells sees them: relative to each cell's centre.

A relative box is (dy, dx, h, w): the offset of its centre from the cell's, and
its sides, all in pixels of the image. Cell (i, j) of a grid spans
[i, i + 1) x [j, j + 1) times the stride.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def centers(
  grid: Sequence[int], stride: Sequence[float | int]
) -> Float[Array, 'gh gw 2']:
  """Returns the cells' centres (y, x) in pixels.

  Args:
    grid: cells along (y, x).
    stride: pixels a cell along (y, x).
  """
  axes = jnp.meshgrid(*map(jnp.arange, grid), indexing='ij')
  return (jnp.stack(axes, -1) + 0.5) * jnp.asarray(stride, jnp.float32)


def encode(
  boxes: Float[Array, '... 4'], center: Float[Array, '... 2']
) -> Float[Array, '... 4']:
  """Makes corners relative; the leading axes broadcast.

  Args:
    boxes: corners (y0, x0, y1, x1), pixels.
    center: of the cells, (y, x), pixels.

  Returns:
    (dy, dx, h, w), pixels.
  """
  low, high = boxes[..., :2], boxes[..., 2:]
  offset = (low + high) / 2 - center
  side = jnp.broadcast_to(high - low, offset.shape)
  return jnp.concatenate([offset, side], -1)


def decode(
  relative: Float[Array, '... 4'], center: Float[Array, '... 2']
) -> Float[Array, '... 4']:
  """Makes corners of relative boxes; the inverse of `encode`.

  Args:
    relative: (dy, dx, h, w), pixels; a negative side counts as 0.
    center: of the cells, (y, x), pixels.

  Returns:
    Corners (y0, x0, y1, x1), pixels.
  """
  middle = relative[..., :2] + center
  half = jnp.maximum(relative[..., 2:], 0) / 2
  return jnp.concatenate([middle - half, middle + half], -1)
