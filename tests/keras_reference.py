"""Keras's networks in numpy, and files of their weights as Keras writes them.

Written after the published code of the networks (github.com/matterport/
Mask_RCNN, github.com/fchollet/deep-learning-models, keras.applications) and
TensorFlow's rules of padding, with nothing of medzoo's.
"""

import math
import zlib

import h5py
import numpy as np

# Units of the stages 2 to 5.
RESNET50 = (3, 4, 6, 3)
RESNET101 = (3, 4, 23, 3)
# Convolutions of VGG16's blocks, and their channels by the first's.
_VGG16 = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
_RPN = ('rpn_conv_shared', 'rpn_class_raw', 'rpn_bbox_pred')


def resnet_shapes(units, width=64, channels=3):
  """Returns the shapes of a ResNet's arrays, by 'layer/array'."""
  shapes = {}
  _add_both(shapes, 'conv1', 'bn_conv1', 7, channels, width)
  last = width
  for stage, count in enumerate(units, 2):
    inner = width * 2 ** (stage - 2)
    for letter in map(chr, range(ord('a'), ord('a') + count)):
      branches = [('2a', 1, last, inner), ('2b', 3, inner, inner)]
      branches += [('2c', 1, inner, 4 * inner)]
      if letter == 'a':
        branches.append(('1', 1, last, 4 * inner))
      for branch, *sizes in branches:
        name = f'{stage}{letter}_branch{branch}'
        _add_both(shapes, f'res{name}', f'bn{name}', *sizes)
      last = 4 * inner
  return shapes


def matterport_shapes(
  units, width=64, *, pyramid=256, rpn=512, box=1024, mask=256, classes=81
):
  """Returns the shapes of the arrays of Matterport's network."""
  shapes = resnet_shapes(units, width)
  for i in range(2, 6):
    _add_conv(shapes, f'fpn_c{i}p{i}', 1, width * 2**i, pyramid)
    _add_conv(shapes, f'fpn_p{i}', 3, pyramid, pyramid)
  _add_conv(shapes, 'rpn_conv_shared', 3, pyramid, rpn)
  _add_conv(shapes, 'rpn_class_raw', 1, rpn, 2 * 3)
  _add_conv(shapes, 'rpn_bbox_pred', 1, rpn, 4 * 3)
  _add_both(shapes, 'mrcnn_class_conv1', 'mrcnn_class_bn1', 7, pyramid, box)
  _add_both(shapes, 'mrcnn_class_conv2', 'mrcnn_class_bn2', 1, box, box)
  for name, out in (('class_logits', classes), ('bbox_fc', 4 * classes)):
    shapes[f'mrcnn_{name}/kernel'] = (box, out)
    shapes[f'mrcnn_{name}/bias'] = (out,)
  for i in range(1, 5):
    inner = mask if i > 1 else pyramid
    names = f'mrcnn_mask_conv{i}', f'mrcnn_mask_bn{i}'
    _add_both(shapes, *names, 3, inner, mask)
  _add_conv(shapes, 'mrcnn_mask_deconv', 2, mask, mask)
  _add_conv(shapes, 'mrcnn_mask', 1, mask, classes)
  return shapes


def vgg16_shapes(width=64, side=224, units=4096, classes=1000):
  """Returns the shapes of a VGG16's arrays, with top; it lies last."""
  shapes = {}
  last = 3
  for block, (count, factor) in enumerate(_VGG16, 1):
    for i in range(1, count + 1):
      _add_conv(shapes, f'block{block}_conv{i}', 3, last, factor * width)
      last = factor * width
  last *= (side // 32) ** 2
  for name, size in (('fc1', units), ('fc2', units), ('predictions', classes)):
    shapes[f'{name}/kernel'] = (last, size)
    shapes[f'{name}/bias'] = (size,)
    last = size
  return shapes


def vgg16(arrays, images):
  """Runs a VGG16 on RGB in [0, 255]; returns maps by layer, and logits."""
  network = Network(arrays)
  # As preprocess_input in its mode 'caffe'.
  x = images[..., ::-1] - np.array([103.939, 116.779, 123.68])
  outputs = {}
  for block, (count, _) in enumerate(_VGG16, 1):
    for i in range(1, count + 1):
      name = f'block{block}_conv{i}'
      x = outputs[name] = _relu(network.conv(x, name))
    x = outputs[f'pool{block}'] = _windows(x, 2, 2).max((-1, -2))
  x = x.reshape(len(x), -1)
  for name in ('fc1', 'fc2'):
    x = _relu(network.dense(x, name))
  return outputs | {'logits': network.dense(x, 'predictions')}


def _add_conv(shapes, name, window, inputs, outputs):
  shapes[f'{name}/kernel'] = (window, window, inputs, outputs)
  shapes[f'{name}/bias'] = (outputs,)


def _add_both(shapes, conv, norm, window, inputs, outputs):
  _add_conv(shapes, conv, window, inputs, outputs)
  for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance'):
    shapes[f'{norm}/{leaf}'] = (outputs,)


def draw(shapes):
  """Draws arrays.

  Variances are small, so that epsilon counts, and so are the kernels of the
  pyramid, so that its levels have a deviation of about 1.
  """
  arrays = {}
  for name, shape in shapes.items():
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition('/')[2]
    if leaf == 'kernel':
      small = 0.1 if name.startswith('fpn_p') else 1
      array = rng.normal(0, small * math.sqrt(2 / math.prod(shape[:-1])), shape)
    elif leaf == 'gamma':
      array = rng.uniform(0.05, 0.15, shape)
    elif leaf == 'moving_variance':
      array = rng.uniform(0.005, 0.015, shape)
    else:
      array = rng.normal(0, 0.1, shape)
    arrays[name] = array.astype(np.float32)
  return arrays


def write(path, arrays, *, whole=False):
  """Writes arrays as Keras 2 does; `whole` as `save`, not `save_weights`."""
  layers = {}
  for name, array in arrays.items():
    layer = name.partition('/')[0]
    group = 'rpn_model' if layer in _RPN else layer
    layers.setdefault(group, {})[f'{name}:0'] = array
  with h5py.File(path, 'w') as file:
    root = file.create_group('model_weights') if whole else file
    if whole:
      file.create_group('optimizer_weights')['iterations:0'] = np.int64(7)
    # Layers without arrays have their groups too.
    for group, found in {'input_image': {}, **layers}.items():
      _write_group(root.create_group(group), found)
    root.attrs['layer_names'] = [name.encode() for name in layers]


def write_keras_1(path, arrays, suffix=''):
  """Writes arrays as Keras 1 did, under other names."""
  old = {
    'kernel': 'W',
    'bias': 'b',
    'moving_mean': 'running_mean',
    'moving_variance': 'running_std',
  }
  layers = {}
  for name, array in arrays.items():
    layer, leaf = name.split('/')
    full = f'{layer}_{old.get(leaf, leaf)}{suffix}:0'
    layers.setdefault(layer, {})[full] = array
  with h5py.File(path, 'w') as file:
    for group, found in layers.items():
      _write_group(file.create_group(group), found)
    file.attrs['layer_names'] = [name.encode() for name in layers]


def _write_group(group, arrays):
  group.attrs['weight_names'] = [name.encode() for name in arrays]
  for name, array in arrays.items():
    group.create_dataset(name, data=array)


class Network:
  """Layers and Matterport's network, under given arrays, in float64."""

  def __init__(self, arrays):
    self._arrays = {name: x.astype(float) for name, x in arrays.items()}

  def conv(self, x, name, stride=1, *, valid=False):
    kernel = self._arrays[f'{name}/kernel']
    if not valid:
      x = _pad(x, len(kernel), stride, 0.0)
    windows = _windows(x, len(kernel), stride)
    y = np.einsum('bhwckl,klco->bhwo', windows, kernel, optimize=True)
    return y + self._arrays[f'{name}/bias']

  def norm(self, x, name):
    gamma, beta, mean, variance = (
      self._arrays[f'{name}/{leaf}']
      for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')
    )
    return gamma * (x - mean) / np.sqrt(variance + 0.001) + beta

  def dense(self, x, name):
    return x @ self._arrays[f'{name}/kernel'] + self._arrays[f'{name}/bias']

  def stages(self, images, units):
    """Returns C2 to C5."""
    x = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    x = self.norm(self.conv(x, 'conv1', 2, valid=True), 'bn_conv1')
    x = _windows(_pad(_relu(x), 3, 2, -np.inf), 3, 2).max((-1, -2))
    maps = []
    for stage, count in enumerate(units, 2):
      for unit in map(chr, range(ord('a'), ord('a') + count)):
        stride = 2 if unit == 'a' and stage > 2 else 1
        place = f'{stage}{unit}_branch'
        y = self.conv(x, f'res{place}2a', stride)
        y = _relu(self.norm(y, f'bn{place}2a'))
        y = _relu(self.norm(self.conv(y, f'res{place}2b'), f'bn{place}2b'))
        y = self.norm(self.conv(y, f'res{place}2c'), f'bn{place}2c')
        if unit == 'a':
          x = self.conv(x, f'res{place}1', stride)
          x = self.norm(x, f'bn{place}1')
        x = _relu(x + y)
      maps.append(x)
    return maps

  def pyramid(self, maps):
    """Returns P2 to P6."""
    levels = []
    above = None
    for i in (5, 4, 3, 2):
      inner = self.conv(maps[i - 2], f'fpn_c{i}p{i}')
      if above is not None:
        inner = inner + above.repeat(2, 1).repeat(2, 2)
      levels.insert(0, self.conv(inner, f'fpn_p{i}'))
      above = inner
    return [*levels, levels[-1][:, ::2, ::2]]

  def rpn(self, level):
    """Returns the anchors' probabilities (b, n, 2) and deltas (b, n, 4)."""
    shared = _relu(self.conv(level, 'rpn_conv_shared'))
    logits = self.conv(shared, 'rpn_class_raw').reshape(len(level), -1, 2)
    deltas = self.conv(shared, 'rpn_bbox_pred').reshape(len(level), -1, 4)
    return _softmax(logits), deltas

  def box_head(self, rois):
    """Returns probabilities (n, classes) and deltas (n, classes, 4)."""
    x = self.conv(rois, 'mrcnn_class_conv1', valid=True)
    x = _relu(self.norm(x, 'mrcnn_class_bn1'))
    x = self.conv(x, 'mrcnn_class_conv2', valid=True)
    x = _relu(self.norm(x, 'mrcnn_class_bn2'))[:, 0, 0]
    deltas = self.dense(x, 'mrcnn_bbox_fc')
    return (
      _softmax(self.dense(x, 'mrcnn_class_logits')),
      deltas.reshape(len(rois), -1, 4),
    )

  def mask_head(self, rois):
    """Returns probabilities (n, 2h, 2w, classes)."""
    x = rois
    for i in range(1, 5):
      x = self.conv(x, f'mrcnn_mask_conv{i}')
      x = _relu(self.norm(x, f'mrcnn_mask_bn{i}'))
    kernel = self._arrays['mrcnn_mask_deconv/kernel']
    n, h, w, _ = x.shape
    y = np.zeros((n, 2 * h, 2 * w, kernel.shape[2]))
    for s, t in np.ndindex(2, 2):
      y[:, s::2, t::2] = x @ kernel[s, t].T
    y = _relu(y + self._arrays['mrcnn_mask_deconv/bias'])
    return 1 / (1 + np.exp(-self.conv(y, 'mrcnn_mask')))


def anchors(scale, ratios, shape, stride):
  """Returns Matterport's anchors (n, 4), corners by y before x."""
  heights = [scale / math.sqrt(ratio) for ratio in ratios]
  widths = [scale * math.sqrt(ratio) for ratio in ratios]
  return np.array(
    [
      (y - h / 2, x - w / 2, y + h / 2, x + w / 2)
      for y in np.arange(shape[0]) * stride
      for x in np.arange(shape[1]) * stride
      for h, w in zip(heights, widths, strict=True)
    ]
  )


def moved(boxes, deltas):
  """Returns boxes moved by Matterport's deltas, after their deviations."""
  deltas = deltas * [0.1, 0.1, 0.2, 0.2]
  side = boxes[..., 2:] - boxes[..., :2]
  middle = boxes[..., :2] + 0.5 * side + deltas[..., :2] * side
  side = side * np.exp(deltas[..., 2:])
  return np.concatenate([middle - 0.5 * side, middle + 0.5 * side], -1)


def _pad(x, window, stride, value):
  """Pads as TensorFlow's SAME does, the odd row at the end."""
  pads = []
  for size in x.shape[1:3]:
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    pads.append((total // 2, total - total // 2))
  return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _windows(x, window, stride):
  """Returns (b, h, w, c, window, window)."""
  shape = (window, window)
  windows = np.lib.stride_tricks.sliding_window_view(x, shape, (1, 2))
  return windows[:, ::stride, ::stride]


def _relu(x):
  return np.maximum(x, 0)


def _softmax(x):
  powers = np.exp(x - x.max(-1, keepdims=True))
  return powers / powers.sum(-1, keepdims=True)
