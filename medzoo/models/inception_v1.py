"""GoogLeNet, or Inception-V1, as an encoder of images.

Szegedy et al. 2015 (arXiv 1409.4842) with batch normalisation, exactly as
torchvision's `googlenet` computes it, so that its weights load: the branch
that the paper gives a 5x5 window has a 3x3 one, and the poolings between the
stages keep an incomplete last window. Without the auxiliary classifiers.

  import jax
  from medzoo.models import inception_v1

  model = inception_v1.InceptionV1(width=0.25, last='4a')
  images = jax.numpy.zeros((4, 64, 64, 1))
  variables = model.init(jax.random.key(0), images, train=False)
  maps = model.apply(variables, images, train=False)
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks

FACTS = models.Facts(
  task='encodes images for a detector',
  input_shape=(224, 224, 3),
  weights="torchvision's googlenet",
)
SMALLEST = 15
# Torchvision's epsilon of batch normalisation, in this network only.
_EPSILON = 1e-3
# Channels of a block: 1x1; 3x3's reduction, 3x3; 5x5's reduction, 5x5; pool's.
_BLOCKS = {
  '3a': (64, 96, 128, 16, 32, 32),
  '3b': (128, 128, 192, 32, 96, 64),
  '4a': (192, 96, 208, 16, 48, 64),
  '4b': (160, 112, 224, 24, 64, 64),
  '4c': (128, 128, 256, 24, 64, 64),
  '4d': (112, 144, 288, 32, 64, 64),
  '4e': (256, 160, 320, 32, 128, 128),
  '5a': (256, 160, 320, 32, 128, 128),
  '5b': (384, 192, 384, 48, 128, 128),
}
# Side of the pooling that precedes a block.
_POOLS = {'4a': 3, '5a': 2}


class InceptionV1(nn.Module):
  """Encodes an image as maps of growing stride.

  Attributes:
    width: factor on all channels but the input's and the classes'.
    last: the block it ends with, '3a' to '5b'; `coarse` is its output, at
      stride 8 for 3, 16 for 4 and 32 for 5.
    num_classes: of the classifier; None leaves it out.
    dropout: share of the classifier's inputs dropped in training, which takes
      a key called `dropout`.
    momentum: of batch normalisation's running averages.
    dtype: the type computed in; parameters and outputs are float32.
  """

  width: float = 1.0
  last: str = '5b'
  num_classes: int | None = None
  dropout: float = 0.2
  momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b ...']]:
    """Runs the network.

    Args:
      x: images of at least SMALLEST pixels a side. Torchvision's weights want
        RGB in [0, 1], less 0.5, by 0.5.
      train: whether batch normalisation uses the batch's own statistics.

    Returns:
      Maps (b, h / stride, w / stride, channels), float32, by name: `conv1` at
      stride 2, `conv3` at 4, `inception3a` and on; `fine` is `inception3a` at
      stride 8 (256 channels; TF-slim calls it Mixed_3b), `coarse` the last
      block's (1,024; Mixed_5c). With a classifier also `logits`
      (b, num_classes). Where the stride does not divide a side, the 3x3
      poolings cut an odd row and the other layers round up.

    Raises:
      ValueError: the image is too small, or there is no block `last`.
    """
    if min(x.shape[1:3]) < SMALLEST:
      raise ValueError(
        f'an image of {x.shape[1:3]} pixels: expected {SMALLEST} a side'
      )
    if self.last not in _BLOCKS:
      raise ValueError(
        f'last: found {self.last!r}, expected one of {", ".join(_BLOCKS)}'
      )
    layer = functools.partial(
      blocks.ConvNorm2D,
      epsilon=_EPSILON,
      momentum=self.momentum,
      dtype=self.dtype,
    )

    def conv(x: Array, features: int, *sizes: int, name: str) -> Array:
      features = self._scale(features)
      return nn.relu(layer(features, *sizes, name=name)(x, train=train))

    maps = {'conv1': conv(x, 64, 7, 2, name='conv1')}
    x = conv(_pool(maps['conv1'], 3), 64, 1, name='conv2')
    x = maps['conv3'] = conv(x, 192, 3, name='conv3')
    x = _pool(x, 3)
    for block, channels in _BLOCKS.items():
      if block in _POOLS:
        x = _pool(x, _POOLS[block])
      x = Inception(
        tuple(self._scale(n) for n in channels),
        layer,
        name=f'inception{block}',
      )(x, train=train)
      maps[f'inception{block}'] = x
      if block == self.last:
        break
    maps |= {'fine': maps['inception3a'], 'coarse': x}
    if self.num_classes is not None:
      x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
      maps['logits'] = nn.Dense(
        self.num_classes, dtype=self.dtype, name='head'
      )(x)
    return {name: y.astype(jnp.float32) for name, y in maps.items()}

  def _scale(self, channels: int) -> int:
    return max(1, round(self.width * channels))


class Inception(nn.Module):
  """Four branches over the same map, side by side.

  Attributes:
    channels: of 1x1; 3x3's reduction, 3x3; "5x5"'s reduction, "5x5"; pool's.
    layer: makes a convolution with its normalisation.
  """

  channels: tuple[int, ...]
  layer: Callable[..., nn.Module]

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h w o']:
    """Returns the branches' channels, in their order."""

    def conv(x: Array, i: int, kernel_size: int, name: str) -> Array:
      layer = self.layer(self.channels[i], kernel_size, name=name)
      return nn.relu(layer(x, train=train))

    pooled = blocks.max_pool_2d(x, 3, 1, (1, 1))
    branches = (
      conv(x, 0, 1, 'branch1'),
      conv(conv(x, 1, 1, 'branch2_reduce'), 2, 3, 'branch2'),
      conv(conv(x, 3, 1, 'branch3_reduce'), 4, 3, 'branch3'),
      conv(pooled, 5, 1, 'branch4'),
    )
    return jnp.concatenate(branches, -1)


# What torchvision calls the parts of a path that have another name there.
_TORCH = {
  'branch2_reduce': 'branch2.0',
  'branch2': 'branch2.1',
  'branch3_reduce': 'branch3.0',
  'branch3': 'branch3.1',
  'branch4': 'branch4.1',
  'norm': 'bn',
  'head': 'fc',
}


def torch_name(module: tuple[str, ...]) -> str:
  """Returns torchvision's name of a layer.

  Args:
    module: its path here, ('inception3a', 'branch2', 'norm') say.
  """
  return '.'.join(_TORCH.get(part, part) for part in module)


def _pool(x: Float[Array, 'b h w c'], window: int) -> Float[Array, 'b h2 w2 c']:
  """Pools with stride 2 and an incomplete last window (torch's ceil_mode)."""
  return blocks.max_pool_2d(x, window, 2, (0, 1))


Model = InceptionV1
