"""Matterport's Mask R-CNN, whose weights load into ours.

The network of github.com/matterport/Mask_RCNN (mrcnn/model.py, MIT licence),
by its layers' names and its config's numbers. The model that computes the same
is

  mask_rcnn.MaskRCNN(
    encoder=resnet.ResNet(101, norm='frozen', style='keras', epsilon=1e-3),
    rpn_channels=512,
    num_classes=81,
  )

for `mask_rcnn_coco.h5`, of images in RGB from 0 to 255, less (123.7, 116.8,
103.9), not divided. Of a padded image whose sides 64 divides the features are
then Matterport's to rounding, and so is what the proposal network says of each
anchor, and what the heads say of a region's features.

What lies between is torchvision's and differs a little. Matterport does not
round the anchors' sides to whole pixels (their centres and order agree), takes
a pixel off every box where it normalises coordinates, rounds a region's level
of the pyramid to the nearest rather than down, and reads one point a bin of a
region (`tf.image.crop_and_resize`) where torchvision averages four. So the
weights are for starting a training; what they find without one is not what
Matterport finds to the digit, and how near it comes has not been measured.
"""

import re
from collections.abc import Mapping

import numpy as np

from medzoo.models import keras_layers
from medzoo.models import resnet

# RPN_BBOX_STD_DEV of the config: what Matterport multiplies the proposal
# network's deltas by. BBOX_STD_DEV, for the box head's, is ours too.
_RPN_DEVIATION = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
# Torch's names of the layers behind the encoder.
_NAMES = {
  **{
    f'fpn_c{i}p{i}': f'backbone.fpn.inner_blocks.{i - 2}.0' for i in range(2, 6)
  },
  **{f'fpn_p{i}': f'backbone.fpn.layer_blocks.{i - 2}.0' for i in range(2, 6)},
  'rpn_conv_shared': 'rpn.head.conv.0.0',
  'rpn_class_raw': 'rpn.head.cls_logits',
  'rpn_bbox_pred': 'rpn.head.bbox_pred',
  'mrcnn_class_conv1': 'roi_heads.box_head.fc6',
  'mrcnn_class_conv2': 'roi_heads.box_head.fc7',
  'mrcnn_class_logits': 'roi_heads.box_predictor.cls_score',
  'mrcnn_bbox_fc': 'roi_heads.box_predictor.bbox_pred',
  **{
    f'mrcnn_mask_conv{i}': f'roi_heads.mask_head.{i - 1}.0' for i in range(1, 5)
  },
  'mrcnn_mask_deconv': 'roi_heads.mask_predictor.conv5_mask',
  'mrcnn_mask': 'roi_heads.mask_predictor.mask_fcn_logits',
}


def torch_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Names and arranges Matterport's arrays as `mask_rcnn.torch_tensors` does.

  The batch normalisation of the heads is folded into their layers, the two
  logits of an anchor become one, and the deviations of the anchors' deltas go
  into the layer. The anchors of a place are by width over height, ours by
  height over width, so they change their order.

  Args:
    arrays: of the whole network, as `weights.keras_files.read` gives them.

  Returns:
    Arrays by torchvision's names, for `weights.naming.fill`; what is not
    Matterport's stays under its own.

  Raises:
    ValueError: a layer lacks an array, or its arrays do not fit each other.
  """
  layers = keras_layers.by_layer(arrays)
  tensors = {
    f'backbone.body.{name}': tensor
    for name, tensor in resnet.take_keras(layers).items()
  }
  for layer, name in _NAMES.items():
    if layer in layers:
      conv = _arranged(layer, _take(layers, layer))
      tensors |= keras_layers.as_torch(name, conv)
  return tensors | keras_layers.rest(layers)


def _take(layers: keras_layers.Layers, name: str) -> keras_layers.Conv:
  """Takes a layer, with its normalisation if it has one."""
  if re.fullmatch(r'mrcnn_(class|mask)_conv\d', name):
    norm = name.replace('_conv', '_bn')
    return keras_layers.fold(*keras_layers.take_both(layers, name, norm))
  return keras_layers.take_conv(layers, name)


def _arranged(name: str, conv: keras_layers.Conv) -> keras_layers.Conv:
  """Brings a layer into the shape and order of ours."""
  kernel, bias = conv
  match name:
    case 'rpn_class_raw':
      return keras_layers.Conv(_foreground(kernel), _foreground(bias))
    case 'rpn_bbox_pred':
      return keras_layers.Conv(_deltas(kernel), _deltas(bias))
    case 'mrcnn_class_conv1' | 'mrcnn_class_conv2':
      # A window as large as the region is a dense layer of (h, w, c).
      return keras_layers.Conv(kernel.reshape(-1, kernel.shape[-1]), bias)
    case 'mrcnn_mask_deconv':
      # Keras keeps (h, w, out, in).
      return keras_layers.Conv(kernel.swapaxes(-1, -2), bias)
  return conv


def _foreground(x: np.ndarray) -> np.ndarray:
  """Returns how much surer each anchor is of an object than of none."""
  pairs = _by_anchor(x, 2)
  return pairs[..., 1] - pairs[..., 0]


def _deltas(x: np.ndarray) -> np.ndarray:
  """Returns deltas in the unit of the anchors."""
  deltas = _by_anchor(x, 4) * _RPN_DEVIATION
  return deltas.reshape(x.shape)


def _by_anchor(x: np.ndarray, count: int) -> np.ndarray:
  """Splits the last axis, channels, by anchor in our order."""
  if x.shape[-1] % count:
    raise ValueError(
      f'the proposal network: found {x.shape[-1]} channels, expected {count} '
      'an anchor'
    )
  return x.reshape(*x.shape[:-1], -1, count)[..., ::-1, :]
