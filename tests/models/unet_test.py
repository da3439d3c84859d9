import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import unet


def _init(model, shape):
  return jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, *shape)), train=False),
    jax.random.key(0),
  )


def _count(variables):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(variables['params']))


class UNetTest(parameterized.TestCase):
  @parameterized.parameters(('batch', True), ('frozen', True), ('group', False))
  def test_maps_have_the_images_size(self, norm, has_averages):
    model = unet.UNet((8, 16, 24), num_classes=3, norm=norm)
    variables = _init(model, (32, 48, 1))
    self.assertEqual('batch_stats' in variables, has_averages)
    outputs = jax.eval_shape(
      lambda v, x: model.apply(v, x, train=False),
      variables,
      jnp.zeros((2, 32, 48, 1)),
    )
    self.assertEqual(outputs['logits'].shape, (2, 32, 48, 3))
    self.assertEqual(outputs['logits'].dtype, jnp.float32)

  def test_size(self):
    # By hand: 3x3 and 1x1 kernels, scale and bias of every normalisation.
    widths = (16, 32, 64, 96, 128)
    before = (1, *widths)
    count = sum(
      9 * (a * b + b * b) + 4 * b
      for a, b in zip(before[:-1], widths, strict=True)
    )
    for b, below in zip(widths[:-1], widths[1:], strict=True):
      count += below * b + 9 * (2 * b * b + b * b) + 6 * b
    count += 2 * 16 + 2
    self.assertEqual(_count(_init(unet.UNet(), (64, 64, 1))), count)
    self.assertEqual(round(count / 1e6, 1), 0.9)

  def test_sees_far_and_its_own_place_and_averages_in_training(self):
    model = unet.UNet((4, 4, 4))
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1))

    @jax.jit
    def run(key):
      variables = model.init(key, x, train=False)

      def pixel(x):
        logits = model.apply(variables, x, train=False)['logits']
        return logits[0, 16, 16].sum()

      _, state = model.apply(variables, x, train=True, mutable=['batch_stats'])
      return variables['batch_stats'], state['batch_stats'], jax.grad(pixel)(x)

    before, after, gradient = run(jax.random.key(1, impl='rbg'))
    moved = jax.tree.map(lambda a, b: (a != b).any(), before, after)
    self.assertTrue(all(jax.tree.leaves(moved)))
    # Its skip path is as fine as a pixel, its deep path reaches wide.
    reach = abs(np.array(gradient))[0, :, :, 0]
    self.assertTrue(np.isfinite(reach).all())
    self.assertGreater(reach[16, 16], 0)
    reach[10:23, 10:23] = 0
    self.assertGreater(reach.max(), 0)

  def test_a_shrunk_one_sees_every_pixel_and_has_maps_of_the_images_size(self):
    model = unet.UNet((4, 8), norm='group', groups=4, shrink=2)
    x = jax.random.uniform(jax.random.key(0), (1, 8, 12, 1))

    @jax.jit
    def run(key):
      variables = model.init(key, x, train=False)

      def total(x):
        logits = model.apply(variables, x, train=False)['logits']
        return (logits**2).sum(), logits

      return jax.value_and_grad(total, has_aux=True)(x)

    (_, logits), gradient = run(jax.random.key(1, impl='rbg'))
    self.assertEqual(logits.shape, (1, 8, 12, 2))
    self.assertTrue((np.asarray(gradient) != 0).all())

  def test_sides_must_halve(self):
    with self.assertRaisesRegex(
      ValueError, 'found 32 x 36 pixels, expected sides that 8 divides'
    ):
      _init(unet.UNet((4, 4, 4, 4)), (32, 36, 1))


if __name__ == '__main__':
  absltest.main()
