"""Of which class is this picture?

Trains a model that judges whole pictures, or codes of them, by cross-entropy.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from medzoo import tasks
from medzoo.data import drawing
from medzoo.losses import classification
from medzoo.metrics import classification as metrics
from medzoo.metrics import multiclass

# How many validation pictures are drawn.
_NUM_PICTURES = 4

Batch = dict[str, Any]
Variables = dict[str, Any]


class Classification:
  """Trains a model with the output `logits` (b, classes).

  Two classes may also have one output, (b, 1), the log-odds of class 1.
  Batches hold `image` (b, ...), pictures (b, h, w, c) in [0, 1] or codes,
  `label` (b,) int, the class from 0, and `valid` (b,).

  Attributes:
    model: a module that is called with an image.
    class_weights: what examples of each class count, from class 0 on; None
      for as much. A batch's loss is the weighted sum over the number of
      examples, as Keras has it, so weights whose mean over the training set is
      1 keep its scale.
    label_smoothing: the share of a label's certainty that is spread evenly
      over all classes, from 0 to less than 1 (Szegedy et al. 2016).
  """

  def __init__(
    self,
    model: nn.Module,
    *,
    class_weights: tuple[float, ...] | None = None,
    label_smoothing: float = 0.0,
  ):
    self.model = model
    self.class_weights = class_weights
    self.label_smoothing = label_smoothing

  def init(self, key: jax.Array, batch: Batch) -> Variables:
    """Returns fresh parameters, and any batch statistics."""
    return tasks.init(self.model, key, batch)

  def loss(
    self, variables: Variables, batch: Batch, key: jax.Array, *, train: bool
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]:
    """Returns the scalar loss, its terms and the new batch statistics.

    Terms are the `cross_entropy`, nats, without weights and smoothing, and
    the `accuracy` of the batch. Dropout draws from `key`.

    Raises:
      ValueError: there are not as many class weights as classes.
    """
    outputs, state = self.model.apply(
      variables,
      batch['image'],
      train=train,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    scores = classification.scores(outputs['logits'])
    labels = jnp.asarray(batch['label'])
    losses = classification.smoothed_cross_entropy(
      scores, labels, self.label_smoothing
    )
    if self.class_weights is not None:
      losses *= self._weights(scores)[labels]
    terms = {
      'cross_entropy': classification.smoothed_cross_entropy(scores, labels),
      'accuracy': jnp.float32(classification.called(scores) == labels),
    }
    means = {
      name: classification.masked_mean(values, batch['valid'])
      for name, values in terms.items()
    }
    total = classification.masked_mean(losses, batch['valid'])
    return total, (means, state)

  def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
    """Returns `logit` float32, (b,) of two classes, else (b, classes).

    It is what `losses.classification.scores` returns.
    """
    outputs = self.model.apply(variables, batch['image'], train=False)
    return {'logit': classification.scores(outputs['logits'])}

  def evaluator(self) -> 'Evaluator':
    """Returns a fresh evaluator for one pass over the validation batches."""
    return Evaluator()

  def _weights(self, scores: jax.Array) -> jax.Array:
    """Returns (classes,) what examples of each class count."""
    number = 2 if scores.ndim == 1 else scores.shape[-1]
    if len(self.class_weights) != number:
      raise ValueError(
        f'class_weights: found {len(self.class_weights)} weights, expected '
        f'{number}, one for each class'
      )
    return jnp.asarray(self.class_weights, jnp.float32)


class Evaluator:
  """Collects what is said of validation examples."""

  def __init__(self):
    self._labels: list[np.ndarray] = []
    self._logits: list[np.ndarray] = []
    self._pictures: list[np.ndarray] = []

  def update(self, batch: Batch, predictions: dict[str, np.ndarray]) -> None:
    """Adds one batch; examples that are not valid are left out."""
    valid = np.asarray(batch['valid'], bool)
    labels = np.asarray(batch['label'])[valid]
    logits = np.asarray(predictions['logit'], float)[valid]
    if not len(labels):
      return
    self._labels.append(labels)
    self._logits.append(logits)
    images = batch['image']
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
      return
    for i, label, logit in zip(
      np.flatnonzero(valid), labels, logits, strict=True
    ):
      if len(self._pictures) == _NUM_PICTURES:
        break
      self._pictures.append(_draw(images[i], int(label), logit))

  def pictures(self) -> dict[str, np.ndarray]:
    """Returns the first pictures, (h, w, 3) uint8, by title; none of codes.

    The frame is green where the class is right and red where it is wrong; the
    text says the true class and the probability of class 1, or of three
    classes and more the one it was called, and the probability of that.
    """
    return {f'picture_{i}': pixels for i, pixels in enumerate(self._pictures)}

  def compute(self) -> dict[str, float]:
    """Returns `auc`, `accuracy` at a probability of 1/2, and `loss`.

    The loss is the mean cross-entropy, nats. All are NaN without examples, and
    the AUC where a class is missing. Of three classes and more the AUC is
    `metrics.multiclass.auc`, and a picture is called the likeliest class.
    """
    if not self._labels:
      return dict.fromkeys(('auc', 'accuracy', 'loss'), float('nan'))
    labels = np.concatenate(self._labels)
    logits = np.concatenate(self._logits)
    if logits.ndim == 2:
      found = multiclass.Predictions(labels, logits)
      own = found.log_probability[np.arange(len(labels)), labels]
      return {
        'auc': multiclass.auc(labels, logits),
        'accuracy': float((found.called == labels).mean()),
        'loss': float(-own.mean()),
      }
    labels = labels > 0
    return {
      'auc': metrics.auc(labels, logits),
      'accuracy': float(((logits >= 0) == labels).mean()),
      'loss': float((np.logaddexp(0, logits) - labels * logits).mean()),
    }


def _draw(image: Any, label: int, logit: np.ndarray) -> np.ndarray:
  pixels = np.round(255 * np.asarray(image)).astype(np.uint8)
  if pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  frame = np.array([[0, 0, *pixels.shape[:2]]])
  if logit.ndim:
    called = int(logit.argmax())
    probability = special.softmax(logit)[called]
    text = f'class {label}, called {called}, p {probability:.3f}'
  else:
    called = int(logit >= 0)
    probability = np.exp(-np.logaddexp(0, -logit))
    text = f'class {label}, p {probability:.3f}'
  color = drawing.GREEN if called == label else drawing.RED
  return drawing.draw(pixels, [drawing.Marks(frame, color, (text,))])


Task = Classification
