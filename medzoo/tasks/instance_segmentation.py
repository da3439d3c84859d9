"""Which objects are in this picture, and which pixels are each one's?

Trains `models.mask_rcnn` in one step of fixed shapes: proposals, their
sampling, the heads and five losses (`models.mask_rcnn_forward`,
`losses.mask_rcnn`). Each class is there once at most, as lungs are.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from medzoo import tasks
from medzoo.losses import mask_rcnn as losses
from medzoo.metrics import segmentation
from medzoo.models import mask_rcnn_forward
from medzoo.ops import instances
from medzoo.ops import proposals

Batch = dict[str, Any]
Variables = dict[str, Any]


class InstanceSegmentation:
  """Trains Mask R-CNN on pictures with at most one object of each class.

  Batches hold `image` (b, h, w, c) in [0, 1], `sizes` (b, 2) the heights and
  widths of what is picture in it, `masks` (b, n, h, w) uint8, `boxes` (b, n, 4)
  corners (y0, x0, y1, x1) in pixels, `labels` (b, n), 0 where there is no
  object, and `valid` (b,).

  Attributes:
    model: a `models.mask_rcnn.MaskRCNN`.
    training: how proposals and samples are chosen in training.
    inference: how instances are chosen.
  """

  def __init__(
    self,
    model: nn.Module,
    *,
    train_proposals: int,
    sampled_anchors: int,
    sampled_regions: int,
    test_proposals: int,
    min_score: float,
    max_detections: int,
  ):
    self.model = model
    self.training = mask_rcnn_forward.Training(
      proposals=proposals.Settings(train_proposals, train_proposals),
      num_anchors=sampled_anchors,
      num_regions=sampled_regions,
    )
    self.inference = mask_rcnn_forward.Inference(
      proposals=proposals.Settings(test_proposals, test_proposals),
      min_score=min_score,
      max_detections=max_detections,
    )

  def init(self, key: jax.Array, batch: Batch) -> Variables:
    """Returns fresh parameters and batch statistics."""
    return tasks.init(self.model, key, batch)

  def loss(
    self, variables: Variables, batch: Batch, key: jax.Array, *, train: bool
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]:
    """Returns the scalar loss, its five terms and the new batch statistics."""
    outputs, state = mask_rcnn_forward.training_outputs(
      self.model,
      variables,
      batch['image'],
      batch['sizes'],
      batch['boxes'],
      batch['labels'],
      batch['masks'],
      key,
      self.training,
      train=train,
    )
    for judged in outputs.values():
      judged['valid'] &= batch['valid'][:, None]
    terms = {
      **losses.rpn(**outputs['rpn']),
      **losses.box_head(**outputs['box_head']),
      **losses.mask_head(**outputs['mask_head']),
    }
    return sum(terms.values()), (terms, state)

  def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Returns the surest instance of every class, see `ops.instances`."""
    found = mask_rcnn_forward.infer(
      self.model, variables, batch['image'], batch['sizes'], self.inference
    )
    return jax.vmap(
      lambda one: instances.paste_surest(
        one,
        self.model.num_classes,
        batch['image'].shape[1:3],
        aligned=self.model.aligned,
      )
    )(found)

  def evaluator(self) -> 'Evaluator':
    """Returns a fresh evaluator for one pass over the validation batches."""
    return Evaluator()


class Evaluator:
  """Collects the Dice of every object on validation pictures."""

  def __init__(self):
    self._dice: list[float] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; pictures that are not valid are left out."""
    truths = np.asarray(batch['masks'], bool)
    valid = np.asarray(batch['valid'])[:, None]
    there = (np.asarray(batch['labels']) > 0) & valid
    found = np.asarray(predictions['maps']) >= 0.5
    pairs = zip(found[there], truths[there], strict=True)
    self._dice.extend(segmentation.dice(*pair) for pair in pairs)

  def compute(self) -> dict[str, float]:
    """Returns `dice`, the mean over all objects, NaN where there is none."""
    return {'dice': float(np.mean(self._dice)) if self._dice else float('nan')}


Task = InstanceSegmentation
