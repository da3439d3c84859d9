"""Which pixels of this film are of which lung?

Trains a model that gives one map a class (`models.unet`) by cross-entropy and
soft Dice (`losses.segmentation`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import tasks
from medzoo.data import drawing
from medzoo.data import lung_shapes
from medzoo.losses import segmentation
from medzoo.metrics import segmentation as metrics

# How many validation films are drawn.
_NUM_PICTURES = 4

Batch = dict[str, Any]
Variables = dict[str, Any]


class Segmentation:
  """Trains a model that says of every pixel what it is of.

  Batches hold `image` (b, h, w, c) in [0, 1], `masks` (b, 2, h, w), 0 or 1, of
  the right and the left lung, empty where it is absent, and `valid` (b,).

  Attributes:
    model: a module with the outputs of `models.unet`.
    weights: of the terms cross-entropy and Dice.
  """

  def __init__(
    self, model: nn.Module, *, weights: tuple[float, float] = (1.0, 1.0)
  ):
    self.model = model
    self.weights = weights

  def init(self, key: jax.Array, batch: Batch) -> Variables:
    """Returns fresh parameters, and any batch statistics."""
    return tasks.init(self.model, key, batch)

  def loss(
    self, variables: Variables, batch: Batch, key: jax.Array, *, train: bool
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]:
    """Returns the scalar loss, its named terms and the new batch statistics."""
    del key
    outputs, state = self.model.apply(
      variables, batch['image'], train=train, mutable=['batch_stats']
    )
    total, terms = segmentation.segmentation_loss(
      outputs['logits'],
      jnp.asarray(batch['masks'], jnp.int32),
      batch['valid'],
      weights=self.weights,
    )
    return total, (terms, state)

  def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Returns `masks` (b, 2, h, w) bool, where a pixel is rather lung."""
    outputs = self.model.apply(variables, batch['image'], train=False)
    return {'masks': jnp.moveaxis(outputs['logits'], -1, 1) >= 0}

  def evaluator(self) -> 'Evaluator':
    """Returns a fresh evaluator for one pass over the validation batches."""
    return Evaluator()


class Evaluator:
  """Collects Dice of validation films, at the network's size, uncleaned."""

  def __init__(self):
    self._dice: list[list[float]] = []
    self._pictures: list[np.ndarray] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; films that are not valid are left out."""
    for i in np.flatnonzero(np.asarray(batch['valid'])):
      truth = np.asarray(batch['masks'][i]) > 0
      found = np.asarray(predictions['masks'][i])
      self._dice.append(
        [
          metrics.dice(a, b) if a.any() else np.nan
          for a, b in zip(truth, found, strict=True)
        ]
      )
      if len(self._pictures) < _NUM_PICTURES:
        self._pictures.append(_draw(batch['image'][i], truth, found))

  def pictures(self) -> dict[str, np.ndarray]:
    """Returns the first films, (h, w, 3) uint8, by title.

    In colour where found and true masks differ: missed pixels are green, false
    ones red. The boxes of true lungs are green, those of found ones blue.
    """
    return {f'lungs_{i}': pixels for i, pixels in enumerate(self._pictures)}

  def compute(self) -> dict[str, float]:
    """Returns `dice_right`, `dice_left` and `dice`, the mean of both.

    Means over the films that have the lung, NaN where none has.
    """
    dice = np.array(self._dice).reshape(-1, len(lung_shapes.LABELS))
    counts = np.isfinite(dice).sum(0)
    sums = np.nansum(dice, axis=0)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    known = means[counts > 0]
    return {
      'dice_right': float(means[0]),
      'dice_left': float(means[1]),
      'dice': float(known.mean()) if len(known) else float('nan'),
    }


def _draw(image: Any, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
  grey = np.round(255 * np.asarray(image)[..., :1]).astype(np.uint8)
  pixels = np.repeat(grey, 3, -1)
  pixels[(truth & ~found).any(0)] = drawing.GREEN
  pixels[(found & ~truth).any(0)] = drawing.RED
  marks = [
    drawing.Marks(lung_shapes.boxes_of(masks[masks.any((1, 2))]), color)
    for masks, color in ((truth, drawing.GREEN), (found, drawing.BLUE))
  ]
  return drawing.draw(pixels, marks)


Task = Segmentation
