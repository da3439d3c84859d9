"""Times one training step of lung_maskrcnn, and says how much memory it takes.

  python benchmarks/lung_training.py [--sides 256 512] [--batch_size=8]
    [--repeats=5]

Films are noise with two lungs, the network has its first values. Torchvision's
Mask R-CNN of the same sizes (a ResNet-18 and heads as wide, batch
normalisation for the groups') is timed in turns with it, if torch is installed.
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

from experiments import lung_maskrcnn  # noqa: E402
from medzoo.train import build  # noqa: E402
from medzoo.train import devices  # noqa: E402
from medzoo.train import memory  # noqa: E402
from medzoo.train import optim  # noqa: E402
from medzoo.train import state as state_lib  # noqa: E402
from medzoo.train import step as step_lib  # noqa: E402


def main() -> None:
  """Prints seconds a step and megabytes for every size of films."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sides', type=int, nargs='+', default=(256, 512))
  parser.add_argument('--batch_size', type=int, default=8)
  parser.add_argument('--repeats', type=int, default=5)
  options = parser.parse_args()
  # As main.py does.
  jax.config.update('jax_num_cpu_devices', min(2, os.cpu_count() or 1))
  for side in options.sides:
    memory.reset_peak()
    batch = _films(options.batch_size, side)
    rivals = {'medzoo': _medzoo(batch), **_torch(batch)}
    for name, call in rivals.items():
      first = _seconds(call)
      print(f'{side} px, {name}: first step, with compiling, {first:.1f} s')
    times = {name: [] for name in rivals}
    for _ in range(options.repeats):
      for name, call in rivals.items():
        times[name].append(_seconds(call))
    for name, values in times.items():
      print(
        f'{side} px, {name}: {np.median(values):.2f} s a step of '
        f'{options.batch_size}, {np.round(values, 2)}'
      )
    print(f'{side} px: {memory.peak_mb()} MB at most, all of this process')


def _seconds(call: Callable[[], object]) -> float:
  began = time.monotonic()
  call()
  return time.monotonic() - began


def _films(count: int, side: int) -> dict[str, np.ndarray]:
  """Returns a batch of noise with two rectangular lungs each."""
  masks = np.zeros((count, 2, side, side), np.uint8)
  top, bottom = side // 8, side * 3 // 4
  lungs = (side // 8, side * 2 // 5), (side * 3 // 5, side * 7 // 8)
  for i, (left, right) in enumerate(lungs):
    masks[:, i, top:bottom, left:right] = 1
  boxes = [(top, left, bottom, right) for left, right in lungs]
  noise = np.random.default_rng(0).random((count, side, side, 1), np.float32)
  return {
    'image': noise,
    'masks': masks,
    'boxes': np.tile(np.array(boxes, np.float32), (count, 1, 1)),
    'labels': np.tile(np.array([1, 2], np.int32), (count, 1)),
    'sizes': np.full((count, 2), side, np.int32),
    'valid': np.ones(count, bool),
  }


def _medzoo(batch: dict[str, np.ndarray]) -> Callable[[], object]:
  spec = lung_maskrcnn.get_config('phantom').to_dict()['stages']['all']
  model = build.build('models', spec['model'])
  task = build.build('tasks', spec['task'], model)
  mesh, key = devices.make_mesh(), state_lib.init_key(0)
  params = state_lib.shapes(task, key, batch)['params']
  tx, _ = optim.make(spec['optimizer'], steps=100, params=params)
  with jax.set_mesh(mesh):
    state = state_lib.create(task, key, batch, tx, mesh=mesh)
    step = step_lib.make_train_step(task, tx, mesh)
    split = devices.shard_batch(batch, mesh)

  def call() -> None:
    nonlocal state
    with jax.set_mesh(mesh):
      state, terms = step(state, split, jax.random.key(0))
      jax.block_until_ready(terms)

  return call


def _torch(batch: dict[str, np.ndarray]) -> dict[str, Callable[[], object]]:
  """Returns torchvision's step on the same films, where torch is there."""
  try:
    import torch
    import torchvision
  except (ImportError, RuntimeError):
    return {}
  from torchvision.models.detection import backbone_utils
  from torchvision.models.detection import faster_rcnn
  from torchvision.models.detection import mask_rcnn

  spec = lung_maskrcnn.get_config('phantom').to_dict()['stages']['all']
  sizes, task, side = spec['model'], spec['task'], batch['image'].shape[1]
  encoder = torchvision.models.ResNet(
    torchvision.models.resnet.BasicBlock,
    [2, 2, 2, 2],
    width_per_group=64,
    norm_layer=torch.nn.BatchNorm2d,
  )
  width, channels = sizes['encoder']['width'], sizes['fpn_channels']
  _narrow(torch, encoder, width)
  body = backbone_utils.BackboneWithFPN(
    encoder,
    {f'layer{i}': str(i - 1) for i in range(1, 5)},
    [width * 2**i for i in range(4)],
    channels,
  )
  head = mask_rcnn.MaskRCNNHeads(channels, sizes['mask_channels'], 1)
  net = mask_rcnn.MaskRCNN(
    body,
    num_classes=None,
    min_size=side,
    max_size=side,
    image_mean=[0.5],
    image_std=[1.0],
    rpn_pre_nms_top_n_train=task['train_proposals'],
    rpn_post_nms_top_n_train=task['train_proposals'],
    rpn_batch_size_per_image=task['sampled_anchors'],
    box_batch_size_per_image=task['sampled_regions'],
    box_head=faster_rcnn.TwoMLPHead(channels * 49, sizes['box_units']),
    box_predictor=faster_rcnn.FastRCNNPredictor(sizes['box_units'], 3),
    mask_head=head,
    mask_predictor=mask_rcnn.MaskRCNNPredictor(
      sizes['mask_channels'][-1], sizes['mask_channels'][-1], 3
    ),
  ).train()
  optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
  images = list(torch.from_numpy(batch['image']).permute(0, 3, 1, 2))
  targets = [
    {
      'boxes': torch.from_numpy(batch['boxes'][i][:, [1, 0, 3, 2]]),
      'labels': torch.from_numpy(batch['labels'][i]).long(),
      'masks': torch.from_numpy(batch['masks'][i]),
    }
    for i in range(len(images))
  ]

  def call() -> None:
    optimizer.zero_grad()
    sum(net(images, targets).values()).backward()
    optimizer.step()

  return {"torchvision's Mask R-CNN": call}


def _narrow(torch: object, encoder: object, width: int) -> None:
  """Replaces the layers of a ResNet-18 by as many of other widths."""
  scale = 64 // width
  for module in list(encoder.modules()):
    for name, layer in list(module.named_children()):
      if isinstance(layer, torch.nn.Conv2d):
        before = 1 if layer.in_channels == 3 else layer.in_channels // scale
        new = torch.nn.Conv2d(
          before,
          layer.out_channels // scale,
          layer.kernel_size,
          layer.stride,
          layer.padding,
          bias=False,
        )
      elif isinstance(layer, torch.nn.BatchNorm2d):
        new = torch.nn.BatchNorm2d(layer.num_features // scale)
      else:
        continue
      setattr(module, name, new)


if __name__ == '__main__':
  main()
