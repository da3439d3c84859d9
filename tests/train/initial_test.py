"""Tests of what a stage starts from."""

import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import dense_head
from medzoo.models import mask_rcnn
from medzoo.models import picture_classifier
from medzoo.models import resnet
from medzoo.models import vgg16
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

  def _start(self, net, variables, **source):
    source = dict(weights=str(self.path), modules=()) | source
    return initial.start(net, variables, [source], lambda stage: self.path)

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
    found = self._start(model, variables, **source)
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
      self._start(model, variables, **source)
    self._start(model, variables, ignore=('fc',), **source)

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
      self._start(model, variables, model='mask_rcnn')
    found = self._start(
      model, variables, model='mask_rcnn', ignore=mask_rcnn.CLASS_LAYERS
    )['params']
    np.testing.assert_array_equal(
      found['fpn']['layer3']['conv']['kernel'], arrays['fpn_p3/kernel']
    )
    self.assertTrue(found['mask_head']['double']['kernel'].all())
    self.assertFalse(found['mask_head']['logits']['kernel'].any())
    with self.assertRaisesRegex(ValueError, 'no layer c1/.* in a Mask R-CNN'):
      self._start(model, variables, model='mask_rcnn', to='encoder')
    del arrays['bn_conv1/gamma']
    keras_reference.write(self.path, arrays)
    with self.assertRaisesRegex(
      ValueError, 'init_from: .*weights.h5: layer bn_conv1: found'
    ):
      self._start(model, variables, model='mask_rcnn')

  def test_refusals(self):
    variables = {'params': {'c1': np.zeros(3)}}
    with self.assertRaisesRegex(build.ConfigError, 'has no names in Keras'):
      self._start(_MODEL, variables, model='inception_v1')
    with self.assertRaisesRegex(ValueError, 'weights.h5: found FileNotFound'):
      keras = _MODEL.clone(style='keras')
      self._start(keras, variables, model='mask_rcnn')


class StyleTest(parameterized.TestCase):
  """Of a VGG16 in a classifier, whose weights want pictures of their form."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.folder = pathlib.Path(folder)
    shapes = keras_reference.vgg16_shapes(2)
    cls.arrays = keras_reference.draw(
      {n: s for n, s in shapes.items() if n.startswith('block')}
    )
    keras_reference.write(cls.folder / 'vgg16.h5', cls.arrays)
    safetensors.numpy.save_file(
      {
        name: np.ascontiguousarray(tensor)
        for name, tensor in vgg16.keras_tensors(cls.arrays).items()
      },
      cls.folder / 'vgg16.safetensors',
    )

  def _model(self, style):
    return picture_classifier.PictureClassifier(
      vgg16.VGG16(2, style=style), dense_head.DenseHead((2,))
    )

  def _start(self, style, *sources):
    model = self._model(style)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(
      lambda key: model.lazy_init(key, image, train=False), jax.random.key(0)
    )
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    return initial.start(
      model, zeros, sources, lambda stage: self.folder / f'{stage}.safetensors'
    )

  @parameterized.parameters(
    ('vgg16.h5', 'keras'), ('vgg16.safetensors', 'torch')
  )
  def test_weights_of_another_framework(self, name, style):
    source = dict(
      weights=str(self.folder / name), model='vgg16', modules=(), to='encoder'
    )
    found = self._start(style, source)['params']
    np.testing.assert_array_equal(
      found['encoder']['block4']['conv2']['conv']['kernel'],
      self.arrays['block4_conv2/kernel'],
    )
    self.assertFalse(found['head']['fc1']['kernel'].any())
    for other in {'plain', 'keras', 'torch'} - {style}:
      with self.assertRaisesRegex(
        build.ConfigError,
        f'init_from: .*{name}: found parameters of style {style}, expected '
        f"{other}, the model's own: set its style to the file's$",
      ):
        self._start(other, source)

  def test_parameters_of_a_stage(self):
    fresh = self._start('keras')
    ones = jax.tree.map(np.ones_like, fresh)
    encoder = dict(name='vgg16', width=2, style='keras')
    head = dict(name='dense_head', units=(2,))
    both = dict(name='picture_classifier', encoder=encoder, head=head)
    for stage, spec in dict(encoder=encoder, head=head, both=both).items():
      variables = {
        part: tree if stage == 'both' else tree[stage]
        for part, tree in ones.items()
        if stage == 'both' or stage in tree
      }
      path = self.folder / f'{stage}.safetensors'
      native.save(path, variables, {'stage': stage, 'model': spec})
    own = dict(stage='encoder', modules=(), to='encoder')
    top = dict(stage='head', modules=(), to='head')
    found = self._start('keras', own, top)
    jax.tree.map(np.testing.assert_array_equal, found, ones)
    found = self._start('plain', top, dict(stage='both', modules=('head',)))
    self.assertFalse(
      found['params']['encoder']['block1']['conv1']['conv']['kernel'].any()
    )
    for source in (
      own,
      dict(stage='both', modules=()),
      dict(stage='both', modules=('head', 'encoder/block1')),
    ):
      with self.assertRaisesRegex(
        build.ConfigError, 'found parameters of style keras, expected plain'
      ):
        self._start('plain', source)


class InitialTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def _start(self, *sources):
    return initial.start(
      picture_classifier.PictureClassifier(_MODEL),
      _variables(),
      sources,
      lambda stage: self.folder / f'{stage}.safetensors',
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
      mask_rcnn.MaskRCNN(),
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
