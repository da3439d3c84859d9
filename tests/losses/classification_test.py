import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.losses import classification


class CrossEntropyTest(absltest.TestCase):
  def test_equals_numpy(self):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0], np.int32)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(shares[np.arange(5), labels])
    found = classification.cross_entropy(
      jnp.asarray(logits), jnp.asarray(labels)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_is_float32_and_survives_large_logits(self):
    logits = jnp.array([[1e4, -1e4]], jnp.bfloat16)
    found, grad = jax.value_and_grad(
      lambda x: classification.cross_entropy(x, jnp.array([1])).sum()
    )(logits)
    self.assertEqual(found.dtype, jnp.float32)
    self.assertTrue(np.isfinite(np.asarray(grad, np.float32)).all())
    self.assertTrue(np.isfinite(found))


class ScoresTest(absltest.TestCase):
  def test_of_two_outputs_and_of_more(self):
    logits = jnp.array([[1.0, 3.0, -2.0], [0.5, 0.0, 4.0]], jnp.bfloat16)
    for part, expected in (
      (logits[:, :1], [1, 0.5]),
      (logits[:, :2], [2, -0.5]),
      (logits, [[1, 3, -2], [0.5, 0, 4]]),
    ):
      found = classification.scores(part)
      self.assertEqual(found.dtype, jnp.float32)
      np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(classification.called(found), [1, 2])
    np.testing.assert_array_equal(
      classification.called(jnp.array([-0.1, 0, 3])), [0, 1, 1]
    )

  def test_evidence_is_the_log_odds_of_a_class(self):
    logits = jnp.array([[1.0, 3, -2], [0.5, 0, 4], [90, 0, 0]])
    classes = jnp.array([1, 0, 0])
    shares = np.exp(np.array(logits)[:2])
    shares /= shares.sum(1, keepdims=True)
    own = shares[[0, 1], [1, 0]]
    found = classification.evidence(logits, classes)
    np.testing.assert_allclose(found[:2], np.log(own / (1 - own)), rtol=1e-5)
    # Where the probability itself is 1 in float32.
    np.testing.assert_allclose(found[2], 90 - np.log(2), rtol=1e-6)
    slope = jax.grad(lambda x: classification.evidence(x, classes).sum())
    self.assertTrue(np.isfinite(slope(logits)).all())
    odds = jnp.array([-1.0, 2])
    np.testing.assert_array_equal(classification.evidence(odds, None), odds)


class MaskedMeanTest(absltest.TestCase):
  def test_ignores_what_is_masked(self):
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    valid = jnp.array([True, False, True, False])
    self.assertEqual(classification.masked_mean(values, valid), 2.0)
    grad = jax.grad(classification.masked_mean)(values, valid)
    np.testing.assert_array_equal(grad, [0.5, 0, 0.5, 0])

  def test_of_nothing_is_zero(self):
    mean = classification.masked_mean(jnp.ones(3), jnp.zeros(3, bool))
    self.assertEqual(mean, 0.0)


class OnlineSampleFilteringTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    losses = jnp.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 5.0, 7.0])
    valid = jnp.arange(10) < 8
    easy = np.array([0, 2, 4, 6])
    seen = np.zeros(10)
    for seed in range(60):
      weights = np.asarray(
        classification.online_sample_filtering(
          losses, valid, jax.random.key(seed)
        )
      )
      # Four of eight are hard, and two of the other four stay; padding, for
      # all its loss, takes no part.
      np.testing.assert_array_equal(weights[[1, 3, 5, 7]], 1)
      np.testing.assert_array_equal(weights[8:], 0)
      self.assertEqual(weights[easy].sum(), 2)
      seen += weights
    self.assertTrue((seen[easy] > 15).all() and (seen[easy] < 45).all())

  @parameterized.parameters((1, 1), (2, 2), (3, 3), (5, 4), (32, 24))
  def test_rounds_up(self, count, kept):
    losses = jax.random.uniform(jax.random.key(0), (32,))
    weights = classification.online_sample_filtering(
      losses, jnp.arange(32) < count, jax.random.key(1)
    )
    self.assertEqual(weights.sum(), kept)

  def test_equal_losses_are_not_all_kept(self):
    weights = classification.online_sample_filtering(
      jnp.zeros(8), jnp.ones(8, bool), jax.random.key(0)
    )
    self.assertEqual(weights.sum(), 6)

  def test_nothing_valid(self):
    weights = classification.online_sample_filtering(
      jnp.ones(4), jnp.zeros(4, bool), jax.random.key(0)
    )
    np.testing.assert_array_equal(weights, 0)

  def test_shares_are_arguments_and_jit_agrees(self):
    losses = jnp.arange(10.0)
    args = (losses, jnp.ones(10, bool), jax.random.key(3))
    filtering = classification.online_sample_filtering
    plain = filtering(*args, hard=0.2, easy_kept=0.25)
    self.assertEqual(plain.sum(), 4)
    jitted = jax.jit(filtering, static_argnames=('hard', 'easy_kept'))
    np.testing.assert_array_equal(
      plain, jitted(*args, hard=0.2, easy_kept=0.25)
    )

  def test_no_gradient_through_the_choice(self):
    def loss(losses):
      weights = classification.online_sample_filtering(
        losses, jnp.ones(8, bool), jax.random.key(0)
      )
      return classification.masked_mean(losses, weights)

    grad = np.asarray(jax.grad(loss)(jnp.arange(8.0)))
    np.testing.assert_allclose(sorted(grad), [0, 0] + [1 / 6] * 6, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
