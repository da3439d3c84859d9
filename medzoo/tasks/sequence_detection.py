"""Where in this slice are the lesions, as boxes written one by one?

Trains `models.cnn_lstm` by matching what each cell wrote with what it should
have (`losses.sequence`), and turns its raw outputs into one set of boxes an
image by stitching (`ops.stitching`).
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from medzoo import tasks
from medzoo.data import drawing
from medzoo.losses import sequence
from medzoo.metrics import average_precision
from medzoo.metrics import box_matches
from medzoo.ops import stitching

# How many validation images are drawn, and the least score of a drawn box.
_NUM_PICTURES = 4
_LEAST_SCORE = 0.2

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
    return tasks.init(self.model, key, batch)

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
    self._found: list[box_matches.Detections] = []
    self._there: list[box_matches.Truths] = []
    self._pictures: list[np.ndarray] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; images that are not valid are left out."""
    nothing = np.zeros((len(batch['boxes']), 0, 4))
    for i in np.flatnonzero(np.asarray(batch['valid'])):
      kept = np.asarray(predictions['accepted'][i])
      names = ('boxes', 'scores', 'labels')
      found = [np.asarray(predictions[name][i])[kept] for name in names]
      there = np.asarray(batch['labels'][i]) > 0
      if there.any() and len(self._pictures) < _NUM_PICTURES:
        self._pictures.append(_draw(batch, predictions, i))
      self._found.append(box_matches.Detections(*found))
      self._there.append(
        _truths(
          np.asarray(batch['boxes'][i])[there],
          np.asarray(batch['labels'][i])[there],
          np.asarray(batch.get('ignored', nothing)[i]),
          self._found[-1].labels,
        )
      )

  def pictures(self) -> dict[str, np.ndarray]:
    """Returns the first images that hold a truth, (h, w, 3) uint8, by title.

    Truths are green, accepted boxes blue and suppressed ones red, on the
    middle channel in grey: a slice without its neighbours, or what is green in
    a picture in colour.
    """
    return {f'boxes_{i}': pixels for i, pixels in enumerate(self._pictures)}

  def compute(self) -> dict[str, float]:
    """Returns `ap50`, NaN where no image holds a truth.

    The area under the precision's upper envelope over recall, IoU >= .5,
    classes together but hits only within a class. An unmatched box on an
    ignored finding (IoU >= .5) is left out.
    """
    if all(there.ignored.all() for there in self._there):
      return {'ap50': float('nan')}
    matches = box_matches.match(self._found, self._there)
    points = average_precision.curve(matches)
    return {'ap50': average_precision.exact_area(points)}


def _draw(
  batch: Batch, predictions: dict[str, np.ndarray], i: int
) -> np.ndarray:
  found = {name: np.asarray(x[i]) for name, x in predictions.items()}
  marks = []
  for kind, color in (('suppressed', drawing.RED), ('accepted', drawing.BLUE)):
    drawn = found[kind] & (found['scores'] >= _LEAST_SCORE)
    texts = [f'{score:.2f}' for score in found['scores'][drawn]]
    marks.append(drawing.Marks(found['boxes'][drawn], color, texts))
  truths = np.asarray(batch['boxes'][i])[np.asarray(batch['labels'][i]) > 0]
  marks.append(drawing.Marks(truths, drawing.GREEN))
  pixels = np.round(255 * np.asarray(batch['image'][i])[..., 1])
  return drawing.draw(pixels.astype(np.uint8), marks)


def _truths(
  boxes: np.ndarray,
  labels: np.ndarray,
  ignored: np.ndarray,
  found_labels: np.ndarray,
) -> box_matches.Truths:
  """Joins the truths of an image and what is ignored there.

  A truth is of one class and takes one box, but a finding that is ignored is
  of any class and excuses any number of boxes: there is one of it a box.
  """
  copies = np.repeat(ignored, len(found_labels), axis=0)
  return box_matches.Truths(
    boxes=np.concatenate([boxes, copies]),
    labels=np.concatenate([labels, np.tile(found_labels, len(ignored))]),
    ignored=np.arange(len(labels) + len(copies)) >= len(labels),
    crowd=np.zeros(len(labels) + len(copies), bool),
  )


Task = SequenceDetection
