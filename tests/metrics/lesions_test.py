import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import lesions


def _rows(*rows):
  return np.array(rows, float).reshape(-1, 4)


class CountTest(parameterized.TestCase):
  @parameterized.parameters((6.0, 1), (6.001, 0))
  def test_reach_is_the_lesions_own_diameter_and_included(self, distance, hit):
    truth = {'a': _rows((0, 0, 0, 6), (500, 0, 0, 30))}
    counts = lesions.count({'a': _rows((0, distance, 0, 1))}, truth, ['a'], 0)
    self.assertEqual(counts.tolist(), [[hit, 2, 1 - hit]])

  def test_threshold_is_included(self):
    results = {'a': _rows((0, 0, 0, 0.5), (90, 0, 0, 0.4), (99, 0, 0, 0.6))}
    truth = {'a': _rows((0, 0, 0, 6))}
    counts = lesions.count(results, truth, ['a'], 0.5)
    self.assertEqual(counts.tolist(), [[1, 1, 1]])

  def test_several_detections_of_one_lesion(self):
    results = {'a': _rows((0, 0, 0, 0.5), (1, 0, 0, 0.9))}
    counts = lesions.count(results, {'a': _rows((0, 0, 0, 6))}, ['a', 'b'], 0)
    self.assertEqual(counts.tolist(), [[1, 1, 0], [0, 0, 0]])

  @parameterized.parameters(-1.0, np.nan)
  def test_unknown_diameter_is_10_mm(self, diameter):
    truth = {'a': _rows((0, 0, 0, diameter))}
    results = {'a': _rows((0, 0, 10, 1), (0, 0, 11, 1))}
    counts = lesions.count(results, truth, ['a'], 0)
    self.assertEqual(counts.tolist(), [[1, 1, 1]])


class MetricsTest(absltest.TestCase):
  def test_by_hand(self):
    results = {'a': _rows((0, 0, 0, 0.9), (90, 0, 0, 0.9), (80, 0, 0, 0.1))}
    truth = {'a': _rows((0, 0, 0, 6)), 'b': _rows((0, 0, 0, 6))}
    entries = lesions.metrics(results, truth, ['a', 'b', 'c', 'd'], 0.5)
    self.assertEqual(entries['recall']['value'], 0.5)
    self.assertEqual(entries['fps_per_scan']['value'], 0.25)
    self.assertEqual(entries['recall']['n'], 4)
    # Where neither a nor b is drawn there is no lesion.
    self.assertGreater(entries['recall']['dropped'], 0)

  def test_no_lesions_and_no_scans(self):
    entries = lesions.metrics({}, {}, ['a'], 0.5)
    self.assertIsNone(entries['recall']['value'])
    self.assertEqual(entries['fps_per_scan']['value'], 0)
    with self.assertRaisesRegex(ValueError, 'no scans'):
      lesions.metrics({}, {}, [], 0.5)


class ThresholdTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    # Two scans; falling: hit .9, false .8, hit .7, false .6, false .6, hit .5
    self.results = {
      'a': _rows((0, 0, 0, 0.9), (90, 0, 0, 0.8), (99, 0, 0, 0.6)),
      'b': _rows((0, 0, 0, 0.7), (90, 0, 0, 0.6), (50, 0, 0, 0.5)),
    }
    self.truth = {
      'a': _rows((0, 0, 0, 6)),
      'b': _rows((0, 0, 0, 6), (50, 0, 0, 6)),
    }

  @parameterized.parameters((0, 0.9), (0.5, 0.7), (1.0, 0.7), (1.5, 0.5))
  def test_lowest_within_the_budget(self, budget, expected):
    threshold = lesions.choose_threshold(
      self.results, self.truth, ['a', 'b'], budget
    )
    self.assertEqual(threshold, expected)
    false = lesions.count(self.results, self.truth, ['a', 'b'], threshold)
    self.assertLessEqual(false[:, 2].sum() / 2, budget)

  def test_above_all_where_nothing_keeps_the_budget(self):
    results = {'a': _rows((90, 0, 0, 0.8))}
    threshold = lesions.choose_threshold(results, {}, ['a'], 0.5)
    self.assertGreater(threshold, 0.8)
    self.assertAlmostEqual(threshold, 0.8)

  def test_zero_without_detections(self):
    self.assertEqual(lesions.choose_threshold({}, self.truth, ['a'], 1), 0)


if __name__ == '__main__':
  absltest.main()
