"""Makes the raw files of the phantom configurations, once.

They are kept in the data folder and named by a hash of what they are made
from, the phantoms' own code included.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from datasets import folders
from datasets import progress
from datasets.phantoms import chest_ct
from datasets.phantoms import chest_xray
from datasets.phantoms import chest_xray_nodules
from datasets.phantoms import colonoscopy

# By configuration, what is made; by dataset, how it is laid out.
CONFIGS = {
  'phantom': {'cases': 72, 'seed': 0, 'size': 'small'},
  'phantom_smoke': {'cases': 6, 'seed': 0, 'size': 'smoke'},
}
# The same of layouts that are not of CTs, each with the module that writes it.
PICTURES = {
  'folders': (
    chest_xray,
    {
      'phantom': {'cases': 80, 'poses': 4, 'seed': 0, 'size': 320},
      'phantom_smoke': {'cases': 8, 'poses': 2, 'seed': 0, 'size': 96},
    },
  ),
  'frames': (
    colonoscopy,
    {
      'phantom': {'cases': 340, 'frames': 3, 'seed': 0, 'size': 384},
      'phantom_smoke': {'cases': 8, 'frames': 2, 'seed': 0, 'size': 96},
    },
  ),
  'nlmcxr': (
    chest_xray_nodules,
    {
      'phantom': {'cases': 640, 'seed': 0, 'size': 224},
      'phantom_smoke': {'cases': 16, 'seed': 0, 'size': 96},
    },
  ),
}
LAYOUTS = {
  'lidc_idri': 'lidc',
  'luna16': 'luna16',
  'series_csv': 'series_csv',
  'boxes_json': 'boxes_json',
  'lung_cxr': 'folders',
  'openi_cxr': 'nlmcxr',
  'cvc_clinicdb': 'frames',
}
# LUNA16 wants a scan for each of its subsets.
_LEAST_CASES = {'luna16': 10}
# Scans for training, validation and test of the first configuration.
SHARES = {'train': 40, 'validation': 8, 'test': 24}


def make(
  dataset: str,
  config: str,
  changes: Mapping[str, Any],
  data_dir: pathlib.Path,
) -> pathlib.Path:
  """Makes the raw files of a phantom configuration unless they exist.

  Args:
    dataset: a key of `LAYOUTS`.
    config: a key of `CONFIGS`.
    changes: other arguments than the configuration's, of `write` in the module
      that `PICTURES` names for the layout, else in `chest_ct`.
    data_dir: where they are kept.

  Returns:
    The root of the raw files.

  Raises:
    ValueError: an argument is unknown or impossible.
  """
  layout = LAYOUTS[dataset]
  module, configs = PICTURES.get(layout, (chest_ct, CONFIGS))
  arguments = dict(configs[config])
  if module is chest_ct:
    arguments['layout'] = layout
  unknown = sorted(set(changes) - set(arguments))
  if unknown:
    raise ValueError(
      f'found phantom argument {unknown[0]!r}, expected one of'
      f' {", ".join(arguments)}'
    )
  arguments['cases'] = max(arguments['cases'], _LEAST_CASES.get(dataset, 0))
  arguments |= changes
  name = f'{layout}-{_digest(arguments)}'
  root = data_dir / 'phantom_files' / name
  with folders.locked(root):
    if not root.exists():
      progress.say(f'making {arguments["cases"]} phantoms in {root}')
      with folders.partial(root) as path:
        module.write(path, **arguments)
        path.rename(root)
  return root


def _digest(arguments: Mapping[str, Any]) -> str:
  digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode())
  for path in sorted((pathlib.Path(__file__).parent / 'phantoms').glob('*.py')):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:12]
