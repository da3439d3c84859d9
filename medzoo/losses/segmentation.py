"""The loss of maps that say which pixels are of which object."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from medzoo.losses import classification


def soft_dice(
  probabilities: Float[Array, 'b k h w'], masks: Float[Array, 'b k h w']
) -> Float[Array, 'b k']:
  """Returns 1 - Dice with probabilities for a mask, in [0, 1].

  2 sum(p m) / (sum(p) + sum(m)), Milletari et al. 2016 without its squares
  (arXiv 1606.04797, section 3).

  Args:
    probabilities: of each class.
    masks: 0 or 1.
  """
  shared = (probabilities * masks).sum((-2, -1))
  both = probabilities.sum((-2, -1)) + masks.sum((-2, -1))
  return 1 - 2 * shared / jnp.maximum(both, 1)


def segmentation_loss(
  logits: Float[Array, 'b h w k'],
  masks: Int[Array, 'b k h w'],
  valid: Bool[Array, ' b'],
  *,
  weights: tuple[float, float] = (1.0, 1.0),
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """Joins cross-entropy and soft Dice, each class by itself.

  Dice says nothing of a class that is absent: whether a map of it holds half a
  pixel or hundreds, it is 1.

  Args:
    logits: of a sigmoid for each class.
    masks: 0 or 1, empty where a class is absent.
    valid: False where an image is padding.
    weights: of the two terms.

  Returns:
    The loss, and its terms before weighting: `cross_entropy`, the mean over
    pixels and classes in nats, and `dice`, the mean over the classes that are
    there; both over the images that are valid.
  """
  logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 1)
  truth = masks.astype(jnp.float32)
  losses = optax.sigmoid_binary_cross_entropy(logits, truth).mean((1, 2, 3))
  dice = soft_dice(jax.nn.sigmoid(logits), truth)
  there = masks.any((-2, -1)) & valid[:, None]
  terms = {
    'cross_entropy': classification.masked_mean(losses, valid),
    'dice': classification.masked_mean(dice.ravel(), there.ravel()),
  }
  loss = weights[0] * terms['cross_entropy'] + weights[1] * terms['dice']
  return loss, terms
