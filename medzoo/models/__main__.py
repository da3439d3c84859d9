"""Lists the zoo: `python -m medzoo.models`."""

import argparse
import importlib
import math
import pkgutil
import types

import jax
import jax.numpy as jnp

from medzoo import models


def _find() -> list[types.ModuleType]:
  """Returns the files of this folder that hold a model."""
  names = sorted(info.name for info in pkgutil.iter_modules(models.__path__))
  modules = [
    importlib.import_module(f'{models.__name__}.{name}')
    for name in names
    if name != '__main__'
  ]
  return [module for module in modules if hasattr(module, 'Model')]


def _describe(module: types.ModuleType) -> str:
  """Returns one model's entry; nothing is computed, only its shapes."""
  facts, model = module.FACTS, module.Model()
  batch = jax.ShapeDtypeStruct((1, *facts.input_shape), jnp.float32)
  outputs, variables = jax.eval_shape(
    lambda key, x: model.init_with_output(key, x, train=False),
    jax.random.key(0),
    batch,
  )
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
  sizes = [f'{name} {_shape(leaf.shape[1:])}' for name, leaf in outputs.items()]
  lines = {
    'task': facts.task,
    'parameters': f'{count:,} with batch statistics',
    'input': _shape(facts.input_shape),
    'outputs': ', '.join(sizes),
    'weights': facts.weights,
  }
  name = module.__name__.rsplit('.', 1)[-1]
  return '\n'.join(
    [name, *(f'  {key:<11} {value}' for key, value in lines.items())]
  )


def _shape(sizes: tuple[int, ...]) -> str:
  return ' x '.join(map(str, sizes))


def main() -> None:
  """Prints name, task, parameters, input, outputs and weights of each."""
  argparse.ArgumentParser(
    prog='python -m medzoo.models', description='List the models of the zoo.'
  ).parse_args()
  print('\n\n'.join(_describe(module) for module in _find()))


if __name__ == '__main__':
  main()
