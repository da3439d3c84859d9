"""A small encoder to train from scratch, for small images and phantoms.

Each level halves the image: a 3x3 convolution with stride 2, then one with
stride 1, both with batch normalisation and a rectifier. What it is for, and
how large it is, its widths say: (16, 32, 64, 128) is 294 thousand parameters
for a coarse map at stride 16, the default 14.4 million for one at stride 32.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from medzoo import models

FACTS = models.Facts(
  task='reads an image for a detector, trained from scratch',
  input_shape=(256, 352, 3),
  weights='none',
)


class SmallEncoder(nn.Module):
  """Maps an image to a coarse and a fine map of features.

  Attributes:
    widths: channels of the levels; there are log2(coarse_stride) of them.
    coarse_stride: pixels a cell of `coarse`, a power of 2.
    fine_stride: pixels a cell of `fine`, a power of 2 up to the coarse one.
    momentum: of batch normalisation's running averages.
  """

  widths: tuple[int, ...] = (32, 64, 256, 512, 832)
  coarse_stride: int = 32
  fine_stride: int = 8
  momentum: float = 0.9

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b _ _ _']]:
    """Runs the encoder.

    Args:
      x: an image in [0, 1], of sides that the coarse stride divides.
      train: whether batch normalisation uses the batch's own statistics.

    Returns:
      `coarse` and `fine`, at their strides, channels last.

    Raises:
      ValueError: the widths do not fit the strides.
    """
    strides = [2**i for i in range(1, len(self.widths) + 1)]
    if strides[-1:] != [self.coarse_stride] or self.fine_stride not in strides:
      raise ValueError(
        f'{len(self.widths)} widths give strides {strides}, which must end '
        f'with {self.coarse_stride} and hold {self.fine_stride}'
      )
    maps = {}
    for stride, width in zip(strides, self.widths, strict=True):
      x = self._layer(x, width, 2, f'down{stride}', train)
      x = self._layer(x, width, 1, f'conv{stride}', train)
      maps[stride] = x
    return {'coarse': x, 'fine': maps[self.fine_stride]}

  def _layer(
    self, x: Array, width: int, stride: int, name: str, train: bool
  ) -> Array:
    x = nn.Conv(width, (3, 3), stride, use_bias=False, name=name)(x)
    norm = nn.BatchNorm(
      momentum=self.momentum, epsilon=1e-3, name=f'{name}_norm'
    )
    return nn.relu(norm(x, use_running_average=not train))


Model = SmallEncoder
