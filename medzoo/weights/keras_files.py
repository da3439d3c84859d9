"""Weights that Keras wrote as HDF5, read without Keras.

Such a file has a group for each layer, and arrays in it by the names of their
variables: `conv1/conv1/kernel:0`, or `conv1/conv1_W:0` where Keras 1 wrote it.
A layer that is itself a model has its layers' arrays in its one group.
"""

import pathlib
import re

import h5py
import numpy as np

# What Keras 1 called the arrays. Its running_std always was the variance.
_OLD_LEAVES = {
  'W': 'kernel',
  'b': 'bias',
  'gamma': 'gamma',
  'beta': 'beta',
  'running_mean': 'moving_mean',
  'running_std': 'moving_variance',
}
_OLD_NAME = re.compile(rf'.+?_({"|".join(_OLD_LEAVES)})(_\d+)?')


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a model.

  Args:
    path: `.h5`, from `save_weights` or a whole model from `save`, of Keras 1
      to 3 (Keras 3's own `.weights.h5` is another format).

  Returns:
    Arrays by layer and Keras 2's name of the array, 'conv1/kernel' say, in the
    file's types. The layer is the group, or, where that holds several, the
    inner one.

  Raises:
    ValueError: the file is no such file or absent, or is damaged.
  """
  try:
    with h5py.File(path, 'r') as file:
      return _arrays(file)
  except (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
  ) as error:
    raise ValueError(
      f'{path}: found {type(error).__name__} ({error}), expected weights that '
      'Keras wrote as HDF5'
    ) from error


def _arrays(file: h5py.File) -> dict[str, np.ndarray]:
  root = file.get('model_weights', file)
  # A long list is split: layer_names0, layer_names1...
  if not any(name.startswith('layer_names') for name in root.attrs):
    raise ValueError('no list of layers')
  groups = {}

  # This way no link leads out of the file.
  def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Dataset):
      group, _, inner = name.partition('/')
      groups.setdefault(group, {})[inner] = item

  root.visititems(keep)
  arrays = {}
  for group, found in groups.items():
    several = len({name.rpartition('/')[0] for name in found}) > 1
    for name, dataset in found.items():
      *above, leaf = name.split('/')
      layer = above[-1] if several and above else group
      full = f'{layer}/{_leaf(leaf)}'
      if full in arrays:
        raise ValueError(f'two arrays {full}')
      arrays[full] = _array(full, dataset)
  if not arrays:
    raise ValueError('no arrays')
  return arrays


def _leaf(name: str) -> str:
  """Returns Keras 2's name of an array, without its output's number."""
  name = name.removesuffix(':0')
  old = _OLD_NAME.fullmatch(name)
  return _OLD_LEAVES[old[1]] if old else name


def _array(name: str, dataset: h5py.Dataset) -> np.ndarray:
  if dataset.dtype.kind not in 'fiu':
    raise ValueError(f'{name} holds no numbers')
  # A few bytes could claim any memory.
  if dataset.id.get_storage_size() < dataset.nbytes:
    raise ValueError(f'{name} is compressed or absent, which Keras never does')
  return dataset[()]
