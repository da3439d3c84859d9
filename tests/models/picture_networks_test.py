"""Tests of what judges pictures: SmallCNN, DenseHead, PictureClassifier."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import dense_head
from medzoo.models import picture_classifier
from medzoo.models import small_cnn
from medzoo.train import build
from medzoo.train import optim


def _shapes(model, *shape, train=False, method=None):
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
  return jax.eval_shape(
    functools.partial(model.init_with_output, train=train, method=method),
    keys,
    x,
  )


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _draw(model, x):
  """Draws variables, which compiles nothing."""
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
    drawn = rng.normal(0, scale if leaf.ndim > 1 else 0.1, leaf.shape)
    if path[-1].key in ('scale', 'var'):
      drawn = 1 + drawn
    return jnp.asarray(drawn, leaf.dtype)

  _, shapes = _shapes(model, *x.shape)
  return jax.tree_util.tree_map_with_path(draw, shapes)


def _pictures(*shape):
  return jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)


class SmallCNNTest(parameterized.TestCase):
  @parameterized.parameters(
    ((32,), (32,), 3, 5_608_385),
    ((32,), (32,), 5, 5_459_393),
    ((32, 64), (64, 64), 3, 5_332_097),
    ((64, 128), (128, 128), 3, 21_326_081),
    ((32, 32, 64), (64,), 3, 1_212_513),
    ((64, 64, 128), (128,), 3, 4_847_809),
  )
  def test_published_parameters(self, filters, units, kernel, count):
    model = small_cnn.SmallCNN(filters, kernel, units)
    outputs, variables = _shapes(model, 2, 150, 150, 3, train=True)
    self.assertEqual(_count(variables), count)
    self.assertEqual(outputs['logits'].shape, (2, 1))

  @parameterized.parameters('', 'batch')
  def test_by_numpy(self, norm):
    model = small_cnn.SmallCNN((3, 4), 3, (5,), num_classes=2, norm=norm)
    x = _pictures(2, 13, 15, 1)
    variables = _draw(model, x)
    self.assertEqual('batch_stats' in variables, bool(norm))

    def hidden(y, part, name):
      """Normalises a layer's sums, if wanted, and rectifies them."""
      place = name.replace('conv', 'norm').replace('fc', 'norm')
      if norm:
        averages = variables['batch_stats'][part][place]
        layer = variables['params'][part][place]
        y = (y - averages['mean']) / np.sqrt(averages['var'] + 1e-3)
        y = y * layer['scale'] + layer['bias']
      return np.maximum(y, 0)

    params = variables['params']
    y = _conv(x, params['encoder']['conv1'])
    y = _conv(_pool(hidden(y, 'encoder', 'conv1')), params['encoder']['conv2'])
    maps = hidden(y, 'encoder', 'conv2')
    y = _dense(_pool(maps).reshape(2, -1), params['head']['fc1'])
    y = _dense(hidden(y, 'head', 'fc1'), params['head']['predictions'])
    run = functools.partial(model.apply, variables, train=False)

    @jax.jit
    def outputs(x):
      maps = run(x, method='encode')
      return maps, run(maps, method='classify')['logits'], run(x)['logits']

    found, split, whole = outputs(x)
    self.assertEqual(found.shape, (2, 3, 4, 4))
    np.testing.assert_allclose(found, maps, atol=1e-5)
    np.testing.assert_allclose(split, y, atol=1e-5)
    np.testing.assert_array_equal(whole, split)

  def test_standardized_pictures_have_no_light_of_their_own(self):
    x = _pictures(2, 10, 10, 3)
    lit = x * jnp.array([0.5, 0.9, 0.7]) + jnp.array([0.3, 0.0, 0.1])
    spread = []
    for standardize in (False, True):
      model = small_cnn.SmallCNN((3,), 3, (5,), standardize=standardize)
      run = functools.partial(model.apply, _draw(model, x), train=False)
      logits, again = (run(each)['logits'] for each in (x, lit))
      spread.append(float(jnp.abs(again - logits).max()))
    self.assertLess(10 * spread[1], spread[0])

  def test_drops_in_training_only(self):
    model = small_cnn.SmallCNN((2,), 3, (64,), 0.9)
    x = _pictures(1, 8, 8, 3)
    variables = _draw(model, x)
    run = jax.jit(
      lambda key, train: model.apply(
        variables, x, train=train, rngs={'dropout': key}
      )['logits'].sum(),
      static_argnums=1,
    )
    keys = [jax.random.key(i) for i in range(3)]
    self.assertLen({float(run(key, True)) for key in keys}, 3)
    self.assertLen({float(run(key, False)) for key in keys}, 1)

  def test_the_smallest_picture(self):
    model = small_cnn.SmallCNN((2, 2), 5, (2,))
    # 16 becomes 12, pooled 6, then 2 and 1.
    outputs, _ = _shapes(model, 1, 16, 16, 3)
    self.assertEqual(outputs['logits'].shape, (1, 1))
    with self.assertRaisesRegex(
      ValueError, r'\(16, 15\) pixels is too small for 2 convolutions of 5'
    ):
      _shapes(model, 1, 16, 15, 3)


def _conv(x, layer):
  """Convolves inside the picture only."""
  kernel = np.asarray(layer['kernel'])
  windows = np.lib.stride_tricks.sliding_window_view(
    np.asarray(x), kernel.shape[:2], (1, 2)
  )
  return np.einsum('bhwckl,klco->bhwo', windows, kernel) + layer.get('bias', 0)


def _dense(x, layer):
  return x @ np.asarray(layer['kernel']) + layer.get('bias', 0)


def _pool(x):
  b, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2]
  return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


class DenseHeadTest(absltest.TestCase):
  def test_published_parameters(self):
    xvision = dense_head.DenseHead()
    outputs, variables = _shapes(xvision, 3, 7, 7, 512, train=True)
    self.assertEqual(_count(variables['params']), 13_110_274)
    self.assertEqual(outputs['logits'].shape, (3, 2))
    self.assertNotIn('bias', variables['params']['fc1'])
    polyp = dense_head.DenseHead((256,), '', 0.5, 1)
    outputs, variables = _shapes(polyp, 3, 4, 4, 512)
    self.assertEqual(_count(variables), 8192 * 256 + 256 + 256 + 1)
    self.assertEqual(outputs['logits'].shape, (3, 1))

  def test_by_numpy(self):
    model = dense_head.DenseHead((4,), momentum=0.75)
    x = _pictures(5, 2, 3)
    variables = _draw(model, x)
    params = jax.tree.map(np.asarray, variables['params'])
    hidden = np.reshape(x, (5, 6)) @ params['fc1']['kernel']

    def judged(mean, variance):
      y = (hidden - mean) / np.sqrt(variance + 1e-3)
      y = np.maximum(y * params['norm1']['scale'] + params['norm1']['bias'], 0)
      last = params['predictions']
      return y @ last['kernel'] + last['bias']

    old = jax.tree.map(np.asarray, variables['batch_stats']['norm1'])
    run = jax.jit(
      functools.partial(model.apply, mutable=['batch_stats']),
      static_argnames='train',
    )
    found = run(variables, x, train=False)[0]['logits']
    expected = judged(old['mean'], old['var'])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found, state = run(variables, x, train=True)
    mean, variance = hidden.mean(0), hidden.var(0)
    expected = judged(mean, variance)
    np.testing.assert_allclose(found['logits'], expected, atol=1e-4)
    new = state['batch_stats']['norm1']
    np.testing.assert_allclose(
      new['mean'], 0.75 * old['mean'] + 0.25 * mean, atol=1e-6
    )
    np.testing.assert_allclose(
      new['var'], 0.75 * old['var'] + 0.25 * variance, atol=1e-6
    )

  def test_what_is_said_of_a_picture_does_not_depend_on_the_others(self):
    model = dense_head.DenseHead((4, 4))
    x = _pictures(3, 6)
    variables = _draw(model, x)
    run = jax.jit(functools.partial(model.apply, variables, train=False))
    np.testing.assert_allclose(
      run(x)['logits'][:1], run(x[:1])['logits'], atol=1e-6
    )

  def test_an_unknown_norm(self):
    with self.assertRaisesRegex(ValueError, "norm: found 'group', expected"):
      _shapes(dense_head.DenseHead(norm='group'), 1, 4)


class MaxPoolTest(absltest.TestCase):
  def test_it_does_not_matter_where_a_thing_is_seen(self):
    model = dense_head.DenseHead(units=(3,), norm='', pool='max')
    maps = jax.random.normal(jax.random.key(0), (2, 4, 5, 6))
    variables = model.init(jax.random.key(1), maps, train=False)
    self.assertEqual(variables['params']['fc1']['kernel'].shape, (6, 3))
    logits = model.apply(variables, maps, train=False)['logits']
    moved = model.apply(variables, maps[:, ::-1, ::-1], train=False)['logits']
    np.testing.assert_array_equal(logits, moved)
    alone = maps.max((1, 2))
    other = model.apply(variables, alone, train=False)['logits']
    np.testing.assert_array_equal(logits, other)

  def test_an_unknown_pool_is_named(self):
    model = dense_head.DenseHead(pool='mean')
    with self.assertRaisesRegex(ValueError, "'mean', expected max"):
      model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), train=False)


class PictureClassifierTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # As JSON gives it.
    cls.model = build.build(
      'models',
      dict(
        name='picture_classifier',
        encoder=dict(name='vgg16', width=2),
        head=dict(name='dense_head', units=[3], num_classes=1),
        tap='pool5',
      ),
    )
    cls.x = _pictures(2, 64, 40, 1)
    cls.variables = _draw(cls.model, cls.x)

  def test_published_parameters(self):
    outputs, variables = _shapes(
      picture_classifier.PictureClassifier(), 1, 224, 224, 3
    )
    self.assertEqual(_count(variables['params']), 14_714_688 + 13_110_274)
    self.assertEqual(outputs['logits'].shape, (1, 2))

  def test_two_parts_of_which_each_stands_alone(self):
    model, variables = self.model, self.variables
    own = {
      name: {
        part: tree[name] for part, tree in variables.items() if name in tree
      }
      for name in ('encoder', 'head')
    }
    run = functools.partial(model.apply, variables, train=False)
    encoder, head = model.encoder.clone(), model.head.clone()

    @jax.jit
    def outputs(x):
      maps = run(x, method='encode')
      codes = encoder.apply(own['encoder'], x, train=False)
      return dict(
        maps=(maps, codes['block5_conv3']),
        logits=(
          run(maps, method='classify')['logits'],
          head.apply(own['head'], codes['pool5'], train=False)['logits'],
        ),
        whole=(run(x)['logits'], run(maps, method='classify')['logits']),
      )

    found = outputs(self.x)
    self.assertEqual(found['maps'][0].shape, (2, 4, 2, 16))
    for name, (ours, expected) in found.items():
      with self.subTest(name):
        self.assertTrue(ours.any())
        np.testing.assert_allclose(ours, expected, atol=1e-5)

  @parameterized.parameters(
    ('pool4', (4, 2, 16), (8, 5, 16)), ('block5_conv2', None, (4, 2, 16))
  )
  def test_other_taps(self, tap, pooled, shape):
    model = self.model.clone(tap=tap)
    maps, variables = _shapes(model, *self.x.shape, method='encode')
    self.assertEqual(maps.shape[1:], shape)
    _, variables = _shapes(model, *self.x.shape)
    self.assertEqual(
      variables['params']['head']['fc1']['kernel'].shape[0],
      math.prod(pooled or shape),
    )
    with self.assertRaisesRegex(ValueError, "found 'pool6', expected one of b"):
      _shapes(model.clone(tap='pool6'), *self.x.shape)

  def test_prefixes_choose_what_is_trained(self):
    params = self.variables['params']
    trained, frozen = optim.partition(params, ('encoder/block5', 'head'))
    self.assertEqual(set(trained['encoder']), {'block5'})
    self.assertEqual(
      set(frozen['encoder']), {'block1', 'block2', 'block3', 'block4'}
    )
    self.assertEqual(set(trained['head']), set(params['head']))
    with self.assertRaisesRegex(build.ConfigError, 'no module .encoder/block6'):
      optim.check_trainable(params, ('encoder/block6',))


if __name__ == '__main__':
  absltest.main()
