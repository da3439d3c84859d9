"""Tests of VGG16, by torchvision's and Keras's numbers and beside them."""

import functools
import json
import math
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import vgg16
from medzoo.weights import keras_files
from medzoo.weights import naming
from medzoo.weights import torch_files
from tests import keras_reference
from tests import make_golden
from tests import torch_reference

_GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'vgg16.npz'
_TIMM = {
  'classifier.0': 'pre_logits.fc1',
  'classifier.3': 'pre_logits.fc2',
  'classifier.6': 'head.fc',
}


def _shapes(model, *shape):
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(
    functools.partial(model.init_with_output, train=False), jax.random.key(0), x
  )


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _fill(model, tensors, *, ignore=(), side=64):
  variables = _shapes(model, 1, side, side, 3)[1]
  return naming.fill(variables, tensors, vgg16.torch_name, ignore=ignore)


def _run(model, variables, x):
  return jax.jit(functools.partial(model.apply, train=False))(variables, x)


def _in_torch_units(x):
  return (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def _assert_close(found, expected):
  """Compares to 1e-4 of the largest value, as sums round in their size."""
  largest = np.abs(expected).max()
  np.testing.assert_allclose(
    np.asarray(found) / largest, expected / largest, atol=1e-4, rtol=0
  )


class TorchTest(parameterized.TestCase):
  def test_golden(self):
    # The reference saw numbers that torchvision's preprocessing gives.
    x = torch_reference.images() * [0.229, 0.224, 0.225]
    x = (x + [0.485, 0.456, 0.406]).astype(np.float32)
    model = vgg16.VGG16(4, 10, 8, style='torch')
    with np.load(_GOLDEN) as golden:
      facts = json.loads(str(golden['facts']))
      tensors = torch_reference.tensors(facts['shapes'])
      filled = _fill(model, vgg16.torch_tensors(tensors))
      ours = _run(model, filled, x)
      self.assertSameElements(ours, facts['outputs'])
      for name, shape in facts['outputs'].items():
        with self.subTest(name):
          self.assertEqual(ours[name].shape, tuple(shape))
          _assert_close(
            make_golden.sample(np.asarray(ours[name])), golden[name]
          )
    # Timm has the dense layers as convolutions over 7 x 7 and 1 x 1 places.
    renamed = {}
    for name, tensor in tensors.items():
      layer, _, leaf = name.rpartition('.')
      if name == 'classifier.0.weight':
        tensor = tensor.reshape(8, 32, 7, 7)
      elif name == 'classifier.3.weight':
        tensor = tensor[:, :, None, None]
      renamed[f'{_TIMM.get(layer, layer)}.{leaf}'] = tensor
    found = _fill(model, vgg16.torch_tensors(renamed))
    jax.tree.map(np.testing.assert_array_equal, found, filled)

  @parameterized.parameters(
    (64, '', (1, 75, 66, 3)), (4, '', (1, 330, 240, 3)), (4, 'batch', None)
  )
  def test_live(self, width, norm, shape):
    net = torch_reference.vgg16(width=width, norm=bool(norm))
    x = np.random.default_rng(0).random(shape or (2, 64, 40, 3))
    x = x.astype(np.float32)
    theirs = torch_reference.outputs(
      net,
      torch_reference.vgg16_maps(bool(norm)),
      _in_torch_units(x).astype(np.float32),
    )
    model = vgg16.VGG16(width, 10, 8, style='torch', norm=norm)
    torch, _ = torch_reference.load()
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'vgg16.pth'
      torch.save(net.state_dict(), path)
      tensors = vgg16.torch_tensors(torch_files.read(path))
    ours = _run(model, _fill(model, tensors), x)
    self.assertSameElements(ours, theirs)
    for name, expected in theirs.items():
      with self.subTest(name):
        _assert_close(ours[name], expected)

  @parameterized.parameters(('vgg16', ''), ('vgg16_bn', 'batch'))
  def test_live_names_and_shapes(self, name, norm):
    torch, torchvision = torch_reference.load()
    with torch.device('meta'):
      net = getattr(torchvision.models, name)()
    shapes = torch_reference.state_dict(net)
    # Without their memory.
    zeros = {n: np.broadcast_to(np.float32(0), s) for n, s in shapes.items()}
    del zeros['classifier.0.weight']
    model = vgg16.VGG16(num_classes=1000, style='torch', norm=norm)
    with self.assertRaisesRegex(
      ValueError, 'fit the model: 1 missing: classifier.0.weight$'
    ):
      _fill(model, vgg16.torch_tensors(zeros), side=224)
    count = sum(math.prod(t.shape) for t in net.parameters())
    params = _shapes(model, 1, 224, 224, 3)[1]['params']
    # Here a convolution that is normalised has no bias.
    biases = 4224 if norm else 0
    self.assertEqual(_count(params) + biases, count)

  def test_strict(self):
    model = vgg16.VGG16(2, style='torch')
    tensors = {
      f'features.{i}.{leaf}': np.zeros(shape, np.float32)
      for i, last, n in _CONVOLUTIONS
      for leaf, shape in (('weight', (n, last, 3, 3)), ('bias', (n,)))
    }
    _fill(model, vgg16.torch_tensors(tensors))
    head = {
      'head.fc.weight': np.zeros((3, 4), np.float32),
      'head.fc.bias': np.zeros(3, np.float32),
    }
    with self.assertRaisesRegex(
      ValueError, '2 extra: classifier.6.bias, classifier.6.weight$'
    ):
      _fill(model, vgg16.torch_tensors(tensors | head))
    _fill(model, vgg16.torch_tensors(tensors | head), ignore=('classifier',))
    wide = vgg16.VGG16(3, style='torch')
    with self.assertRaisesRegex(ValueError, '26 misshapen: features.0.bias'):
      _fill(wide, vgg16.torch_tensors(tensors))
    with self.assertRaisesRegex(
      ValueError, '26 missing: features.1.bias.*13 extra: features.0.bias'
    ):
      _fill(model.clone(norm='group', groups=2), vgg16.torch_tensors(tensors))
    # A layer that VGG19-BN has at another place.
    other = {
      f'features.23.{leaf}': np.zeros(2, np.float32)
      for leaf in ('bias', 'running_mean')
    }
    with self.assertRaisesRegex(ValueError, 'features.23 of vgg16_bn.bias'):
      _fill(model, vgg16.torch_tensors(tensors | other))
    with self.assertRaisesRegex(ValueError, 'no layer c1/conv in a VGG16'):
      vgg16.torch_name(('c1', 'conv'))


# Number in torchvision's vgg16, channels in and out at width 2.
_CONVOLUTIONS = (
  (0, 3, 2),
  (2, 2, 2),
  (5, 2, 4),
  (7, 4, 4),
  (10, 4, 8),
  (12, 8, 8),
  (14, 8, 8),
  (17, 8, 16),
  (19, 16, 16),
  (21, 16, 16),
  (24, 16, 16),
  (26, 16, 16),
  (28, 16, 16),
)


class KerasTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'vgg16.h5'

  def _read(self, arrays, write=keras_reference.write):
    write(self.path, arrays)
    return vgg16.keras_tensors(keras_files.read(self.path))

  def test_with_top(self):
    shapes = keras_reference.vgg16_shapes(2, 64, 5, 3)
    arrays = keras_reference.draw(shapes)
    model = vgg16.VGG16(2, 3, 5, style='keras')
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    variables = _fill(model, self._read(arrays))
    ours = _run(model, variables, (pictures / 255).astype(np.float32))
    theirs = keras_reference.vgg16(arrays, pictures)
    self.assertSameElements(ours, theirs)
    for name, expected in theirs.items():
      with self.subTest(name):
        _assert_close(ours[name], expected)

  @parameterized.parameters(
    keras_reference.write, keras_reference.write_keras_1
  )
  def test_without_top(self, write):
    shapes = keras_reference.vgg16_shapes(2, 64, 5, 3)
    arrays = keras_reference.draw(shapes)
    top = 'fc1', 'fc2', 'predictions'
    bare = {n: x for n, x in arrays.items() if not n.startswith(top)}
    model = vgg16.VGG16(2, style='keras')
    found = _fill(model, self._read(bare, write))
    np.testing.assert_array_equal(
      found['params']['block5']['conv3']['conv']['kernel'],
      arrays['block5_conv3/kernel'],
    )
    with self.assertRaisesRegex(ValueError, '6 extra: classifier.0.bias, '):
      _fill(model, self._read(arrays, write))
    _fill(model, self._read(arrays, write), ignore=('classifier',))
    full = vgg16.VGG16(2, 3, 5, style='keras')
    with self.assertRaisesRegex(ValueError, '6 missing: classifier.0.bias, '):
      _fill(full, self._read(bare, write))
    with self.assertRaisesRegex(ValueError, '1 misshapen: classifier.0.weight'):
      _fill(full, self._read(arrays, write), side=96)

  def test_other_files(self):
    arrays = keras_reference.draw(keras_reference.vgg16_shapes(2, 64, 5, 3))
    other = {'block3_conv4/kernel': np.zeros((3, 3, 8, 8), np.float32)}
    with self.assertRaisesRegex(ValueError, '1 extra: block3_conv4.kernel$'):
      _fill(vgg16.VGG16(2, 3, 5, style='keras'), self._read(arrays | other))
    del arrays['block1_conv2/bias']
    with self.assertRaisesRegex(ValueError, 'layer block1_conv2: found kernel'):
      self._read(arrays)


class VGG16Test(parameterized.TestCase):
  def test_published_parameters(self):
    _, variables = _shapes(vgg16.VGG16(), 1, 224, 224, 3)
    self.assertEqual(_count(variables), 14_714_688)
    for style in ('keras', 'torch'):
      model = vgg16.VGG16(num_classes=1000, style=style)
      outputs, variables = _shapes(model, 1, 224, 224, 3)
      self.assertEqual(_count(variables), 138_357_544)
      self.assertEqual(outputs['logits'].shape, (1, 1000))

  @parameterized.parameters(
    ('keras', [-103.939, 10.721, 131.32], [23.561, 10.721, 3.82]),
    ('torch', [2.248908, 0.196429, -1.804444], [0.065502, 0.196429, 0.417778]),
    ('plain', [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]),
  )
  def test_preprocessing_by_hand(self, style, coloured, grey):
    # Red 1, green a half, blue 0: 127.5 - 116.779 = 10.721, in Keras's order
    # of blue, green, red; (1 - 0.485) / 0.229 = 2.248908 in torchvision's.
    x = jnp.array([[[[1.0, 0.5, 0.0]]]])
    found = vgg16.preprocess(x, style)
    np.testing.assert_allclose(found[0, 0, 0], coloured, atol=1e-4)
    found = vgg16.preprocess(jnp.full((2, 3, 4, 1), 0.5), style)
    self.assertEqual(found.shape, (2, 3, 4, 3))
    np.testing.assert_allclose(
      found, np.broadcast_to(grey, found.shape), atol=1e-4
    )

  def test_standard_pictures_have_no_light_of_their_own(self):
    rng = np.random.default_rng(0)
    x = rng.random((2, 8, 9, 3)).astype(np.float32)
    lit = jnp.array(x * [0.5, 0.9, 0.7] + [0.3, 0, 0.1], jnp.float32)
    found, again = (
      vgg16.preprocess(each, 'standard') for each in (jnp.array(x), lit)
    )
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-6)
    deviation = x.std((1, 2))
    np.testing.assert_allclose(
      found.std((1, 2)), deviation / np.hypot(deviation, 0.05), rtol=1e-5
    )
    np.testing.assert_allclose(again, found, atol=0.1)
    # A flat picture has a gradient all the same.
    gradient = jax.grad(lambda x: (vgg16.preprocess(x, 'standard')[0, 0]).sum())
    self.assertTrue(np.isfinite(gradient(jnp.zeros((1, 4, 4, 3)))).all())

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, "found 'caffe', expected plain, s"):
      _shapes(vgg16.VGG16(2, style='caffe'), 1, 32, 32, 3)
    with self.assertRaisesRegex(ValueError, 'of 4 channels: expected 1 or 3'):
      _shapes(vgg16.VGG16(2), 1, 32, 32, 4)
    with self.assertRaisesRegex(ValueError, r'\(32, 31\) pixels: expected 32'):
      _shapes(vgg16.VGG16(2), 1, 32, 31, 3)

  def test_strides_and_channels(self):
    model = vgg16.VGG16(16, dtype=jnp.bfloat16)
    outputs, variables = _shapes(model, 2, 100, 67, 1)
    self.assertEqual({y.dtype for y in outputs.values()}, {jnp.dtype('f4')})
    sizes = {name: y.shape[1:] for name, y in outputs.items()}
    self.assertLen(sizes, 18)
    self.assertEqual(sizes['block1_conv2'], (100, 67, 16))
    self.assertEqual(sizes['pool1'], (50, 33, 16))
    self.assertEqual(sizes['pool3'], (12, 8, 64))
    self.assertEqual(sizes['block5_conv3'], (6, 4, 128))
    self.assertEqual(sizes['pool5'], (3, 2, 128))
    self.assertEqual(
      list(variables['params']), [f'block{i}' for i in range(1, 6)]
    )

  @parameterized.parameters((7, 7), (14, 7), (10, 9), (2, 3), (1, 20))
  def test_adaptive_averages(self, height, width):
    x = np.random.default_rng(0).random((1, height, width, 2))
    expected = np.zeros((1, 7, 7, 2))
    for i, j in np.ndindex(7, 7):
      y0, y1 = math.floor(i * height / 7), math.ceil((i + 1) * height / 7)
      x0, x1 = math.floor(j * width / 7), math.ceil((j + 1) * width / 7)
      expected[:, i, j] = x[:, y0:y1, x0:x1].mean((1, 2))
    found = vgg16.average_pool(jnp.asarray(x, jnp.float32), 7)
    np.testing.assert_allclose(found, expected, atol=1e-6)

  def test_kernels_start_as_he_has_it(self):
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = functools.partial(vgg16.VGG16(16).lazy_init, train=False)

    @jax.jit
    def kernels(key):
      params = init(key, x)['params']
      layers = params['block1']['conv2'], params['block5']['conv3']
      return [layer['conv']['kernel'] for layer in layers]

    for kernel in kernels(jax.random.key(0, impl='rbg')):
      size = kernel.std() * math.sqrt(math.prod(kernel.shape[:-1]) / 2)
      self.assertBetween(size, 0.9, 1.1)


if __name__ == '__main__':
  absltest.main()
