"""Where in this slice are the lesions, as boxes written one by one?

Trains `models.cnn_lstm` by matching what each cell wrote with what it should
have (`losses.sequence`), and turns its raw outputs into one set of boxes an
image by stitching (`ops.stitching`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo.losses import sequence
from medzoo.ops import boxes as box_ops
from medzoo.ops import stitching

Batch = dict[str, Any]
Variables = dict[str, Any]


class SequenceDetection:
  """Trains a model that writes a few boxes for every cell of a grid.

  Batches hold `image` (b, h, w, 3) in [0, 1], `boxes` (b, n, 4) corners
  (y0, x0, y1, x1) in pixels, half-open, `labels` (b, n), 0 where there is no
  box, and `valid` (b,). They may hold `ignored` (b, m, 4), corners of findings
  that are neither true nor false, without extent where there are none.

  Attributes:
    model: a module with the outputs of `models.cnn_lstm`.
    weights: of the terms confidence, box, rezoom and reregression.
    focus_size: reach of a cell, in strides.
    match_iou: below this a box misses its truth in the matching.
    center_tolerance: centre error, in sides, up to which the second look is
      to call a box right.
    stitch_iou: above this two boxes overlap in the stitching.
    max_boxes: the surest boxes of an image that are stitched.
  """

  def __init__(
    self,
    model: nn.Module,
    *,
    weights: tuple[float, float, float, float] = (1.0, 0.1, 0.1, 0.003),
    focus_size: float = 1.8,
    match_iou: float = 0.25,
    center_tolerance: float = 0.2,
    stitch_iou: float = 0.25,
    max_boxes: int = 64,
  ):
    self.model = model
    self.weights = weights
    self.focus_size = focus_size
    self.match_iou = match_iou
    self.center_tolerance = center_tolerance
    self.stitch_iou = stitch_iou
    self.max_boxes = max_boxes

  def init(self, key: jax.Array, batch: Batch) -> Variables:
    """Returns fresh parameters and batch statistics."""
    shape = (1, *batch['image'].shape[1:])
    # Lazily: nothing of the network but its variables is computed or compiled.
    return self.model.lazy_init(
      key, jax.ShapeDtypeStruct(shape, jnp.float32), train=False
    )

  def loss(
    self, variables: Variables, batch: Batch, key: jax.Array, *, train: bool
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]:
    """Returns the scalar loss, its named terms and the new batch statistics."""
    outputs, state = self.model.apply(
      variables,
      batch['image'],
      train=train,
      rngs={'dropout': key},
      mutable=['batch_stats'],
    )
    total, terms = sequence.sequence_loss(
      outputs,
      batch['boxes'],
      batch['labels'],
      batch['valid'],
      image_shape=batch['image'].shape[1:3],
      ignored=batch.get('ignored'),
      focus_size=self.focus_size,
      min_iou=self.match_iou,
      center_tolerance=self.center_tolerance,
      weights=self.weights,
    )
    return total, (terms, state)

  def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Returns the boxes of each image: what `ops.stitching.select` does."""
    outputs = self.model.apply(variables, batch['image'], train=False)
    return stitching.select(
      outputs,
      batch['image'].shape[1:3],
      max_boxes=self.max_boxes,
      min_iou=self.stitch_iou,
    )

  def evaluator(self) -> 'Evaluator':
    """Returns a fresh evaluator for one pass over the validation batches."""
    return Evaluator()


class Evaluator:
  """Collects accepted boxes on validation images and scores them at the end."""

  def __init__(self):
    self._images: list[dict[str, np.ndarray]] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; images that are not valid are left out."""
    for i in np.flatnonzero(np.asarray(batch['valid'])):
      kept = np.asarray(predictions['accepted'][i])
      image = {
        name: np.asarray(predictions[name][i])[kept]
        for name in ('boxes', 'scores', 'labels')
      }
      there = np.asarray(batch['labels'][i]) > 0
      image['truth'] = np.asarray(batch['boxes'][i])[there]
      image['truth_labels'] = np.asarray(batch['labels'][i])[there]
      image['ignored'] = np.asarray(
        batch['ignored'][i] if 'ignored' in batch else np.zeros((0, 4))
      )
      self._images.append(image)

  def compute(self) -> dict[str, float]:
    """Returns `ap50`, NaN where no image holds a truth.

    The area under the precision's upper envelope over recall, IoU >= .5,
    classes together but hits only within a class. An unmatched box on an
    ignored finding (IoU >= .5) is left out.
    """
    marks = [mark for image in self._images for mark in _marks(image)]
    total = sum(len(image['truth']) for image in self._images)
    if not total:
      return {'ap50': float('nan')}
    marks.sort(key=lambda mark: -mark[0])
    hits = np.cumsum([hit for _, hit in marks])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(hits / total, prepend=0)
    return {'ap50': float((envelope * gained).sum())}


def _marks(image: dict[str, np.ndarray]) -> list[tuple[float, bool]]:
  """Returns score and hit of an image's boxes, the surest taking first."""
  iou = box_ops.iou(image['boxes'], image['truth'])
  iou *= image['labels'][:, None] == image['truth_labels']
  excused = (box_ops.iou(image['boxes'], image['ignored']) >= 0.5).any(-1)
  marks = []
  for i in np.argsort(-image['scores'], kind='stable'):
    best = iou[i].argmax() if iou.size else 0
    hit = bool(iou.size and iou[i, best] >= 0.5)
    if hit:
      iou[:, best] = 0
    if hit or not excused[i]:
      marks.append((float(image['scores'][i]), hit))
  return marks


Task = SequenceDetection
