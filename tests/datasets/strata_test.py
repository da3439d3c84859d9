import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import strata

_SHARES = {'train': 0.6, 'validation': 0.2, 'test': 0.2}


class DivideTest(parameterized.TestCase):
  @parameterized.parameters(range(5))
  def test_classes_are_spread_and_groups_are_whole(self, seed):
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 100, 400)).astype(str).tolist()
    positive = {str(i) for i in range(0, 100, 5)}
    # Not every case of such a group is of class 1.
    labels = [int(x in positive and rng.random() < 0.7) for x in groups]
    items = list(range(400))
    divided = strata.divide(items, groups, labels, _SHARES, seed)
    self.assertCountEqual(sum(divided.values(), []), items)
    owner = {}
    for name, own in divided.items():
      self.assertEqual(own, sorted(own))
      self.assertAlmostEqual(len(own) / 400, _SHARES[name], delta=0.04)
      within = sum(labels[i] for i in own) / sum(labels)
      self.assertAlmostEqual(within, _SHARES[name], delta=0.15)
      for i in own:
        self.assertEqual(owner.setdefault(groups[i], name), name)
    again = strata.divide(items, groups, labels, _SHARES, seed)
    self.assertEqual(again, divided)
    other = strata.divide(items, groups, labels, _SHARES, seed + 1)
    self.assertNotEqual(other, divided)

  def test_the_rarest_of_several_classes_is_in_every_split(self):
    """Also where its groups have cases of all other classes too."""
    groups = [str(i // 4) for i in range(400)]
    # Class 1 is in every tenth group only, beside 0, 2 and 3.
    labels = [
      1 if i % 4 == 3 and i // 4 % 10 == 0 else (0, 2, 3, 0)[i % 4]
      for i in range(400)
    ]
    divided = strata.divide(list(range(400)), groups, labels, _SHARES, 0)
    self.assertCountEqual(sum(divided.values(), []), range(400))
    found = {
      name: sum(labels[i] == 1 for i in own) for name, own in divided.items()
    }
    self.assertEqual(found, {'train': 6, 'validation': 2, 'test': 2})
    parts = [{groups[i] for i in own} for own in divided.values()]
    self.assertLen(set.union(*parts), sum(map(len, parts)))

  @parameterized.parameters(range(3))
  def test_several_classes_are_spread_over_few_large_groups(self, seed):
    """As tiles of a dozen patients are, who have nearly all classes each."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 12, 600)).astype(str).tolist()
    labels = rng.choice(4, 600, p=[0.3, 0.05, 0.6, 0.05]).tolist()
    divided = strata.divide(list(range(600)), groups, labels, _SHARES, seed)
    self.assertCountEqual(sum(divided.values(), []), range(600))
    owner = {}
    for name, own in divided.items():
      self.assertAlmostEqual(len(own) / 600, _SHARES[name], delta=0.1)
      self.assertEqual({labels[i] for i in own}, {0, 1, 2, 3})
      for i in own:
        self.assertEqual(owner.setdefault(groups[i], name), name)
    again = dict(reversed(_SHARES.items()))
    self.assertEqual(
      strata.divide(list(range(600)), groups, labels, again, seed), divided
    )

  def test_one_class_may_be_absent(self):
    divided = strata.divide([7, 8], ['a', 'b'], [0, 0], {'test': 1}, 0)
    self.assertEqual(divided, {'test': [7, 8]})


if __name__ == '__main__':
  absltest.main()
