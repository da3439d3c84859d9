"""Matterport's weights in our Mask R-CNN, beside its network in numpy."""

import functools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import special

from medzoo.models import mask_rcnn
from medzoo.models import mask_rcnn_steps
from medzoo.models import resnet
from medzoo.ops import anchors as anchor_ops
from medzoo.ops import box_coder
from medzoo.weights import naming
from tests import keras_reference

# So few that it compiles quickly, with strides and without.
_UNITS = (1, 2, 1, 1)
_CLASSES = 5
_SIZES = dict(pyramid=6, rpn=10, box=12, mask=8, classes=_CLASSES)
_RATIOS = (0.5, 1, 2)


def _model(depth=50):
  return mask_rcnn.MaskRCNN(
    encoder=resnet.ResNet(
      depth, width=4, norm='frozen', epsilon=1e-3, style='keras'
    ),
    fpn_channels=6,
    rpn_channels=10,
    anchor_ratios=_RATIOS,
    box_units=12,
    mask_channels=(8, 8, 8, 8),
    num_classes=_CLASSES,
  )


def _shapes(model):
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  return jax.eval_shape(
    lambda key: model.lazy_init(key, image, train=False), jax.random.key(0)
  )


def _fill(shapes, arrays, **options):
  tensors = mask_rcnn.keras_tensors(arrays)
  return naming.fill(shapes, tensors, mask_rcnn.torch_name, **options)


@functools.cache
def _small():
  """Returns the shapes of the variables with few units."""
  with mock.patch.dict(resnet._UNITS, {50: _UNITS}):
    return _shapes(_model())


@functools.cache
def _arrays():
  shapes = keras_reference.matterport_shapes(_UNITS, 4, **_SIZES)
  return keras_reference.draw(shapes)


def _outputs(model, images, small, large):
  maps = model.encoder(images, train=False)
  levels = model.fpn(maps)
  return (
    maps,
    levels,
    model.rpn(levels),
    model.box_head(small),
    model.mask_head(large),
  )


def _decode(deltas, boxes, weights):
  boxes = boxes.astype(np.float32)
  return jax.jit(lambda x, y: box_coder.decode(x, y, weights))(deltas, boxes)


def _assert_close(found, expected):
  """Compares to 1e-4 of the largest value, as sums round in their size."""
  largest = np.abs(expected).max()
  np.testing.assert_allclose(
    found / largest, expected / largest, atol=1e-4, rtol=0
  )


class OutputsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    rng = np.random.default_rng(0)
    # Even sides, where TensorFlow's padding is not symmetric.
    cls.images = rng.normal(size=(2, 64, 128, 3)).astype(np.float32)
    cls.small = rng.normal(size=(3, 7, 7, 6)).astype(np.float32)
    cls.large = rng.normal(size=(2, 14, 14, 6)).astype(np.float32)
    cls.theirs = keras_reference.Network(_arrays())
    cls.model = _model()
    run = jax.jit(lambda *args: cls.model.apply(*args, method=_outputs))
    with mock.patch.dict(resnet._UNITS, {50: _UNITS}):
      variables = _fill(_small(), _arrays())
      ours = run(variables, cls.images, cls.small, cls.large)
    cls.ours = jax.tree.map(np.asarray, ours)

  def test_encoder_and_pyramid(self):
    maps = self.theirs.stages(self.images, _UNITS)
    found = self.ours[0]
    self.assertSameElements(found, ['c2', 'c3', 'c4', 'c5'])
    for i, expected in enumerate(maps, 2):
      _assert_close(found[f'c{i}'], expected)
    for i, expected in enumerate(self.theirs.pyramid(maps), 2):
      _assert_close(self.ours[1][f'p{i}'], expected)

  def test_proposals(self):
    logits, deltas = self.ours[2]
    found, expected = [], []
    for i, name in enumerate(logits):
      level = self.ours[1][name]
      shape, stride = level.shape[1:3], 4 * 2**i
      scores, moves = self.theirs.rpn(level)
      theirs = keras_reference.anchors(8 * stride, _RATIOS, shape, stride)
      ours = anchor_ops.grid(
        shape, stride, (8 * stride,), self.model.anchor_ratios
      )
      # Which of theirs each of ours is: theirs but for its sides' rounding.
      apart = np.abs(np.asarray(ours)[:, None] - theirs).max(-1)
      order = apart.argmin(1)
      self.assertLessEqual(apart.min(1).max(), 0.5)
      self.assertSameElements(order, range(len(theirs)))
      self.assertGreater(np.ptp(scores), 0.3)
      _assert_close(
        special.expit(logits[name]).reshape(2, -1), scores[:, order, 1]
      )
      found.append((deltas[name].reshape(2, -1, 4), theirs[order]))
      expected.append(keras_reference.moved(theirs, moves)[:, order])
    found, boxes = (np.concatenate(x, -2) for x in zip(*found, strict=True))
    # The proposal network's deltas have no weights; see `mask_rcnn_steps`.
    _assert_close(
      _decode(found, boxes, (1.0, 1.0, 1.0, 1.0)), np.concatenate(expected, 1)
    )

  def test_box_head(self):
    logits, deltas = self.ours[3]
    scores, moves = self.theirs.box_head(self.small)
    self.assertGreater(np.ptp(scores), 0.3)
    _assert_close(special.softmax(logits, -1), scores)
    box = np.array([[[3.0, 5.0, 40.0, 90.0]]])
    _assert_close(
      _decode(deltas, box, mask_rcnn_steps.BOX_WEIGHTS),
      keras_reference.moved(box, moves),
    )

  def test_mask_head(self):
    expected = self.theirs.mask_head(self.large)
    self.assertGreater(np.ptp(expected), 0.5)
    _assert_close(special.expit(self.ours[4]), expected)


class StrictTest(parameterized.TestCase):
  def _assert_refused(self, message, changes=None, without=(), **options):
    arrays = {
      name: array for name, array in _arrays().items() if name not in without
    }
    with self.assertRaisesRegex(ValueError, message) as caught:
      _fill(_small(), arrays | (changes or {}), **options)
    self.assertNotIn('\n', str(caught.exception))

  def test_missing(self):
    self._assert_refused(
      'layer conv1: found kernel, expected kernel, bias',
      without=('conv1/bias',),
    )
    norm = [f'bn3b_branch2a/{leaf}' for leaf in ('gamma', 'beta')]
    self._assert_refused('layer bn3b_branch2a: found moving_mean', without=norm)
    conv = [f'res3b_branch2a/{leaf}' for leaf in ('kernel', 'bias')]
    self._assert_refused(
      r'5 missing: .*backbone.body.layer2.1.conv1.weight.*; '
      r'4 extra: bn3b_branch2a.beta, bn3b_branch2a.gamma',
      without=conv,
    )
    logits = [f'mrcnn_class_logits/{leaf}' for leaf in ('kernel', 'bias')]
    self._assert_refused(
      r'2 missing: roi_heads.box_predictor.cls_score', without=logits
    )

  def test_extra(self):
    ones = np.ones(3, np.float32)
    self._assert_refused(
      '1 extra: anchors.Variable', {'anchors/Variable': ones}
    )
    self._assert_refused('found kernel, bias, beta', {'fpn_p2/beta': ones})
    found = _fill(
      _small(), _arrays() | {'anchors/Variable': ones}, ignore=('anchors',)
    )
    self.assertIn('params', found)

  @parameterized.parameters(
    ('fpn_p2/kernel', (3, 3, 6, 7), r'layer_blocks.0.0.weight \(found float32'),
    ('fpn_p2/kernel', (6, 7, 3), r'fpn_p2: found a kernel \(6, 7, 3\)'),
    ('fpn_p2/bias', (7,), r'layer_blocks.0.0.bias \(found float32 \(7,\)'),
    ('conv1/kernel', (7, 7, 3, 8), r'conv1 and bn_conv1: found a kernel'),
    ('bn_conv1/beta', (), r'conv1 and bn_conv1: found a kernel'),
    ('mrcnn_mask_bn2/gamma', (9,), r'beside \(8,\), \(9,\), expected as many'),
    ('mrcnn_class_conv1/kernel', (3, 3, 6, 12), r'fc6.weight \(found float32'),
    ('rpn_class_raw/kernel', (1, 1, 10, 9), 'found 9 channels, expected 2 an'),
    ('rpn_bbox_pred/bias', (8,), r'bbox_pred.bias \(found float32 \(8,\)'),
  )
  def test_misshapen(self, name, shape, message):
    self._assert_refused(message, {name: np.ones(shape, np.float32)})

  def test_another_number_of_classes_only_when_asked(self):
    shapes = keras_reference.matterport_shapes(
      _UNITS, 4, **_SIZES | dict(classes=3)
    )
    arrays = keras_reference.draw(shapes)
    self._assert_refused('6 misshapen: roi_heads.box_predictor', arrays)
    found = _fill(_small(), arrays, ignore=mask_rcnn.CLASS_LAYERS)['params']
    fresh = [
      path
      for path, leaf in jax.tree_util.tree_leaves_with_path(found)
      if isinstance(leaf, jax.ShapeDtypeStruct)
    ]
    self.assertLen(fresh, 6)
    np.testing.assert_array_equal(
      found['box_head']['fc1']['kernel'].shape, (7 * 7 * 6, 12)
    )


class PublishedTest(absltest.TestCase):
  def test_as_many_parameters_as_keras_counts(self):
    def count(shapes):
      return sum(math.prod(shape) for shape in shapes.values())

    full = keras_reference.matterport_shapes(keras_reference.RESNET101)
    self.assertEqual(count(full), 64_158_584)
    encoder = keras_reference.resnet_shapes(keras_reference.RESNET50)
    self.assertEqual(count(encoder), 23_587_712)

  def test_names_of_101_layers(self):
    shapes = keras_reference.matterport_shapes(
      keras_reference.RESNET101, 4, **_SIZES
    )
    arrays = {name: np.ones(s, np.float32) for name, s in shapes.items()}
    found = jax.tree.leaves(_fill(_shapes(_model(101)), arrays))
    self.assertTrue(all(isinstance(leaf, np.ndarray) for leaf in found))


if __name__ == '__main__':
  absltest.main()
