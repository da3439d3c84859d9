import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import sampling


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw(labels, key, size, share):
  return sampling.balanced(labels, key, size, share)


class BalancedTest(parameterized.TestCase):
  @parameterized.parameters(
    # Positives, negatives; sampled of either.
    (0, 90, 0, 16),
    (3, 90, 3, 13),
    (8, 90, 8, 8),
    (50, 40, 8, 8),
    (50, 5, 8, 5),
    (90, 0, 8, 0),
    (2, 3, 2, 3),
    (0, 0, 0, 0),
  )
  def test_counts_and_picks(self, num_pos, num_neg, pos, neg):
    rng = np.random.default_rng(0)
    labels = np.full(100, -1, np.int32)
    labels[:num_pos] = 1
    labels[num_pos : num_pos + num_neg] = 0
    rng.shuffle(labels)
    for i in range(3):
      indices, is_positive, valid = map(
        np.asarray, _draw(labels, jax.random.key(i), 16, 0.5)
      )
      self.assertEqual(is_positive.sum(), pos)
      self.assertEqual(valid.sum(), pos + neg)
      np.testing.assert_array_equal(labels[indices[is_positive]], 1)
      np.testing.assert_array_equal(labels[indices[valid & ~is_positive]], 0)
      self.assertFalse((is_positive & ~valid).any())
      self.assertLen(set(indices[valid]), pos + neg)
      np.testing.assert_array_equal(indices[~valid], 0)

  def test_fewer_examples_than_the_sample(self):
    labels = jnp.array([0, 1, -1])
    indices, is_positive, valid = _draw(labels, jax.random.key(0), 8, 0.25)
    np.testing.assert_array_equal(indices, [1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(is_positive, [True] + [False] * 7)
    np.testing.assert_array_equal(valid, [True] * 2 + [False] * 6)

  def test_share_rounds_down_and_may_be_all_or_none(self):
    labels = jnp.array([1] * 20 + [0] * 20)
    for share, expected in ((0.0, 0), (0.33, 3), (1.0, 10)):
      _, is_positive, valid = _draw(labels, jax.random.key(0), 10, share)
      self.assertEqual(is_positive.sum(), expected)
      self.assertTrue(valid.all())

  def test_draws_evenly(self):
    labels = jnp.array([1, 0] * 10)
    keys = jax.random.split(jax.random.key(0), 2000)
    indices, _, valid = jax.jit(
      jax.vmap(lambda key: sampling.balanced(labels, key, 8, 0.5))
    )(keys)
    self.assertTrue(valid.all())
    # Each is drawn with a chance of .4; 5 standard deviations are .055.
    shares = np.bincount(np.ravel(indices), minlength=20) / 2000
    np.testing.assert_allclose(shares, 0.4, atol=0.055)


if __name__ == '__main__':
  absltest.main()
