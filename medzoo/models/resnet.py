"""ResNet as an encoder of images, from 18 layers to 152.

He et al. 2015 (arXiv 1512.03385) as torchvision and timm compute it, so that
their weights load: the stride of a bottleneck is in its 3x3 convolution
(called v1.5), and padding is symmetric. With `style='keras'` as Matterport's
Mask R-CNN computes it, of 50 or 101 layers (github.com/matterport/Mask_RCNN),
and Keras's first ResNet-50 but for the last row and column of the stem's pool,
which that leaves out (github.com/fchollet/deep-learning-models).

  import jax
  from medzoo.models import resnet

  model = resnet.ResNet(depth=18, width=16, norm='group', groups=8)
  images = jax.numpy.zeros((4, 64, 64, 1))
  variables = model.init(jax.random.key(0), images, train=False)
  maps = model.apply(variables, images, train=False)
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks
from medzoo.models import keras_layers

FACTS = models.Facts(
  task='encodes images for a detector',
  input_shape=(224, 224, 3),
  weights="torchvision's and timm's resnet18 to resnet152, Keras's resnet50",
)
# Units of c2 to c5.
_UNITS = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}


class ResNet(nn.Module):
  """Encodes an image as maps at strides 4, 8, 16 and 32.

  Attributes:
    depth: 18, 34, 50, 101 or 152 layers; from 50 on units are bottlenecks.
    width: channels of the stem; published 64.
    norm: 'batch', 'frozen' or 'group', see `blocks.ConvNorm2D`.
    groups: of group normalisation; they divide the width.
    num_classes: of the classifier; None leaves it out.
    epsilon: added to the variance.
    momentum: of batch normalisation's running averages.
    style: 'torch'; or 'keras', where the stride of a bottleneck is in its
      first 1x1 convolution, as first published, and the stem's pool is padded
      as TensorFlow pads. Keras's weights want an `epsilon` of 1e-3 too.
    dtype: the type computed in; parameters and outputs are float32.
  """

  depth: int = 50
  width: int = 64
  norm: str = 'batch'
  groups: int = 32
  num_classes: int | None = None
  epsilon: float = 1e-5
  momentum: float = 0.9
  style: str = 'torch'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b ...']]:
    """Runs the network.

    Args:
      x: images. Torchvision's weights want RGB in [0, 1], less (0.485, 0.456,
        0.406), by (0.229, 0.224, 0.225). Keras's want 0 to 255, not divided:
        its own BGR less (103.939, 116.779, 123.68), Matterport's RGB less
        (123.7, 116.8, 103.9).
      train: whether batch normalisation uses the batch's own statistics; a
        frozen one never does.

    Returns:
      `c2` to `c5`, (b, h / stride, w / stride, channels) at strides 4, 8, 16
      and 32, sides rounded up, float32. Channels are the width times 1, 2, 4
      and 8, and four times that with bottlenecks. With a classifier also
      `logits` (b, num_classes).

    Raises:
      ValueError: there is no such depth, norm or style.
    """
    if self.depth not in _UNITS:
      raise ValueError(
        f'depth: found {self.depth}, expected one of '
        f'{", ".join(map(str, _UNITS))}'
      )
    if self.style not in ('torch', 'keras'):
      raise ValueError(f'style: found {self.style!r}, expected torch or keras')
    keras = self.style == 'keras'
    layer = functools.partial(
      blocks.ConvNorm2D,
      norm=self.norm,
      groups=self.groups,
      epsilon=self.epsilon,
      momentum=self.momentum,
      dtype=self.dtype,
    )
    x = nn.relu(layer(self.width, 7, 2, name='c1')(x, train=train))
    x = blocks.max_pool_2d(x, 3, 2, 'SAME' if keras else (1, 1))
    maps = {}
    for i, units in enumerate(_UNITS[self.depth]):
      x = Stage(
        units,
        self.width * 2**i,
        2 if i else 1,
        self.depth >= 50,
        layer,
        keras,
        name=f'c{i + 2}',
      )(x, train=train)
      maps[f'c{i + 2}'] = x
    if self.num_classes is not None:
      maps['logits'] = nn.Dense(
        self.num_classes, dtype=self.dtype, name='head'
      )(x.mean((1, 2)))
    return {name: y.astype(jnp.float32) for name, y in maps.items()}


class Stage(nn.Module):
  """Units one after the other, the first of which takes the stride."""

  units: int
  features: int
  stride: int
  bottleneck: bool
  layer: Callable[..., nn.Module]
  stride_first: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the last unit's map."""
    for i in range(self.units):
      x = Unit(
        self.features,
        1 if i else self.stride,
        self.bottleneck,
        self.layer,
        self.stride_first,
        name=f'unit{i}',
      )(x, train=train)
    return x


class Unit(nn.Module):
  """A residual unit of two 3x3 convolutions, or 1x1, 3x3 and 1x1.

  Attributes:
    features: channels out, or a quarter of them with a bottleneck.
    stride: of the 3x3 convolution, the first where there are two.
    bottleneck: which of the two forms.
    layer: makes a convolution with its normalisation.
    stride_first: whether a bottleneck's stride is in its first convolution.
  """

  features: int
  stride: int
  bottleneck: bool
  layer: Callable[..., nn.Module]
  stride_first: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the rectified sum of x and its residual."""
    n, step = self.features, self.stride
    layers = ((n, 3, step), (n, 3, 1))
    if self.bottleneck:
      first, second = (step, 1) if self.stride_first else (1, step)
      layers = ((n, 1, first), (n, 3, second), (4 * n, 1, 1))
    y = x
    for i, sizes in enumerate(layers, 1):
      y = self.layer(*sizes, name=f'conv{i}')(y, train=train)
      if i < len(layers):
        y = nn.relu(y)
    if step > 1 or x.shape[-1] != y.shape[-1]:
      x = self.layer(y.shape[-1], 1, step, name='shortcut')(x, train=train)
    return nn.relu(x + y)


def torch_name(module: tuple[str, ...]) -> str:
  """Returns torchvision's name of a layer, which is timm's too.

  Args:
    module: its path here, ('c2', 'unit0', 'conv1', 'norm') say.
  """
  match module:
    case ('head',):
      return 'fc'
    case ('c1', kind):
      return 'conv1' if kind == 'conv' else 'bn1'
    case (stage, unit, layer, kind):
      if layer == 'shortcut':
        layer = 'downsample.0' if kind == 'conv' else 'downsample.1'
      elif kind == 'norm':
        layer = layer.replace('conv', 'bn')
      return f'layer{int(stage[1:]) - 1}.{unit.removeprefix("unit")}.{layer}'
  raise ValueError(f'no layer {"/".join(module)} in a ResNet')


_KERAS_LAYER = re.compile(r'res([2-5])([a-z])_branch(1|2[abc])')
_KERAS_BRANCHES = {
  '1': ('downsample.0', 'downsample.1'),
  '2a': ('conv1', 'bn1'),
  '2b': ('conv2', 'bn2'),
  '2c': ('conv3', 'bn3'),
}


def keras_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Names and arranges the arrays of Keras's ResNet as torch would.

  Args:
    arrays: as `weights.keras_files.read` gives them, of Keras's first
      ResNet-50 (`resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5`, whose
      layers are called `res2a_branch2a`) or of another with these names.

  Returns:
    Arrays by torch's names, for `weights.naming.fill`; what is not a ResNet's
    stays under its own.

  Raises:
    ValueError: a layer lacks an array, or its arrays do not fit each other.
  """
  layers = keras_layers.by_layer(arrays)
  return take_keras(layers) | keras_layers.rest(layers)


def take_keras(layers: keras_layers.Layers) -> dict[str, np.ndarray]:
  """Takes a ResNet out of a file's layers; see `keras_tensors`."""
  tensors = {}
  for conv in list(layers):
    names = _keras_names(conv)
    if names:
      norm, *torch = names
      both = keras_layers.take_both(layers, conv, norm)
      tensors |= keras_layers.both_as_torch(*torch, *both)
  if 'fc1000' in layers:
    head = keras_layers.take_conv(layers, 'fc1000')
    tensors |= keras_layers.as_torch('fc', head)
  return tensors


def _keras_names(conv: str) -> tuple[str, str, str] | None:
  """Returns the normalisation's name, and torch's names of the two."""
  if conv == 'conv1':
    return 'bn_conv1', 'conv1', 'bn1'
  found = _KERAS_LAYER.fullmatch(conv)
  if not found:
    return None
  stage, unit, branch = found.groups()
  place = f'layer{int(stage) - 1}.{ord(unit) - ord("a")}'
  first, second = _KERAS_BRANCHES[branch]
  return conv.replace('res', 'bn'), f'{place}.{first}', f'{place}.{second}'


Model = ResNet
