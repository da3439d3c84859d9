"""Sampling of a few positives and negatives among many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def balanced(
  labels: Int[Array, ' n'], key: Array, size: int, positive_share: float
) -> tuple[Int[Array, ' size'], Bool[Array, ' size'], Bool[Array, ' size']]:
  """Draws examples without replacement, positives up to a share of them.

  As torchvision's BalancedPositiveNegativeSampler does: where positives are
  scarce, negatives take their places; where negatives are scarce, the sample
  stays smaller.

  Args:
    labels: 1 positive, 0 negative, -1 neither, never drawn.
    key: random key.
    size: of the sample.
    positive_share: in [0, 1]; `int(size * positive_share)` at most.

  Returns:
    Indices into labels, positives first, then negatives, then 0 for what could
    not be filled; whether each is a positive; whether each was drawn.
  """
  labels = jnp.pad(labels, (0, max(size - len(labels), 0)), constant_values=-1)
  chance = jax.random.uniform(key, labels.shape)
  most = int(size * positive_share)
  _, positives = jax.lax.top_k(jnp.where(labels == 1, chance, -1), most)
  _, negatives = jax.lax.top_k(jnp.where(labels == 0, chance, -1), size)
  num_positive = jnp.minimum((labels == 1).sum(), most)
  num_negative = jnp.minimum((labels == 0).sum(), size - num_positive)
  place = jnp.arange(size)
  is_positive = place < num_positive
  valid = place < num_positive + num_negative
  positives = jnp.pad(positives, (0, size - most))
  indices = jnp.where(is_positive, positives, negatives[place - num_positive])
  return jnp.where(valid, indices, 0).astype(jnp.int32), is_positive, valid
