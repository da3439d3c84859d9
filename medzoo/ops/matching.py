"""Which true box, if any, each anchor or proposal stands for."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BACKGROUND = -1
BETWEEN = -2


def match(
  iou: Float[Array, 'n_truth n_anchor'],
  valid: Bool[Array, ' n_truth'],
  high: float,
  low: float,
  allow_low_quality: bool,
) -> Int[Array, ' n_anchor']:
  """Gives each anchor the true box that it overlaps most.

  As torchvision's Matcher does, but a true box that no anchor touches claims
  none (there, it would claim them all).

  Args:
    iou: of true boxes and anchors, in [0, 1].
    valid: False where a true box is padding.
    high: an anchor of at least this IoU is a positive.
    low: an anchor below this IoU is background.
    allow_low_quality: whether the anchors that overlap a true box most, equals
      included, are positives in any case. Each keeps the true box that it
      itself overlaps most.

  Returns:
    Index of the true box, `BACKGROUND`, or `BETWEEN` the thresholds; so
    `jnp.sign(match + 1)` are labels as `sampling.balanced` takes them. All
    background where no true box is valid.
  """
  iou = jnp.where(valid[:, None], iou, -1)
  best, index = iou.max(0), iou.argmax(0).astype(jnp.int32)
  positive = best >= high
  if allow_low_quality:
    closest = iou.max(1, keepdims=True)
    positive |= ((iou == closest) & (closest > 0)).any(0)
  negative = jnp.where(best < low, BACKGROUND, BETWEEN)
  return jnp.where(positive, index, negative)
