"""VGG16: thirteen 3x3 convolutions in five blocks, then three dense layers.

Configuration D of Simonyan & Zisserman 2014 (arXiv 1409.1556). Pictures are
RGB in [0, 1] for every style: what the weights of a framework expect instead
is the first thing that the network does, so that no caller can mix them up.

  import jax
  from medzoo.models import vgg16

  model = vgg16.VGG16(width=16)
  pictures = jax.numpy.zeros((4, 96, 128, 3))
  variables = model.init(jax.random.key(0), pictures, train=False)
  codes = model.apply(variables, pictures, train=False)['pool5']
"""

import functools
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
  task='encodes pictures, or classifies them',
  input_shape=(224, 224, 3),
  weights="torchvision's vgg16 and vgg16_bn, timm's vgg16, Keras's vgg16",
)
SMALLEST = 32
# Convolutions of the blocks 1 to 5, and their channels by the width.
_COUNTS = (2, 2, 3, 3, 3)
_FACTORS = (1, 2, 4, 8, 8)
# Each pooling, and the convolution whose output it takes.
POOLED = {f'pool{i}': f'block{i}_conv{n}' for i, n in enumerate(_COUNTS, 1)}
# ImageNet's mean and deviation of RGB in [0, 1], as torchvision has them.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
# The same mean of BGR in [0, 255], as Caffe had it and Keras has it since.
_BGR_MEAN = (103.939, 116.779, 123.68)
# The side of what torchvision's first dense layer is given.
_SIDE = 7


class VGG16(nn.Module):
  """Encodes a picture as maps at strides 1 to 32, and classifies it if wanted.

  Kernels start from He's normal distribution (arXiv 1502.01852), which keeps
  the size of the activations through all thirteen layers, where the paper had
  to train a shallower network first. That holds for inputs of about unit size,
  so to train from scratch take style 'plain' or 'standard', and norm 'batch':
  without it hundreds of steps may pass before the loss moves at all.

  Attributes:
    width: channels of the first block; published 64.
    num_classes: of the classifier; None leaves it out.
    units: of the classifier's two hidden layers.
    dropout: share of their outputs dropped in training, which takes a key
      called `dropout`.
    style: whose weights it is for, see `preprocess`. The first dense layer is
      given the last map: with 'torch' averaged to 7 x 7, so that pictures of
      any size do, else as it is, so that it depends on the pictures' size.
    norm: '' for none, as published; 'batch', 'frozen' or 'group' puts a
      normalisation behind every convolution, see `blocks.ConvNorm2D`.
    groups: of group normalisation; they divide the width.
    epsilon: added to the variance.
    momentum: of batch normalisation's running averages.
    dtype: the type computed in; parameters and outputs are float32.
  """

  width: int = 64
  num_classes: int | None = None
  units: int = 4096
  dropout: float = 0.5
  style: str = 'plain'
  norm: str = ''
  groups: int = 32
  epsilon: float = 1e-5
  momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b ...']]:
    """Runs the network.

    Args:
      x: RGB pictures in [0, 1] of at least SMALLEST pixels a side, or grey
        ones of one channel.
      train: whether to drop, and whether batch normalisation uses the batch's
        own statistics; a frozen one never does.

    Returns:
      Maps (b, h / stride, w / stride, channels), sides rounded down, float32,
      `block1_conv1`, `block1_conv2`, `pool1` and on to `block5_conv3` and
      `pool5`; those of convolutions are rectified and, in
      block n, at stride 2 ** (n - 1), those of poolings at 2 ** n. With a
      classifier also `logits` (b, num_classes).

    Raises:
      ValueError: the picture is too small or has other channels, or there is
        no such style or norm.
    """
    if min(x.shape[1:3]) < SMALLEST:
      raise ValueError(
        f'a picture of {x.shape[1:3]} pixels: expected {SMALLEST} a side'
      )
    x = preprocess(x, self.style)
    layer = functools.partial(
      blocks.ConvNorm2D,
      norm=self.norm,
      groups=self.groups,
      epsilon=self.epsilon,
      momentum=self.momentum,
      dtype=self.dtype,
    )
    outputs = {}
    for i, (count, factor) in enumerate(
      zip(_COUNTS, _FACTORS, strict=True), start=1
    ):
      block = Block(factor * self.width, count, layer, name=f'block{i}')
      maps = block(x, train=train)
      outputs |= {f'block{i}_{name}': y for name, y in maps.items()}
      x = outputs[f'pool{i}'] = blocks.max_pool_2d(maps[f'conv{count}'], 2, 2)
    if self.num_classes is not None:
      outputs['logits'] = self._classify(x, train)
    return {name: y.astype(jnp.float32) for name, y in outputs.items()}

  def _classify(self, x: Array, train: bool) -> Array:
    if self.style == 'torch':
      x = average_pool(x, _SIDE)
    x = x.reshape(len(x), -1)
    for name in ('fc1', 'fc2'):
      layer = nn.Dense(
        self.units,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=name,
      )
      x = nn.relu(layer(x))
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_classes, dtype=self.dtype, name='predictions')(x)


class Block(nn.Module):
  """Convolutions of one width, `conv1` and on.

  Attributes:
    features: channels out.
    count: of convolutions.
    layer: makes a convolution with its normalisation.
  """

  features: int
  count: int
  layer: Callable[..., nn.Module]

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b h w o']]:
    """Returns the rectified output of each convolution by its name."""
    maps = {}
    for i in range(1, self.count + 1):
      layer = self.layer(self.features, 3, name=f'conv{i}')
      x = maps[f'conv{i}'] = nn.relu(layer(x, train=train))
    return maps


def preprocess(
  x: Float[Array, 'b h w c'], style: str
) -> Float[Array, 'b h w 3']:
  """Turns pictures into what the weights of a framework expect.

  Args:
    x: RGB in [0, 1], or grey, which is repeated.
    style: 'keras' for BGR in [0, 255] less ImageNet's mean; 'torch' for RGB
      less ImageNet's mean, by its deviation, of torchvision and timm; where no
      weights are loaded 'plain' for RGB in [-1, 1], or 'standard' for what
      `blocks.standardize` makes of it.

  Raises:
    ValueError: there are neither 1 nor 3 channels, or there is no such style.
  """
  if x.shape[-1] not in (1, 3):
    raise ValueError(f'a picture of {x.shape[-1]} channels: expected 1 or 3')
  x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
  if style == 'keras':
    return 255 * x[..., ::-1] - jnp.array(_BGR_MEAN, x.dtype)
  if style == 'torch':
    return (x - jnp.array(_MEAN, x.dtype)) / jnp.array(_DEVIATION, x.dtype)
  if style == 'plain':
    return 2 * x - 1
  if style == 'standard':
    return blocks.standardize(x)
  raise ValueError(
    f'style: found {style!r}, expected plain, standard, keras or torch'
  )


def average_pool(
  x: Float[Array, 'b h w c'], side: int
) -> Float[Array, 'b side side c']:
  """Averages maps of any size to a square, as torch's AdaptiveAvgPool2d.

  Of h rows the i-th average takes those from floor(i h / side) to
  ceil((i + 1) h / side); they overlap, or repeat, where side does not divide.
  """
  rows, columns = (_averages(size, side) for size in x.shape[1:3])
  return jnp.einsum(
    'bhwc,ih,jw->bijc', x, rows.astype(x.dtype), columns.astype(x.dtype)
  )


def _averages(size: int, side: int) -> np.ndarray:
  """Returns the weights (side, size) of each average."""
  i, places = np.arange(side)[:, None], np.arange(size)
  inside = (places >= i * size // side) & (places < -(-(i + 1) * size // side))
  return inside / inside.sum(1, keepdims=True)


def _places(step: int) -> dict[tuple[str, str], int]:
  """Returns torchvision's number of each convolution, `step` layers apart."""
  places, place = {}, 0
  for i, count in enumerate(_COUNTS, 1):
    for j in range(1, count + 1):
      places[f'block{i}', f'conv{j}'] = place
      place += step
    place += 1  # The pooling.
  return places


_PLACES = _places(2)
_DENSE = {
  'fc1': 'classifier.0',
  'fc2': 'classifier.3',
  'predictions': 'classifier.6',
}
_TIMM = {
  'pre_logits.fc1': 'classifier.0',
  'pre_logits.fc2': 'classifier.3',
  'head.fc': 'classifier.6',
}


def torch_name(module: tuple[str, ...]) -> str:
  """Returns torchvision's name of a layer in its vgg16.

  A normalisation, which that has not, is given the rectifier's number.

  Args:
    module: its path here, ('block1', 'conv1', 'conv') say.

  Raises:
    ValueError: there is no such layer.
  """
  match module:
    case (block, conv, 'conv' | 'norm' as kind) if (block, conv) in _PLACES:
      return f'features.{_PLACES[block, conv] + (kind == "norm")}'
    case (name,) if name in _DENSE:
      return _DENSE[name]
  raise ValueError(f'no layer {"/".join(module)} in a VGG16')


def torch_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Names and arranges the tensors of a file as `torch_name` has them.

  Args:
    arrays: as `weights.torch_files.read` gives them, of torchvision's or
      timm's vgg16 or vgg16_bn.

  Returns:
    Tensors by the names of torchvision's vgg16; what is not a VGG16's stays
    under its own. The first dense layer is for a map whose channels are last.
  """
  tensors = {}
  for name, x in arrays.items():
    layer, _, leaf = name.rpartition('.')
    layer = _TIMM.get(layer, layer)
    if leaf == 'weight' and layer in _DENSE.values():
      x = _dense(x, layer == _DENSE['fc1'])
    tensors[f'{layer}.{leaf}'] = x
  normed = any(name.endswith('.running_mean') for name in tensors)
  return _without_biases(tensors) if normed else tensors


def _dense(x: np.ndarray, first: bool) -> np.ndarray:
  """Returns a dense layer's (out, in) weights, channels last."""
  if first and x.ndim == 2 and x.shape[1] % _SIDE**2 == 0:
    x = x.reshape(len(x), -1, _SIDE, _SIDE)
  # Timm's dense layers are convolutions.
  return np.moveaxis(x, 1, -1).reshape(len(x), -1) if x.ndim == 4 else x


def _without_biases(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Turns vgg16_bn's layers into vgg16's, each convolution without its bias.

  Normalisation takes the running mean off again, so the bias goes into that.
  """
  names = {}
  for key, place in _places(3).items():
    for i in (0, 1):
      names[f'features.{place + i}'] = f'features.{_PLACES[key] + i}'
  found = {}
  for name, x in tensors.items():
    layer, _, leaf = name.rpartition('.')
    if layer.startswith('features.'):
      layer = names.get(layer, f'{layer} of vgg16_bn')
    found[f'{layer}.{leaf}'] = x
  for place in _PLACES.values():
    bias, mean = f'features.{place}.bias', f'features.{place + 1}.running_mean'
    if bias in found and mean in found:
      found[mean] = found[mean] - found.pop(bias)
  return found


_KERAS = {
  f'{block}_{conv}': f'features.{place}'
  for (block, conv), place in _PLACES.items()
} | _DENSE


def keras_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Names and arranges the arrays of Keras's VGG16 as torch would.

  Args:
    arrays: as `weights.keras_files.read` gives them, of Keras's VGG16
      (`vgg16_weights_tf_dim_ordering_tf_kernels.h5`, with top or without).

  Returns:
    Arrays by torch's names, for `weights.naming.fill`; what is not a VGG16's
    stays under its own.

  Raises:
    ValueError: a layer lacks an array, or has another.
  """
  layers = keras_layers.by_layer(arrays)
  tensors = {}
  for name in _KERAS.keys() & layers:
    layer = keras_layers.take_conv(layers, name)
    tensors |= keras_layers.as_torch(_KERAS[name], layer)
  return tensors | keras_layers.rest(layers)


Model = VGG16
