import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from jax import lax

from medzoo.ops import conv
from medzoo.ops import conv_tiles

# (input, kernel, channels out, strides, padding): every kernel, stride and
# padding that the models use, with sizes that leave remainders.
_CASES = (
  ('first', (2, 7, 11, 12, 1), (4, 5, 5), 6, (1, 1, 1), 'VALID'),
  ('first_same', (3, 4, 6, 9, 1), (3, 3, 3), 4, (1, 1, 1), 'SAME'),
  ('second', (3, 8, 9, 10, 4), (4, 5, 5), 5, (1, 1, 1), 'VALID'),
  ('last', (4, 5, 5, 5, 4), (5, 5, 5), 7, (1, 1, 1), 'VALID'),
  ('point', (2, 3, 4, 5, 6), (1, 1, 1), 2, (1, 1, 1), 'VALID'),
  ('residual', (2, 6, 7, 8, 5), (3, 3, 3), 5, (1, 1, 1), 'SAME'),
  ('strided', (2, 9, 10, 12, 4), (3, 3, 3), 6, (2, 2, 2), 'VALID'),
  ('strided_same', (2, 9, 10, 11, 4), (3, 3, 3), 6, (2, 2, 2), 'SAME'),
  ('strided_first', (2, 9, 10, 11, 1), (3, 3, 3), 6, (2, 2, 2), 'VALID'),
  ('strides_differ', (1, 6, 9, 8, 2), (2, 3, 1), 3, (1, 2, 3), 'VALID'),
)


def _stock(x, kernel, strides, padding):
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC')
  )


def _arrays(shape, window, features, dtype=np.float32):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(*window, shape[-1], features))
  x = rng.normal(size=shape)
  return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def _value_and_grads(convolve, x, kernel):
  def loss(x, kernel):
    y = convolve(x, kernel)
    return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

  return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)


def _worst(found, expected):
  found, expected = np.asarray(found, float), np.asarray(expected, float)
  return np.abs(found - expected).max() / np.abs(expected).max()


class Conv3DTest(parameterized.TestCase):
  @parameterized.named_parameters(*_CASES)
  def test_equals_stock(self, shape, window, features, strides, padding):
    x, kernel = _arrays(shape, window, features)
    options = dict(strides=strides, padding=padding)
    found = _value_and_grads(
      functools.partial(conv.conv3d, **options), x, kernel
    )
    expected = _value_and_grads(functools.partial(_stock, **options), x, kernel)
    for a, b in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      self.assertEqual(a.shape, b.shape)
      self.assertLess(_worst(a, b), 1e-5)

  @parameterized.named_parameters(
    ('rows', 4_000), ('slices', 20_000), ('samples', 150_000)
  )
  def test_equals_stock_at_any_tile(self, tile_bytes):
    # Sizes are primes, so that the last tile overlaps the one before.
    x, kernel = _arrays((5, 11, 11, 11, 2), (3, 3, 3), 3)
    expected = _value_and_grads(
      functools.partial(_stock, strides=(1, 1, 1), padding='VALID'), x, kernel
    )
    with absltest.mock.patch.object(conv_tiles, '_TILE_BYTES', tile_bytes):
      tile = conv_tiles._tile((5, 9, 9, 9), 9 * 2 * 4)
      found = _value_and_grads(conv.conv3d, x, kernel)
    self.assertLess(np.prod(tile), 5 * 9 * 9)
    for a, b in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      self.assertLess(_worst(a, b), 1e-5)

  def test_equals_a_plain_loop(self):
    x, kernel = _arrays((1, 3, 4, 5, 2), (2, 3, 2), 3)
    found = conv.conv3d(x, kernel, (1, 1, 2))
    expected = np.zeros((1, 2, 2, 2, 3))
    for z, y, c in np.ndindex(2, 2, 2):
      block = np.asarray(x)[0, z : z + 2, y : y + 3, 2 * c : 2 * c + 2]
      expected[0, z, y, c] = np.einsum('dhwi,dhwio->o', block, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

  def test_bfloat16_accumulates_in_float32(self):
    x, kernel = _arrays((1, 4, 4, 5, 40), (3, 3, 3), 2, jnp.bfloat16)
    wide = x.astype(jnp.float32), kernel.astype(jnp.float32)
    stock = functools.partial(_stock, strides=(1, 1, 1), padding='VALID')
    expected = stock(*wide)
    found = conv.conv3d(x, kernel)
    self.assertEqual(found.dtype, jnp.bfloat16)
    # Half a unit in the last place of the result, and none from the sums.
    self.assertLess(_worst(found, expected), 2**-8)
    grads, _ = _value_and_grads(conv.conv3d, x, kernel)
    for grad in grads:
      self.assertEqual(grad.dtype, jnp.bfloat16)
      self.assertTrue(np.isfinite(np.asarray(grad, np.float32)).all())

  def test_other_platforms_get_the_stock_convolution(self):
    x, kernel = _arrays((2, 7, 8, 9, 2), (3, 3, 3), 4)
    grad = jax.grad(lambda x, k: conv.conv3d(x, k, (2, 2, 2)).sum(), (0, 1))
    exported = jax.export.export(jax.jit(grad), platforms=['cuda'])(x, kernel)
    text = exported.mlir_module()
    self.assertIn('stablehlo.convolution', text)
    self.assertNotIn('stablehlo.while', text)

  def test_rejects_what_does_not_fit(self):
    x, kernel = _arrays((1, 3, 4, 5, 2), (2, 3, 2), 3)
    with self.assertRaisesRegex(ValueError, 'float32 but the kernel is bfl'):
      conv.conv3d(x, kernel.astype(jnp.bfloat16))
    with self.assertRaisesRegex(ValueError, 'smaller than the window'):
      conv.conv3d(x[:, :1], kernel)


class SeveralDevicesTest(absltest.TestCase):
  def test_walks_stay_on_their_device(self):
    """Two CPU devices give the same result, and no batch is gathered."""
    program = textwrap.dedent("""
      import jax
      import numpy as np
      from medzoo.ops import conv

      rng = np.random.default_rng(0)
      x = rng.normal(size=(4, 7, 9, 8, 3)).astype(np.float32)
      kernel = rng.normal(size=(3, 3, 3, 3, 4)).astype(np.float32)

      def loss(x, kernel):
        return (conv.conv3d(x, kernel, (1, 2, 1), 'SAME') ** 2).sum()

      step = jax.jit(jax.value_and_grad(loss, (0, 1)))
      expected = step(x, kernel)
      mesh = jax.make_mesh(
        (2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
      )
      for count in (4, 3):  # three samples cannot be shared out by two
        expected = step(x[:count], kernel)
        split = jax.P('data') if count == 4 else jax.P()
        batch = jax.device_put(x[:count], jax.NamedSharding(mesh, split))
        whole = jax.device_put(kernel, jax.NamedSharding(mesh, jax.P()))
        with jax.set_mesh(mesh):
          compiled = step.lower(batch, whole).compile()
        assert 'all-gather' not in compiled.as_text()
        found = compiled(batch, whole)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
          np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    """)
    flags = '--xla_force_host_platform_device_count=2'
    subprocess.run(
      [sys.executable, '-c', program],
      env=os.environ | {'XLA_FLAGS': flags, 'PYTHONPATH': os.getcwd()},
      check=True,
      timeout=120,
    )


if __name__ == '__main__':
  absltest.main()
