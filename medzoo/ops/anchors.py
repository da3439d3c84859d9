"""Anchors: the boxes that a region proposal network judges and moves."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def grid(
  feature_shape: tuple[int, int],
  stride: int | tuple[int, int],
  sizes: Sequence[float | int],
  ratios: Sequence[float | int],
) -> Float[Array, 'n 4']:
  """Lays the same few boxes round every cell of a feature map.

  As torchvision's AnchorGenerator does: cell (i, j) has its anchors' centre at
  its corner (i, j) * stride, and corners round to whole pixels.

  Args:
    feature_shape: (y, x) cells of the map.
    stride: pixels a cell, one number or along (y, x). Torchvision takes the
      image's sides over the map's, rounded down.
    sizes: roots of the anchors' areas, pixels.
    ratios: heights over widths.

  Returns:
    Corners (y0, x0, y1, x1), pixels; by y, then x, then ratio, then size.
    They may reach out of the image.
  """
  root = np.sqrt(np.asarray(ratios, np.float32))
  # Widths as torchvision finds them, so that halves round to the same side.
  sides = np.stack([root, 1 / root], -1)[:, None]
  sides = sides * np.asarray(sizes, np.float32)[:, None]
  half = sides.reshape(-1, 2) / 2
  cell = np.concatenate([-half, half], -1).round()
  shifts = np.stack(np.meshgrid(*map(np.arange, feature_shape), indexing='ij'))
  shifts = shifts.reshape(2, -1).T * np.broadcast_to(stride, 2)
  boxes = np.tile(shifts, 2)[:, None] + cell
  return jnp.asarray(boxes.reshape(-1, 4), jnp.float32)
