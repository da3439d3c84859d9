import functools
import math

import jax
import jax.numpy as jnp
from absl.testing import absltest

from medzoo.models import small_encoder


def _count(variables):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(variables['params']))


def _init(model, shape):
  return jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, *shape)), train=False),
    jax.random.key(0),
  )


class SmallEncoderTest(absltest.TestCase):
  def test_strides_and_sizes(self):
    model = small_encoder.SmallEncoder(
      widths=(16, 32, 64, 128), coarse_stride=16
    )
    variables = _init(model, (64, 96, 3))
    self.assertEqual(_count(variables), 294_000)
    maps = jax.eval_shape(
      lambda v, x: model.apply(v, x, train=False),
      variables,
      jnp.zeros((2, 64, 96, 3)),
    )
    self.assertEqual(maps['coarse'].shape, (2, 4, 6, 128))
    self.assertEqual(maps['fine'].shape, (2, 8, 12, 64))
    default = _init(small_encoder.SmallEncoder(), (256, 352, 3))
    self.assertEqual(round(_count(default) / 1e6, 1), 14.4)

  def test_training_moves_the_running_averages_only_then(self):
    model = small_encoder.SmallEncoder((4, 4, 8), 8, 4)
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    init = jax.jit(lambda key: model.init(key, x, train=False))
    variables = init(jax.random.key(1, impl='rbg'))
    for train in (True, False):
      apply = functools.partial(
        model.apply, train=train, mutable=['batch_stats']
      )
      _, new = jax.jit(apply)(variables, x)
      same = jax.tree.map(
        jnp.array_equal, new, {'batch_stats': variables['batch_stats']}
      )
      self.assertEqual(all(jax.tree.leaves(same)), not train)

  def test_widths_must_fit_the_strides(self):
    for changes in ({'coarse_stride': 16}, {'fine_stride': 64}):
      with self.assertRaisesRegex(ValueError, 'give strides'):
        _init(small_encoder.SmallEncoder(**changes), (64, 64, 3))


if __name__ == '__main__':
  absltest.main()
