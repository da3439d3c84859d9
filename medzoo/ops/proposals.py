"""Proposals: the boxes of a region proposal network worth a second look."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medzoo.ops import box_coder
from medzoo.ops import boxes as box_ops
from medzoo.ops import nms_boxes


@dataclasses.dataclass(frozen=True)
class Settings:
  """How proposals are chosen; the defaults are torchvision's for inference.

  Attributes:
    pre_nms: the surest of each level that are looked at.
    post_nms: proposals that remain in all.
    iou: a proposal that overlaps a surer one of its level more is dropped.
    min_score: least probability of an object.
    min_side: least height and width in the image, pixels.
  """

  pre_nms: int = 1000
  post_nms: int = 1000
  iou: float = 0.7
  min_score: float = 0.0
  min_side: float = 1e-3


def select(
  logits: Sequence[Float[Array, ' _']],
  deltas: Sequence[Float[Array, '_ r2']],
  anchors: Sequence[Float[Array, '_ r2']],
  image_shape: Sequence[int] | Int[Array, ' r'],
  settings: Settings,
) -> tuple[Float[Array, 'k r2'], Float[Array, ' k'], Bool[Array, ' k']]:
  """Chooses the proposals of one image, as torchvision's filter_proposals.

  No gradient flows through the choice (Ren et al. 2015, arXiv 1506.01497).

  Args:
    logits: of there being an object, by level.
    deltas: what moves the anchors, weights 1, by level.
    anchors: corners, pixels, by level.
    image_shape: sides of the image that boxes are clipped to, pixels.
    settings: numbers and thresholds.

  Returns:
    Corners by falling score, their probabilities, and whether each is a
    proposal; k is `settings.post_nms`, and what is none is 0.
  """
  chosen = [
    _of_level(*level, image_shape, settings)
    for level in zip(logits, deltas, anchors, strict=True)
  ]
  boxes, scores, valid = map(jnp.concatenate, zip(*chosen, strict=True))
  missing = max(settings.post_nms - len(valid), 0)
  ranked = jnp.pad(
    jnp.where(valid, scores, -1), (0, missing), constant_values=-1
  )
  scores, order = jax.lax.top_k(ranked, settings.post_nms)
  valid = scores >= 0
  boxes = jnp.where(valid[:, None], boxes[jnp.where(valid, order, 0)], 0)
  return boxes, jnp.where(valid, scores, 0), valid


def _of_level(
  logits: Float[Array, ' n'],
  deltas: Float[Array, 'n r2'],
  anchors: Float[Array, 'n r2'],
  image_shape: Sequence[int] | Int[Array, ' r'],
  settings: Settings,
) -> tuple[Float[Array, 'm r2'], Float[Array, ' m'], Bool[Array, ' m']]:
  """Returns boxes, probabilities and whether each is one, of one level."""
  logits, deltas = jax.lax.stop_gradient((logits, deltas))
  logits, top = jax.lax.top_k(logits, min(settings.pre_nms, len(logits)))
  weights = (1,) * deltas.shape[-1]
  boxes = box_coder.decode(deltas[top], anchors[top], weights)
  boxes = box_ops.clip(boxes, image_shape)
  scores = jax.nn.sigmoid(logits)
  rank = boxes.shape[-1] // 2
  sides = boxes[:, rank:] - boxes[:, :rank]
  valid = (sides >= settings.min_side).all(-1) & (scores >= settings.min_score)
  most = min(settings.post_nms, len(scores))
  kept, valid = nms_boxes.nms(boxes, scores, settings.iou, most, valid)
  return boxes[kept], scores[kept], valid
