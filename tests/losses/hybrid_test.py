import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.losses import hybrid

_PATCH = (25, 60, 60)


class CodingTest(absltest.TestCase):
  def test_worked_by_hand(self):
    diagonal = np.sqrt(25**2 + 60**2 + 60**2)
    targets = hybrid.encode(
      jnp.array([[12.5, -30.0, 3.0]]), jnp.array([diagonal]), _PATCH
    )
    np.testing.assert_allclose(targets, [[5, -5, 0.5, 0]], atol=1e-6)
    targets = hybrid.encode(
      jnp.zeros((1, 3)), jnp.array([diagonal * np.exp(-2)]), _PATCH
    )
    np.testing.assert_allclose(targets, [[0, 0, 0, -10]], atol=1e-5)

  def test_decode_is_the_inverse(self):
    rng = np.random.default_rng(0)
    offset = jnp.asarray(rng.uniform(-12, 12, (50, 3)), jnp.float32)
    diameter = jnp.asarray(rng.uniform(3, 30, 50), jnp.float32)
    back = hybrid.decode(hybrid.encode(offset, diameter, _PATCH), _PATCH)
    np.testing.assert_allclose(back[0], offset, atol=1e-4)
    np.testing.assert_allclose(back[1], diameter, rtol=1e-5)

  def test_unknown_diameters(self):
    targets = hybrid.encode(
      jnp.ones((3, 3)), jnp.array([jnp.nan, 0.0, -1.0]), _PATCH
    )
    self.assertTrue(np.isfinite(targets[:, :3]).all())
    self.assertTrue(np.isnan(targets[:, 3]).all())


class LossTest(absltest.TestCase):
  def test_smooth_l1(self):
    found = hybrid.smooth_l1(jnp.array([-3.0, -1.0, -0.5, 0.0, 0.5, 2.0]))
    np.testing.assert_allclose(found, [2.5, 0.5, 0.125, 0, 0.125, 1.5])

  def test_regression_worked_by_hand(self):
    targets = jnp.array(
      [[0, 0, 0, 0], [1, 1, 1, jnp.nan], [9, 9, 9, 9], [jnp.nan] * 4]
    )
    regression = jnp.array(
      [[0.5, 0, 2, 0], [1, 1, 4, 7], [0, 0, 0, 0], [0, 0, 0, 0]]
    )
    positive = jnp.array([True, True, False, False])
    # First 0.125 + 1.5, second 2.5 without its diameter, over two positives.
    found, grad = jax.value_and_grad(hybrid.regression_loss)(
      regression, targets, positive
    )
    self.assertAlmostEqual(float(found), (1.625 + 2.5) / 2, places=6)
    np.testing.assert_allclose(
      grad, [[0.25, 0, 0.5, 0], [0, 0, 0.5, 0], [0] * 4, [0] * 4]
    )

  def test_without_positives_the_regression_is_zero(self):
    found, grad = jax.value_and_grad(hybrid.regression_loss)(
      jnp.ones((2, 4)), jnp.full((2, 4), jnp.nan), jnp.zeros(2, bool)
    )
    self.assertEqual(found, 0)
    np.testing.assert_array_equal(grad, 0)

  def test_terms_add_up_and_padding_has_no_part(self):
    logits = jnp.array([[2.0, 0.0], [0.0, 1.0], [50.0, -50.0]])
    outputs = {'logits': logits, 'regression': jnp.full((3, 4), 2.0)}
    labels, valid = jnp.array([0, 1, 1]), jnp.array([True, True, False])
    loss, terms = hybrid.hybrid_loss(outputs, labels, jnp.zeros((3, 4)), valid)
    entropy = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2
    self.assertAlmostEqual(float(terms['classification']), entropy, places=6)
    self.assertAlmostEqual(float(terms['regression']), 6.0, places=5)
    self.assertAlmostEqual(float(loss), entropy + 3.0, places=5)

  def test_single_branch(self):
    loss, terms = hybrid.hybrid_loss(
      {'logits': jnp.zeros((2, 2))},
      jnp.array([0, 1]),
      jnp.zeros((2, 4)),
      jnp.ones(2, bool),
    )
    self.assertSetEqual(set(terms), {'classification'})
    self.assertAlmostEqual(float(loss), np.log(2), places=6)


if __name__ == '__main__':
  absltest.main()
