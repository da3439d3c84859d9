"""Tests of the splits of runs and folds."""

import numpy as np
from absl.testing import absltest

from medzoo.data import sources
from medzoo.train import folds


def _cases(keys: str, groups: str) -> sources.Cases:
  return sources.Cases(
    [
      sources._Place((), i, {'series': key, 'group': group})
      for i, (key, group) in enumerate(zip(keys, groups, strict=True))
    ]
  )


def _config(**changes) -> dict:
  none = {'by': '', 'parts': '', 'count': 0, 'always': '', 'reuse': False}
  return {
    'seed': 0,
    'splits': {'train': 'a', 'validation': 'b', 'test': 'c'},
    'folds': none | changes,
  }


class FoldsTest(absltest.TestCase):
  def test_named_splits(self):
    data = {name: _cases(name, name) for name in 'abc'}
    (splits,) = folds.make(_config(), data.__getitem__, 'abc').values()
    self.assertEqual(splits['test'].keys, ['c'])

  def test_a_scan_on_both_sides_is_refused(self):
    data = {
      'a': _cases('xy', 'xy'),
      'b': _cases('z', 'z'),
      'c': _cases('x', 'x'),
    }
    with self.assertRaisesRegex(ValueError, 'train and test'):
      folds.make(_config(), data.__getitem__, 'abc')

  def test_subsets_take_turns(self):
    data = {f's{k}': _cases(str(k), str(k)) for k in range(4)}
    runs = folds.make(
      _config(by='subset', parts='s0+s1+s2+s3'), data.__getitem__, list(data)
    )
    self.assertEqual(list(runs), [f'fold_{k}' for k in range(4)])
    last = runs['fold_3']
    self.assertEqual(last['test'].keys, ['3'])
    self.assertEqual(last['validation'].keys, ['0'])
    self.assertEqual(last['train'].keys, ['1', '2'])

  def test_subsets_that_are_missing_take_no_part(self):
    data = {f's{k}': _cases(str(k), str(k)) for k in (1, 4, 7)}
    config = _config(by='subset', parts='+'.join(f's{k}' for k in range(10)))
    runs = folds.make(config, data.__getitem__, list(data))
    self.assertEqual(
      [r['test'].keys for r in runs.values()], [['1'], ['4'], ['7']]
    )
    del data['s7']
    with self.assertRaisesRegex(ValueError, 'found 2 parts'):
      folds.make(config, data.__getitem__, list(data))

  def test_without_any_subset_the_plain_splits_are_used(self):
    data = {name: _cases(name, name) for name in 'abc'}
    config = _config(by='subset', parts='s0+s1')
    (splits,) = folds.make(config, data.__getitem__, list(data)).values()
    self.assertEqual(splits['test'].keys, ['c'])

  def test_groups_stay_together_and_every_case_is_tested_once(self):
    rng = np.random.default_rng(0)
    groups = ''.join(rng.choice(list('pqrstuv'), 20))
    keys = 'ABCDEFGHIJKLMNOPQRST'
    runs = folds.make(
      _config(by='group', parts='all', count=3),
      lambda _: _cases(keys, groups),
      ['train'],
    )
    tested = [key for splits in runs.values() for key in splits['test'].keys]
    self.assertCountEqual(tested, keys)
    for splits in runs.values():
      names = [set(splits[s].groups) for s in ('train', 'validation', 'test')]
      self.assertEmpty(names[0] & names[1] | names[0] & names[2])
      self.assertEmpty(names[1] & names[2])

  def test_a_dataset_may_lack_some_of_the_parts(self):
    opened = []

    def open_cases(name):
      opened.append(name)
      return _cases('ABC', 'pqr')

    config = _config(by='group', parts='train+validation+test', count=3)
    folds.make(config, open_cases, ['test', 'train'])
    self.assertEqual(opened, ['train+test'])

  def test_what_is_always_trained_on_lacks_the_tested_patient(self):
    data = {'cubes': _cases('123', 'pqr'), 'scans': _cases('xy', 'pq')}
    runs = folds.make(
      _config(by='group', parts='scans', count=2, always='cubes', reuse=True),
      data.__getitem__,
      [],
    )
    for splits in runs.values():
      self.assertNotIn(splits['test'].groups[0], splits['train'].groups)
      self.assertIn(splits['validation'].keys[0], splits['train'].keys)
      self.assertLen(splits['train'], 3)


if __name__ == '__main__':
  absltest.main()
