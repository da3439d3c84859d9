"""From a config's words to objects.

What is pluggable is written `dict(name=..., ...)`: the name is a module of
medzoo.models, medzoo.tasks or medzoo.predictors, and the other keys are the
arguments of its constructor. A key that the constructor does not know, or one
that it misses, is an error that names it.
"""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Mapping
from typing import Any

# What a module calls the one thing that configs build from it.
_ALIASES = {'models': 'Model', 'tasks': 'Task', 'predictors': 'Predictor'}


class ConfigError(ValueError):
  """The call or the config is at fault, not the data."""


def build(kind: str, spec: Mapping[str, Any], *args: Any, **extra: Any) -> Any:
  """Constructs what a config names.

  Args:
    kind: 'models', 'tasks' or 'predictors'.
    spec: `name`, and the constructor's keyword arguments; one that is itself
      a mapping with a `name`, an encoder say, is built first, of this kind.
    *args: positional arguments that a config cannot hold.
    **extra: further keyword arguments, which the spec may not repeat.

  Raises:
    ConfigError: the name is unknown, or an argument is unknown or missing.
  """
  keywords = {
    k: build(kind, v) if _is_spec(v) else _hashable(v)
    for k, v in spec.items()
    if k != 'name'
  }
  constructor = getattr(module(kind, spec['name']), _ALIASES[kind])
  try:
    inspect.signature(constructor).bind(*args, **keywords, **extra)
  except TypeError as error:
    raise ConfigError(f'{kind[:-1]} {spec["name"]!r}: {error}') from None
  return constructor(*args, **keywords, **extra)


def module(kind: str, name: str) -> types.ModuleType:
  """Returns the module that a name stands for.

  Raises:
    ConfigError: there is none.
  """
  package = importlib.import_module(f'medzoo.{kind}')
  known = [found.name for found in pkgutil.iter_modules(package.__path__)]
  if name not in known:
    raise ConfigError(
      f'{kind}: found the name {name!r}, expected one of {", ".join(known)}'
    )
  return importlib.import_module(f'medzoo.{kind}.{name}')


def _is_spec(value: Any) -> bool:
  return isinstance(value, Mapping) and 'name' in value


def _hashable(value: Any) -> Any:
  """Returns tuples for the lists that JSON makes of them."""
  if isinstance(value, list):
    return tuple(_hashable(item) for item in value)
  return value
