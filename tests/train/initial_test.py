"""Tests of what a stage starts from."""

import pathlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import mask_rcnn
from medzoo.models import resnet
from medzoo.train import build
from medzoo.train import initial
from medzoo.weights import native
from tests import keras_reference
from tests import torch_reference

_MODEL = resnet.ResNet(18, width=4)


def _variables():
  """Zeros in the shape of a model whose encoder is a narrow ResNet."""
  shapes = jax.eval_shape(
    lambda: _MODEL.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False
    )
  )
  return {
    part: {'encoder': jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), tree)}
    for part, tree in shapes.items()
  }


def _file(folder: pathlib.Path) -> pathlib.Path:
  """Writes such a ResNet as torch would name it, with a classifier."""
  shapes = {'fc.weight': (9, 32), 'fc.bias': (9,)}
  leaves = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
  }
  for keys, leaf in jax.tree_util.tree_leaves_with_path(_variables()):
    _, _, *module, kind = [key.key for key in keys]
    shape = leaf.shape
    if kind == 'kernel':
      shape = (shape[3], shape[2], *shape[:2])
    name = resnet.torch_name(tuple(module))
    shapes[f'{name}.{leaves[kind]}'] = shape
  path = folder / 'resnet.safetensors'
  safetensors.numpy.save_file(torch_reference.tensors(shapes), path)
  return path


class KerasTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'weights.h5'

  def _start(self, variables, **source):
    source = dict(weights=str(self.path), modules=()) | source
    return initial.start(variables, [source], lambda stage: self.path)

  def _zeros(self, model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(
      lambda key: model.lazy_init(key, image, train=False), jax.random.key(0)
    )
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)

  def test_an_encoder_of_keras_1(self):
    self.enter_context(mock.patch.dict(resnet._UNITS, {50: (1, 1, 1, 2)}))
    model = resnet.ResNet(50, width=2, style='keras', epsilon=1e-3)
    zeros = self._zeros(model)
    variables = {part: {'encoder': tree} for part, tree in zeros.items()}
    shapes = keras_reference.resnet_shapes((1, 1, 1, 2), 2)
    arrays = keras_reference.draw(shapes)
    source = dict(model='resnet', to='encoder')
    keras_reference.write_keras_1(self.path, arrays)
    found = self._start(variables, **source)
    np.testing.assert_array_equal(
      found['params']['encoder']['c5']['unit1']['conv3']['conv']['kernel'],
      arrays['res5b_branch2c/kernel'],
    )
    np.testing.assert_array_equal(
      found['batch_stats']['encoder']['c3']['unit0']['shortcut']['norm'][
        'mean'
      ],
      arrays['bn3a_branch1/moving_mean'] - arrays['res3a_branch1/bias'],
    )
    head = {'fc1000/kernel': (16, 9), 'fc1000/bias': (9,)}
    arrays |= keras_reference.draw(head)
    keras_reference.write_keras_1(self.path, arrays)
    with self.assertRaisesRegex(
      ValueError, 'init_from: .*weights.h5: .*2 extra: fc.bias, fc.weight$'
    ):
      self._start(variables, **source)
    self._start(variables, ignore=('fc',), **source)

  def test_matterport(self):
    self.enter_context(mock.patch.dict(resnet._UNITS, {50: (1, 1, 1, 1)}))
    model = mask_rcnn.MaskRCNN(
      encoder=resnet.ResNet(
        50, width=2, norm='frozen', style='keras', epsilon=1e-3
      ),
      fpn_channels=3,
      rpn_channels=4,
      box_units=5,
      mask_channels=(6, 6, 6, 6),
      num_classes=3,
    )
    variables = self._zeros(model)
    shapes = keras_reference.matterport_shapes(
      (1, 1, 1, 1), 2, pyramid=3, rpn=4, box=5, mask=6, classes=7
    )
    arrays = keras_reference.draw(shapes)
    keras_reference.write(self.path, arrays)
    with self.assertRaisesRegex(
      ValueError, 'init_from: .*weights.h5: the weights .* 6 misshapen: roi'
    ):
      self._start(variables, model='mask_rcnn')
    found = self._start(
      variables, model='mask_rcnn', ignore=mask_rcnn.CLASS_LAYERS
    )['params']
    np.testing.assert_array_equal(
      found['fpn']['layer3']['conv']['kernel'], arrays['fpn_p3/kernel']
    )
    self.assertTrue(found['mask_head']['double']['kernel'].all())
    self.assertFalse(found['mask_head']['logits']['kernel'].any())
    with self.assertRaisesRegex(ValueError, 'no layer c1/.* in a Mask R-CNN'):
      self._start(variables, model='mask_rcnn', to='encoder')
    del arrays['bn_conv1/gamma']
    keras_reference.write(self.path, arrays)
    with self.assertRaisesRegex(
      ValueError, 'init_from: .*weights.h5: layer bn_conv1: found'
    ):
      self._start(variables, model='mask_rcnn')

  def test_refusals(self):
    variables = {'params': {'c1': np.zeros(3)}}
    with self.assertRaisesRegex(build.ConfigError, 'has no names in Keras'):
      self._start(variables, model='inception_v1')
    with self.assertRaisesRegex(ValueError, 'weights.h5: found FileNotFound'):
      self._start(variables, model='mask_rcnn')


class InitialTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def _start(self, *sources):
    return initial.start(
      _variables(), sources, lambda stage: self.folder / f'{stage}.safetensors'
    )

  def _torch(self, **changes):
    source = dict(
      weights=str(_file(self.folder)),
      model='resnet',
      modules=(),
      to='encoder',
      ignore=('fc',),
    )
    return self._start(source | changes)

  def test_torch_weights_under_a_module(self):
    found = self._torch()
    np.testing.assert_array_equal(
      found['params']['encoder']['c3']['unit0']['shortcut']['norm']['scale'],
      torch_reference.tensor('layer2.0.downsample.1.weight', (8,)),
    )
    np.testing.assert_array_equal(
      found['batch_stats']['encoder']['c1']['norm']['var'],
      torch_reference.tensor('bn1.running_var', (4,)),
    )

  def test_some_modules_of_torch_weights(self):
    found = self._torch(modules=('c1', 'c2'))
    self.assertTrue(found['params']['encoder']['c1']['conv']['kernel'].any())
    self.assertFalse(
      found['params']['encoder']['c3']['unit0']['conv1']['conv']['kernel'].any()
    )

  def test_strict(self):
    with self.assertRaisesRegex(
      ValueError, r'init_from: .*resnet.*: 2 extra: fc.bias, fc.weight'
    ):
      self._torch(ignore=())
    with self.assertRaisesRegex(build.ConfigError, "no module 'decoder'"):
      self._torch(to='decoder')
    with self.assertRaisesRegex(build.ConfigError, 'no names in other'):
      self._torch(model='candidate_screening')
    with self.assertRaisesRegex(build.ConfigError, "name 'resnot'"):
      self._torch(model='resnot')

  def test_torch_weights_whose_order_is_another(self):
    bias = np.arange(4, dtype=np.float32)
    path = self.folder / 'heads.safetensors'
    safetensors.numpy.save_file({'rpn.head.bbox_pred.bias': bias}, path)
    found = initial.start(
      {'params': {'rpn': {'deltas': {'bias': np.zeros(4, np.float32)}}}},
      [dict(weights=str(path), model='mask_rcnn', modules=('rpn',))],
      lambda stage: self.folder / stage,
    )
    # Torch's is dx, dy, dw, dh.
    np.testing.assert_array_equal(
      found['params']['rpn']['deltas']['bias'], [1, 0, 3, 2]
    )

  def test_own_weights_of_a_stage_and_of_a_file(self):
    ones = jax.tree.map(np.ones_like, _variables())
    native.save(self.folder / 'first.safetensors', ones, {})
    stage = dict(stage='first', modules=('encoder/c1',))
    file = dict(
      weights=str(self.folder / 'first.safetensors'), modules=('encoder/c1',)
    )
    for source in (stage, file):
      found = self._start(source)['params']['encoder']
      self.assertTrue(found['c1']['conv']['kernel'].all())
      self.assertFalse(found['c2']['unit0']['conv1']['conv']['kernel'].any())

  def test_a_stage_of_another_work_folder(self):
    ones = jax.tree.map(np.ones_like, _variables())
    for folder in ('plain/model', 'folds/final/model'):
      native.save(self.folder / folder / 'first.safetensors', ones, {})
      workdir = str(self.folder / folder.partition('/')[0])
      source = dict(workdir=workdir, stage='first', modules=('encoder/c1',))
      found = self._start(source)['params']['encoder']
      self.assertTrue(found['c1']['conv']['kernel'].all())
      self.assertFalse(found['c2']['unit0']['conv1']['conv']['kernel'].any())
      with self.assertRaisesRegex(ValueError, "no module 'encoder/c9'"):
        self._start(source | dict(modules=('encoder/c9',)))
      with self.assertRaisesRegex(
        build.ConfigError, f'{workdir}: found no model/second.safetensors'
      ):
        self._start(source | dict(stage='second'))

  @parameterized.parameters(
    dict(modules=()),
    dict(workdir='a', modules=()),
    dict(workdir='a', weights='b', modules=()),
    dict(workdir='a', stage='b', weights='c', modules=()),
    dict(stage='a', weights='b', modules=()),
    dict(stage='a', module=()),
  )
  def test_keys(self, **source):
    with self.assertRaisesRegex(build.ConfigError, 'init_from: found the keys'):
      self._start(source)


if __name__ == '__main__':
  absltest.main()
