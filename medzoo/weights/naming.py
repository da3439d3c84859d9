"""Fills a model's variables from tensors that another framework named."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

# What torch calls the leaves of a layer.
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
# A count of batches that torch keeps and no formula needs.
_COUNTER = 'num_batches_tracked'


def fill(
  target: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  torch_name: Callable[[tuple[str, ...]], str],
  *,
  ignore: Sequence[str] = (),
) -> dict[str, Any]:
  """Puts torch's tensors into the leaves of a Flax model, strictly.

  Kernels (out, in, *window) become (*window, in, out), so dense ones are
  transposed.

  Args:
    target: the model's variables, or their shapes from `jax.eval_shape`.
    tensors: arrays by torch's names, as `torch_files.read` gives them.
    torch_name: the model file's rule, from the path of a layer without
      collection and leaf, ('c1', 'conv') say, to the layer's name in torch.
    ignore: layers in torch's names, 'fc' say. What the file holds of them is
      not read, and what the target has of them stays as it is.

  Returns:
    The variables, in the target's types.

  Raises:
    ValueError: a tensor is missing, left over, not of the right shape or not
      of floats; all of them are listed. An ignored layer is in neither.
  """
  flat = flax.traverse_util.flatten_dict(dict(target))
  names = {path: _name(path, torch_name) for path in flat}
  everything = {*names.values(), *tensors}
  unknown = [p for p in ignore if not any(_under(n, p) for n in everything)]
  wanted = {
    path: name
    for path, name in names.items()
    if not any(_under(name, part) for part in ignore)
  }
  left = tensors.keys() - wanted.values()
  problems = {
    'missing': [n for n in wanted.values() if n not in tensors],
    'extra': sorted(
      n
      for n in left
      if n.rpartition('.')[2] != _COUNTER
      and not any(_under(n, part) for part in ignore)
    ),
    'misshapen': [
      f'{n} (found {_show(tensors[n].dtype, tensors[n].shape)}, expected '
      f'{_show(flat[path].dtype, _torch_shape(path, flat[path].shape))})'
      for path, n in wanted.items()
      if n in tensors and not _fits(path, flat[path], tensors[n])
    ],
    'ignored but not there': unknown,
  }
  if any(problems.values()):
    raise ValueError(
      'the weights do not fit the model: '
      + '; '.join(
        f'{len(found)} {kind}: {", ".join(found)}'
        for kind, found in problems.items()
        if found
      )
    )
  filled = {
    path: _to_flax(path, tensors[name]).astype(flat[path].dtype)
    for path, name in wanted.items()
  }
  return flax.traverse_util.unflatten_dict(flat | filled)


def _name(
  path: tuple[str, ...], torch_name: Callable[[tuple[str, ...]], str]
) -> str:
  return f'{torch_name(path[1:-1])}.{_LEAVES[path[-1]]}'


def _under(name: str, part: str) -> bool:
  return name == part or name.startswith(f'{part}.')


def _torch_shape(
  path: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
  if path[-1] != 'kernel':
    return tuple(shape)
  *window, channels, features = shape
  return (features, channels, *window)


def _to_flax(path: tuple[str, ...], tensor: np.ndarray) -> np.ndarray:
  if path[-1] != 'kernel':
    return tensor
  return np.moveaxis(tensor, (0, 1), (-1, -2))


def _fits(path: tuple[str, ...], leaf: Any, tensor: np.ndarray) -> bool:
  same = tensor.shape == _torch_shape(path, leaf.shape)
  return same and jnp.issubdtype(tensor.dtype, jnp.floating)


def _show(dtype: Any, shape: tuple[int, ...]) -> str:
  return f'{np.dtype(dtype).name} {tuple(shape)}'
