import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import blocks


def _init(module, x):
  init = functools.partial(module.init, train=False)
  return jax.jit(init)(jax.random.key(0), x)


class MaxPoolTest(parameterized.TestCase):
  @parameterized.parameters((6, 8), (7, 5))
  def test_equals_a_window_reduction(self, height, width):
    x = jax.random.normal(jax.random.key(0), (2, 3, height, width, 4))

    def values(pool):
      return jax.jit(jax.value_and_grad(lambda x: jnp.sum(pool(x) ** 2)))(x)

    found = values(blocks.max_pool_in_plane)
    expected = values(lambda x: nn.max_pool(x, (1, 2, 2), (1, 2, 2)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)

  def test_equal_values_share_the_gradient(self):
    grad = jax.grad(lambda x: blocks.max_pool_in_plane(x).sum())
    np.testing.assert_allclose(grad(jnp.ones((1, 1, 2, 2, 1))).ravel(), 0.25)


class NormTest(absltest.TestCase):
  def test_computes_in_float32_under_bfloat16(self):
    # A mean of 300 leaves bfloat16 a resolution of 2: all spread would go.
    x = 300 + 2 * jax.random.randint(jax.random.key(0), (64, 4), 0, 8)
    x = x.astype(jnp.bfloat16)
    norm = blocks.batch_norm(0.9, jnp.bfloat16, None)
    variables = norm.init(jax.random.key(0), x, use_running_average=True)
    y, state = norm.apply(
      variables, x, use_running_average=False, mutable=['batch_stats']
    )
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-3)
    self.assertEqual(y.dtype, jnp.bfloat16)
    np.testing.assert_allclose(
      np.asarray(y, np.float64), expected, rtol=2**-7, atol=2**-7
    )
    averages = state['batch_stats']
    self.assertEqual(averages['mean'].dtype, jnp.float32)
    np.testing.assert_allclose(averages['mean'], 0.1 * wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
      averages['var'], 0.9 + 0.1 * wide.var(0), rtol=1e-3
    )

  def test_evaluation_keeps_the_running_averages(self):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5, 1))
    block = blocks.ConvNorm(2, (2, 2, 2), momentum=0.5)
    variables = jax.jit(
      lambda x: block.init(jax.random.key(0), x, train=False)
    )(x)
    _, same = block.apply(variables, x, train=False, mutable=['batch_stats'])
    jax.tree.map(
      np.testing.assert_array_equal,
      same['batch_stats'],
      variables['batch_stats'],
    )
    self.assertSetEqual(set(variables['params']), {'conv', 'norm'})


class ResidualUnitTest(absltest.TestCase):
  def test_adds_to_its_input(self):
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 5, 6))
    unit = blocks.ResidualUnit()
    variables = _init(unit, x)
    params = variables['params']
    self.assertSetEqual(set(params), {'norm1', 'conv1', 'norm2', 'conv2'})
    params['conv2'] = jax.tree.map(jnp.zeros_like, params['conv2'])
    np.testing.assert_array_equal(unit.apply(variables, x, train=False), x)


class MaxPool2DTest(parameterized.TestCase):
  @parameterized.parameters(
    (3, 1, (1, 1)),
    (3, 2, (1, 1)),
    (3, 2, (0, 1)),
    (2, 2, (0, 1)),
    (3, 2, 'SAME'),
  )
  def test_equals_a_window_reduction(self, window, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))

    def values(pool):
      return jax.jit(jax.value_and_grad(lambda x: jnp.sum(pool(x) ** 2)))(x)

    found = values(lambda x: blocks.max_pool_2d(x, window, stride, padding))
    expected = values(
      lambda x: nn.max_pool(
        x,
        (window, window),
        (stride, stride),
        padding if padding == 'SAME' else (padding, padding),
      )
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


class ConvNorm2DTest(parameterized.TestCase):
  @parameterized.parameters('batch', 'frozen', 'group')
  def test_norms(self, norm):
    x = 3 + jax.random.normal(jax.random.key(0), (8, 6, 6, 2))
    block = blocks.ConvNorm2D(4, 3, 2, norm=norm, groups=2, epsilon=0.0)
    variables = _init(block, x)
    y, state = block.apply(variables, x, train=True, mutable=['batch_stats'])
    z = nn.Conv(4, (3, 3), 2, padding=1, use_bias=False).apply(
      {'params': variables['params']['conv']}, x
    )
    self.assertEqual(y.shape, (8, 3, 3, 4))
    if norm == 'batch':
      expected = (z - z.mean((0, 1, 2))) / z.std((0, 1, 2))
      moved = state['batch_stats']['norm']['mean']
      np.testing.assert_allclose(moved, 0.1 * z.mean((0, 1, 2)), rtol=1e-4)
    elif norm == 'frozen':
      expected = z
      np.testing.assert_array_equal(state['batch_stats']['norm']['mean'], 0)
    else:
      halves = z.reshape(8, 9, 2, 2)
      expected = halves - halves.mean((1, 3), keepdims=True)
      expected = expected / halves.std((1, 3), keepdims=True)
      self.assertNotIn('batch_stats', variables)
    np.testing.assert_allclose(y, expected.reshape(y.shape), atol=1e-4)

  def test_an_unknown_norm(self):
    block = blocks.ConvNorm2D(4, 3, norm='layer')
    with self.assertRaisesRegex(ValueError, "found 'layer', expected batch"):
      block.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)


if __name__ == '__main__':
  absltest.main()
