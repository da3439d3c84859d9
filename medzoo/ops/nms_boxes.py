"""Non-maximum suppression of boxes under jit, in two or three dimensions.

For spheres on the host see `nms`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medzoo.ops import boxes as box_ops


def nms(
  boxes: Float[Array, 'n r2'],
  scores: Float[Array, ' n'],
  iou: float,
  max_keep: int,
  valid: Bool[Array, ' n'],
) -> tuple[Int[Array, ' max_keep'], Bool[Array, ' max_keep']]:
  """Greedily keeps the best of all boxes that overlap.

  Args:
    boxes: corners.
    scores: higher is surer; of equal scores the first wins.
    iou: a box that overlaps a kept one by more than this is dropped.
    max_keep: how many to keep at most.
    valid: False where a box is padding.

  Returns:
    Indices of the kept boxes by falling score, 0 where fewer remain, and
    whether each is one.
  """
  groups = jnp.zeros(len(scores), jnp.int32)
  return batched(boxes, scores, groups, iou, max_keep, valid)


def batched(
  boxes: Float[Array, 'n r2'],
  scores: Float[Array, ' n'],
  groups: Int[Array, ' n'],
  iou: float,
  max_keep: int,
  valid: Bool[Array, ' n'],
) -> tuple[Int[Array, ' max_keep'], Bool[Array, ' max_keep']]:
  """Does as `nms`, but only boxes of one group suppress each other.

  Args:
    groups: such as the boxes' classes or pyramid levels.

  Others, and what it returns, are `nms`'s.
  """
  order = jnp.argsort(
    jnp.where(valid, scores, -jnp.inf), descending=True, stable=True
  )
  boxes, groups, valid = boxes[order], groups[order], valid[order]
  place = jnp.arange(len(order))
  beats = box_ops.iou(boxes, boxes) > iou
  beats &= (groups[:, None] == groups) & (place[:, None] < place)

  # What the greedy loop keeps is the only set whose boxes are just those that
  # no kept box beats. From all boxes on, each round settles at least one more
  # box for good; in practice a few rounds settle all.
  def settle(state: tuple[Array, Array]) -> tuple[Array, Array]:
    kept, _ = state
    return valid & ~(beats & kept[:, None]).any(0), kept

  kept, _ = jax.lax.while_loop(
    lambda state: (state[0] != state[1]).any(),
    settle,
    (valid, jnp.zeros_like(valid)),
  )
  (found,) = jnp.nonzero(kept, size=max_keep, fill_value=0)
  is_kept = jnp.arange(max_keep) < kept.sum()
  return jnp.where(is_kept, order[found], 0).astype(jnp.int32), is_kept
