"""The hybrid loss of false-positive reduction: class, place and size at once.

Dou et al. 2017 (arXiv 1708.03867): classification plus 0.5 times a smooth L1
on the place and size of positives, with convnet3d's normalisation.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medzoo.losses import classification

# Convnet3d divides the targets by this, so that they are of the order of 1.
_STD = 0.2


def encode(
  offset: Float[Array, '*b 3'],
  diameter: Float[Array, '*b'],
  patch: Sequence[float | int],
) -> Float[Array, '*b 4']:
  """Makes regression targets.

  Args:
    offset: lesion centre minus patch centre, (z, y, x), mm.
    diameter: of the lesion, mm; NaN or not positive where it is not known.
    patch: size of the patch along (z, y, x), mm.

  Returns:
    Targets for z, y, x and the diameter; the last is NaN where the diameter
    is not known.
  """
  size = jnp.asarray(patch, jnp.float32)
  place = offset.astype(jnp.float32) / (size / 2)
  diameter = jnp.where(diameter > 0, diameter, jnp.nan).astype(jnp.float32)
  scale = jnp.log(diameter / jnp.linalg.norm(size))
  return jnp.concatenate([place, scale[..., None]], -1) / _STD


@functools.partial(jax.jit, static_argnames='patch')
def decode(
  targets: Float[Array, '*b 4'], patch: tuple[float | int, ...]
) -> tuple[Float[Array, '*b 3'], Float[Array, '*b']]:
  """Turns targets back into millimetres; the inverse of `encode`.

  Returns:
    The offset of the lesion's centre from the patch's, (z, y, x), and the
    lesion's diameter, both in mm.
  """
  size = jnp.asarray(patch, jnp.float32)
  scaled = targets.astype(jnp.float32) * _STD
  diameter = jnp.exp(scaled[..., 3]) * jnp.linalg.norm(size)
  return scaled[..., :3] * (size / 2), diameter


def smooth_l1(difference: Float[Array, '*b']) -> Float[Array, '*b']:
  """Returns x^2 / 2 for |x| < 1 and |x| - 1/2 beyond (sigma 1)."""
  size = jnp.abs(difference)
  return jnp.where(size < 1, 0.5 * size**2, size - 0.5)


def regression_loss(
  regression: Float[Array, 'b 4'],
  targets: Float[Array, 'b 4'],
  positive: Bool[Array, ' b'],
) -> Float[Array, '']:
  """Returns the smooth L1, summed over 4 values, per positive.

  Targets that are NaN take no part. The sum is divided by the number of
  positives, at least 1.
  """
  known = positive[:, None] & ~jnp.isnan(targets)
  # Inside as well as outside: the gradient of an unchosen NaN is NaN too.
  difference = jnp.where(known, regression - jnp.where(known, targets, 0), 0)
  total = smooth_l1(difference.astype(jnp.float32)).sum()
  return total / jnp.maximum(positive.sum(), 1)


def hybrid_loss(
  outputs: dict[str, Array],
  labels: Int[Array, ' b'],
  targets: Float[Array, 'b 4'],
  valid: Bool[Array, ' b'],
  *,
  regression_weight: float = 0.5,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """Joins the losses of class and of place and size.

  Args:
    outputs: `logits` (b, classes) and, in the hybrid form, `regression`
      (b, 4).
    labels: class ids, 0 background.
    targets: what `encode` gives; read for positives only.
    valid: False where the batch is padding.
    regression_weight: of the regression's term.

  Returns:
    The loss, and its named terms before weighting.
  """
  losses = classification.cross_entropy(outputs['logits'], labels)
  terms = {'classification': classification.masked_mean(losses, valid)}
  loss = terms['classification']
  if 'regression' in outputs:
    terms['regression'] = regression_loss(
      outputs['regression'], targets, (labels > 0) & valid
    )
    loss += regression_weight * terms['regression']
  return loss, terms
