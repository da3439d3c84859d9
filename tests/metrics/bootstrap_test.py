import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import bootstrap


class BootstrapTest(parameterized.TestCase):
  def test_groups_are_numbered_as_they_come(self):
    index, number = bootstrap.group_index(
      ['s1', 's2', 's3'], {'s1': 'p', 's2': 'q', 's3': 'p', 's4': 'r'}
    )
    self.assertEqual((index.tolist(), number), ([0, 1, 0], 2))
    index, number = bootstrap.group_index(['s1', 's2'])
    self.assertEqual((index.tolist(), number), ([0, 1], 2))

  def test_a_scan_without_a_group_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "1 of 2 scans .* 's2'"):
      bootstrap.group_index(['s1', 's2'], {'s1': 'p'})

  def test_draws_are_with_replacement_and_repeatable(self):
    draws = bootstrap.draw(7, resamples=500, seed=3)
    self.assertEqual(draws.shape, (500, 7))
    np.testing.assert_array_equal(draws.sum(axis=1), 7)
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.15)
    np.testing.assert_array_equal(
      draws, bootstrap.draw(7, resamples=500, seed=3)
    )
    self.assertTrue((draws != bootstrap.draw(7, resamples=500, seed=4)).any())

  def test_entry_drops_and_counts_undefined_resamples(self):
    samples = np.array([0.1, np.nan, 0.3, 0.2])
    entry = bootstrap.entry(0.2, samples, 9)
    self.assertEqual(
      (entry['value'], entry['n'], entry['dropped']), (0.2, 9, 1)
    )
    self.assertAlmostEqual(entry['low'], 0.105)
    self.assertAlmostEqual(entry['high'], 0.295)
    self.assertNotIn('dropped', bootstrap.entry(0.2, np.ones(3), 9))

  def test_undefined_score_says_why(self):
    entry = bootstrap.entry(np.nan, np.ones(3), 2, 'no lesion')
    self.assertEqual(
      entry, {'value': None, 'low': None, 'high': None, 'n': 2,
              'why': 'no lesion'}
    )  # fmt: skip

  def test_ratio_equals_the_general_form(self):
    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, (2, 30))
    index = np.arange(30) // 2
    draws = bootstrap.draw(15, resamples=300)
    general = bootstrap.metric(
      lambda w: (w * above).sum() / (w * below).sum(), index, draws
    )
    fast = bootstrap.ratio(above, below, index, draws)
    for key in ('value', 'low', 'high', 'n'):
      self.assertAlmostEqual(fast[key], general[key])

  def test_interval_covers_the_mean_of_normal_groups(self):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
      values = rng.normal(size=40)
      draws = bootstrap.draw(40, resamples=300)
      entry = bootstrap.ratio(values, np.ones(40), np.arange(40), draws)
      covered += entry['low'] <= 0 <= entry['high']
    self.assertBetween(covered, 50, 60)

  def test_grouping_widens_the_interval_of_like_scans(self):
    values = np.repeat(np.random.default_rng(2).normal(size=20), 5)
    ones, width = np.ones(100), {}
    for name, index in (
      ('scan', np.arange(100)),
      ('patient', np.arange(100) // 5),
    ):
      entry = bootstrap.ratio(
        values, ones, index, bootstrap.draw(index.max() + 1)
      )
      width[name] = entry['high'] - entry['low']
    self.assertGreater(width['patient'], 1.8 * width['scan'])

  def test_difference_is_paired(self):
    draws = bootstrap.draw(50, resamples=400)
    first = np.random.default_rng(3).normal(size=50)
    samples = draws @ first / 50
    entry = bootstrap.difference(
      first.mean() + 0.1, samples + 0.1, first.mean(), samples, 50
    )
    for key in ('value', 'low', 'high'):
      self.assertAlmostEqual(entry[key], 0.1)


if __name__ == '__main__':
  absltest.main()
