"""Variables of a model as one safetensors file, which holds no code.

Leaves are named by their path, `params/c1/conv/kernel` say, and the JSON facts
that go with them (the model's config) lie in the file's metadata.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy


def save(
  path: pathlib.Path, variables: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
  """Writes variables and facts; the file appears when it is complete.

  Args:
    path: file to write, `.safetensors`.
    variables: nested dicts of arrays.
    facts: JSON values that go along.
  """
  flat = flax.traverse_util.flatten_dict(dict(variables), sep='/')
  leaves = {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()}
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_suffix('.partial')
  safetensors.numpy.save_file(
    leaves, partial, metadata={'medzoo': json.dumps(facts, sort_keys=True)}
  )
  partial.rename(path)


def load(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the variables and the facts of a file that `save` wrote.

  Raises:
    ValueError: the file is not such a file.
  """
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      facts = json.loads(file.metadata()['medzoo'])
      leaves = {name: file.get_tensor(name) for name in file.keys()}
  except (safetensors.SafetensorError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path}: found {type(error).__name__}, expected parameters that medzoo '
      'wrote'
    ) from error
  return flax.traverse_util.unflatten_dict(leaves, sep='/'), facts


def part(variables: Mapping[str, Any], module: str) -> dict[str, Any]:
  """Returns the variables of one module, as if it were the model.

  Args:
    variables: of the model.
    module: its path, 'encoder' or 'backbone/c1'.

  Raises:
    ValueError: there is no such module.
  """
  flat = flax.traverse_util.flatten_dict(dict(variables))
  parts = tuple(module.split('/'))
  found = {
    (path[0], *path[1 + len(parts) :]): leaf
    for path, leaf in flat.items()
    if path[1 : 1 + len(parts)] == parts and len(path) > 1 + len(parts)
  }
  if not found:
    raise ValueError(f'init_from: the source has no module {module!r}')
  return flax.traverse_util.unflatten_dict(found)


def graft(
  target: Mapping[str, Any],
  source: Mapping[str, Any],
  modules: tuple[str, ...],
  to: str = '',
) -> dict[str, Any]:
  """Copies modules of one model's variables over another's, strictly.

  Args:
    target: variables to start from; not changed.
    source: variables to take from.
    modules: paths of modules in `source`, 'c1' or 'backbone/c1'; () for all.
    to: prefix that the paths get in `target`.

  Returns:
    The new variables.

  Raises:
    ValueError: a module holds nothing, or a leaf has no namesake of the same
      shape in `target`.
  """
  result = dict(flax.traverse_util.flatten_dict(dict(target)))
  flat = flax.traverse_util.flatten_dict(dict(source))
  prefix = tuple(to.split('/')) if to else ()
  for module in modules or ('',):
    parts = tuple(module.split('/')) if module else ()
    found = [path for path in flat if path[1 : 1 + len(parts)] == parts]
    if not found:
      raise ValueError(f'init_from: the source has no module {module!r}')
    for path in found:
      name = (path[0], *prefix, *path[1:])
      shape = np.shape(result[name]) if name in result else None
      if shape != np.shape(flat[path]):
        raise ValueError(
          f'init_from: {"/".join(name)}: found shape {np.shape(flat[path])}, '
          f'expected {shape}'
        )
      result[name] = flat[path]
  return flax.traverse_util.unflatten_dict(result)
