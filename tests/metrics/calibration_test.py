"""Tests of calibration, beside scikit-learn and a plain minimisation."""

import numpy as np
import sklearn.linear_model
from absl.testing import absltest
from absl.testing import parameterized
from scipy import optimize
from scipy import special

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


class TemperatureTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 40.0, 1e-3)
  def test_is_the_most_likely_one(self, factor):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    logits = factor * (rng.normal(size=(50, 3)) + np.eye(3)[labels])
    found = calibration.temperature(labels, logits)
    counts = np.bincount(labels)[labels]
    targets = np.tile(1 / (counts + 3)[:, None], 3)
    targets[np.arange(50), labels] *= counts + 1

    def loss(temperature):
      shares = special.log_softmax(logits / temperature, axis=1)
      return -(targets * shares).sum(1).mean()

    expected = optimize.minimize_scalar(
      loss, bounds=(0.01 * factor, 100 * factor), method='bounded',
      options={'xatol': 1e-6 * factor},
    ).x  # fmt: skip
    self.assertAlmostEqual(found.temperature / factor, expected / factor, 3)
    self.assertEqual(found.why, '')

  def test_undoes_what_a_network_overstates(self):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (20_000, 4))
    labels = (true + rng.gumbel(size=true.shape)).argmax(1)
    found = calibration.temperature(labels, 5 * true + 7)
    self.assertAlmostEqual(found.temperature, 5, delta=0.1)

  def test_of_two_classes_it_is_platts_scale_without_a_shift(self):
    """Where the classes are each other's mirror image."""
    odds = np.array([3.0, 1, -1, 2, 1, -2])
    labels = np.repeat([1, 0], 6)
    odds = np.append(odds, -odds)
    found = calibration.temperature(labels, np.stack([0 * odds, odds], 1))
    platt = calibration.platt(labels > 0, odds)
    self.assertAlmostEqual(1 / found.temperature, platt.scale, places=4)

  def test_stays_finite_where_classes_do_not_overlap(self):
    labels = np.repeat([0, 1, 2], 4)
    found = calibration.temperature(labels, 1e4 * np.eye(3)[labels])
    shares = special.softmax(1e4 * np.eye(3) / found.temperature, axis=1)
    np.testing.assert_allclose(np.diag(shares), 5 / 7, atol=1e-6)

  @parameterized.parameters(
    ([1, 1], [[0, 2, 0], [0, 1, 0]], 'one class'),
    ([1, 0, 2], [[0.7, 0.1, 1]] * 3, 'the same'),
    ([1, 0, 2], [[2, 1, 1], [0, 2, 0], [1, 0, 0]], 'do not rise'),
  )
  def test_else_logits_stay(self, labels, logits, why):
    found = calibration.temperature(np.array(labels), np.array(logits, float))
    self.assertEqual(found.temperature, 1)
    self.assertIn(why, found.why)


if __name__ == '__main__':
  absltest.main()
