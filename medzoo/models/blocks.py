"""Layers that several models share."""

import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medzoo.ops import conv

# Batch normalisation's epsilon in convnet3d, Keras's default.
_EPSILON = 1e-3
# Of a picture in [0, 1] that is not flat.
_LEAST_DEVIATION = 0.05


class Conv3D(nn.Module):
  """A 3D convolution with bias.

  Kernels start from He's normal distribution: convnet3d's N(0, 0.01) makes
  the first layer's outputs so small (their variance is about that of batch
  normalisation's epsilon) that part of the normalisation is lost.

  Attributes:
    features: channels out.
    kernel_size: window over (z, y, x).
    strides: steps along (z, y, x).
    padding: 'VALID' or 'SAME'.
    dtype: the type computed in; parameters are float32.
  """

  features: int
  kernel_size: tuple[int, int, int]
  strides: tuple[int, int, int] = (1, 1, 1)
  padding: Literal['VALID', 'SAME'] = 'VALID'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d h w c']
  ) -> Float[Array, 'b d2 h2 w2 o']:
    """Returns the convolution plus the bias, in `dtype`."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', _he_normal, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return conv.conv3d(x, kernel, self.strides, self.padding) + bias


def _he_normal(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Array:
  """Draws a kernel from He's normal distribution.

  The draw is flat because XLA takes five times longer to compile one of five
  axes, a second for each kernel.
  """
  scale = math.sqrt(2 / math.prod(shape[:-1]))
  flat = jax.random.normal(key, (math.prod(shape),), dtype)
  return scale * flat.reshape(shape)


class ConvNorm(nn.Module):
  """A 3D convolution and batch normalisation, without activation.

  Both lie under one name, so a stage that copies module `c1` of another
  copies the running averages too.
  """

  features: int
  kernel_size: tuple[int, int, int]
  momentum: float = 0.99
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d h w c'], *, train: bool
  ) -> Float[Array, 'b d2 h2 w2 o']:
    """Returns the normalised convolution."""
    x = Conv3D(self.features, self.kernel_size, dtype=self.dtype, name='conv')(
      x
    )
    return batch_norm(self.momentum, self.dtype, 'norm')(
      x, use_running_average=not train
    )


class ResidualUnit(nn.Module):
  """A pre-activation residual unit of two 3x3x3 convolutions.

  He et al. 2016, Identity Mappings in Deep Residual Networks, figure 4e.
  """

  momentum: float = 0.99
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d h w c'], *, train: bool
  ) -> Float[Array, 'b d h w c']:
    """Returns x plus its residual, of the same shape."""
    y = x
    for i in (1, 2):
      y = batch_norm(self.momentum, self.dtype, f'norm{i}')(
        y, use_running_average=not train
      )
      y = Conv3D(
        x.shape[-1],
        (3, 3, 3),
        padding='SAME',
        dtype=self.dtype,
        name=f'conv{i}',
      )(nn.relu(y))
    return x + y


def batch_norm(momentum: float, dtype: Any, name: str | None) -> nn.BatchNorm:
  """Returns batch normalisation as convnet3d has it.

  Statistics and the normalisation itself are computed in float32 whatever
  `dtype` is; over several devices the statistics are the global batch's.
  """
  return nn.BatchNorm(
    momentum=momentum, epsilon=_EPSILON, dtype=dtype, name=name
  )


def standardize(x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
  """Brings each channel of each picture to mean 0 and deviation 1.

  How bright a picture is as a whole, and of which hue, then says nothing. To
  the variance 0.05 squared is added, so that pictures in [0, 1] which are
  nearly flat stay so.
  """
  variance = x.var((1, 2), keepdims=True)
  centred = x - x.mean((1, 2), keepdims=True)
  return centred * jax.lax.rsqrt(variance + _LEAST_DEVIATION**2)


def max_pool_in_plane(
  x: Float[Array, 'b d h w c'],
) -> Float[Array, 'b d h2 w2 c']:
  """Takes the largest of each 1x2x2 window; an odd last row or column is cut.

  The largest of pairs of pairs, as the gradient of that is tens of times
  faster on a CPU than that of a window's reduction. Equal largest values
  share the gradient evenly, which is a subgradient as good as any.
  """
  b, d, h, w, c = x.shape
  x = x[:, :, : h // 2 * 2, : w // 2 * 2]
  x = x.reshape(b, d, h // 2, 2, w // 2 * 2, c)
  x = jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])
  x = x.reshape(b, d, h // 2, w // 2, 2, c)
  return jnp.maximum(x[:, :, :, :, 0], x[:, :, :, :, 1])


class ConvNorm2D(nn.Module):
  """A 2D convolution and its normalisation, without activation.

  Padded as torch pads, by half the kernel on every side, which differs from
  'SAME' where the stride is 2.

  Attributes:
    features: channels out.
    kernel_size: side of the window, odd.
    stride: step along y and x.
    norm: 'batch'; 'frozen', which uses the running averages in training too,
      while scale and bias still learn; 'group'; or '' for none. The
      convolution has a bias only without one.
    groups: of group normalisation; they divide the channels.
    epsilon: added to the variance.
    momentum: of batch normalisation's running averages.
    dtype: the type computed in; parameters are float32.
  """

  features: int
  kernel_size: int
  stride: int = 1
  norm: str = 'batch'
  groups: int = 32
  epsilon: float = 1e-5
  momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the normalised convolution, of ceil(h / stride) rows.

    Raises:
      ValueError: the kind of norm is unknown.
    """
    x = nn.Conv(
      self.features,
      (self.kernel_size, self.kernel_size),
      (self.stride, self.stride),
      padding=self.kernel_size // 2,
      use_bias=not self.norm,
      kernel_init=_he_normal,
      dtype=self.dtype,
      name='conv',
    )(x)
    if not self.norm:
      return x
    if self.norm == 'group':
      return nn.GroupNorm(
        self.groups, epsilon=self.epsilon, dtype=self.dtype, name='norm'
      )(x)
    if self.norm not in ('batch', 'frozen'):
      raise ValueError(
        f"norm: found {self.norm!r}, expected batch, frozen, group or ''"
      )
    return nn.BatchNorm(
      use_running_average=self.norm == 'frozen' or not train,
      momentum=self.momentum,
      epsilon=self.epsilon,
      dtype=self.dtype,
      name='norm',
    )(x)


def max_pool_2d(
  x: Float[Array, 'b h w c'],
  window: int,
  stride: int,
  padding: tuple[int, int] | Literal['SAME'] = (0, 0),
) -> Float[Array, 'b h2 w2 c']:
  """Takes the largest of each square window, rows first, then columns.

  Of strided slices rather than of windows, for the gradient's sake as in
  `max_pool_in_plane`.

  Args:
    x: maps.
    window: side of the window.
    stride: step along y and x.
    padding: rows before and after, and columns likewise, that never win; or
      'SAME', as TensorFlow pads, to ceil(h / stride) rows.
  """
  both = [padding, padding]
  if padding == 'SAME':
    sides = (window, window), (stride, stride)
    both = lax.padtype_to_pads(x.shape[1:3], *sides, padding)
  x = jnp.pad(x, ((0, 0), *both, (0, 0)), constant_values=-jnp.inf)
  for axis in (1, 2):
    last = x.shape[axis] - window
    slices = [
      lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)
    ]
    x = functools.reduce(jnp.maximum, slices)
  return x
