import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import splits


class SplitsTest(parameterized.TestCase):
  def test_counts_are_met_and_nobody_is_on_two_sides(self):
    shares = {'train': 32, 'validation': 8, 'test': 24}
    items = list(range(64))
    found = splits.divide(items, [str(i) for i in items], shares, seed=0)
    self.assertEqual({name: len(x) for name, x in found.items()}, shares)
    self.assertCountEqual(sum(found.values(), []), items)

  def test_groups_stay_together(self):
    groups = np.random.default_rng(0).integers(0, 30, 100).astype(str)
    found = splits.divide(
      range(100), groups, {'train': 0.6, 'validation': 0.1, 'test': 0.3}, 1
    )
    sides = [set(groups[x]) for x in found.values()]
    self.assertLen(set.union(*sides), sum(map(len, sides)))
    largest = np.unique(groups, return_counts=True)[1].max()
    for name, quota in (('train', 60), ('validation', 10), ('test', 30)):
      self.assertLessEqual(abs(len(found[name]) - quota), largest)

  def test_two_patients_train_and_test(self):
    found = splits.divide(['a', 'b'], ['a', 'b'], splits.DEFAULT_SHARES, 0)
    self.assertEqual(
      {name: len(x) for name, x in found.items()}, {'train': 1, 'test': 1}
    )

  def test_the_seed_decides(self):
    groups = [str(i) for i in range(50)]
    first, again, other = (
      splits.divide(range(50), groups, {'train': 1, 'test': 1}, seed)
      for seed in (0, 0, 1)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)

  def test_the_order_of_the_shares_does_not_decide(self):
    groups = [str(i) for i in range(15)]
    shares = {'train': 1, 'validation': 1, 'test': 2}
    turned = dict(reversed(shares.items()))
    self.assertEqual(
      list(splits.divide(range(15), groups, shares, 0).items()),
      list(splits.divide(range(15), groups, turned, 0).items()),
    )

  @parameterized.parameters(({},), ({'train': -1, 'test': 2},), ({'train': 0},))
  def test_refuses_shares(self, shares):
    with self.assertRaisesRegex(ValueError, 'expected positive'):
      splits.divide(['a'], ['a'], shares, 0)


if __name__ == '__main__':
  absltest.main()
