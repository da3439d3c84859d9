"""Tests of Mask R-CNN's layers, steps and both ways through it."""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.losses import mask_rcnn as losses
from medzoo.models import fpn
from medzoo.models import mask_rcnn
from medzoo.models import mask_rcnn_forward
from medzoo.models import mask_rcnn_heads
from medzoo.models import mask_rcnn_steps
from medzoo.models import mask_rcnn_targets
from medzoo.models import resnet
from medzoo.ops import proposals
from medzoo.weights import naming
from tests import make_golden
from tests import torch_reference
from tests.models import tiny_encoder

_GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'mask_rcnn.npz'
_SHAPE = (64, 96)


_MODEL = mask_rcnn.MaskRCNN(
  encoder=tiny_encoder.TinyEncoder(),
  fpn_channels=8,
  rpn_channels=8,
  anchor_sizes=(8, 16, 32, 48, 64),
  box_units=16,
  mask_channels=(8,),
  num_classes=3,
)


def _init(model, channels=1):
  """Returns the shapes of a model's variables."""
  image = jax.ShapeDtypeStruct((1, *_SHAPE, channels), jnp.float32)
  return jax.eval_shape(
    lambda key: model.lazy_init(key, image, train=False), jax.random.key(0)
  )


def _draw(shapes):
  """Draws variables; much faster than to initialise them."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.array(rng.normal(0, 0.2, x.shape), x.dtype), shapes
  )


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


class LayersTest(parameterized.TestCase):
  def test_parameters_as_torchvision_counts_them(self):
    shapes = _init(mask_rcnn.MaskRCNN(), 3)
    params = shapes['params']
    self.assertSameElements(
      params, ['encoder', 'fpn', 'rpn', 'box_head', 'mask_head']
    )
    # Scales and biases of frozen normalisation are no parameters there.
    self.assertEqual(_count(params) - 53_120, 44_401_393)

  @parameterized.parameters(18, 101)
  def test_shapes(self, depth):
    model = mask_rcnn.MaskRCNN(
      encoder=resnet.ResNet(depth, width=16, norm='group', groups=8),
      fpn_channels=32,
      num_classes=3,
      norm='group',
    )
    x = jax.ShapeDtypeStruct((2, 96, 160, 1), jnp.float32)
    outputs, variables = jax.eval_shape(
      functools.partial(model.init_with_output, train=True),
      jax.random.key(0),
      x,
    )
    anchors = 3 * (24 * 40 + 12 * 20 + 6 * 10 + 3 * 5 + 2 * 3)
    shapes = {name: y.shape for name, y in outputs.items()}
    self.assertEqual(
      shapes,
      {
        'rpn_logits': (2, anchors),
        'rpn_deltas': (2, anchors, 4),
        'logits': (2, 3),
        'deltas': (2, 3, 4),
        'masks': (2, 28, 28, 3),
      },
    )
    features = jax.eval_shape(
      lambda v, x: model.apply(v, x, train=False, method='features'),
      variables,
      x,
    )
    self.assertEqual(list(features), ['p2', 'p3', 'p4', 'p5', 'p6'])
    self.assertEqual(features['p2'].shape, (2, 24, 40, 32))
    self.assertEqual(features['p6'].shape, (2, 2, 3, 32))

  def test_pyramid_by_hand(self):
    sizes = {'c2': 9, 'c3': 5, 'c4': 3, 'c5': 2}
    maps = {
      name: np.random.default_rng(n).normal(size=(1, n, n, 2)).astype('f')
      for name, n in sizes.items()
    }
    module = fpn.FPN(2)
    maps = jax.tree.map(jnp.array, maps)
    shapes = jax.eval_shape(module.init, jax.random.key(0), maps)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    for i in range(2, 6):
      conv = params['params'][f'inner{i}']['conv']
      conv['kernel'] = jnp.eye(2)[None, None]
      conv = params['params'][f'layer{i}']['conv']
      conv['kernel'] = conv['kernel'].at[1, 1].set(jnp.eye(2))
    levels = jax.jit(module.apply)(params, maps)
    expected = {'p5': maps['c5']}
    for i in (4, 3, 2):
      n = sizes[f'c{i}']
      index = np.arange(n) // 2
      above = expected[f'p{i + 1}'][:, index][:, :, index]
      expected[f'p{i}'] = maps[f'c{i}'] + above
    expected['p6'] = expected['p5'][:, :1, :1]
    self.assertSameElements(levels, expected)
    for name, level in levels.items():
      np.testing.assert_allclose(level, expected[name], atol=1e-5)

  def test_double_by_hand(self):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    module = mask_rcnn_heads.Double(2)
    variables = _draw(jax.eval_shape(module.init, jax.random.key(1), x))
    y = jax.jit(module.apply)(variables, x)
    kernel = np.asarray(variables['params']['kernel'])
    bias = np.asarray(variables['params']['bias'])
    self.assertEqual(y.shape, (2, 6, 8, 2))
    for i, j in ((0, 0), (3, 6), (5, 7)):
      np.testing.assert_allclose(
        y[:, i, j],
        x[:, i // 2, j // 2] @ kernel[i % 2, j % 2] + bias,
        atol=1e-5,
      )

  def test_golden(self):
    """Torchvision's pyramid and heads on drawn maps, under drawn weights."""
    with np.load(_GOLDEN) as golden:
      facts = json.loads(str(golden['facts']))
      expected = {name: golden[name] for name in facts['outputs']}
    model = mask_rcnn.MaskRCNN(num_classes=3)
    tensors = mask_rcnn.torch_tensors(torch_reference.tensors(facts['shapes']))
    variables = naming.fill(_init(model, 3), tensors, mask_rcnn.torch_name)

    def run(model, maps, boxes, masks):
      levels = model.fpn(maps)
      logits, deltas = model.rpn(levels)
      classes, moves = model.box_head(boxes)
      return {
        **levels,
        'rpn_logits': logits['p3'],
        'rpn_deltas': deltas['p3'],
        'logits': classes,
        'deltas': moves,
        'masks': model.mask_head(masks),
      }

    ours = jax.jit(lambda v, *args: model.apply(v, *args, method=run))(
      variables, *torch_reference.head_inputs()
    )
    self.assertSameElements(ours, facts['outputs'])
    for name, shape in facts['outputs'].items():
      with self.subTest(name):
        self.assertEqual(ours[name].shape, tuple(shape))
        found = make_golden.sample(np.asarray(ours[name]))
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(
          found / largest, expected[name] / largest, atol=1e-4
        )


class WeightsTest(absltest.TestCase):
  def test_names_before_torchvision_0_13(self):
    old = {
      'backbone.fpn.inner_blocks.0.weight': np.zeros((2, 3, 1, 1)),
      'backbone.fpn.layer_blocks.3.bias': np.zeros(2),
      'rpn.head.conv.weight': np.zeros((2, 2, 3, 3)),
      'roi_heads.mask_head.mask_fcn4.bias': np.zeros(2),
      'roi_heads.box_head.fc7.bias': np.zeros(2),
    }
    self.assertSameElements(
      mask_rcnn.torch_tensors(old),
      [
        'backbone.fpn.inner_blocks.0.0.weight',
        'backbone.fpn.layer_blocks.3.0.bias',
        'rpn.head.conv.0.0.weight',
        'roi_heads.mask_head.3.0.bias',
        'roi_heads.box_head.fc7.bias',
      ],
    )

  def test_another_number_of_classes(self):
    with np.load(_GOLDEN) as golden:
      shapes = json.loads(str(golden['facts']))['shapes']
    tensors = mask_rcnn.torch_tensors(
      {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    )
    target = _init(mask_rcnn.MaskRCNN(num_classes=5), 3)
    fill = functools.partial(naming.fill, target, tensors, mask_rcnn.torch_name)
    with self.assertRaisesRegex(
      ValueError, r'6 misshapen: .*bbox_pred.weight \(found float32 \(12, 1024'
    ):
      fill()
    filled = fill(ignore=mask_rcnn.CLASS_LAYERS)
    left = [x for x in jax.tree.leaves(filled) if not isinstance(x, np.ndarray)]
    self.assertLen(left, 6)


class StepsTest(parameterized.TestCase):
  @parameterized.parameters(10, 40)
  def test_detections_by_a_plain_loop(self, most):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 40, (40, 2))], 1)
    logits = rng.normal(0, 2, (40, 4))
    deltas = rng.normal(0, 0.5, (40, 4, 4))
    valid = rng.random(40) < 0.5
    found = jax.jit(
      functools.partial(
        mask_rcnn_steps.detect,
        min_score=0.2,
        iou=0.4,
        min_side=3.0,
        max_detections=most,
      )
    )(
      *(jnp.array(x, jnp.float32) for x in (logits, deltas, boxes)),
      jnp.array(valid),
      jnp.array([60, 70]),
    )
    expected = _detect_slowly(logits, deltas, boxes, valid)
    self.assertBetween(len(expected), 11, 39)
    count = int(found['valid'].sum())
    self.assertEqual(count, min(most, len(expected)))
    for i, (score, label, box) in enumerate(expected[:most]):
      self.assertAlmostEqual(found['scores'][i], score, places=5)
      self.assertEqual(found['labels'][i], label)
      np.testing.assert_allclose(found['boxes'][i], box, atol=1e-3)
    for name in ('boxes', 'scores', 'labels'):
      self.assertFalse(np.asarray(found[name][count:]).any())

  def test_samples_of_anchors_and_regions(self):
    boxes = jnp.array([[10.0, 10, 30, 30], [0, 0, 0, 0], [40, 40, 60, 80]])
    labels = jnp.array([2, 0, 1])
    others = jnp.array(
      [[10.0, 10, 30, 28], [41, 40, 60, 80], [0, 0, 9, 9], [10, 10, 30, 19]]
    )
    sample = functools.partial(
      mask_rcnn_targets.for_anchors, size=4, share=0.5, high=0.7, low=0.3
    )
    anchors = jax.jit(sample)(others, boxes, labels, jax.random.key(0))
    # The last anchor lies between the thresholds.
    self.assertSameElements(np.asarray(anchors['indices'][:2]), [0, 1])
    self.assertEqual(int(anchors['indices'][2]), 2)
    np.testing.assert_array_equal(anchors['is_positive'], [1, 1, 0, 0])
    np.testing.assert_array_equal(anchors['valid'], [1, 1, 1, 0])
    first = int(np.argmax(anchors['indices'] == 0))
    np.testing.assert_allclose(
      anchors['targets'][first], [0, 1 / 18, 0, math.log(20 / 18)], atol=1e-6
    )
    sample = functools.partial(
      mask_rcnn_targets.for_regions, size=8, share=0.5, iou=0.5
    )
    regions = jax.jit(sample)(
      others,
      jnp.array([True, True, False, True]),
      boxes,
      labels,
      jax.random.key(1),
    )
    # Two good proposals and both truths; the proposal that is none is left out.
    np.testing.assert_array_equal(regions['valid'], [1, 1, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(sorted(regions['labels'][:4]), [1, 1, 2, 2])
    np.testing.assert_array_equal(regions['labels'][4:], [0, 0, 0, 0])
    np.testing.assert_array_equal(regions['boxes'][4], others[3])
    for i in range(4):
      truth = int(regions['matches'][i])
      self.assertEqual(labels[truth], regions['labels'][i])
      moved = 20 * float(regions['targets'][i, 0]) / 10
      middle = float(regions['boxes'][i, ::2].sum() / 2) + moved
      self.assertAlmostEqual(middle, float(boxes[truth, ::2].sum() / 2), 0)

  def test_masks_of_regions(self):
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[0, :, 10:] = 1
    masks[1, :5] = 1
    boxes = jnp.array([[0.0, 0, 20, 20], [0, 0, 10, 10], [12, 12, 18, 18]])
    drawn = jax.jit(
      functools.partial(mask_rcnn_targets.for_masks, side=4, aligned=False)
    )(jnp.array(masks), boxes, jnp.array([0, 1, 0]))
    drawn = np.round(drawn, 5)
    # Half a pixel off, as a feature lies at its cell's corner there.
    np.testing.assert_allclose(drawn[0, :, 0], 0)
    np.testing.assert_allclose(drawn[0, :, 3], 1)
    np.testing.assert_allclose(drawn[1, 0], 1)
    np.testing.assert_allclose(drawn[1, 3], 0)
    np.testing.assert_allclose(drawn[2], 1)


def _detect_slowly(logits, deltas, boxes, valid):
  """Scores by softmax, boxes by the coder's formulae, greedy suppression."""
  scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  found = []
  for label in (1, 2, 3):
    listed = []
    for i in np.flatnonzero(valid & (scores[:, label] > 0.2)):
      side = boxes[i, 2:] - boxes[i, :2]
      middle = boxes[i, :2] + side / 2 + deltas[i, label, :2] / 10 * side
      side = side * np.exp(deltas[i, label, 2:] / 5)
      box = np.concatenate([middle - side / 2, middle + side / 2])
      box = np.clip(box, 0, [60, 70, 60, 70])
      if (box[2:] - box[:2] >= 3).all():
        listed.append((scores[i, label], label, box))
    kept = []
    for one in sorted(listed, key=lambda one: -one[0]):
      if all(_iou(one[2], other[2]) <= 0.4 for other in kept):
        kept.append(one)
    found += kept
  return sorted(found, key=lambda one: -one[0])


def _iou(a, b):
  sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
  shared = np.maximum(sides, 0).prod()
  return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


class ForwardTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.variables = _draw(_init(_MODEL))
    cls.images = jax.random.uniform(jax.random.key(1), (2, *_SHAPE, 1))
    cls.sizes = jnp.array([[64, 96], [50, 70]])

  def test_training(self):
    settings = mask_rcnn_forward.Training(
      proposals.Settings(pre_nms=50, post_nms=20), num_anchors=32, num_regions=8
    )

    def loss(variables, boxes, labels, masks, key):
      outputs, state = mask_rcnn_forward.training_outputs(
        _MODEL,
        variables,
        self.images,
        self.sizes,
        boxes,
        labels,
        masks,
        key,
        settings,
        train=True,
      )
      terms = {}
      for name, arguments in outputs.items():
        terms |= getattr(losses, name)(**arguments)
      return sum(terms.values()), (terms, state)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    boxes = jnp.array([[[5.0, 5, 40, 40], [10, 50, 60, 90]]] * 2)
    masks = np.zeros((2, 2, *_SHAPE), np.uint8)
    masks[:, 0, 5:40, 5:40] = 1
    masks[:, 1, 10:60, 50:90] = 1
    for labels in ([[1, 2], [1, 0]], [[0, 0], [0, 0]], [[2, 1], [2, 1]]):
      labels = jnp.array(labels)
      (total, (terms, _)), gradients = step(
        self.variables,
        jnp.where(labels[..., None] > 0, boxes, 0),
        labels,
        jnp.array(masks),
        jax.random.key(3),
      )
      self.assertLen(terms, 5)
      self.assertTrue(np.isfinite(total))
      for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        with self.subTest(f'{labels} {path}'):
          self.assertTrue(np.isfinite(gradient).all())
          if labels.any():
            self.assertGreater(np.abs(gradient).max(), 0)
      if not labels.any():
        for name in ('rpn_box', 'box', 'mask'):
          self.assertEqual(terms[name], 0)
    # One compiled step served every number of objects.
    self.assertEqual(step._cache_size(), 1)

  def test_inference(self):
    settings = mask_rcnn_forward.Inference(
      proposals.Settings(pre_nms=50, post_nms=20),
      min_score=0.2,
      max_detections=12,
    )
    infer = jax.jit(
      functools.partial(mask_rcnn_forward.infer, settings=settings),
      static_argnums=0,
    )
    found = infer(_MODEL, self.variables, self.images, self.sizes)
    self.assertEqual(found['boxes'].shape, (2, 12, 4))
    self.assertEqual(found['masks'].shape, (2, 12, 28, 28))
    self.assertGreater(int(found['valid'].sum(1).min()), 0)
    for i, size in enumerate(np.asarray(self.sizes)):
      boxes = np.asarray(found['boxes'][i])
      self.assertGreaterEqual(boxes.min(), 0)
      self.assertTrue((boxes <= np.tile(size, 2)).all())
      self.assertTrue((np.diff(found['scores'][i]) <= 0).all())
    # Another neighbour in the batch, of another size, changes nothing.
    again = infer(
      _MODEL,
      self.variables,
      self.images.at[0].set(0),
      self.sizes.at[0].set(40),
    )
    for name, x in found.items():
      np.testing.assert_array_equal(x[1], again[name][1], name)


if __name__ == '__main__':
  absltest.main()
