"""A second look: finer features sampled where boxes lie (rezoom).

TensorBox, the code of ReInspect (Stewart et al. 2015, arXiv 1506.04878).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo.ops import cells


def sample(
  fine: Float[Array, 'b h w c'],
  boxes: Float[Array, 'b gh gw t 4'],
  image_shape: tuple[int, int],
) -> Float[Array, 'b gh gw t c4']:
  """Samples features at four points of each box.

  The points lie a quarter of the box's sides from its centre. As in
  TensorBox, the gradient reaches the features and, through the weights of the
  interpolation, the boxes too: what makes the judgement worse also moves the
  box. Unlike there, a feature lies at the centre of its cell, not at the
  cell's corner, which misplaced every sample by half a cell.

  Args:
    fine: features that cover the image.
    boxes: (dy, dx, h, w) relative to the cells, pixels.
    image_shape: (y, x) pixels.

  Returns:
    The four samples' channels one after another, (-y, -x) first, (+y, +x)
    last.
  """
  grid = boxes.shape[1:3]
  stride = [n / g for n, g in zip(image_shape, grid, strict=True)]
  middle = boxes[..., :2] + cells.centers(grid, stride)[:, :, None]
  corners = jnp.asarray([[-1, -1], [-1, 1], [1, -1], [1, 1]]) / 4
  points = middle[..., None, :] + corners * boxes[..., None, 2:]
  scale = [n / m for n, m in zip(fine.shape[1:3], image_shape, strict=True)]
  places = points * jnp.asarray(scale) - 0.5
  samples = jax.vmap(_bilinear)(fine, places)
  return samples.reshape(*boxes.shape[:-1], -1)


def _bilinear(
  features: Float[Array, 'h w c'], places: Float[Array, '*n 2']
) -> Float[Array, '*n c']:
  """Interpolates at index coordinates (y, x), clipped to the map."""
  last = jnp.asarray(features.shape[:2]) - 1
  places = jnp.clip(places, 0, last)
  low = jnp.floor(places).astype(jnp.int32)
  high = jnp.minimum(low + 1, last)
  share = (places - low)[..., None]

  def row(y: Array) -> Array:
    left, right = features[y, low[..., 1]], features[y, high[..., 1]]
    return left + share[..., 1, :] * (right - left)

  top, bottom = row(low[..., 0]), row(high[..., 0])
  return top + share[..., 0, :] * (bottom - top)
