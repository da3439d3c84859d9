"""Boxes as networks regress them: moves and stretches of reference boxes.

Girshick et al. 2014 (arXiv 1311.2524), appendix C, in two or three dimensions.
Deltas hold the moves of the centre and then the logarithms of the stretches,
each in array order, (dy, dx, dh, dw) or (dz, dy, dx, dd, dh, dw).
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

# No box grows beyond this many times its anchor: the side of an image over the
# stride of the coarsest features, about, as in Detectron and torchvision.
_LARGEST = math.log(1000 / 16)


def encode(
  boxes: Float[Array, '*n r2'],
  anchors: Float[Array, '*n r2'],
  weights: Sequence[float | int],
) -> Float[Array, '*n r2']:
  """Returns the deltas that turn anchors into boxes.

  Args:
    boxes: corners.
    anchors: corners.
    weights: r2 factors that bring the deltas to the order of 1.

  Returns:
    Deltas, finite also for padding: a side of 0 counts as no stretch, and for
    an anchor as 1.
  """
  middle, side = _middle(boxes)
  from_middle, from_side = _middle(anchors)
  from_side = jnp.where(from_side > 0, from_side, 1)
  side = jnp.where(side > 0, side, from_side)
  move = (middle - from_middle) / from_side
  stretch = jnp.log(side / from_side)
  return jnp.concatenate([move, stretch], -1) * jnp.asarray(weights)


def decode(
  deltas: Float[Array, '*n r2'],
  anchors: Float[Array, '*m r2'],
  weights: Sequence[float | int],
  clip: float = _LARGEST,
) -> Float[Array, '*n r2']:
  """Returns anchors moved and stretched; the inverse of `encode`.

  Args:
    deltas: what `encode` gives.
    anchors: corners; their leading axes broadcast to the deltas'.
    weights: as `encode` was given.
    clip: largest logarithm of a stretch; more counts as this.

  Returns:
    Corners.
  """
  rank = anchors.shape[-1] // 2
  middle, side = _middle(anchors)
  deltas = deltas / jnp.asarray(weights)
  middle = middle + deltas[..., :rank] * side
  half = jnp.exp(jnp.minimum(deltas[..., rank:], clip)) * side / 2
  return jnp.concatenate([middle - half, middle + half], -1)


def _middle(
  boxes: Float[Array, '*n r2'],
) -> tuple[Float[Array, '*n r'], Float[Array, '*n r']]:
  """Returns the centres and the sides of boxes."""
  rank = boxes.shape[-1] // 2
  side = boxes[..., rank:] - boxes[..., :rank]
  return boxes[..., :rank] + side / 2, side
