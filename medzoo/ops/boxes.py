"""Axis-aligned boxes, in two or three dimensions, on numpy and jnp alike.

Boxes are corners in array order, (y0, x0, y1, x1) or
(z0, y0, x0, z1, y1, x1), half-open, in voxels.
"""

import types
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_Array = np.ndarray | Array


def size(boxes: Float[_Array, '*n r2']) -> Float[_Array, '*n']:
  """Returns the area or volume of boxes; 0 where a box is inside out."""
  rank = boxes.shape[-1] // 2
  sides = boxes[..., rank:] - boxes[..., :rank]
  return _namespace(boxes).maximum(sides, 0).prod(-1)


def intersection(
  a: Float[_Array, 'n r2'], b: Float[_Array, 'm r2']
) -> Float[_Array, 'n m']:
  """Returns the area or volume that every pair shares."""
  xp = _namespace(a, b)
  rank = a.shape[-1] // 2
  shared = 1
  # Axis by axis, as no array is then larger than the result.
  for i in range(rank):
    low = xp.maximum(a[:, None, i], b[None, :, i])
    high = xp.minimum(a[:, None, rank + i], b[None, :, rank + i])
    shared = shared * xp.maximum(high - low, 0)
  return shared


def iou(
  a: Float[_Array, 'n r2'], b: Float[_Array, 'm r2']
) -> Float[_Array, 'n m']:
  """Returns the intersection over union of every pair, in [0, 1].

  Two boxes without any extent have an IoU of 0.
  """
  shared = intersection(a, b)
  union = size(a)[:, None] + size(b)[None] - shared
  # Dividing by 1 where there is nothing keeps the gradient finite too.
  return shared / _namespace(a, b).where(union > 0, union, 1)


def clip(
  boxes: Float[_Array, '*n r2'], shape: Sequence[int] | Int[_Array, ' r']
) -> Float[_Array, '*n r2']:
  """Returns what of boxes lies in an image of a shape, in voxels."""
  xp = _namespace(boxes)
  return xp.clip(boxes, 0, xp.tile(xp.asarray(shape, boxes.dtype), 2))


def _namespace(*arrays: _Array) -> types.ModuleType:
  is_jax = any(isinstance(array, jax.Array) for array in arrays)
  return jnp if is_jax else np
