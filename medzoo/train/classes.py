"""How many classes of pictures a network tells: as many as its dataset has.

A head in a config may leave its `num_classes` None, and a run fills it in.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from medzoo.train import build


def fill(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  """Gives the heads of a config as many outputs as there are classes.

  They are those of the stages that train the task `classification`; a view of
  a stage's own shows two classes, whatever the dataset has.

  Args:
    config: as plain dicts; not changed.
    names: of the classes of whole pictures, from class 0 on.

  Returns:
    The config with a number for each `num_classes` that was None.

  Raises:
    build.ConfigError: a head has another number.
  """
  config = copy.deepcopy(dict(config))
  for stage in config['stages']['order']:
    spec = config['stages'][stage]
    if spec.get('task', {}).get('name') != 'classification':
      continue
    number = 2 if 'view' in spec['data'] else max(len(names), 2)
    place, model = f'stages.{stage}.model', spec['model']
    if 'head' in model:
      place, model = f'{place}.head', model['head']
    given = model.get('num_classes', number)
    if given is None:
      model['num_classes'] = number
    elif max(given, 2) != number:
      raise build.ConfigError(
        f'{place}.num_classes: found {given}, expected {number}, for the '
        f'dataset has the classes {", ".join(names)}'
      )
  return config


def check_training(
  labels: Sequence[int | None], names: Sequence[str], run: str
) -> None:
  """Refuses to train on pictures of three classes and more without one.

  Args:
    labels: of the training pictures.
    names: of the classes, from class 0 on.
    run: '' or the fold, for the message.

  Raises:
    ValueError: there is no picture of a class.
  """
  missing = [name for k, name in enumerate(names) if k not in labels]
  if len(names) > 2 and missing:
    raise ValueError(
      f'{run}train: found no picture of the class {missing[0]}, expected some '
      f'of each: {", ".join(names)}; a class needs pictures of several groups '
      'to be in all splits'
    )


def check_same(trained: Sequence[str], found: Sequence[str]) -> None:
  """Refuses to score pictures of other classes than a network was trained on.

  Two classes may be called otherwise than they were, but not change places.

  Args:
    trained: names of the network's classes, from class 0 on.
    found: those of the dataset.

  Raises:
    ValueError: they differ.
  """
  several = max(len(trained), len(found)) > 2
  if (several or set(trained) == set(found)) and list(trained) != list(found):
    raise ValueError(
      f'found the classes {", ".join(found)}, expected '
      f'{", ".join(trained)}, which the model was trained on, in this order'
    )
