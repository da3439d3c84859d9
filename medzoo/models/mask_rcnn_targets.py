"""What a Mask R-CNN is to learn of one image, by matching it with the truth.

Boxes are corners (y0, x0, y1, x1) in pixels. True ones have a fixed number of
slots, with label 0 where there is none, and samples have a fixed size.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from medzoo.models import mask_rcnn_steps
from medzoo.ops import box_coder
from medzoo.ops import boxes as box_ops
from medzoo.ops import masks as mask_ops
from medzoo.ops import matching
from medzoo.ops import sampling

# Masks that are cropped at a time, which bounds the memory.
_CHUNK = 16


def for_anchors(
  anchors: Float[Array, 'a 4'],
  boxes: Float[Array, 'n 4'],
  labels: Int[Array, ' n'],
  key: Array,
  *,
  size: int,
  share: float,
  high: float,
  low: float,
) -> dict[str, Array]:
  """Samples anchors and says what the proposal network is to make of them.

  Args:
    anchors: of all levels.
    boxes: true ones.
    labels: their classes, 0 where there is no box.
    key: of the sampling.
    size: of the sample, k.
    share: largest share of positives.
    high: least IoU of a positive; the best anchors of a true box are positives
      whatever their IoU.
    low: negatives have less.

  Returns:
    `indices` (k,) of anchors, `is_positive` (k,), `targets` (k, 4), the deltas
    to the matched box, and `valid` (k,), False where too few could be sampled.
  """
  matches = matching.match(
    box_ops.iou(boxes, anchors), labels > 0, high, low, allow_low_quality=True
  )
  indices, is_positive, valid = sampling.balanced(
    jnp.sign(matches + 1), key, size, share
  )
  matched = boxes[jnp.maximum(matches[indices], 0)]
  targets = box_coder.encode(matched, anchors[indices], (1.0,) * 4)
  return {
    'indices': indices,
    'is_positive': is_positive,
    'targets': targets,
    'valid': valid,
  }


def for_regions(
  proposals: Float[Array, 'p 4'],
  proposed: Bool[Array, ' p'],
  boxes: Float[Array, 'n 4'],
  labels: Int[Array, ' n'],
  key: Array,
  *,
  size: int,
  share: float,
  iou: float,
) -> dict[str, Array]:
  """Samples regions and says what the box head is to make of them.

  The true boxes count as proposals too, so that there are good ones from the
  start.

  Args:
    proposals: of the proposal network.
    proposed: False where there is no proposal.
    boxes: true ones.
    labels: their classes, 0 where there is no box.
    key: of the sampling.
    size: of the sample, k.
    share: largest share of positives.
    iou: least IoU of a positive; negatives have less.

  Returns:
    `boxes` (k, 4), positives first; `labels` (k,), 0 background; `matches`
    (k,), the index of the true box that a positive stands for; `targets`
    (k, 4), the deltas to it; and `valid` (k,), False where too few could be
    sampled.
  """
  regions = jnp.concatenate([proposals, boxes])
  exists = labels > 0
  matches = matching.match(
    box_ops.iou(boxes, regions), exists, iou, iou, allow_low_quality=False
  )
  kinds = jnp.where(
    jnp.concatenate([proposed, exists]), jnp.sign(matches + 1), -1
  )
  indices, is_positive, valid = sampling.balanced(kinds, key, size, share)
  regions = regions[indices]
  matches = jnp.maximum(matches[indices], 0)
  targets = box_coder.encode(
    boxes[matches], regions, mask_rcnn_steps.BOX_WEIGHTS
  )
  return {
    'boxes': regions,
    'labels': jnp.where(is_positive, labels[matches], 0),
    'matches': matches,
    'targets': targets,
    'valid': valid,
  }


def for_masks(
  masks: UInt8[Array, 'n h w'] | Bool[Array, 'n h w'],
  boxes: Float[Array, 'k 4'],
  matches: Int[Array, ' k'],
  side: int,
  *,
  aligned: bool,
) -> Float[Array, 'k {side} {side}']:
  """Returns what the mask head is to draw in each region.

  Args:
    masks: true ones.
    boxes: the regions.
    matches: which mask each is to draw.
    side: of the result.
    aligned: see `ops.masks.crop`.
  """

  def crop(args: tuple[Array, Array]) -> Array:
    box, match = args
    one = masks[match][None]
    return mask_ops.crop(one, box[None], side, aligned=aligned)[0]

  return jax.lax.map(crop, (boxes, matches), batch_size=_CHUNK)
