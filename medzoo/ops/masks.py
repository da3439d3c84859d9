"""Masks of objects between the frames of their boxes and of the image."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from medzoo.ops import roi_align


def crop(
  masks: Shaped[Array, 'k h w'],
  boxes: Float[Array, 'k 4'],
  size: int,
  *,
  aligned: bool = False,
) -> Float[Array, 'k {size} {size}']:
  """Samples what of each mask lies in its box, for a mask head to learn.

  Torchvision's numbers (project_masks_on_boxes): RoIAlign with as many points
  a bin as pixels.

  Args:
    masks: in [0, 1] or bool, one for each box.
    boxes: corners in pixels, inside the image.
    size: of the result.
    aligned: as in `roi_align`; not to be so shifts the result by half a pixel.

  Returns:
    Means in [0, 1].
  """
  rows, columns = roi_align.matrices(boxes, masks.shape[1:], size, aligned)
  lines = jnp.einsum('ksh,khw->ksw', rows, masks.astype(jnp.float32))
  return jnp.einsum('ktw,ksw->kst', columns, lines)


def paste(
  probabilities: Float[Array, 'k m m'],
  boxes: Float[Array, 'k 4'],
  shape: tuple[int, int],
  *,
  aligned: bool = False,
) -> Float[Array, 'k h w']:
  """Spreads each mask over its box in an image.

  Bilinear, and 0 outside; towards it masks fade over half a cell of theirs on
  either side of the box's edges.

  Args:
    probabilities: in [0, 1], one mask for each box.
    boxes: corners in pixels.
    shape: (y, x) pixels of the image.
    aligned: if not, torchvision's numbers (paste_masks_in_image): corners,
      with a cell all round, are cut to whole pixels and the last pixel
      belongs to the box too. If so, boxes lie where they lie.

  Returns:
    Probabilities of the image's pixels.
  """
  size = probabilities.shape[-1]
  middle = (boxes[:, 2:] + boxes[:, :2]) / 2
  half = (boxes[:, 2:] - boxes[:, :2]) / 2 * ((size + 2) / size)
  low, high = middle - half, middle + half
  if not aligned:
    low = jnp.trunc(low)
    high = jnp.maximum(jnp.trunc(high) + 1, low + 1)
  rows, columns = (
    _spread(low[:, i], high[:, i], size + 2, shape[i]) for i in range(2)
  )
  # Without the two border cells, which are 0.
  lines = jnp.einsum('khm,kmn->khn', rows[..., 1:-1], probabilities)
  return jnp.einsum('kwn,khn->khw', columns[..., 1:-1], lines)


def boxes_of(
  masks: Shaped[np.ndarray | Array, 'n h w'],
) -> Float[np.ndarray | Array, 'n 4']:
  """Returns the corners (y0, x0, y1, x1) of masks, 0 of empty ones.

  On numpy and jnp alike; a mask is where it is not 0.
  """
  xp = jnp if isinstance(masks, jax.Array) else np
  corners = []
  for axis in (2, 1):
    filled = (masks != 0).any(axis)
    low = filled.argmax(1)
    high = filled.shape[1] - filled[:, ::-1].argmax(1)
    corners.append(xp.where(filled.any(1), xp.stack([low, high]), 0))
  # From (axis, end, mask) to (mask, end and axis).
  corners = xp.stack(corners).transpose(2, 1, 0).reshape(-1, 4)
  return corners.astype(xp.float32)


def _spread(
  low: Float[Array, ' k'], high: Float[Array, ' k'], size: int, pixels: int
) -> Float[Array, 'k {pixels} {size}']:
  """Returns the weights by which pixels read a mask that spans low to high."""
  low, high = low[:, None], high[:, None]
  centers = jnp.arange(pixels) + 0.5
  side = jnp.maximum(high - low, 1e-6)
  places = (centers - low) * (size / side) - 0.5
  inside = (centers > low) & (centers < high)
  return roi_align.interpolation(places, size) * inside[..., None]
