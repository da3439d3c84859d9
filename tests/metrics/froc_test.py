import numpy as np
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import froc


def _matches(scores, is_nodule, scans=1):
  scores = np.array(scores, float)
  zeros = np.zeros(len(scores), int)
  return froc.Matches(scores, np.array(is_nodule, bool), zeros, np.ones(scans))


class CurveTest(parameterized.TestCase):
  @parameterized.parameters(*range(8))
  def test_points_are_those_of_scikit_learn(self, seed):
    rng = np.random.default_rng(seed)
    scores = rng.random(300).round(1 + seed % 3)
    truth = rng.random(300) < 0.3
    points = froc.curve(_matches(scores, truth, scans=4))
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(truth, scores)
    np.testing.assert_allclose(points.fps, fpr * (~truth).sum() / 4)
    np.testing.assert_allclose(points.sensitivity, tpr)
    np.testing.assert_array_equal(points.thresholds, thresholds)

  def test_by_hand(self):
    # Over 2 scans: nodule, false, nodule, false + false at one score; one
    # nodule of three is missed.
    points = froc.curve(
      _matches([0.9, 0.8, 0.7, 0.2, 0.2, -np.inf], [1, 0, 1, 0, 0, 1], scans=2)
    )
    np.testing.assert_allclose(points.fps, [0, 0, 0.5, 0.5, 1.5])
    np.testing.assert_allclose(points.sensitivity * 3, [0, 1, 1, 2, 2])

  def test_tied_scores_make_one_point(self):
    points = froc.curve(_matches([0.5] * 4, [1, 0, 1, 0]))
    np.testing.assert_allclose(points.fps, [0, 2])
    np.testing.assert_allclose(points.sensitivity, [0, 1])

  def test_points_on_a_straight_line_are_dropped(self):
    points = froc.curve(_matches([6, 5, 4, 3, 2, 1], [1, 0, 0, 0, 0, 1]))
    np.testing.assert_allclose(points.fps, [0, 0, 4, 4])

  def test_without_false_positives_all_is_found_at_rate_zero(self):
    points = froc.curve(_matches([0.9, 0.8, -np.inf], [1, 1, 1]))
    self.assertTrue((points.fps == 0).all())
    for rule in froc.RULES:
      if rule != 'nearest':
        np.testing.assert_allclose(froc.read(points, rule), 2 / 3)
    # All rates are equally near, and the first point is (0, 0).
    np.testing.assert_array_equal(froc.read(points, 'nearest'), 0)

  def test_without_marks_the_curve_is_the_origin(self):
    points = froc.curve(_matches([-np.inf], [1]))
    np.testing.assert_array_equal(points.fps, [0])
    np.testing.assert_array_equal(points.sensitivity, [0])

  def test_without_nodules_sensitivity_is_nan(self):
    points = froc.curve(_matches([0.5], [0]))
    self.assertTrue(np.isnan(froc.read(points, 'interpolated')).all())


class ReadTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.points = froc.Curve(
      np.array([0, 0, 0.1, 0.1, 0.4, 0.4, 6.0]),
      np.array([0, 0.2, 0.2, 0.4, 0.4, 0.7, 0.9]),
      np.zeros(7),
    )

  def test_interpolated(self):
    between = 0.7 + 0.2 * (np.array([0.5, 1, 2, 4]) - 0.4) / 5.6
    np.testing.assert_allclose(
      froc.read(self.points, 'interpolated'), [0.4, 0.4, *between, 0.9]
    )

  def test_grid_reads_within_a_step_of_the_rates(self):
    places = np.linspace(0.125, 8, 10001)
    sampled = np.interp(places, self.points.fps, self.points.sensitivity)
    expected = [sampled[np.abs(places - rate).argmin()] for rate in froc.RATES]
    np.testing.assert_allclose(froc.read(self.points, 'grid'), expected)

  def test_nearest_takes_the_first_of_equals(self):
    # 0.125 and 0.25 lie nearest to 0.1 (0.25 as near to 0.4), 0.5 to 0.4.
    np.testing.assert_allclose(
      froc.read(self.points, 'nearest'), [0.2, 0.2, 0.4, 0.4, 0.4, 0.9, 0.9]
    )

  def test_last_takes_the_last_of_the_first_rate_not_below(self):
    np.testing.assert_allclose(
      froc.read(self.points, 'last'), [0.7, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]
    )

  def test_unknown_rule(self):
    with self.assertRaisesRegex(ValueError, 'unknown rule'):
      froc.read(self.points, 'best')


if __name__ == '__main__':
  absltest.main()
