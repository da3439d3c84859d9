"""The sizes of a run's networks and of what they see, for the report."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

# What the report calls the sizes in a config; an experiment has some of them.
_PREPROCESS_SIZES = {
  'spacing': 'voxel spacing, mm',
  'shape': 'picture, pixels',
  'pixel_mm': 'pixel, mm',
}
_DATA_SIZES = {'shape': 'patch, voxels'}
_MODEL_SIZES = {
  'widths': 'channels',
  'width': 'channels of the first layer',
  'filters': 'filters',
  'units': 'units',
  'steps': 'boxes a cell',
  'fpn_channels': 'pyramid channels',
}
_ENCODER_SIZES = {
  'name': 'encoder',
  'widths': 'encoder channels',
  'depth': 'encoder layers',
  'width': 'encoder channels',
}


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the sizes of networks and their inputs, by words for the report."""
  found = _named(config['preprocess'], _PREPROCESS_SIZES)
  for name in config['stages']['order']:
    stage = config['stages'][name]
    if 'model' in stage:
      model = stage['model']
      own = _named(stage.get('data', {}), _DATA_SIZES)
      own |= _named(model, _MODEL_SIZES)
      own |= _named(model.get('encoder') or {}, _ENCODER_SIZES)
      if 'batch_size' in stage:
        own['batch'] = stage['batch_size']
      own['starts from'] = _origins(stage['init_from'])
      found |= {f'{name}: {what}': size for what, size in own.items()}
  return found


def _origins(init_from: Sequence[Mapping[str, Any]]) -> str:
  """Says in words what a stage's network starts from."""
  words = []
  for source in init_from:
    if 'workdir' in source:
      words.append(f'{source["stage"]} of {source["workdir"]}')
    elif 'stage' in source:
      words.append(source['stage'])
    else:
      words.append(pathlib.Path(source['weights']).name)
  return ', '.join(words) or 'random weights'


def _named(spec: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  """Returns those values of a spec that have a name in the report."""
  return {text: spec[key] for key, text in names.items() if key in spec}
