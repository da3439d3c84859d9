"""Tests of Platt scaling, beside scikit-learn's logistic regression."""

import numpy as np
import sklearn.linear_model
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import calibration


def _logits(seed, number=120, apart=1.0, scale=1.0, shift=0.0):
  rng = np.random.default_rng(seed)
  positive = rng.random(number) < 0.4
  return positive, scale * rng.normal(apart * positive, 1) + shift


class PlattTest(parameterized.TestCase):
  @parameterized.parameters(
    dict(), dict(scale=50, shift=3), dict(scale=1e-3, shift=-7),
    dict(apart=30), dict(number=8),
  )  # fmt: skip
  def test_is_logistic_regression_on_smoothed_targets(self, **options):
    positive, logits = _logits(0, **options)
    found = calibration.platt(positive, logits)
    self.assertEqual(found.why, '')
    targets = np.where(
      positive,
      (positive.sum() + 1) / (positive.sum() + 2),
      1 / ((~positive).sum() + 2),
    )
    # Each picture is of both classes, by its target's weight.
    middle, spread = logits.mean(), logits.std()
    model = sklearn.linear_model.LogisticRegression(
      C=1e12, tol=1e-10, max_iter=10_000
    ).fit(
      np.tile((logits - middle) / spread, 2)[:, None],
      np.repeat([1, 0], len(logits)),
      np.append(targets, 1 - targets),
    )
    tried = np.linspace(logits.min(), logits.max(), 50)
    expected = model.predict_proba(((tried - middle) / spread)[:, None])[:, 1]
    np.testing.assert_allclose(
      calibration.probability(tried, found), expected, atol=1e-4
    )

  def test_undoes_what_a_network_overstates(self):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(-true))
    found = calibration.platt(positive, 5 * true + 2)
    self.assertAlmostEqual(found.scale, 1 / 5, delta=0.01)
    self.assertAlmostEqual(found.shift, -2 / 5, delta=0.05)

  def test_stays_finite_where_classes_do_not_overlap(self):
    positive = np.array([False] * 3 + [True] * 5)
    logits = np.where(positive, 1e4, -1e4)
    found = calibration.platt(positive, logits)
    self.assertEqual(found.why, '')
    probability = calibration.probability(logits, found)
    # Platt's targets themselves.
    np.testing.assert_allclose(probability[positive], 6 / 7, atol=1e-4)
    np.testing.assert_allclose(probability[~positive], 1 / 5, atol=1e-4)

  @parameterized.parameters(
    ([1, 1, 1], [0.1, 2, 3], 'one class'),
    ([0, 0], [0.1, 2], 'one class'),
    ([1, 0, 1], [0.7, 0.7, 0.7], 'the same'),
    ([1, 0, 1, 0], [-2, 2, -1, 1], 'do not rise'),
  )
  def test_else_log_odds_stay(self, positive, logits, why):
    found = calibration.platt(np.array(positive, bool), np.array(logits))
    self.assertEqual((found.scale, found.shift), (1, 0))
    self.assertIn(why, found.why)

  def test_probability(self):
    fitted = calibration.Calibration(2.0, -1.0)
    np.testing.assert_allclose(
      calibration.probability(np.array([0.5, -1e6, 1e6]), fitted), [0.5, 0, 1]
    )


if __name__ == '__main__':
  absltest.main()
