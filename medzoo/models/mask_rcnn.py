"""Mask R-CNN: finds things in an image, each with a class, a box and a mask.

He et al. 2017 (arXiv 1703.06870) on a feature pyramid, as torchvision computes
it, so that the weights of its `maskrcnn_resnet50_fpn` load; what Matterport's
want is in `mask_rcnn_matterport`. This file holds the layers;
`mask_rcnn_forward` joins them to detections and to what the losses need, and
`predictors.mask_rcnn` runs them on images of any size.

  import jax
  from medzoo.models import mask_rcnn, resnet

  model = mask_rcnn.MaskRCNN(
    encoder=resnet.ResNet(18, width=16, norm='group', groups=8),
    fpn_channels=64,
    num_classes=3,
  )
  images = jax.numpy.zeros((1, 128, 128, 1))
  variables = model.init(jax.random.key(0), images, train=False)
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import fpn
from medzoo.models import mask_rcnn_heads
from medzoo.models import mask_rcnn_matterport
from medzoo.models import resnet

FACTS = models.Facts(
  task='finds things in images: class, box and mask of each',
  input_shape=(800, 1344, 3),
  weights="torchvision's maskrcnn_resnet50_fpn, Matterport's mask_rcnn_coco",
)
# The layers whose shapes depend on the number of classes, in torch's names:
# to be ignored where weights of another number are loaded, Matterport's too.
CLASS_LAYERS = (
  'roi_heads.box_predictor',
  'roi_heads.mask_predictor.mask_fcn_logits',
)


class MaskRCNN(nn.Module):
  """The layers of a Mask R-CNN.

  `features` is followed by three heads: `rpn(features)` judges the anchors,
  `box_head(rois)` and `mask_head(rois)` regions' features. They are modules of
  `mask_rcnn_heads`, and what lies between them is in `mask_rcnn_forward`.

  Attributes:
    encoder: maps an image to `c2` to `c5`, each of half the one before. The
      default's batch normalisation is frozen.
    fpn_channels: of each level of the pyramid.
    rpn_channels: of the layer that all anchors share.
    anchor_sizes: square root of the anchors' area, one for each level, `p2` to
      `p6`, pixels.
    anchor_ratios: height by width of the anchors at each place.
    box_units: of the two hidden layers of the box head.
    mask_channels: of the convolutions of the mask head.
    num_classes: with the background, which is class 0.
    norm: of the pyramid and the mask head: '' for none, as published, or
      'group', for training from scratch (He et al. 2018, arXiv 1811.08883).
    groups: of group normalisation; they divide the channels.
    box_size: side of a region's features for the box head.
    mask_size: the same for the mask head, whose masks have twice that side.
    aligned: whether boxes lie on features and masks where they lie in the
      image. Torchvision's weights are used to half a pixel's shift.
    dtype: the type computed in after the encoder; parameters and outputs are
      float32.
  """

  encoder: nn.Module = resnet.ResNet(norm='frozen')
  fpn_channels: int = 256
  rpn_channels: int = 256
  anchor_sizes: tuple[float | int, ...] = (32, 64, 128, 256, 512)
  anchor_ratios: tuple[float | int, ...] = (0.5, 1, 2)
  box_units: int = 1024
  mask_channels: tuple[int, ...] = (256, 256, 256, 256)
  num_classes: int = 91
  norm: str = ''
  groups: int = 32
  box_size: int = 7
  mask_size: int = 14
  aligned: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    """Makes the layers; their names are those of the parameters."""
    norm = dict(norm=self.norm, groups=self.groups, dtype=self.dtype)
    self.fpn = fpn.FPN(self.fpn_channels, **norm)
    self.rpn = mask_rcnn_heads.ProposalHead(
      self.rpn_channels, len(self.anchor_ratios), self.dtype
    )
    self.box_head = mask_rcnn_heads.BoxHead(
      self.box_units, self.num_classes, self.dtype
    )
    self.mask_head = mask_rcnn_heads.MaskHead(
      self.mask_channels, self.num_classes, **norm
    )

  def features(
    self, images: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b _ _ _']]:
    """Returns the pyramid of a batch of images.

    Args:
      images: as the encoder wants them. Torchvision's weights want RGB in
        [0, 1], less (0.485, 0.456, 0.406), by (0.229, 0.224, 0.225).
      train: whether batch normalisation uses the batch's own statistics; a
        frozen one never does.

    Returns:
      `p2` to `p6`, (b, h / stride, w / stride, fpn_channels) at strides 4 to
      64 under a ResNet, sides rounded up, float32.
    """
    return self.fpn(self.encoder(images, train=train))

  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b ...']]:
    """Runs every layer, with the whole image as the only region.

    For fresh parameters and to look at the raw outputs: detections come from
    `mask_rcnn_forward`.

    Args:
      x: images, see `features`.
      train: see `features`.

    Returns:
      `rpn_logits` (b, anchors) and `rpn_deltas` (b, anchors, 4), level by
      level; and of the whole image `logits` (b, num_classes), `deltas`
      (b, num_classes, 4) and `masks` (b, 28, 28, num_classes), logits.
    """
    features = self.features(x, train=train)
    logits, deltas = self.rpn(features)
    whole = features['p5']
    classes, moves = self.box_head(_resize(whole, self.box_size))
    return {
      'rpn_logits': jnp.concatenate(
        [y.reshape(len(y), -1) for y in logits.values()], 1
      ),
      'rpn_deltas': jnp.concatenate(
        [y.reshape(len(y), -1, 4) for y in deltas.values()], 1
      ),
      'logits': classes,
      'deltas': moves,
      'masks': self.mask_head(_resize(whole, self.mask_size)),
    }


def _resize(
  x: Float[Array, 'b h w c'], side: int
) -> Float[Array, 'b side side c']:
  return jax.image.resize(x, (len(x), side, side, x.shape[-1]), 'linear')


def torch_name(module: tuple[str, ...]) -> str:
  """Returns torchvision's name of a layer.

  Args:
    module: its path here, ('fpn', 'inner2', 'conv') say.

  Raises:
    ValueError: there is no such layer.
  """
  match module:
    case ('encoder', *rest):
      return f'backbone.body.{resnet.torch_name(tuple(rest))}'
    case ('fpn', layer, kind):
      group = f'{layer[:-1]}_blocks.{int(layer[-1]) - 2}'
      return f'backbone.fpn.{group}.{_place(kind)}'
    case ('rpn', 'conv', kind):
      return f'rpn.head.conv.0.{_place(kind)}'
    case ('mask_head', 'double'):
      return 'roi_heads.mask_predictor.conv5_mask'
    case ('mask_head', layer, kind):
      index = int(layer.removeprefix('conv')) - 1
      return f'roi_heads.mask_head.{index}.{_place(kind)}'
  name = '/'.join(module)
  if name not in _TORCH_NAMES:
    raise ValueError(f'no layer {name} in a Mask R-CNN')
  return _TORCH_NAMES[name]


def _place(kind: str) -> int:
  return ('conv', 'norm').index(kind)


_TORCH_NAMES = {
  'rpn/logits': 'rpn.head.cls_logits',
  'rpn/deltas': 'rpn.head.bbox_pred',
  'box_head/fc1': 'roi_heads.box_head.fc6',
  'box_head/fc2': 'roi_heads.box_head.fc7',
  'box_head/logits': 'roi_heads.box_predictor.cls_score',
  'box_head/deltas': 'roi_heads.box_predictor.bbox_pred',
  'mask_head/logits': 'roi_heads.mask_predictor.mask_fcn_logits',
}
# Names before torchvision 0.13, in which its published weights are stored.
_OLD_NAMES = (
  (r'(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(\w+)', r'\1.0.\2'),
  (r'(rpn\.head\.conv)\.(\w+)', r'\1.0.0.\2'),
)
_OLD_MASK_LAYER = re.compile(r'roi_heads\.mask_head\.mask_fcn(\d+)\.(\w+)')


def torch_tensors(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Puts torchvision's tensors into this file's order, still in torch's layout.

  Deltas are along y before x, a region's features have their channels last,
  and the transposed convolution is an ordinary kernel.

  Args:
    tensors: arrays by torch's names, those before torchvision 0.13 too.

  Returns:
    Arrays by torchvision's present names, for `weights.naming.fill`.
  """
  arranged = {}
  for name, tensor in tensors.items():
    name = _present_name(name)
    layer = name.rpartition('.')[0]
    if layer.endswith('.bbox_pred') and not len(tensor) % 4:
      quads = tensor.reshape(-1, 4, *tensor.shape[1:])
      tensor = quads[:, [1, 0, 3, 2]].reshape(tensor.shape)
    elif layer.endswith('.fc6') and tensor.ndim == 2:
      tensor = _channels_last(tensor)
    elif layer.endswith('.conv5_mask') and tensor.ndim == 4:
      tensor = tensor.swapaxes(0, 1)
    arranged[name] = tensor
  return arranged


def _present_name(name: str) -> str:
  for old, new in _OLD_NAMES:
    if re.fullmatch(old, name):
      return re.sub(old, new, name)
  found = _OLD_MASK_LAYER.fullmatch(name)
  if found:
    return f'roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}'
  return name


def _channels_last(weight: np.ndarray, side: int = 7) -> np.ndarray:
  """Reorders the inputs of a dense layer, a region's features."""
  if weight.shape[1] % side**2:
    return weight
  maps = weight.reshape(len(weight), -1, side, side)
  return maps.transpose(0, 2, 3, 1).reshape(weight.shape)


keras_tensors = mask_rcnn_matterport.torch_tensors

Model = MaskRCNN
