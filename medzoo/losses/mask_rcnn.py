"""The five losses of Mask R-CNN.

He et al. 2017 (arXiv 1703.06870), section 3, on Faster R-CNN (Ren et al. 2015,
arXiv 1506.01497), equation 1, normalised as torchvision does. What is not
valid weighs nothing, whatever its targets hold.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from medzoo.losses import classification
from medzoo.losses import hybrid

# Where the smooth L1 of boxes turns from a parabola to lines.
_BETA = 1 / 9


def rpn(
  logits: Float[Array, '*n'],
  deltas: Float[Array, '*n 4'],
  is_positive: Bool[Array, '*n'],
  targets: Float[Array, '*n 4'],
  valid: Bool[Array, '*n'],
) -> dict[str, Float[Array, '']]:
  """Judges a region proposal network by its sampled anchors.

  Args:
    logits: of there being an object.
    deltas: of the boxes, as the network gives them.
    is_positive: whether the anchor stands for an object.
    targets: encoded true boxes, read where positive.
    valid: False where nothing was sampled.

  Returns:
    `rpn_objectness`, the mean binary cross-entropy, and `rpn_box`, the smooth
    L1 summed over positives, over the number sampled.
  """
  entropy = optax.sigmoid_binary_cross_entropy(
    logits.astype(jnp.float32), is_positive.astype(jnp.float32)
  )
  return {
    'rpn_objectness': _mean(entropy, valid),
    'rpn_box': _mean(_box(deltas, targets, is_positive & valid), valid),
  }


def box_head(
  logits: Float[Array, '*n classes'],
  deltas: Float[Array, '*n classes 4'],
  labels: Int[Array, '*n'],
  targets: Float[Array, '*n 4'],
  valid: Bool[Array, '*n'],
) -> dict[str, Float[Array, '']]:
  """Judges classes and boxes of sampled proposals.

  Args:
    logits: of the classes, the background's first.
    deltas: of the boxes, for each class, as the network gives them.
    labels: class ids, 0 background.
    targets: encoded true boxes, read where not background.
    valid: False where nothing was sampled.

  Returns:
    `classification`, the mean cross-entropy, and `box`, the smooth L1 of the
    own class's box summed over positives, over the number sampled.
  """
  labels = jnp.where(valid, labels, 0)
  own = jnp.take_along_axis(deltas, labels[..., None, None], -2)[..., 0, :]
  entropy = classification.cross_entropy(logits, labels)
  return {
    'classification': _mean(entropy, valid),
    'box': _mean(_box(own, targets, (labels > 0) & valid), valid),
  }


def mask_head(
  logits: Float[Array, '*n m m classes'],
  labels: Int[Array, '*n'],
  targets: Float[Array, '*n m m'],
  valid: Bool[Array, '*n'],
) -> dict[str, Float[Array, '']]:
  """Judges the masks of sampled positives.

  Args:
    logits: of the masks, for each class.
    labels: class ids; the background, 0, has no mask and weighs nothing.
    targets: true masks in the proposals' frames, in [0, 1].
    valid: False where nothing was sampled.

  Returns:
    `mask`, the mean binary cross-entropy of the own class's mask.
  """
  valid = valid & (labels > 0)
  labels = jnp.where(valid, labels, 0)[..., None, None, None]
  own = jnp.take_along_axis(logits, labels, -1)[..., 0].astype(jnp.float32)
  # The gradient of an unchosen NaN would be NaN too.
  targets = jnp.where(valid[..., None, None], targets, 0)
  entropy = optax.sigmoid_binary_cross_entropy(own, targets)
  return {'mask': _mean(entropy.mean((-2, -1)), valid)}


def _box(
  deltas: Float[Array, '*n 4'],
  targets: Float[Array, '*n 4'],
  positive: Bool[Array, '*n'],
) -> Float[Array, '*n']:
  """Returns the smooth L1 summed over a box's numbers, 0 unless positive."""
  difference = deltas.astype(jnp.float32) - targets
  difference = jnp.where(positive[..., None], difference, 0)
  return _BETA * hybrid.smooth_l1(difference / _BETA).sum(-1)


def _mean(
  values: Float[Array, '*n'], valid: Bool[Array, '*n']
) -> Float[Array, '']:
  return classification.masked_mean(values.ravel(), valid.ravel())
