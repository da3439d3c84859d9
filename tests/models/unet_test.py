import functools
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


def _fresh(model, x):
  init = jax.jit(lambda key: model.init(key, x, train=False))
  return init(jax.random.key(1, impl='rbg'))


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

  def test_a_pixel_sees_far_and_its_own_place(self):
    """Its skip path is as fine as a pixel, its deep path reaches wide."""
    model = unet.UNet((4, 4, 4), groups=2, norm='frozen')
    x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1))
    variables = _fresh(model, x)

    @jax.jit
    def gradient(x):
      return jax.grad(
        lambda x: model.apply(variables, x, train=False)['logits'][
          0, 16, 16
        ].sum()
      )(x)

    reach = np.abs(gradient(x))[0, :, :, 0]
    self.assertTrue(np.isfinite(reach).all())
    self.assertGreater(reach[16, 16], 0)
    far = reach.copy()
    far[10:23, 10:23] = 0
    self.assertGreater(far.max(), 0)

  def test_training_moves_the_running_averages_only_then(self):
    model = unet.UNet((4, 4))
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
    variables = _fresh(model, x)
    for train in (True, False):
      apply = functools.partial(
        model.apply, train=train, mutable=['batch_stats']
      )
      _, new = jax.jit(apply)(variables, x)
      same = jax.tree.map(
        jnp.array_equal, new, {'batch_stats': variables['batch_stats']}
      )
      self.assertEqual(all(jax.tree.leaves(same)), not train)

  def test_sides_must_halve(self):
    with self.assertRaisesRegex(
      ValueError, 'found 32 x 36 pixels, expected sides that 8 divides'
    ):
      _init(unet.UNet((4, 4, 4, 4)), (32, 36, 1))


if __name__ == '__main__':
  absltest.main()
