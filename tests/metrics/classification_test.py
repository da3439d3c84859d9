"""Tests of the scores of classifiers, beside those of scikit-learn."""

import dataclasses
import time

import numpy as np
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import bootstrap
from medzoo.metrics import classification


def _predictions(positive, probability, threshold=0.5):
  probability = np.array(probability, float)
  with np.errstate(divide='ignore'):
    logits = np.log(probability) - np.log1p(-probability)
  return classification.Predictions(
    np.array(positive, bool), logits, probability, threshold
  )


def _random(seed, number=200, decimals=2):
  rng = np.random.default_rng(seed)
  positive = rng.random(number) < 0.3
  probability = rng.normal(0.4 + 0.2 * positive, 0.2).round(decimals)
  return _predictions(positive, np.clip(probability, 0.01, 0.99), 0.45)


def _options(groups, resamples=100):
  index, number = bootstrap.group_index(groups)
  return index, bootstrap.draw(number, resamples=resamples, seed=0)


class AucTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 6)
  def test_of_resamples_is_that_of_lists_with_repeats(self, decimals):
    # Ties with one decimal are many, and groups are of several sizes.
    given = _random(decimals, 120, decimals)
    groups = np.random.default_rng(0).integers(17, size=120)
    index, draws = _options(groups.tolist(), 150)
    value, samples = classification.auc_samples(
      given.positive, given.logits, index, draws
    )
    self.assertAlmostEqual(
      value, sklearn.metrics.roc_auc_score(given.positive, given.logits)
    )
    for row, sample in zip(draws[:20], samples, strict=False):
      rows = np.repeat(np.arange(120), row[index])
      expected = sklearn.metrics.roc_auc_score(
        given.positive[rows], given.logits[rows]
      )
      self.assertAlmostEqual(sample, expected, places=12)
      self.assertAlmostEqual(
        sample, classification.auc(given.positive[rows], given.logits[rows])
      )
    self.assertLen(samples, 150)

  def test_by_hand(self):
    # The negative 0.5 lies above one positive and level with another.
    value, samples = classification.auc_samples(
      np.array([True, True, False]),
      np.array([0.5, 0.1, 0.5]),
      np.arange(3),
      np.array([[1, 1, 1], [2, 1, 1], [0, 3, 1], [1, 1, 0], [0, 0, 3]]),
    )
    self.assertEqual(value, 0.25)
    np.testing.assert_allclose(samples, [0.25, 1 / 3, 0, np.nan, np.nan])

  def test_a_thousand_resamples_of_two_thousand_are_quick(self):
    given = _random(0, 2000, 6)
    index, draws = _options(range(2000), 1000)
    began = time.process_time()
    classification.auc_samples(given.positive, given.logits, index, draws)
    self.assertLess(time.process_time() - began, 2)


class CurveTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 6)
  def test_points_are_those_of_scikit_learn(self, decimals):
    given = _random(decimals, 150, decimals)
    points = classification.curve(given.positive, given.probability)
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(
      given.positive, given.probability, drop_intermediate=False
    )
    np.testing.assert_allclose(points.false_positive_rate, fpr)
    np.testing.assert_allclose(points.sensitivity, tpr)
    np.testing.assert_array_equal(points.thresholds, thresholds)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(
      given.positive, given.probability
    )
    np.testing.assert_allclose(points.precision, precision[::-1])
    np.testing.assert_allclose(points.sensitivity, recall[::-1])


class ThresholdTest(absltest.TestCase):
  def test_is_the_best_youden_index(self):
    for seed in range(5):
      given = _random(seed, 80)
      chosen = classification.choose_threshold(
        given.positive, given.probability
      )
      self.assertNotIn(chosen, given.probability)
      called = given.probability >= np.append(
        chosen, np.linspace(0, 1, 201)
      ).reshape(-1, 1)
      youden = called[:, given.positive].mean(1) - called[
        :, ~given.positive
      ].mean(1)
      self.assertAlmostEqual(youden[0], youden.max())

  def test_is_half_way_between_classes_that_do_not_overlap(self):
    chosen = classification.choose_threshold(
      np.array([1, 0, 1, 0], bool), np.array([0.8, 0.3, 0.9, 0.1])
    )
    self.assertAlmostEqual(chosen, 0.55)

  def test_of_equally_good_ones_the_nearest_to_half(self):
    # 0.95, and 0.55 with one hit more and one false alarm more.
    chosen = classification.choose_threshold(
      np.array([1, 0, 1, 0], bool), np.array([1, 0.9, 0.7, 0.4])
    )
    self.assertAlmostEqual(chosen, 0.55)

  def test_without_a_choice_it_is_half(self):
    for positive, probability in (
      ([1, 1], [0.1, 0.2]),
      ([0, 0], [0.1, 0.2]),
      ([1, 0], [0.2, 0.2]),
    ):
      chosen = classification.choose_threshold(
        np.array(positive, bool), np.array(probability)
      )
      self.assertEqual(chosen, 0.5)


class MetricsTest(parameterized.TestCase):
  def test_by_hand(self):
    # 3 TP, 1 FN, 2 FP, 4 TN.
    given = _predictions(
      [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
      [0.9, 0.8, 0.5, 0.4, 0.7, 0.6, 0.3, 0.2, 0.1, 0.05],
    )
    found = classification.metrics(given, *_options('abcdefghij'))
    expected = {
      'accuracy': 7 / 10,
      'auc': (6 + 6 + 4 + 4) / 24,
      'sensitivity': 3 / 4,
      'specificity': 4 / 6,
      'precision': 3 / 5,
      'negative_predictive_value': 4 / 5,
      'f1': 6 / 9,
      'brier': (0.01 + 0.04 + 0.25 + 0.36 + 0.49 + 0.36 + 0.09 + 0.04 + 0.01
                + 0.0025) / 10,
      # Each in a bin of its own.
      'ece': (0.1 + 0.2 + 0.5 + 0.6 + 0.7 + 0.6 + 0.3 + 0.2 + 0.1 + 0.05) / 10,
    }  # fmt: skip
    self.assertEqual(list(found), [*expected, 'confusion_matrix'])
    for name, value in expected.items():
      self.assertAlmostEqual(found[name]['value'], value, msg=name)
      self.assertEqual(found[name]['n'], 10)
    self.assertEqual(
      found['confusion_matrix'],
      {'value': [[4, 2], [1, 3]], 'labels': ['class 0', 'class 1']},
    )

  @parameterized.parameters(*range(4))
  def test_are_those_of_scikit_learn(self, seed):
    given = _random(seed)
    found = classification.metrics(given, *_options(range(200), 10))
    truth, called = given.positive, given.called
    for name, value in {
      'accuracy': sklearn.metrics.accuracy_score(truth, called),
      'auc': sklearn.metrics.roc_auc_score(truth, given.logits),
      'sensitivity': sklearn.metrics.recall_score(truth, called),
      'specificity': sklearn.metrics.recall_score(~truth, ~called),
      'precision': sklearn.metrics.precision_score(truth, called),
      'negative_predictive_value': sklearn.metrics.precision_score(
        ~truth, ~called
      ),
      'f1': sklearn.metrics.f1_score(truth, called),
      'brier': sklearn.metrics.brier_score_loss(truth, given.probability),
    }.items():
      self.assertAlmostEqual(found[name]['value'], value, msg=name)
    np.testing.assert_array_equal(
      found['confusion_matrix']['value'],
      sklearn.metrics.confusion_matrix(truth, called),
    )

  def test_intervals_are_of_lists_with_repeats(self):
    given = _random(3, 60)
    index, draws = _options([i // 5 for i in range(60)], 40)
    found = classification.metrics(given, index, draws)
    samples = {name: [] for name in found if name != 'confusion_matrix'}
    for row in draws:
      rows = np.repeat(np.arange(60), row[index])
      again = dataclasses.replace(
        given,
        positive=given.positive[rows],
        logits=given.logits[rows],
        probability=given.probability[rows],
      )
      alone = np.arange(len(rows)), np.ones((1, len(rows)), int)
      scored = classification.metrics(again, *alone)
      for name, values in samples.items():
        values.append(scored[name]['value'])
    for name, values in samples.items():
      self.assertEqual(found[name]['n'], 12)
      np.testing.assert_allclose(
        [found[name]['low'], found[name]['high']],
        np.quantile(values, bootstrap.QUANTILES),
        err_msg=name,
      )

  def test_what_is_undefined_says_why(self):
    found = classification.metrics(
      _predictions([0, 0, 0], [0.1, 0.2, 0.3]), *_options('abc')
    )
    for name, why in {
      'auc': 'one of the two classes is missing',
      'sensitivity': 'no picture is of class 1',
      'precision': 'no picture was called class 1',
      'f1': 'no picture is of class 1 or was called so',
    }.items():
      self.assertIsNone(found[name]['value'], name)
      self.assertEqual(found[name]['why'], why)
    self.assertEqual(found['specificity']['value'], 1)
    self.assertEqual(found['confusion_matrix']['value'], [[3, 0], [0, 0]])

  def test_of_no_picture_all_is_undefined(self):
    found = classification.metrics(_predictions([], []), *_options(''))
    matrix = found.pop('confusion_matrix')
    self.assertEqual(matrix['value'], [[0, 0], [0, 0]])
    self.assertEqual({entry['value'] for entry in found.values()}, {None})

  def test_order_does_not_suffer_from_rounding(self):
    # Both probabilities are 1, their log-odds are not.
    given = classification.Predictions(
      np.array([True, False]), np.array([90.0, 80.0]), np.ones(2), 0.5
    )
    found = classification.metrics(given, *_options('ab'))
    self.assertEqual(found['auc']['value'], 1)
    self.assertEqual(found['ece']['value'], 0.5)

  def test_bins(self):
    given = _predictions([1, 0, 1, 1], [0.05, 0.07, 0.95, 1])
    found = classification.bins(given)
    self.assertEqual(found.count.tolist(), [2, *[0] * 8, 2])
    np.testing.assert_allclose(found.probability[[0, 9]], [0.06, 0.975])
    np.testing.assert_allclose(found.positive[[0, 9]], [0.5, 1])
    self.assertTrue(np.isnan(found.positive[1:9]).all())


class DifferencesTest(absltest.TestCase):
  def test_of_the_same_draws(self):
    first, second = _random(0), _random(0)
    rng = np.random.default_rng(1)
    worse = _predictions(
      first.positive, rng.permutation(first.probability), 0.45
    )
    options = _options([i // 2 for i in range(200)])
    found = classification.differences(first, worse, *options)
    self.assertEqual(list(found), ['auc', 'accuracy', 'f1'])
    own = classification.metrics(first, *options)
    others = classification.metrics(worse, *options)
    for name, entry in found.items():
      self.assertAlmostEqual(
        entry['value'], own[name]['value'] - others[name]['value']
      )
      self.assertGreater(entry['low'], 0, name)
    same = classification.differences(first, second, *options)
    for entry in same.values():
      self.assertEqual((entry['low'], entry['high']), (0, 0))


class MostCertainTest(absltest.TestCase):
  def test_by_hand(self):
    given = _predictions(
      [1, 0, 1, 0, 1, 0, 1], [0.05, 0.9, 0.3, 0.6, 0.7, 0.2, 0.95]
    )
    wrong, right = classification.most_certain(given, mistakes=3, hits=1)
    # Called 0 with 0.95, 1 with 0.9, 0 with 0.7; the fourth would be 3.
    self.assertEqual(wrong.tolist(), [0, 1, 2])
    self.assertEqual(right.tolist(), [6, 5])
    wrong, right = classification.most_certain(given, mistakes=9, hits=9)
    self.assertEqual(wrong.tolist(), [0, 1, 2, 3])
    self.assertEqual(right.tolist(), [6, 4, 5])


if __name__ == '__main__':
  absltest.main()
