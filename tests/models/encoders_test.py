"""Tests of the encoders, by torchvision's numbers and beside it."""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import blocks
from medzoo.models import inception_v1
from medzoo.models import resnet
from medzoo.weights import naming
from tests import make_golden
from tests import torch_reference

_GOLDEN = pathlib.Path(__file__).parent / 'golden'


def _shapes(model, size=64, channels=3, train=False):
  x = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
  return jax.eval_shape(
    functools.partial(model.init_with_output, train=train), keys, x
  )


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _ours(model, module, shapes, x, *, train=False):
  """Runs a model under the weights that the reference draws."""
  variables = naming.fill(
    _shapes(model)[1], torch_reference.tensors(shapes), module.torch_name
  )
  run = jax.jit(
    lambda variables, x: model.apply(
      variables, x, train=train, mutable=['batch_stats']
    )[0]
  )
  return run(variables, x)


def _assert_close(found, expected):
  """Compares to 1e-4 of the largest value, as sums round in their size."""
  largest = np.abs(expected).max()
  np.testing.assert_allclose(
    found / largest, expected / largest, atol=1e-4, rtol=0
  )


class ParityTest(parameterized.TestCase):
  @parameterized.parameters(
    ('googlenet', inception_v1.InceptionV1(num_classes=10), inception_v1),
    ('resnet18', resnet.ResNet(18, num_classes=10), resnet),
    ('resnet50', resnet.ResNet(50, norm='frozen', num_classes=10), resnet),
  )
  def test_golden(self, name, model, module):
    with np.load(_GOLDEN / f'{name}.npz') as golden:
      facts = json.loads(str(golden['facts']))
      ours = _ours(model, module, facts['shapes'], torch_reference.images())
      self.assertSameElements(ours, facts['outputs'])
      for key, shape in facts['outputs'].items():
        with self.subTest(key):
          self.assertEqual(ours[key].shape, tuple(shape))
          _assert_close(make_golden.sample(np.asarray(ours[key])), golden[key])

  @parameterized.parameters(False, True)
  def test_live_googlenet(self, train):
    net = torch_reference.googlenet()
    net.dropout.p = 0.0
    x = torch_reference.images((6, 64, 97, 3))
    theirs = torch_reference.outputs(
      net, torch_reference.GOOGLENET_MAPS, x, train=train
    )
    model = inception_v1.InceptionV1(num_classes=1000, dropout=0.0)
    shapes = torch_reference.state_dict(net)
    ours = _ours(model, inception_v1, shapes, x, train=train)
    self.assertSameElements(ours, theirs)
    for name, expected in theirs.items():
      with self.subTest(name):
        _assert_close(ours[name], expected)

  @parameterized.parameters((18, False), (50, False), (18, True))
  def test_live_resnet(self, depth, train):
    net = torch_reference.resnet(depth)
    x = torch_reference.images((3, 70, 64, 3))
    theirs = torch_reference.outputs(
      net, torch_reference.RESNET_MAPS, x, train=train
    )
    model = resnet.ResNet(depth, num_classes=1000)
    shapes = torch_reference.state_dict(net)
    ours = _ours(model, resnet, shapes, x, train=train)
    self.assertSameElements(ours, theirs)
    for name, expected in theirs.items():
      with self.subTest(name):
        _assert_close(ours[name], expected)

  @parameterized.parameters(34, 101, 152)
  def test_live_names_of_the_other_depths(self, depth):
    shapes = torch_reference.state_dict(torch_reference.resnet(depth))
    model = resnet.ResNet(depth, num_classes=1000)
    tensors = {n: np.zeros(s, np.float32) for n, s in shapes.items()}
    naming.fill(_shapes(model)[1], tensors, resnet.torch_name)


class InceptionV1Test(parameterized.TestCase):
  def test_parameters_as_torchvision_counts_them(self):
    model = inception_v1.InceptionV1(num_classes=1000)
    _, variables = _shapes(model, train=True)
    self.assertEqual(_count(variables['params']), 6_624_904)
    self.assertIn('head', variables['params'])

  def test_strides_and_channels(self):
    outputs, _ = _shapes(inception_v1.InceptionV1(), size=224)
    sizes = {name: y.shape[1:] for name, y in outputs.items()}
    self.assertEqual(sizes['conv1'], (112, 112, 64))
    self.assertEqual(sizes['conv3'], (56, 56, 192))
    self.assertEqual(sizes['fine'], (28, 28, 256))
    self.assertEqual(sizes['inception3b'], (28, 28, 480))
    self.assertEqual(sizes['inception4e'], (14, 14, 832))
    self.assertEqual(sizes['coarse'], (7, 7, 1024))
    self.assertNotIn('logits', sizes)

  @parameterized.parameters(('3a', 8), ('4a', 16), ('4c', 16), ('5a', 32))
  def test_a_narrow_one_that_ends_early(self, last, stride):
    model = inception_v1.InceptionV1(width=0.125, last=last)
    outputs, variables = _shapes(model, size=96, channels=1)
    self.assertEqual(outputs['coarse'].shape[1], 96 // stride)
    self.assertEqual(outputs['coarse'].shape, outputs[f'inception{last}'].shape)
    self.assertEqual(outputs['fine'].shape, (2, 12, 12, 32))
    self.assertLess(_count(variables), 120_000)
    self.assertNotIn('inception5b', variables['params'])

  def test_the_smallest_image(self):
    model = inception_v1.InceptionV1()
    outputs, _ = _shapes(model, size=inception_v1.SMALLEST)
    self.assertEqual(outputs['coarse'].shape, (2, 1, 1, 1024))
    with self.assertRaisesRegex(ValueError, r'\(14, 14\) pixels: expected 15'):
      _shapes(model, size=14)

  def test_an_unknown_block(self):
    with self.assertRaisesRegex(ValueError, "found '5c', expected one of 3a"):
      _shapes(inception_v1.InceptionV1(last='5c'))


class ResNetTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_a_unit_by_hand(self, bottleneck):
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 8))
    unit = resnet.Unit(2, 1, bottleneck, blocks.ConvNorm2D)
    unit = unit if bottleneck else unit.clone(features=8)
    variables = jax.jit(functools.partial(unit.init, train=False))(
      jax.random.key(1), x
    )
    params = variables['params']
    last = 'conv3' if bottleneck else 'conv2'
    self.assertSameElements(
      params, ['conv1', 'conv2', 'conv3'][: 2 + bottleneck]
    )
    params[last] = jax.tree.map(jnp.zeros_like, params[last])
    np.testing.assert_array_equal(
      unit.apply(variables, x, train=False), jnp.maximum(x, 0)
    )

  @parameterized.parameters(
    (18, 11_689_512),
    (34, 21_797_672),
    (50, 25_557_032),
    (101, 44_549_160),
    (152, 60_192_808),
  )
  def test_parameters_as_torchvision_counts_them(self, depth, count):
    _, variables = _shapes(resnet.ResNet(depth, num_classes=1000))
    self.assertEqual(_count(variables['params']), count)

  def test_strides_and_channels(self):
    outputs, variables = _shapes(resnet.ResNet(50, width=16), 96, channels=1)
    sizes = {name: y.shape[1:] for name, y in outputs.items()}
    self.assertEqual(
      sizes,
      {
        'c2': (24, 24, 64),
        'c3': (12, 12, 128),
        'c4': (6, 6, 256),
        'c5': (3, 3, 512),
      },
    )
    self.assertEqual(set(variables['params']), {'c1', 'c2', 'c3', 'c4', 'c5'})

  @parameterized.parameters('batch', 'frozen', 'group')
  def test_norms(self, norm):
    model = resnet.ResNet(18, width=8, norm=norm, groups=4)
    _, variables = _shapes(model, 32, train=True)
    self.assertEqual('batch_stats' in variables, norm != 'group')
    scales = [
      path
      for path, _ in jax.tree_util.tree_leaves_with_path(variables['params'])
      if path[-1].key == 'scale'
    ]
    self.assertLen(scales, 20)

  def test_an_unknown_depth_or_style(self):
    with self.assertRaisesRegex(ValueError, 'found 20, expected one of 18'):
      _shapes(resnet.ResNet(20))
    with self.assertRaisesRegex(ValueError, "found 'caffe', expected torch or"):
      _shapes(resnet.ResNet(50, style='caffe'))


if __name__ == '__main__':
  absltest.main()
