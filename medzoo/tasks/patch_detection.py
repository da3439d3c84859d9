"""Is there a lesion in the middle of this cube, and where exactly?

Both stages of the lung nodule detector train on this task. Candidate screening
classifies only and learns from the hard part of each batch (online sample
filtering); false-positive reduction classifies every cube and, where its model
has a regression branch, places and sizes the lesion too (the hybrid loss).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import tasks
from medzoo.losses import classification
from medzoo.losses import hybrid
from medzoo.metrics import classification as classification_metrics

Batch = dict[str, Any]
Variables = dict[str, Any]


class PatchDetection:
  """Trains a model on cubes that are centred on a lesion or on none.

  Batches hold `image` (b, d, h, w, 1) in [0, 1], `label` (b,), `offset`
  (b, 3), the lesion centre minus the cube centre along (z, y, x) in mm,
  `diameter` (b,) in mm, and `valid` (b,).

  Attributes:
    model: a module whose output has `logits`, and `regression` if it places
      the lesion.
    extent: (z, y, x) size of the cube in mm, the unit of the regression.
    hard: share of the batch with the largest losses that is always kept.
    easy_kept: share of the rest that is kept at random; 1.0 keeps all.
    regression_weight: weight of the regression term in the hybrid loss.
  """

  def __init__(
    self,
    model: nn.Module,
    *,
    extent: tuple[float, float, float],
    hard: float = 0.5,
    easy_kept: float = 1.0,
    regression_weight: float = 0.5,
  ):
    self.model = model
    self.extent = extent
    self.hard = hard
    self.easy_kept = easy_kept
    self.regression_weight = regression_weight

  def init(self, key: jax.Array, batch: Batch) -> Variables:
    """Returns fresh parameters and batch statistics."""
    return tasks.init(self.model, key, batch)

  def loss(
    self, variables: Variables, batch: Batch, key: jax.Array, *, train: bool
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]:
    """Returns the scalar loss, its named terms and the new batch statistics."""
    outputs, state = self.model.apply(
      variables, batch['image'], train=train, mutable=['batch_stats']
    )
    outputs = _flat(outputs)
    losses = classification.cross_entropy(outputs['logits'], batch['label'])
    weights = classification.online_sample_filtering(
      losses,
      batch['valid'],
      key,
      hard=self.hard,
      easy_kept=self.easy_kept,
    )
    total = classification.masked_mean(losses, weights)
    terms = {'classification': total}
    if 'regression' in outputs:
      terms['regression'] = hybrid.regression_loss(
        outputs['regression'],
        hybrid.encode(batch['offset'], batch['diameter'], self.extent),
        (batch['label'] > 0) & batch['valid'],
      )
      total = total + self.regression_weight * terms['regression']
    return total, (terms, state)

  def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Returns `logits` (b, classes), and any `regression` (b, 4)."""
    return _flat(self.model.apply(variables, batch['image'], train=False))

  def evaluator(self) -> 'Evaluator':
    """Returns a fresh evaluator for one pass over the validation batches."""
    return Evaluator(self.extent)


class Evaluator:
  """Collects predictions on validation cubes and scores them at the end."""

  def __init__(self, extent: tuple[float, float, float]):
    self._extent = tuple(extent)
    self._rows: list[dict[str, np.ndarray]] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; rows that are not valid are left out."""
    keep = np.asarray(batch['valid'])
    row = {name: np.asarray(predictions[name])[keep] for name in predictions}
    for name in ('label', 'offset', 'diameter'):
      row[name] = np.asarray(batch[name])[keep]
    self._rows.append(row)

  def compute(self) -> dict[str, float]:
    """Returns `loss`, `auc`, and `location_error` (mm) where it is predicted.

    `loss` is the cross-entropy with both classes weighted alike, so that it
    does not depend on how many negatives the validation cubes happen to hold.
    """
    rows = {
      name: np.concatenate([row[name] for row in self._rows])
      for name in self._rows[0]
    }
    positive = rows['label'] > 0
    logits = rows['logits'].astype(np.float64)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    losses = -log_p[np.arange(len(log_p)), rows['label']]
    score = np.logaddexp.reduce(logits[:, 1:], axis=-1) - logits[:, 0]
    scores = {
      'loss': float(
        np.mean([losses[part].mean() for part in (positive, ~positive)])
      ),
      'auc': classification_metrics.auc(positive, score),
    }
    if 'regression' in rows and positive.any():
      offset, _ = hybrid.decode(jnp.asarray(rows['regression']), self._extent)
      error = np.asarray(offset)[positive] - rows['offset'][positive]
      scores['location_error'] = float(np.linalg.norm(error, axis=-1).mean())
    return scores


def _flat(outputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Drops the single output cell that a fully convolutional net keeps."""
  return {
    name: x.reshape(x.shape[0], x.shape[-1]) for name, x in outputs.items()
  }


Task = PatchDetection
