"""The steps between the layers of a Mask R-CNN, each to be called alone.

`mask_rcnn_forward` puts them together. Boxes are corners (y0, x0, y1, x1) in
pixels of the tensor that the network reads. Whatever has a variable number has
a fixed number of slots, with `valid`. Numbers without an argument are those of
torchvision's `maskrcnn_resnet50_fpn`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medzoo.models import mask_rcnn
from medzoo.ops import anchors as anchor_ops
from medzoo.ops import box_coder
from medzoo.ops import boxes as box_ops
from medzoo.ops import nms_boxes
from medzoo.ops import proposals as proposal_ops
from medzoo.ops import roi_align

# What the box head's deltas are multiplied by, that they be of the order of 1.
# The proposal network's are as they are.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Points along each axis of a bin of RoIAlign.
_SAMPLING = 2

Variables = dict[str, Any]
Features = dict[str, Float[Array, 'b _ _ _']]


def run_head(
  model: mask_rcnn.MaskRCNN, variables: Variables, name: str, x: Any
) -> Any:
  """Runs `rpn` on a pyramid, or `box_head` or `mask_head` on regions."""
  return model.apply(variables, x, method=lambda m, x: getattr(m, name)(x))


def anchors(
  model: mask_rcnn.MaskRCNN,
  levels: dict[str, Float[Array, 'b _ _ _']],
  image_shape: tuple[int, int],
) -> list[Float[Array, '_ 4']]:
  """Returns the anchors of each level, by y, x and ratio.

  Args:
    model: says their sizes and ratios.
    levels: the pyramid, or the proposal network's logits.
    image_shape: of the tensor, pixels.
  """
  boxes = []
  for level, size in zip(levels.values(), model.anchor_sizes, strict=True):
    cells = level.shape[1:3]
    stride = tuple(n // m for n, m in zip(image_shape, cells, strict=True))
    boxes.append(anchor_ops.grid(cells, stride, (size,), model.anchor_ratios))
  return boxes


def propose(
  model: mask_rcnn.MaskRCNN,
  logits: dict[str, Float[Array, 'b _ _ a']],
  deltas: dict[str, Float[Array, 'b _ _ a 4']],
  image_shape: tuple[int, int],
  sizes: Int[Array, 'b 2'],
  settings: proposal_ops.Settings,
) -> tuple[Float[Array, 'b k 4'], Float[Array, 'b k'], Bool[Array, 'b k']]:
  """Returns the proposals of each image, as `ops.proposals.select` does.

  Args:
    model: says what the anchors are.
    logits: of the proposal network, by level.
    deltas: of the proposal network, by level.
    image_shape: of the tensor, pixels.
    sizes: height and width of the pictures, to which boxes are clipped.
    settings: how they are chosen.
  """
  boxes = anchors(model, logits, image_shape)
  return jax.vmap(
    lambda logits, deltas, size: proposal_ops.select(
      [x.reshape(-1) for x in logits.values()],
      [x.reshape(-1, 4) for x in deltas.values()],
      boxes,
      size,
      settings,
    )
  )(logits, deltas, sizes)


def pool(
  features: Features,
  boxes: Float[Array, 'b k 4'],
  image_shape: tuple[int, int],
  side: int,
  *,
  aligned: bool,
) -> Float[Array, 'b_k {side} {side} c']:
  """Returns the features of regions, one image's after the other's.

  Args:
    features: the pyramid, whose last level is for anchors only.
    boxes: corners.
    image_shape: of the tensor, pixels.
    side: of the result.
    aligned: see `ops.roi_align`.
  """
  levels = list(features.values())[:-1]
  strides = [2 ** round(math.log2(image_shape[0] / x.shape[1])) for x in levels]

  def of_image(levels: list[Array], boxes: Array) -> Array:
    return roi_align.multilevel(
      levels, strides, boxes, side, _SAMPLING, aligned=aligned
    )

  rois = jax.vmap(of_image)(levels, boxes)
  return rois.reshape(-1, *rois.shape[2:])


def judge(
  model: mask_rcnn.MaskRCNN,
  variables: Variables,
  features: Features,
  boxes: Float[Array, 'b k 4'],
  image_shape: tuple[int, int],
) -> tuple[Float[Array, 'b k classes'], Float[Array, 'b k classes 4']]:
  """Returns the box head's logits and deltas of given boxes.

  Args:
    model: the layers.
    variables: parameters and batch statistics.
    features: the pyramid.
    boxes: the proposals.
    image_shape: of the tensor, pixels.
  """
  rois = pool(
    features, boxes, image_shape, model.box_size, aligned=model.aligned
  )
  logits, deltas = run_head(model, variables, 'box_head', rois)
  lead = boxes.shape[:2]
  return (
    logits.reshape(*lead, *logits.shape[1:]),
    deltas.reshape(*lead, *deltas.shape[1:]),
  )


def detect(
  logits: Float[Array, 'n classes'],
  deltas: Float[Array, 'n classes 4'],
  boxes: Float[Array, 'n 4'],
  valid: Bool[Array, ' n'],
  size: Int[Array, ' 2'],
  *,
  min_score: float,
  iou: float,
  min_side: float,
  max_detections: int,
) -> dict[str, Array]:
  """Chooses the detections of one image among its proposals.

  Args:
    logits: of the box head.
    deltas: of the box head.
    boxes: the proposals that it judged.
    valid: False where there is no proposal.
    size: height and width of the picture, to which boxes are clipped.
    min_score: a detection is surer than this.
    iou: one that overlaps a surer one of its class more is dropped.
    min_side: least height and width, pixels.
    max_detections: that are kept, k.

  Returns:
    By falling score `boxes` (k, 4), `scores` (k,), `labels` (k,), from 1 on,
    and `valid` (k,). What is not valid is 0.
  """
  corners = box_coder.decode(deltas, boxes[:, None], BOX_WEIGHTS)
  corners = box_ops.clip(corners, size)
  scores = jax.nn.softmax(logits)
  sides = corners[..., 2:] - corners[..., :2]
  good = (sides >= min_side).all(-1) & (scores > min_score) & valid[:, None]
  # Class by class, without the background, as only a class's own boxes
  # suppress each other: (classes - 1, n).
  corners, scores, good = (
    jnp.moveaxis(x, 1, 0)[1:] for x in (corners, scores, good)
  )
  most = min(max_detections, len(boxes))
  kept, is_kept = jax.lax.map(
    lambda args: nms_boxes.nms(args[0], args[1], iou, most, args[2]),
    (corners, scores, good),
  )
  ranked = jnp.where(is_kept, jnp.take_along_axis(scores, kept, 1), -1).ravel()
  missing = max(max_detections - len(ranked), 0)
  ranked = jnp.pad(ranked, (0, missing), constant_values=-1)
  scores, order = jax.lax.top_k(ranked, max_detections)
  valid = scores >= 0
  order = jnp.where(valid, order, 0)
  chosen = corners[order // most, kept.ravel()[order]]
  return {
    'boxes': jnp.where(valid[:, None], chosen, 0),
    'scores': jnp.where(valid, scores, 0),
    'labels': jnp.where(valid, order // most + 1, 0).astype(jnp.int32),
    'valid': valid,
  }


def draw(
  model: mask_rcnn.MaskRCNN,
  variables: Variables,
  features: Features,
  boxes: Float[Array, 'b k 4'],
  image_shape: tuple[int, int],
) -> Float[Array, 'b k m m classes']:
  """Returns the mask head's logits of given boxes.

  Args:
    model: the layers.
    variables: parameters and batch statistics.
    features: the pyramid.
    boxes: corners.
    image_shape: of the tensor, pixels.
  """
  rois = pool(
    features, boxes, image_shape, model.mask_size, aligned=model.aligned
  )
  logits = run_head(model, variables, 'mask_head', rois)
  return logits.reshape(*boxes.shape[:2], *logits.shape[1:])


def own_masks(
  logits: Float[Array, 'b k m m classes'], labels: Int[Array, 'b k']
) -> Float[Array, 'b k m m']:
  """Returns the probabilities of each box's own class."""
  own = jnp.take_along_axis(logits, labels[..., None, None, None], -1)
  return jax.nn.sigmoid(own[..., 0])
