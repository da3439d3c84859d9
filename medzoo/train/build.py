"""From a config's words to objects.

What is pluggable is written `dict(name=..., ...)`: the name is a module of
medzoo.models, medzoo.tasks or medzoo.predictors, and the other keys are the
arguments of its constructor. A key that the constructor does not know, or one
that it misses, is an error that names it.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
  """The call or the config is at fault, not the data."""


def build(kind: str, spec: Mapping[str, Any], *args: Any, **extra: Any) -> Any:
  """Constructs what a config names.

  Args:
    kind: 'models', 'tasks' or 'predictors'.
    spec: `name`, and the constructor's keyword arguments.
    *args: positional arguments that a config cannot hold.
    **extra: further keyword arguments, which the spec may not repeat.

  Raises:
    ConfigError: the name is unknown, or an argument is unknown or missing.
  """
  keywords = {key: value for key, value in spec.items() if key != 'name'}
  constructor = _find(kind, spec['name'])
  try:
    inspect.signature(constructor).bind(*args, **keywords, **extra)
  except TypeError as error:
    raise ConfigError(f'{kind[:-1]} {spec["name"]!r}: {error}') from None
  return constructor(*args, **keywords, **extra)


def _find(kind: str, name: str) -> Any:
  package = importlib.import_module(f'medzoo.{kind}')
  alias = {'models': 'Model', 'tasks': 'Task', 'predictors': 'Predictor'}[kind]
  known = [module.name for module in pkgutil.iter_modules(package.__path__)]
  if name in known:
    module = importlib.import_module(f'medzoo.{kind}.{name}')
    if hasattr(module, alias):
      return getattr(module, alias)
  raise ConfigError(f'no {kind[:-1]} {name!r}; medzoo.{kind} has {known}')
