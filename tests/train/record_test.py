import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.train import record


def _judged(mode, values, patience=None):
  result = record.Record('fit')
  for value in values:
    result.step += 1
    result.add_metrics({'auc': value})
    result.judge('auc', mode, patience)
  return result


class RecordTest(parameterized.TestCase):
  def test_mean_terms(self):
    result = record.Record('fit', step=10)
    terms = [{'loss': np.float32(value)} for value in (1, 2, 6)]
    row = result.add_terms(terms, 0.1)
    self.assertEqual(row, {'step': 10, 'loss': 3.0, 'learning_rate': 0.1})
    self.assertEqual(result.train, [row])

  @parameterized.parameters(
    ({'loss': np.nan, 'gradient_norm': np.nan, 'box': np.inf}, 'box is inf'),
    ({'loss': np.nan, 'gradient_norm': np.nan, 'box': 1.0}, 'loss is nan'),
    ({'loss': 0.0, 'gradient_norm': np.inf, 'box': 1.0}, 'gradient_norm is'),
  )
  def test_names_the_cause_and_its_step(self, bad, message):
    good = dict.fromkeys(bad, 0.0)
    result = record.Record('fit', step=10)
    with self.assertRaisesRegex(
      record.Diverged, f'^fit: {message}.* at step 9;'
    ):
      result.add_terms([good, bad, good], 0.1)

  @parameterized.parameters(
    ('max', [0.5, 0.7, 0.7, 0.6], 2, 0.7, 2),
    ('min', [0.5, 0.7, None, 0.3], 4, 0.3, 0),
    ('max', [None, None], 0, None, 2),
    ('max', [None, 0.1], 2, 0.1, 0),
  )
  def test_judges(self, mode, values, step, value, stale):
    result = _judged(mode, values)
    self.assertEqual(
      (result.best_step, result.best_value, result.stale, result.finished),
      (step, value, stale, False),
    )

  def test_patience(self):
    self.assertFalse(_judged('max', [0.5, 0.4], 2).finished)
    self.assertTrue(_judged('max', [0.5, 0.4, 0.5], 2).finished)

  def test_unknown_metric(self):
    result = record.Record('fit')
    result.add_metrics({'auc': 1.0, 'f1': 0.5})
    with self.assertRaisesRegex(
      ValueError, "fit.select.metric: found 'cpm', expected one of auc, f1"
    ):
      result.judge('cpm', 'max', None)


if __name__ == '__main__':
  absltest.main()
