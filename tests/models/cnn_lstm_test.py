import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.models import cnn_lstm


class _Encoder(nn.Module):
  """Reads next to nothing, at strides 32 and 8."""

  coarse_channels: int = 832
  fine_channels: int = 256

  @nn.compact
  def __call__(self, x, *, train):
    del train
    return {
      'last': nn.Conv(self.coarse_channels, (32, 32), 32)(x),
      'early': nn.Conv(self.fine_channels, (8, 8), 8)(x),
    }


def _small(**changes) -> cnn_lstm.CnnLstm:
  sizes = {
    'encoder': _Encoder(12, 6),
    'coarse': 'last',
    'fine': 'early',
    'coarse_channels': 10,
    'fine_channels': 4,
    'context_from': 8,
    'units': 7,
    'rezoom_units': 5,
  }
  return cnn_lstm.CnnLstm(**{**sizes, **changes})


def _shapes(model, image=(64, 96)):
  return jax.eval_shape(
    lambda key: model.init_with_output(
      key, jnp.zeros((2, *image, 3)), train=False
    ),
    jax.random.key(0),
  )


def _init(model, x):
  # XLA compiles this kind of key several times faster.
  key = jax.random.key(1, impl='rbg')
  return jax.jit(lambda key: model.init(key, x, train=False))(key)


def _count(params):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


class CnnLstmTest(absltest.TestCase):
  def test_published_sizes(self):
    model = cnn_lstm.CnnLstm(encoder=_Encoder(), coarse='last', fine='early')
    outputs, variables = _shapes(model, (256, 352))
    params = variables['params']
    # 2.67 and 2.00 million: (inputs + units + 1) * 4 * units.
    self.assertEqual(_count(params['lstm1']), 2_666_000)
    self.assertEqual(_count(params['lstm2']), 2_002_000)
    # Five steps of 500 x 4 and 500 x 2, (500 + 1024) x 128, 128 x 2, 128 x 4.
    self.assertEqual(_count(params['box']), 10_000)
    self.assertEqual(_count(params['confidence']), 5_000)
    self.assertEqual(_count(params['rezoom']), 975_360)
    self.assertEqual(_count(params['rezoom_confidence']), 1_280)
    self.assertEqual(_count(params['rezoom_box']), 2_560)
    self.assertEqual(outputs['boxes'].shape, (2, 8, 11, 5, 4))

  def test_outputs_of_the_variants(self):
    outputs, variables = _shapes(_small(num_classes=4, steps=3))
    sizes = {name: x.shape for name, x in outputs.items()}
    expected = {'boxes': 4, 'logits': 4, 'rezoom_logits': 4, 'deltas': 4}
    self.assertEqual(
      sizes, {name: (2, 2, 3, 3, n) for name, n in expected.items()}
    )
    self.assertIn('encoder', variables['params'])
    outputs, variables = _shapes(_small(layers=0, steps=1, rezoom=False))
    self.assertEqual(set(outputs), {'boxes', 'logits'})
    self.assertEqual(outputs['boxes'].shape, (2, 2, 3, 1, 4))
    self.assertEqual(_count(variables['params']['projection']), 10 * 7)

  def test_names_what_does_not_fit(self):
    with self.assertRaisesRegex(ValueError, 'steps is 1, found 5'):
      _shapes(_small(layers=0))
    with self.assertRaisesRegex(ValueError, "12 channels as 'last'.*13"):
      _shapes(_small(coarse_channels=13))

  def test_each_step_has_heads_of_its_own(self):
    model = _small()
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    variables = _init(model, x)
    apply = jax.jit(lambda v: model.apply(v, x, train=False))
    before = apply(variables)
    kernel = variables['params']['box']['kernel']
    variables['params']['box']['kernel'] = kernel.at[2].set(0)
    after = apply(variables)
    np.testing.assert_array_equal(after['boxes'][..., 2, :], 0)
    others = np.delete(np.asarray(before['boxes'] - after['boxes']), 2, -2)
    np.testing.assert_array_equal(others, 0)

  def test_drops_units_only_while_training(self):
    model = _small()
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    variables = _init(model, x)

    @functools.partial(jax.jit, static_argnums=0)
    def boxes(train, seed):
      rngs = {'dropout': jax.random.key(seed)}
      return model.apply(variables, x, train=train, rngs=rngs)['boxes']

    np.testing.assert_array_equal(boxes(False, 0), boxes(False, 1))
    self.assertFalse(np.allclose(boxes(True, 0), boxes(True, 1)))

  def test_gradients_are_finite_and_reach_the_encoder(self):
    model = _small(context_from=4)
    x = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    variables = _init(model, x)
    grads = jax.jit(
      jax.grad(
        lambda v: sum(
          jnp.square(y).sum() for y in model.apply(v, x, train=False).values()
        )
      )
    )(variables)['params']
    self.assertTrue(all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads)))
    for name in ('encoder', 'lstm1', 'rezoom'):
      self.assertTrue(all((g != 0).any() for g in jax.tree.leaves(grads[name])))


class LstmTest(absltest.TestCase):
  def test_equals_a_plain_loop(self):
    rng = np.random.default_rng(0)
    layer = cnn_lstm.Lstm(units=4, steps=3)
    for length in (1, 3):
      x = rng.normal(size=(length, 5, 6)).astype(np.float32)
      params = layer.init(jax.random.key(0), jnp.asarray(x))['params']
      params['bias'] = jnp.asarray(rng.normal(size=16), jnp.float32)
      found = layer.apply({'params': params}, jnp.asarray(x))
      kernel, bias = np.asarray(params['kernel']), np.asarray(params['bias'])
      c = h = np.zeros((5, 4))
      for t in range(3):
        gates = np.concatenate([x[t % length], h], -1) @ kernel + bias
        i, j, f, o = np.split(gates, 4, -1)
        c = c / (1 + np.exp(-f)) + np.tanh(j) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        np.testing.assert_allclose(found[t], h, rtol=1e-5, atol=1e-6)

  def test_starts_uniform_with_bias_0(self):
    params = cnn_lstm.Lstm(50, 1).init(
      jax.random.key(0), jnp.zeros((1, 2, 50))
    )['params']
    self.assertLess(abs(float(params['kernel'].std()) - 0.2 / 12**0.5), 1e-3)
    self.assertLessEqual(float(jnp.abs(params['kernel']).max()), 0.1)
    np.testing.assert_array_equal(params['bias'], 0)


class ContextTest(absltest.TestCase):
  def test_averages_the_later_channels_without_the_border(self):
    x = np.random.default_rng(0).normal(size=(1, 6, 7, 3)).astype(np.float32)
    found = cnn_lstm._add_context(jnp.asarray(x), 1)
    np.testing.assert_array_equal(found[..., 0], x[..., 0])
    np.testing.assert_allclose(
      found[0, 0, 0, 1:], x[0, :3, :3, 1:].mean((0, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(
      found[0, 2, 3, 1:], x[0, :5, 1:6, 1:].mean((0, 1)), rtol=1e-4, atol=1e-6
    )


if __name__ == '__main__':
  absltest.main()
