"""A feature pyramid: strong features at every stride of an encoder.

Lin et al. 2017, Feature Pyramid Networks (arXiv 1612.03144), as torchvision
computes it.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo.models import blocks

# The encoder's maps that the pyramid stands on.
_LEVELS = (2, 3, 4, 5)


class FPN(nn.Module):
  """Adds to each map of an encoder what the coarser ones saw.

  Attributes:
    channels: of every level.
    norm: of its convolutions, '' for none or 'group'.
    groups: of group normalisation; they divide the channels.
    dtype: the type computed in; parameters and outputs are float32.
  """

  channels: int = 256
  norm: str = ''
  groups: int = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, maps: dict[str, Float[Array, 'b _ _ _']]
  ) -> dict[str, Float[Array, 'b _ _ {self.channels}']]:
    """Returns the levels of the pyramid.

    Args:
      maps: an encoder's `c2` to `c5`, each of half the one before, rounded up.

    Returns:
      `p2` to `p5`, of their maps' sizes, and `p6`, every second place of `p5`.
    """
    layer = functools.partial(
      blocks.ConvNorm2D,
      self.channels,
      norm=self.norm,
      groups=self.groups,
      dtype=self.dtype,
    )
    levels = {}
    above = None
    for i in reversed(_LEVELS):
      inner = layer(1, name=f'inner{i}')(maps[f'c{i}'], train=False)
      if above is not None:
        inner += _double(above, inner.shape[1:3])
      levels[f'p{i}'] = layer(3, name=f'layer{i}')(inner, train=False)
      above = inner
    levels['p6'] = levels['p5'][:, ::2, ::2]
    return {name: levels[name].astype(jnp.float32) for name in sorted(levels)}


def _double(
  x: Float[Array, 'b h w c'], shape: tuple[int, int]
) -> Float[Array, 'b h2 w2 c']:
  """Repeats every pixel twice along y and x, cut to a shape."""
  return x.repeat(2, 1).repeat(2, 2)[:, : shape[0], : shape[1]]
