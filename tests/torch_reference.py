"""Torch's networks as references, and weights for them that need no file.

Golden files hold torchvision's outputs under weights that `tensor` draws by
name, so that no weights need to be stored and torch is only needed to make
them (`python -m tests.make_golden`).
"""

import inspect
import math
import sys
import types
import unittest
import zlib
from collections.abc import Mapping

import numpy as np

# Operators in C++ that torchvision names on import. They are absent where its
# build and torch's differ (CUDA and CPU, say); no classifier uses them.
_OPERATORS = (
  'nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward '
  'ps_roi_align _ps_roi_align_backward ps_roi_pool _ps_roi_pool_backward '
  'qroi_align deform_conv2d _deform_conv2d_backward'
)


def load() -> tuple[types.ModuleType, types.ModuleType]:
  """Returns torch and torchvision, or skips the test."""
  try:
    import torch
  except ImportError:
    raise unittest.SkipTest('torch is not installed: .[parity]') from None
  try:
    import torchvision
  except ImportError:
    raise unittest.SkipTest('torchvision is not installed') from None
  except RuntimeError:
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in _OPERATORS.split():
      library.define(f'{name}() -> ()')
    import torchvision
  return torch, torchvision


def detection() -> tuple[types.ModuleType, types.ModuleType]:
  """Does as `load`, with plain definitions of operators that are absent.

  Of the operators in C++ detection needs RoIAlign, which torchvision has in
  Python too, and non-maximum suppression.
  """
  torch, torchvision = load()
  if not torchvision.extension._has_ops():
    align = sys.modules['torchvision.ops.roi_align']
    # Without the compiler that is wrapped round it.
    align._roi_align = inspect.unwrap(align._roi_align)
    boxes = torchvision.ops.boxes

    def nms(corners, scores, iou_threshold):
      overlaps = boxes.box_iou(corners, corners) > iou_threshold
      kept = []
      for i in scores.argsort(descending=True, stable=True):
        if not overlaps[i, kept].any():
          kept.append(int(i))
      return torch.tensor(kept, dtype=torch.int64)

    boxes.nms = torchvision.ops.nms = nms
  return torch, torchvision


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Draws a tensor of torch's name, the same one on every machine."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  leaf = name.rpartition('.')[2]
  if leaf == 'num_batches_tracked':
    return np.zeros(shape, np.int64)
  if leaf == 'running_var' or (leaf == 'weight' and len(shape) == 1):
    drawn = rng.uniform(0.5, 1.0, shape)
  elif leaf == 'weight':
    drawn = rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
  else:
    drawn = rng.normal(0, 0.1, shape)
  return drawn.astype(np.float32)


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Draws the tensors of a state dict."""
  return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def images(shape: tuple[int, ...] = (2, 75, 66, 3)) -> np.ndarray:
  """Draws images, channels last, of sides that no stride divides."""
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def state_dict(model) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of a torch model's state dict."""
  return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def outputs(
  model, maps: Mapping[str, str], x: np.ndarray, *, train: bool = False
) -> dict[str, np.ndarray]:
  """Runs a torch model under the weights that `tensor` draws.

  Args:
    model: a torch module.
    maps: our names of outputs, and the torch modules that give them.
    x: (b, h, w, c) images.
    train: whether batch normalisation uses the batch's own statistics.

  Returns:
    The outputs, maps with channels last.
  """
  torch, _ = load()
  drawn = tensors(state_dict(model))
  model.load_state_dict({n: torch.from_numpy(t) for n, t in drawn.items()})
  found = {}
  modules = dict(model.named_modules())

  def keep(name):
    # A copy, as later layers may write in place.
    def hook(module, inputs, output):
      found[name] = output.detach().clone().numpy()

    return hook

  for name, module in maps.items():
    modules[module].register_forward_hook(keep(name))
  with torch.no_grad():
    model.train(train)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
  return {
    name: y.transpose(0, 2, 3, 1) if y.ndim == 4 else y
    for name, y in found.items()
  }


def googlenet(classes: int = 1000):
  """Builds torchvision's GoogLeNet without the auxiliary classifiers."""
  _, torchvision = load()
  return torchvision.models.googlenet(
    num_classes=classes, aux_logits=False, init_weights=False
  )


def resnet(depth: int, classes: int = 1000):
  """Builds torchvision's ResNet."""
  _, torchvision = load()
  return getattr(torchvision.models, f'resnet{depth}')(num_classes=classes)


def vgg16(
  classes: int = 10, *, width: int = 4, units: int = 8, norm: bool = False
):
  """Builds torchvision's VGG16, or VGG16-BN, of another width."""
  torch, torchvision = load()
  published = torchvision.models.vgg
  sizes = [n if n == 'M' else n * width // 64 for n in published.cfgs['D']]
  with torch.device('meta'):
    net = published.VGG(published.make_layers(sizes, norm), init_weights=False)
    dense = net.classifier
    dense[0] = torch.nn.Linear(8 * width * 7 * 7, units)
    dense[3] = torch.nn.Linear(units, units)
    dense[6] = torch.nn.Linear(units, classes)
  return net.to_empty(device='cpu')


def mask_rcnn(classes: int = 3):
  """Builds torchvision's Mask R-CNN with a ResNet-50 and a pyramid."""
  _, torchvision = detection()
  return torchvision.models.detection.maskrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=classes
  ).eval()


def head_inputs() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
  """Draws an encoder's maps, and regions for the heads of boxes and masks."""
  sides = {'c2': (12, 16), 'c3': (6, 8), 'c4': (3, 4), 'c5': (2, 2)}
  maps = {
    name: images((1, *side, 256 * 2**i))
    for i, (name, side) in enumerate(sides.items())
  }
  return maps, images((3, 7, 7, 256)), images((2, 14, 14, 256))


def head_outputs(model) -> dict[str, np.ndarray]:
  """Runs the pyramid and the heads of a Mask R-CNN on `head_inputs`.

  The weights are those that `tensor` draws. What is by x before y is turned to
  our order.
  """
  torch, _ = load()
  drawn = tensors(state_dict(model))
  model.load_state_dict({n: torch.from_numpy(t) for n, t in drawn.items()})

  def to_torch(x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())

  def from_torch(x):
    return x.numpy().transpose(0, 2, 3, 1)

  def in_order(deltas):
    return deltas.reshape(*deltas.shape[:-1], -1, 4)[..., [1, 0, 3, 2]]

  maps, boxes, masks = head_inputs()
  heads = model.roi_heads
  with torch.no_grad():
    levels = model.backbone.fpn(
      {str(i): to_torch(x) for i, x in enumerate(maps.values())}
    )
    logits, deltas = model.rpn.head(list(levels.values()))
    classes, moves = heads.box_predictor(heads.box_head(to_torch(boxes)))
    drawn = heads.mask_predictor(heads.mask_head(to_torch(masks)))
  return {
    **{f'p{i}': from_torch(x) for i, x in enumerate(levels.values(), 2)},
    'rpn_logits': from_torch(logits[1]),
    'rpn_deltas': in_order(from_torch(deltas[1])),
    'logits': classes.numpy(),
    'deltas': in_order(moves.numpy()),
    'masks': from_torch(drawn),
  }


_BLOCKS = '3a 3b 4a 4b 4c 4d 4e 5a 5b'.split()
GOOGLENET_MAPS = {
  'conv1': 'conv1',
  'conv3': 'conv3',
  **{f'inception{block}': f'inception{block}' for block in _BLOCKS},
  'fine': 'inception3a',
  'coarse': 'inception5b',
  'logits': 'fc',
}
RESNET_MAPS = {f'c{i + 1}': f'layer{i}' for i in (1, 2, 3, 4)} | {
  'logits': 'fc'
}


def vgg16_maps(norm: bool = False) -> dict[str, str]:
  """Returns our names of a VGG16's outputs, and torchvision's layers."""
  maps, place = {}, -1
  for i, count in enumerate((2, 2, 3, 3, 3), 1):
    for j in range(1, count + 1):
      place += 3 if norm else 2
      maps[f'block{i}_conv{j}'] = f'features.{place}'
    place += 1
    maps[f'pool{i}'] = f'features.{place}'
  return maps | {'logits': 'classifier'}
