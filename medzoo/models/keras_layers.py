"""Keras's layers in torch's layout, so that one strict filler serves both.

A model's file says which layer of Keras is which of torch's. What it does not
take from a file stays there under Keras's name, for `weights.naming.fill` to
refuse.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# What Keras's batch normalisation adds to the variance.
EPSILON = 1e-3

Layers = dict[str, dict[str, np.ndarray]]


class Conv(NamedTuple):
  """A convolution, (*window, in, out) and (out,), or a dense layer."""

  kernel: np.ndarray
  bias: np.ndarray


class Norm(NamedTuple):
  """Batch normalisation, each (channels,)."""

  gamma: np.ndarray
  beta: np.ndarray
  moving_mean: np.ndarray
  moving_variance: np.ndarray


def by_layer(arrays: Mapping[str, np.ndarray]) -> Layers:
  """Groups arrays by 'layer/array', as `weights.keras_files` gives them."""
  layers = {}
  for name, array in arrays.items():
    layer, _, leaf = name.rpartition('/')
    layers.setdefault(layer, {})[leaf] = array
  return layers


def rest(layers: Layers) -> dict[str, np.ndarray]:
  """Returns what nobody took, by 'layer.array'."""
  return {
    f'{layer}.{leaf}': array
    for layer, leaves in layers.items()
    for leaf, array in leaves.items()
  }


def take_conv(layers: Layers, name: str) -> Conv:
  """Takes a convolution or a dense layer out of a file's layers.

  Raises:
    ValueError: it has other arrays, or a kernel of no such layer.
  """
  conv = Conv(*_take(layers, name, Conv._fields))
  if conv.kernel.ndim not in (2, 4):
    raise ValueError(
      f'layer {name}: found a kernel {conv.kernel.shape}, expected two or four '
      'axes'
    )
  return conv


def take_both(layers: Layers, conv: str, norm: str) -> tuple[Conv, Norm]:
  """Takes a convolution and the normalisation of its outputs.

  Raises:
    ValueError: one of them has other arrays, or their channels differ.
  """
  first = take_conv(layers, conv)
  second = Norm(*_take(layers, norm, Norm._fields))
  shapes = {array.shape for array in (first.bias, *second)}
  if shapes != {first.kernel.shape[-1:]}:
    raise ValueError(
      f'layers {conv} and {norm}: found a kernel {first.kernel.shape} beside '
      f'{", ".join(map(str, sorted(shapes)))}, expected as many channels'
    )
  return first, second


def _take(
  layers: Layers, name: str, expected: tuple[str, ...]
) -> list[np.ndarray]:
  found = layers.pop(name, {})
  if set(found) != set(expected):
    raise ValueError(
      f'layer {name}: found {", ".join(found) or "nothing"}, expected '
      f'{", ".join(expected)}'
    )
  return [found[leaf] for leaf in expected]


def fold(conv: Conv, norm: Norm) -> Conv:
  """Returns one convolution that does what it and its normalisation do."""
  scale = norm.gamma / np.sqrt(norm.moving_variance + EPSILON)
  bias = (conv.bias - norm.moving_mean) * scale + norm.beta
  return Conv(conv.kernel * scale, bias)


def as_torch(name: str, conv: Conv) -> dict[str, np.ndarray]:
  """Returns a layer's arrays by torch's names, kernels (out, in, *window)."""
  return {
    f'{name}.weight': np.moveaxis(conv.kernel, (-1, -2), (0, 1)),
    f'{name}.bias': conv.bias,
  }


def both_as_torch(
  conv_name: str, norm_name: str, conv: Conv, norm: Norm
) -> dict[str, np.ndarray]:
  """Returns both layers' arrays by torch's names, the first without a bias.

  Normalisation takes the running mean off again, so the bias goes into that.
  """
  kernel = as_torch(conv_name, conv)[f'{conv_name}.weight']
  return {
    f'{conv_name}.weight': kernel,
    f'{norm_name}.weight': norm.gamma,
    f'{norm_name}.bias': norm.beta,
    f'{norm_name}.running_mean': norm.moving_mean - conv.bias,
    f'{norm_name}.running_var': norm.moving_variance,
  }
