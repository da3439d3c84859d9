"""A small U-Net: which pixels are of which object?

Ronneberger et al. 2015 (arXiv 1505.04597), padded so that the maps have the
image's size, with normalisation and far narrower: 0.9 million parameters by
default for the published 31. Objects may overlap, as lungs in a film do behind
the heart, so every class has a sigmoid of its own.

  import jax
  from medzoo.models import unet

  model = unet.UNet()
  images = jax.numpy.zeros((1, 256, 256, 1))
  variables = model.init(jax.random.key(0), images, train=False)
  logits = model.apply(variables, images, train=False)['logits']
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks

FACTS = models.Facts(
  task='outlines the right and the left lung in chest X-rays',
  input_shape=(256, 256, 1),
  weights='those that experiments/lung_maskrcnn.py trains; none are shipped',
)


class UNet(nn.Module):
  """Halves the image level by level and goes back up, with skips across.

  Attributes:
    widths: channels of the levels; each but the first halves the image.
    num_classes: maps of the result.
    norm: 'batch', 'frozen' or 'group', see `blocks.ConvNorm2D`.
    groups: of group normalisation; they divide every width.
    momentum: of batch normalisation's running averages.
    shrink: how many times smaller than the image the first level is, along
      either side; the maps are brought back to the image's size linearly.
  """

  widths: tuple[int, ...] = (16, 32, 64, 96, 128)
  num_classes: int = 2
  norm: str = 'batch'
  groups: int = 8
  momentum: float = 0.9
  shrink: int = 1

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b h w k']]:
    """Runs the network.

    Args:
      x: images in [0, 1], of sides that `shrink` times 2 to the number of
        halvings divides.
      train: whether batch normalisation uses the batch's own statistics.

    Returns:
      `logits` (b, h, w, num_classes), float32; for lungs the right one first.

    Raises:
      ValueError: the levels do not divide the image's sides.
    """
    stride = self.shrink * 2 ** (len(self.widths) - 1)
    if x.shape[1] % stride or x.shape[2] % stride:
      raise ValueError(
        f'image: found {x.shape[1]} x {x.shape[2]} pixels, expected sides that'
        f' {stride} divides'
      )
    shape = x.shape[1:3]
    if self.shrink > 1:
      # Pixels become channels, so that none is lost.
      x = _fold(x, self.shrink)
    skips = []
    for level, width in enumerate(self.widths):
      if level:
        x = blocks.max_pool_2d(x, 2, 2)
      x = self._pair(x, width, f'down{level}', train)
      skips.append(x)
    for level in reversed(range(len(self.widths) - 1)):
      width = self.widths[level]
      x = self._layer(x, width, 1, f'up{level}', train)
      x = x.repeat(2, 1).repeat(2, 2)
      x = jnp.concatenate([skips[level], x], -1)
      x = self._pair(x, width, f'merge{level}', train)
    logits = nn.Conv(self.num_classes, (1, 1), name='logits')(x)
    if self.shrink > 1:
      sizes = (len(x), *shape, self.num_classes)
      logits = jax.image.resize(logits, sizes, 'linear')
    return {'logits': logits.astype(jnp.float32)}

  def _pair(self, x: Array, width: int, name: str, train: bool) -> Array:
    for i in (1, 2):
      x = self._layer(x, width, 3, f'{name}_{i}', train)
    return x

  def _layer(
    self, x: Array, width: int, side: int, name: str, train: bool
  ) -> Array:
    layer = blocks.ConvNorm2D(
      width,
      side,
      norm=self.norm,
      groups=self.groups,
      momentum=self.momentum,
      name=name,
    )
    return nn.relu(layer(x, train=train))


def _fold(x: Float[Array, 'b h w c'], side: int) -> Float[Array, 'b h2 w2 d']:
  """Turns each square of pixels into one with all their channels."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // side, side, w // side, side, c)
  return x.swapaxes(2, 3).reshape(b, h // side, w // side, side * side * c)


Model = UNet
