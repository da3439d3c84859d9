"""Writes the golden files that the parity tests read: needs torch.

  pip install -e '.[parity]'
  python -m tests.make_golden

* tests/models/golden/NAME.npz: the names and shapes of torchvision's state
  dict, and about a hundred values of each output of it.
* tests/weights/golden/*.pth: small checkpoints as torch writes them.
"""

import json
import pathlib

import numpy as np

from tests import torch_reference

_TESTS = pathlib.Path(__file__).parent


def main() -> None:
  """Writes every golden file."""
  nets = {'googlenet': torch_reference.googlenet(10)}
  nets |= {f'resnet{d}': torch_reference.resnet(d, 10) for d in (18, 50)}
  for name, net in nets.items():
    maps = (
      torch_reference.GOOGLENET_MAPS
      if name == 'googlenet'
      else torch_reference.RESNET_MAPS
    )
    found = torch_reference.outputs(net, maps, torch_reference.images())
    _write(_TESTS / 'models' / 'golden' / f'{name}.npz', net, found)
  net = torch_reference.vgg16()
  found = torch_reference.outputs(
    net, torch_reference.vgg16_maps(), torch_reference.images()
  )
  _write(_TESTS / 'models' / 'golden' / 'vgg16.npz', net, found)
  net = torch_reference.mask_rcnn()
  _write(
    _TESTS / 'models' / 'golden' / 'mask_rcnn.npz',
    net,
    torch_reference.head_outputs(net),
  )
  _write_checkpoints(_TESTS / 'weights' / 'golden')


def _write(path: pathlib.Path, net, outputs: dict[str, np.ndarray]) -> None:
  """Writes one network's file: about a hundred values of every output."""
  path.parent.mkdir(exist_ok=True)
  facts = {
    'shapes': torch_reference.state_dict(net),
    'outputs': {name: list(y.shape) for name, y in outputs.items()},
  }
  values = {name: sample(y) for name, y in outputs.items()}
  np.savez_compressed(path, facts=json.dumps(facts), **values)


def sample(values: np.ndarray) -> np.ndarray:
  """Returns about a hundred values, evenly spaced, and their mean size."""
  flat = values.reshape(-1)
  # An odd step, as the number of channels is even.
  step = max(1, flat.size // 100) | 1
  return np.append(flat[::step], np.abs(flat).mean())


def _write_checkpoints(folder: pathlib.Path) -> None:
  torch, _ = torch_reference.load()
  folder.mkdir(exist_ok=True)
  numbers = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7
  state = {
    'plain': numbers,
    'half': numbers.half(),
    'bfloat16': numbers.bfloat16(),
    'double': numbers.double(),
    'transposed': numbers.permute(2, 0, 1),
    'slice': numbers[1, 1:, ::2],
    'parameter': torch.nn.Parameter(numbers[0]),
    'scalar': torch.tensor(3.5),
    'empty': torch.zeros(0, 3),
    'whole': torch.arange(3),
    'yes': torch.tensor([True, False]),
  }
  torch.save(state, folder / 'zip.pth')
  torch.save({'epoch': 3, 'model': state}, folder / 'nested.pth')
  torch.save(state, folder / 'legacy.pth', _use_new_zipfile_serialization=False)
  layer = torch.nn.Linear(2, 2)
  torch.save(layer, folder / 'module.pth')


if __name__ == '__main__':
  main()
