"""Tests of the scores of several classes, beside scikit-learn's."""

import numpy as np
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized
from scipy import special

from medzoo.metrics import bootstrap
from medzoo.metrics import multiclass


def _made(seed=0, number=90, classes=4):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, number)
  logits = rng.normal(size=(number, classes)) + 1.2 * np.eye(classes)[labels]
  return multiclass.Predictions(labels, logits)


def _alone(number):
  """Every item is a group, and is drawn once."""
  return np.arange(number), np.ones((1, number), int)


def _by_scikit_learn(labels, probability):
  """What scikit-learn has of it."""
  called = probability.argmax(1)
  precision, recall, _, _ = sklearn.metrics.precision_recall_fscore_support(
    labels, called, zero_division=np.nan
  )
  found = {
    'accuracy': sklearn.metrics.accuracy_score(labels, called),
    'auc': sklearn.metrics.roc_auc_score(
      labels, probability, multi_class='ovr', average='macro'
    ),
    'f1': sklearn.metrics.f1_score(labels, called, average='macro'),
    'brier': sklearn.metrics.mean_squared_error(
      np.eye(probability.shape[1])[labels], probability
    ) * probability.shape[1],
  }  # fmt: skip
  for k in range(probability.shape[1]):
    found |= {
      f'sensitivity_class_{k}': recall[k],
      f'precision_class_{k}': precision[k],
      f'specificity_class_{k}': sklearn.metrics.recall_score(
        labels != k, called != k
      ),
      f'auc_class_{k}': sklearn.metrics.roc_auc_score(
        labels == k, probability[:, k]
      ),
    }
  return found


class MetricsTest(parameterized.TestCase):
  @parameterized.parameters(3, 4)
  def test_as_scikit_learn_has_it(self, classes):
    predictions = _made(classes=classes)
    probability = special.softmax(predictions.logits, axis=1)
    found = multiclass.metrics(predictions, *_alone(90))
    expected = _by_scikit_learn(predictions.labels, probability)
    for name, value in expected.items():
      self.assertAlmostEqual(found[name]['value'], value, msg=name)
    self.assertEqual(
      found['confusion_matrix'],
      {
        'value': sklearn.metrics.confusion_matrix(
          predictions.labels, probability.argmax(1)
        ).tolist(),
        'labels': [f'class {k}' for k in range(classes)],
      },
    )
    self.assertEqual(set(found), {*expected, 'ece', 'confusion_matrix'})

  def test_a_resample_is_a_list_with_items_as_often_as_drawn(self):
    predictions = _made(number=60, classes=3)
    index, number = np.arange(60) // 3, 20
    draws = bootstrap.draw(number, resamples=1, seed=3)
    found = multiclass.metrics(predictions, index, draws)
    times = draws[0][index]
    labels, probability = (
      np.repeat(x, times, axis=0)
      for x in (predictions.labels, predictions.probability)
    )
    for name, value in _by_scikit_learn(labels, probability).items():
      self.assertAlmostEqual(found[name]['low'], value, msg=name)
      self.assertEqual(found[name]['n'], 20)

  def test_calibration_error_by_hand(self):
    """Of four pictures two are called at .8, one of them right; two at .6."""
    probability = np.array(
      [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]]
    )
    predictions = multiclass.Predictions(
      np.array([0, 0, 2, 0]), np.log(probability)
    )
    found = multiclass.metrics(predictions, *_alone(4))
    self.assertAlmostEqual(found['ece']['value'], (0.3 * 2 + 0.4 * 2) / 4)
    certainty = predictions.certainty
    self.assertEqual(certainty.positive.tolist(), [True, False, True, True])
    np.testing.assert_allclose(certainty.probability, [0.8, 0.8, 0.6, 0.6])

  def test_a_class_without_pictures(self):
    """Means are over the others, and its own metrics say why not."""
    whole = _made(classes=3)
    predictions = multiclass.Predictions(
      np.where(whole.labels == 1, 0, whole.labels), whole.logits
    )
    found = multiclass.metrics(predictions, *_alone(90))
    self.assertEqual(found['sensitivity_class_1']['why'], 'no picture is of it')
    self.assertIsNone(found['auc_class_1']['value'])
    self.assertEqual(
      found['auc']['value'],
      np.mean([found[f'auc_class_{k}']['value'] for k in (0, 2)]),
    )
    self.assertAlmostEqual(
      found['f1']['value'],
      sklearn.metrics.f1_score(
        predictions.labels, predictions.called, labels=[0, 2], average='macro'
      ),
    )

  def test_a_resample_that_lacks_a_class_is_dropped(self):
    predictions = multiclass.Predictions(np.array([0, 1, 2]), np.eye(3))
    draws = np.array([[1, 1, 1], [2, 1, 0], [1, 0, 2]])
    found = multiclass.metrics(predictions, np.arange(3), draws)
    self.assertEqual(found['auc']['dropped'], 2)
    self.assertNotIn('dropped', found['accuracy'])

  def test_one_class_alone(self):
    predictions = multiclass.Predictions(np.zeros(4, int), np.eye(4)[:, :3])
    found = multiclass.metrics(predictions, *_alone(4))
    self.assertEqual(found['auc']['why'], 'there is one class only')
    self.assertIsNotNone(found['f1']['value'])

  def test_the_order_of_certain_pictures_is_kept(self):
    """Though their probabilities all round to 1."""
    logits = np.array([[300.0, 0, 1], [200, 0, 1], [100, 1, 0], [0, 9, 1]])
    labels = np.array([0, 0, 1, 2])
    self.assertEqual(
      multiclass.Predictions(labels, logits).probability[2, 0], 1
    )
    expected = [
      sklearn.metrics.roc_auc_score(labels == 0, [300, 200, 100, -9]),
      sklearn.metrics.roc_auc_score(labels == 1, [-300, -200, -99, 8]),
      sklearn.metrics.roc_auc_score(labels == 2, [-299, -199, -100, -8]),
    ]
    self.assertAlmostEqual(multiclass.auc(labels, logits), np.mean(expected))

  def test_two_columns_are_log_odds(self):
    logits = np.random.default_rng(0).normal(size=(9, 2))
    odds = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(
      multiclass.evidence(logits), np.stack([-odds, odds], 1)
    )

  def test_differences(self):
    one, other = (
      _made(),
      multiclass.Predictions(_made().labels, _made(1).logits),
    )
    index, draws = np.arange(90), bootstrap.draw(90, resamples=50, seed=0)
    found = multiclass.differences(one, other, index, draws)
    first, second = (multiclass.metrics(x, index, draws) for x in (one, other))
    self.assertEqual(set(found), {'auc', 'accuracy', 'f1'})
    for name, entry in found.items():
      self.assertAlmostEqual(
        entry['value'], first[name]['value'] - second[name]['value']
      )
      self.assertLess(entry['low'], entry['value'])
    same = multiclass.differences(one, one, index, draws)
    self.assertEqual((same['f1']['low'], same['f1']['high']), (0, 0))


class ShownTest(absltest.TestCase):
  def test_the_surest(self):
    predictions = _made()
    wrong, right = multiclass.most_certain(predictions)
    highest = predictions.probability.max(1)
    self.assertLen(wrong, 12)
    self.assertTrue((predictions.called != predictions.labels)[wrong].all())
    self.assertEqual(sorted(-highest[wrong]), list(-highest[wrong]))
    self.assertEqual(
      predictions.labels[right].tolist(), [3] * 3 + [2] * 3 + [1] * 3 + [0] * 3
    )
    self.assertTrue((predictions.called == predictions.labels)[right].all())
    self.assertEqual(multiclass.hits_shown(20), 1)

  def test_names(self):
    found = multiclass.metrics(_made(classes=3), *_alone(90))
    named = multiclass.name_classes(found, ['a', 'b', 'class_0'])
    self.assertEqual(named['auc'], found['auc'])
    for metric in multiclass.PER_CLASS:
      self.assertEqual(named[f'{metric}_b'], found[f'{metric}_class_1'])
      self.assertEqual(named[f'{metric}_class_0'], found[f'{metric}_class_2'])
    self.assertEqual(named['confusion_matrix']['labels'], ['a', 'b', 'class_0'])
    self.assertLen(named, len(found))


if __name__ == '__main__':
  absltest.main()
