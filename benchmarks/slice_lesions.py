"""Times lidc_lstm on one whole scan, from voxels to lesions.

  python benchmarks/slice_lesions.py [--variant=lidc] [--shape 140 512 512]
    [--repeats=3]

The scan is noise in a body with lungs, the network has its first values, so
what is timed is the work and not the finding. Torchvision's GoogLeNet on as
many slices is timed in turns with it, if torch is installed.
"""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from experiments import lidc_lstm  # noqa: E402
from medzoo import types  # noqa: E402
from medzoo.train import build  # noqa: E402


def main() -> None:
  """Prints seconds a scan."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--variant', default='lidc', choices=lidc_lstm.VARIANTS)
  parser.add_argument('--shape', type=int, nargs=3, default=(140, 512, 512))
  parser.add_argument('--repeats', type=int, default=3)
  options = parser.parse_args()
  # As main.py does.
  jax.config.update('jax_num_cpu_devices', min(2, os.cpu_count() or 1))
  config = lidc_lstm.get_config(options.variant).to_dict()
  model = build.build('models', config['stages']['detector']['model'])
  predictor = build.build(
    'predictors',
    config['evaluation']['predictor'],
    {'detector': model},
    config['preprocess'],
  )
  size = config['preprocess']['shape']
  image = np.zeros((1, *size, 3), np.float32)
  variables = jax.jit(lambda k: model.init(k, image, train=False))(
    jax.random.key(0)
  )
  volume = _scan(tuple(options.shape))
  rivals = {
    'medzoo': lambda: predictor({'detector': variables}, volume),
    **_torch(options.shape[0], size),
  }
  for name, call in rivals.items():
    print(f'{name}: first call, with compiling, {_seconds(call):.1f} s')
  times = {name: [] for name in rivals}
  for _ in range(options.repeats):
    for name, call in rivals.items():
      times[name].append(_seconds(call))
  for name, values in times.items():
    print(f'{name}: {np.median(values):.1f} s a scan, {np.round(values, 1)}')


def _seconds(call: Callable[[], object]) -> float:
  began = time.monotonic()
  call()
  return time.monotonic() - began


def _scan(shape: tuple[int, int, int]) -> types.Volume:
  """Returns a body of water with two lungs of air, 340 mm wide, noisy."""
  y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[1:]), indexing='ij')
  plane = np.where((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, 40.0, -1000.0)
  lungs = ((np.abs(x) - 0.42) / 0.33) ** 2 + (y / 0.5) ** 2 < 1
  plane[lungs] = -850
  noise = np.random.default_rng(0).normal(0, 30, shape)
  voxels = (plane + noise).astype(np.int16)
  return types.Volume(
    voxels, (2.5, 340 / shape[1], 340 / shape[2]), modality='CT'
  )


def _torch(
  count: int, size: tuple[int, int]
) -> dict[str, Callable[[], object]]:
  """Returns torchvision's encoder on as many slices, where torch is there."""
  try:
    import torch
    import torchvision
  except (ImportError, RuntimeError):
    return {}
  net = torchvision.models.googlenet(init_weights=True, aux_logits=False).eval()
  batches = torch.zeros(count, 3, *size).split(16)

  def call() -> None:
    with torch.inference_mode():
      for batch in batches:
        net(batch)

  return {"torchvision's GoogLeNet, its network alone": call}


if __name__ == '__main__':
  main()
