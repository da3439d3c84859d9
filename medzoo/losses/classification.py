"""Losses of classes, and the sampling of hard examples."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
  logits: Float[Array, '*b classes'], labels: Int[Array, '*b']
) -> Float[Array, '*b']:
  """Returns the cross-entropy of each example, in nats, float32."""
  return optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), labels
  )


def log_odds(logits: Float[Array, '*b outputs']) -> Float[Array, '*b']:
  """Returns the log-odds of class 1 rather than class 0, float32.

  Args:
    logits: of one output, which they are already, or of two classes.

  Raises:
    ValueError: there are more outputs.
  """
  logits = logits.astype(jnp.float32)
  if logits.shape[-1] == 1:
    return logits[..., 0]
  if logits.shape[-1] == 2:
    return logits[..., 1] - logits[..., 0]
  raise ValueError(f'found {logits.shape[-1]} outputs, expected 1 or 2')


def scores(logits: Float[Array, 'b outputs']) -> Float[Array, 'b ...']:
  """Returns what tells the classes of pictures apart, float32.

  Of one or two outputs these are the `log_odds`, (b,), of more the logits
  themselves, (b, classes). The functions below take either.
  """
  if logits.shape[-1] <= 2:
    return log_odds(logits)
  return logits.astype(jnp.float32)


def smoothed_cross_entropy(
  scores: Float[Array, 'b ...'],
  labels: Int[Array, ' b'],
  smoothing: float = 0.0,
) -> Float[Array, ' b']:
  """Returns the cross-entropy of each picture, in nats.

  Args:
    scores: see `scores`.
    labels: the classes, from 0.
    smoothing: the share of a label's certainty that is spread evenly over all
      classes (Szegedy et al. 2016).
  """
  if scores.ndim == 1:
    sure = labels.astype(jnp.float32)
    targets = sure + smoothing * (0.5 - sure)
    return optax.sigmoid_binary_cross_entropy(scores, targets)
  targets = jax.nn.one_hot(labels, scores.shape[-1])
  targets += smoothing * (1 / scores.shape[-1] - targets)
  return optax.softmax_cross_entropy(scores, targets)


def called(scores: Float[Array, 'b ...']) -> Int[Array, ' b']:
  """Returns the class of the highest probability; of two equal ones 1."""
  if scores.ndim == 1:
    return (scores >= 0).astype(jnp.int32)
  return scores.argmax(axis=-1)


def evidence(
  scores: Float[Array, 'b ...'], classes: Int[Array, ' b'] | None
) -> Float[Array, ' b']:
  """Returns the log-odds of a class against all others.

  Args:
    scores: see `scores`.
    classes: which class, of three or more; not looked at where there are two,
      of which it is always class 1.
  """
  if scores.ndim == 1:
    return scores
  chosen = jax.nn.one_hot(classes, scores.shape[-1], dtype=bool)
  others = jnp.where(chosen, -jnp.inf, scores)
  own = jnp.where(chosen, scores, 0).sum(axis=-1)
  return own - jax.nn.logsumexp(others, axis=-1)


def masked_mean(
  values: Float[Array, ' b'], weights: Float[Array, ' b'] | Bool[Array, ' b']
) -> Float[Array, '']:
  """Returns the weighted mean; 0 where all weights are 0.

  What has weight 0 has no influence, not even if it is not finite.
  """
  weights = weights.astype(jnp.float32)
  kept = jnp.where(weights > 0, values, 0)
  return (kept * weights).sum() / jnp.maximum(weights.sum(), 1)


def online_sample_filtering(
  losses: Float[Array, ' b'],
  valid: Bool[Array, ' b'],
  key: Array,
  *,
  hard: float = 0.5,
  easy_kept: float = 0.5,
) -> Float[Array, ' b']:
  """Chooses the examples that a step learns from (Dou et al. 2017).

  Keeps the hard examples of a batch, those of largest loss, and a random
  share of the others. Numbers kept are rounded up, so a single example is
  always kept. No gradient flows through the choice.

  Args:
    losses: of the examples.
    valid: False where the batch is padding; such are never kept.
    key: random key, a new one each step.
    hard: share of the valid examples that count as hard.
    easy_kept: share of the remaining ones that is kept.

  Returns:
    Weights, 1 kept and 0 dropped; the loss is `masked_mean(losses, weights)`.
  """
  losses = jax.lax.stop_gradient(losses)
  count = valid.sum()
  num_hard = jnp.ceil(count * hard)
  num_easy = jnp.ceil((count - num_hard) * easy_kept)
  is_hard = (_rank(-losses, valid) < num_hard) & valid
  is_easy = valid & ~is_hard
  chance = jax.random.uniform(key, losses.shape)
  kept = (_rank(chance, is_easy) < num_easy) & is_easy
  return (is_hard | kept).astype(jnp.float32)


def _rank(
  values: Float[Array, ' b'], among: Bool[Array, ' b']
) -> Int[Array, ' b']:
  """Returns each value's place in rising order, those not `among` last."""
  order = jnp.argsort(jnp.where(among, values, jnp.inf))
  return jnp.argsort(order)
