"""Runs a Mask R-CNN: to detections, or to all that its losses need.

Two functions, made of the same steps (`mask_rcnn_steps`), which
`mask_rcnn_targets` joins for training. Both read a batch of one shape, of
which `sizes` says how much is picture and not padding. Boxes are corners
(y0, x0, y1, x1) in pixels of that shape.

  found = mask_rcnn_forward.infer(
    model, variables, images, sizes, mask_rcnn_forward.Inference()
  )
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from medzoo.models import mask_rcnn
from medzoo.models import mask_rcnn_steps as steps
from medzoo.models import mask_rcnn_targets as targets
from medzoo.ops import proposals as proposal_ops


@dataclasses.dataclass(frozen=True)
class Inference:
  """How detections are chosen; the defaults are torchvision's.

  Attributes:
    proposals: how proposals are chosen.
    min_score: a detection is surer than this.
    iou: one that overlaps a surer one of its class more is dropped.
    min_side: least height and width, pixels.
    max_detections: of an image.
  """

  proposals: proposal_ops.Settings = proposal_ops.Settings()
  min_score: float = 0.05
  iou: float = 0.5
  min_side: float = 0.01
  max_detections: int = 100


@dataclasses.dataclass(frozen=True)
class Training:
  """What is sampled for the losses; the defaults are torchvision's.

  Attributes:
    proposals: how proposals are chosen.
    num_anchors: sampled of an image.
    anchor_share: largest share of positives among them.
    anchor_high: least IoU of a positive; the best anchors of a true box are
      positives whatever their IoU.
    anchor_low: negatives have less.
    num_regions: sampled of an image.
    region_share: largest share of positives among them; for so many, masks
      are drawn.
    region_iou: least IoU of a positive; negatives have less.
  """

  proposals: proposal_ops.Settings = proposal_ops.Settings(
    pre_nms=2000, post_nms=2000
  )
  num_anchors: int = 256
  anchor_share: float = 0.5
  anchor_high: float = 0.7
  anchor_low: float = 0.3
  num_regions: int = 512
  region_share: float = 0.25
  region_iou: float = 0.5


def infer(
  model: mask_rcnn.MaskRCNN,
  variables: steps.Variables,
  images: Float[Array, 'b h w c'],
  sizes: Int[Array, 'b 2'],
  settings: Inference,
) -> dict[str, Array]:
  """Finds the things in images.

  Args:
    model: the layers.
    variables: parameters and batch statistics.
    images: as `model.features` wants them, padded at the bottom and the right.
    sizes: height and width of each picture within the padding, pixels.
    settings: numbers and thresholds.

  Returns:
    By falling score `boxes` (b, k, 4), inside the pictures, `scores` (b, k),
    `labels` (b, k), from 1 on, `valid` (b, k), False where there are fewer
    than `max_detections`, and `masks` (b, k, 28, 28), probabilities in the
    frames of the boxes (`ops.masks.paste`).
  """
  shape = images.shape[1:3]
  features = model.apply(variables, images, train=False, method='features')
  logits, deltas = steps.run_head(model, variables, 'rpn', features)
  boxes, _, valid = steps.propose(
    model, logits, deltas, shape, sizes, settings.proposals
  )
  judged = steps.judge(model, variables, features, boxes, shape)
  detect = functools.partial(
    steps.detect,
    min_score=settings.min_score,
    iou=settings.iou,
    min_side=settings.min_side,
    max_detections=settings.max_detections,
  )
  found = jax.vmap(detect)(*judged, boxes, valid, sizes)
  drawn = steps.draw(model, variables, features, found['boxes'], shape)
  return found | {'masks': steps.own_masks(drawn, found['labels'])}


def training_outputs(
  model: mask_rcnn.MaskRCNN,
  variables: steps.Variables,
  images: Float[Array, 'b h w c'],
  sizes: Int[Array, 'b 2'],
  boxes: Float[Array, 'b n 4'],
  labels: Int[Array, 'b n'],
  masks: UInt8[Array, 'b n h w'] | Bool[Array, 'b n h w'],
  key: Array,
  settings: Training,
  *,
  train: bool,
) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
  """Returns what the losses compare, and the new batch statistics.

  Args:
    model: the layers.
    variables: parameters and batch statistics.
    images: as `model.features` wants them, padded at the bottom and the right.
    sizes: height and width of each picture within the padding, pixels.
    boxes: true ones.
    labels: their classes, 0 where there is no box.
    masks: of the same things, of the images' shape.
    key: of the sampling.
    settings: numbers and thresholds.
    train: whether batch normalisation uses the batch's own statistics.

  Returns:
    `rpn`, `box_head` and `mask_head`, each the arguments of the function of
    `losses.mask_rcnn` of that name, (b, sampled, ...). Gradients flow through
    the network's outputs at the sampled places only, not through the places.
    And the model's state.
  """
  shape = images.shape[1:3]
  features, state = model.apply(
    variables, images, train=train, method='features', mutable=['batch_stats']
  )
  logits, deltas = steps.run_head(model, variables, 'rpn', features)
  proposals, _, proposed = steps.propose(
    model, logits, deltas, shape, sizes, settings.proposals
  )
  keys = jax.random.split(key, (2, len(images)))
  every = jnp.concatenate(steps.anchors(model, logits, shape))
  anchors = jax.vmap(
    functools.partial(
      targets.for_anchors,
      every,
      size=settings.num_anchors,
      share=settings.anchor_share,
      high=settings.anchor_high,
      low=settings.anchor_low,
    )
  )(boxes, labels, keys[0])
  regions = jax.vmap(
    functools.partial(
      targets.for_regions,
      size=settings.num_regions,
      share=settings.region_share,
      iou=settings.region_iou,
    )
  )(proposals, proposed, boxes, labels, keys[1])
  indices = anchors.pop('indices')
  outputs = {
    'rpn': {
      'logits': _pick(logits, indices, ()),
      'deltas': _pick(deltas, indices, (4,)),
      **anchors,
    },
    'box_head': _judged(model, variables, features, regions, shape),
    'mask_head': _drawn(
      model,
      variables,
      features,
      masks,
      # Positives come first.
      {
        name: x[:, : int(settings.num_regions * settings.region_share)]
        for name, x in regions.items()
      },
      shape,
    ),
  }
  return outputs, state


def _pick(
  levels: dict[str, Float[Array, 'b _ _ ...']],
  indices: Int[Array, 'b k'],
  tail: tuple[int, ...],
) -> Float[Array, 'b k ...']:
  """Returns what the proposal network says of some anchors."""
  b = len(indices)
  every = jnp.concatenate([x.reshape(b, -1, *tail) for x in levels.values()], 1)
  return jax.vmap(lambda x, i: x[i])(every, indices)


def _judged(
  model: mask_rcnn.MaskRCNN,
  variables: steps.Variables,
  features: steps.Features,
  regions: dict[str, Array],
  shape: tuple[int, int],
) -> dict[str, Array]:
  """Returns what the box head says of regions, and what it should."""
  logits, deltas = steps.judge(
    model, variables, features, regions['boxes'], shape
  )
  names = ('labels', 'targets', 'valid')
  return {
    'logits': logits,
    'deltas': deltas,
    **{name: regions[name] for name in names},
  }


def _drawn(
  model: mask_rcnn.MaskRCNN,
  variables: steps.Variables,
  features: steps.Features,
  masks: Array,
  regions: dict[str, Array],
  shape: tuple[int, int],
) -> dict[str, Array]:
  """Returns what the mask head draws in regions, and what it should."""
  logits = steps.draw(model, variables, features, regions['boxes'], shape)
  crop = functools.partial(
    targets.for_masks, side=logits.shape[2], aligned=model.aligned
  )
  return {
    'logits': logits,
    'labels': regions['labels'],
    'targets': jax.vmap(crop)(masks, regions['boxes'], regions['matches']),
    'valid': regions['valid'],
  }
