"""What a stage starts from: `init_from`, in words.

Each entry takes modules from one place and puts them, strictly, over a new
model's variables:

  dict(stage='screening', modules=('c1', 'c2'))
  dict(workdir='runs/old', stage='screening', modules=('c1', 'c2'))
  dict(weights='old/model/screening.safetensors', modules=(), to='encoder')
  dict(weights='resnet50.pth', model='resnet', modules=(), to='encoder',
       ignore=('fc',))
  dict(weights='mask_rcnn_coco.h5', model='mask_rcnn', modules=(),
       ignore=('roi_heads.box_predictor',
               'roi_heads.mask_predictor.mask_fcn_logits'))

`modules` are paths in the source, () for all; `of` is a module of the source
that they lie in, and `to` the one of the target. A stage is one of this run,
or of another work folder's model (where it has folds, the one on all cases).
With `model` the file is another framework's, torch's or, if it ends in .h5,
Keras's, and the zoo's file of that name says what it calls its tensors;
`ignore` lists layers that are left out, in torch's names for Keras too: those
above are `mask_rcnn.CLASS_LAYERS`, which depend on the number of classes. Where
networks have a `style`, such as the form of pictures that their weights want,
it must be the same on both sides.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util

from medzoo.train import build
from medzoo.weights import keras_files
from medzoo.weights import naming
from medzoo.weights import native
from medzoo.weights import torch_files

_PLACES = ({'stage'}, {'workdir', 'stage'}, {'weights'})
_KEYS = ('model', 'modules', 'of', 'to', 'ignore')


def start(
  model: nn.Module,
  variables: Mapping[str, Any],
  sources: Sequence[Mapping[str, Any]],
  parameters: Callable[[str], pathlib.Path],
) -> dict[str, Any]:
  """Puts what `init_from` describes over a model's variables.

  Args:
    model: the network whose variables they are.
    variables: as the task made them; not changed.
    sources: the entries, of which later ones win.
    parameters: gives the file of an earlier stage's parameters.

  Returns:
    The new variables.

  Raises:
    build.ConfigError: an entry has an unknown key, or none or two places to
      take from, a work folder has no such stage, or a file's style is not the
      model's.
    ValueError: a file cannot be read or does not fit; the file is named.
  """
  result = dict(variables)
  for source in sources:
    if source.keys() - set(_KEYS) not in _PLACES:
      raise build.ConfigError(
        f'init_from: found the keys {", ".join(source)}, expected stage, '
        f'workdir and stage, or weights, and of {", ".join(_KEYS)} what is '
        'needed'
      )
    if 'workdir' in source:
      path = _of_workdir(pathlib.Path(source['workdir']), source['stage'])
    elif 'stage' in source:
      path = parameters(source['stage'])
    else:
      path = pathlib.Path(source['weights'])
    to = source.get('to', '')
    if 'model' in source:
      found = _foreign(model, result, source, path, to)
    else:
      found = _own(model, source, path, to)
    result = native.graft(result, found, tuple(source['modules']), to)
  return result


def _of_workdir(workdir: pathlib.Path, stage: str) -> pathlib.Path:
  """Returns the file of a stage's parameters in another work folder."""
  for folder in (workdir / 'model', workdir / 'final' / 'model'):
    path = folder / f'{stage}.safetensors'
    if path.exists():
      return path
  raise build.ConfigError(
    f'init_from: {workdir}: found no model/{stage}.safetensors, expected a '
    'work folder that has trained this stage'
  )


def _own(
  model: nn.Module, source: Mapping[str, Any], path: pathlib.Path, to: str
) -> dict[str, Any]:
  """Reads a file that a stage has written."""
  variables, facts = native.load(path)
  of = source.get('of', '')
  if 'model' in facts:
    trained = build.build('models', facts['model'])
    for module in source['modules'] or ('',):
      styles = _styles(trained, f'{of}/{module}')
      _check_styles(path, styles, model, f'{to}/{module}')
  return native.part(variables, of) if of else variables


def _foreign(
  model: nn.Module,
  variables: Mapping[str, Any],
  source: Mapping[str, Any],
  path: pathlib.Path,
  to: str,
) -> dict[str, Any]:
  """Reads another framework's file into the shape of the module at `to`."""
  module = build.module('models', source['model'])
  keras = path.suffix in ('.h5', '.hdf5')
  if not hasattr(module, 'keras_tensors' if keras else 'torch_name'):
    raise build.ConfigError(
      f'init_from: model {source["model"]!r} has no names in '
      f'{"Keras" if keras else "other frameworks"}'
    )
  prefix = tuple(to.split('/')) if to else ()
  flat = flax.traverse_util.flatten_dict(dict(variables))
  target = {
    (leaf[0], *leaf[1 + len(prefix) :]): value
    for leaf, value in flat.items()
    if leaf[1 : 1 + len(prefix)] == prefix
  }
  if not target:
    raise build.ConfigError(f'init_from: the model has no module {to!r}')
  _check_styles(path, {'keras' if keras else 'torch'}, model, to)
  arrays = keras_files.read(path) if keras else torch_files.read(path)
  arrange = 'keras_tensors' if keras else 'torch_tensors'
  try:
    return naming.fill(
      flax.traverse_util.unflatten_dict(target),
      getattr(module, arrange, dict)(arrays),
      module.torch_name,
      ignore=tuple(source.get('ignore', ())),
    )
  except ValueError as error:
    raise ValueError(f'init_from: {path}: {error}') from None


def _check_styles(
  path: pathlib.Path, found: set[str], model: nn.Module, to: str
) -> None:
  """Refuses parameters that have learned from another form of pictures."""
  expected = _styles(model, to)
  if found and expected and found != expected:
    raise build.ConfigError(
      f'init_from: {path}: found parameters of style {", ".join(found)}, '
      f"expected {', '.join(expected)}, the model's own: set its style to the "
      "file's"
    )


def _styles(model: nn.Module, path: str) -> set[str]:
  """Returns the styles of the module at a path, or above it, and its parts."""
  for name in path.split('/'):
    model = getattr(model, name, model) if name else model
  parts = (model, *vars(model).values())
  return {part.style for part in parts if hasattr(part, 'style')}
