"""Each rule by hand, and all of them against a slow second writing."""

import numpy as np
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import bootstrap
from medzoo.metrics import froc
from medzoo.metrics import luna16


def _rows(*rows):
  return np.array(rows, float).reshape(-1, 4)


def _match(marks, nodules=(), excluded=(), **kwargs):
  """Matches in one scan 'a'."""
  return luna16.match(
    {'a': _rows(*marks)},
    {'a': _rows(*nodules)},
    {'a': _rows(*excluded)},
    ['a'],
    **kwargs,
  )


class RulesTest(parameterized.TestCase):
  @parameterized.parameters((4.999999, True), (5.0, False), (5.000001, False))
  def test_a_hit_is_strictly_nearer_than_the_radius(self, distance, hit):
    matches = _match([(distance, 0, 0, 0.9)], [(0, 0, 0, 10)])
    self.assertEqual(matches.found.tolist()[0], hit)
    self.assertLen(matches.scores, 1 if hit else 2)

  def test_distance_is_euclidean_in_all_three_axes(self):
    self.assertTrue(_match([(2, 2, 2, 1)], [(0, 0, 0, 7)]).found[0])
    self.assertFalse(_match([(2, 2, 2, 1)], [(0, 0, 0, 6.9)]).found[0])

  @parameterized.parameters(-1.0, -0.001, np.nan)
  def test_a_diameter_below_zero_or_unknown_is_10_mm(self, diameter):
    inside, outside = (0, 0, 4.9, 0.5), (0, 0, 5.1, 0.5)
    excluded = [(0, 0, 0, diameter)]
    self.assertEmpty(_match([inside], excluded=excluded).scores)
    self.assertLen(_match([outside], excluded=excluded).scores, 1)
    self.assertTrue(_match([inside], [(0, 0, 0, diameter)]).found[0])

  def test_a_diameter_of_zero_is_never_hit(self):
    self.assertFalse(_match([(0, 0, 0, 1)], [(0, 0, 0, 0)]).found[0])

  def test_marks_on_excluded_findings_do_not_count(self):
    matches = _match([(0, 0, 0, 0.9), (50, 0, 0, 0.8)], (), [(1, 0, 0, 6)])
    np.testing.assert_array_equal(matches.scores, [0.8])
    self.assertEqual(matches.irrelevant, 1)

  def test_nodules_go_before_excluded_findings(self):
    # LUNA16 lists readers' single marks on accepted nodules as excluded.
    matches = _match([(0, 0, 0, 0.9)], [(1, 0, 0, 8)], [(0, 0, 0, 8)])
    np.testing.assert_array_equal(matches.found, [True])
    np.testing.assert_array_equal(matches.scores, [0.9])
    self.assertEqual(matches.irrelevant, 0)

  def test_of_several_marks_on_a_nodule_the_highest_counts_once(self):
    marks = [(0, 0, 0, 0.3), (1, 0, 0, 0.7), (0, 1, 0, 0.5)]
    matches = _match(marks, [(0, 0, 0, 9)])
    np.testing.assert_array_equal(matches.scores, [0.7])
    self.assertEqual(matches.extra, 2)

  def test_one_mark_finds_two_nodules(self):
    matches = _match([(0, 0, 0, 0.6)], [(2, 0, 0, 10), (-2, 0, 0, 10)])
    np.testing.assert_array_equal(matches.scores, [0.6, 0.6])
    self.assertEqual(matches.extra, 0)

  def test_a_missed_nodule_stays_in_the_denominator(self):
    matches = _match([(0, 0, 0, 0.6)], [(0, 0, 0, 5), (90, 0, 0, 5)])
    points = froc.curve(matches)
    np.testing.assert_array_equal(matches.found, [True, False])
    self.assertEqual(points.sensitivity[-1], 0.5)
    self.assertTrue(np.isfinite(points.thresholds[1:]).all())

  def test_scans_without_nodules_divide_the_false_positives(self):
    results = {'a': _rows((0, 0, 0, 0.9), (90, 0, 0, 0.5))}
    annotations = {'a': _rows((0, 0, 0, 5))}
    matches = luna16.match(results, annotations, {}, ['a', 'b', 'c', 'd'])
    self.assertEqual(froc.curve(matches).fps[-1], 0.25)

  def test_scans_not_asked_for_are_left_out(self):
    one = {'a': _rows((0, 0, 0, 0.9)), 'b': _rows((0, 0, 0, 0.8))}
    findings = {'a': _rows((0, 0, 0, 5)), 'b': _rows((0, 0, 0, 5))}
    matches = luna16.match(one, findings, {}, ['a'])
    self.assertLen(matches.scores, 1)
    np.testing.assert_array_equal(matches.marks, [1])

  def test_equal_marks_are_not_merged(self):
    matches = _match([(0, 0, 0, 0.5)] * 3)
    self.assertLen(matches.scores, 3)

  @parameterized.named_parameters(
    ('no_scan', {}, [], 'empty'),
    ('twice', {}, ['a', 'b', 'a'], 'series a is listed twice'),
    ('nan', {'a': _rows((0, 0, 0, np.nan))}, ['a'], 'not finite'),
  )
  def test_refuses(self, results, uids, message):
    with self.assertRaisesRegex(ValueError, message):
      luna16.match(results, {}, {}, uids)


class CapTest(parameterized.TestCase):
  def test_of_the_highest_and_the_first_too_many_the_last_in_file_goes(self):
    # The third highest is 0.5; 0.9, 0.5 and 0.7 pass, and the first two stay.
    marks = _rows(*((i, 0, 0, s) for i, s in enumerate([0.1, 0.9, 0.5, 0.7])))
    np.testing.assert_array_equal(luna16.capped(marks, 2)[:, 3], [0.9, 0.5])

  def test_of_a_sorted_file_the_highest_stay(self):
    marks = _rows(*((i, 0, 0, s) for i, s in enumerate([0.9, 0.7, 0.5, 0.1])))
    np.testing.assert_array_equal(luna16.capped(marks, 2)[:, 3], [0.9, 0.7])

  def test_keeps_all_where_there_are_not_more(self):
    marks = _rows(*((0, 0, 0, 0.5) for _ in range(3)))
    self.assertLen(luna16.capped(marks, 3), 3)
    self.assertLen(luna16.capped(marks, None), 3)

  def test_ties_with_the_first_too_many_stay_by_file_order(self):
    # The fourth mark is the best but comes last: two ties fill its place.
    marks = _rows(*((i, 0, 0, s) for i, s in enumerate([0.5, 0.5, 0.5, 0.9])))
    np.testing.assert_array_equal(luna16.capped(marks, 2)[:, 0], [0, 1])

  def test_scores_within_1e_8_are_ties(self):
    marks = _rows((0, 0, 0, 0.5 - 9e-9), (1, 0, 0, 0.5), (2, 0, 0, 0.9))
    self.assertLen(luna16.capped(marks, 1), 1)
    # The first too many is 0.5; the mark 9e-9 below it is still above.
    np.testing.assert_array_equal(luna16.capped(marks, 1)[:, 0], [0])

  def test_100_marks_a_scan_by_default(self):
    marks = [(1000 * i, 0, 0, 1 - i / 1000) for i in range(150)]
    self.assertEqual(_match(marks).marks.tolist(), [100])
    self.assertEqual(_match(marks, max_marks=None).marks.tolist(), [150])


def _slow_curve(results, annotations, excluded, uids, max_marks):
  """The same protocol once more, loop by loop, on scikit-learn's curve."""
  truth, scores, missed = [], [], 0
  for uid in uids:
    marks = [tuple(row) for row in results.get(uid, [])]
    if max_marks and len(marks) > max_marks:
      limit = sorted((m[3] for m in marks), reverse=True)[max_marks] - 1e-8
      marks = [m for m in marks if m[3] > limit][:max_marks]
    free = set(range(len(marks)))
    listed = [(a, True) for a in annotations.get(uid, [])]
    listed += [(a, False) for a in excluded.get(uid, [])]
    for (x, y, z, d), is_nodule in listed:
      radius = (10.0 if d < 0 else d) / 2
      on = [
        i
        for i, m in enumerate(marks)
        if (m[0] - x) ** 2 + (m[1] - y) ** 2 + (m[2] - z) ** 2 < radius**2
      ]
      free -= set(on)
      if is_nodule and on:
        truth.append(1)
        scores.append(max(marks[i][3] for i in on))
      elif is_nodule:
        missed += 1
    truth += [0] * len(free)
    scores += [marks[i][3] for i in sorted(free)]
  fpr, tpr, _ = sklearn.metrics.roc_curve(truth, scores)
  found = sum(truth)
  fps = fpr * (len(truth) - found) / len(uids)
  return fps, tpr * found / (found + missed)


def _random_scans(seed, *, num_scans=40, digits=2):
  """Crowded little scans: overlaps of every kind, and tied scores."""
  rng = np.random.default_rng(seed)

  def some(most, low, high):
    number = rng.integers(0, most + 1)
    positions = rng.uniform(-9, 9, (number, 3)).round(1)
    values = rng.uniform(low, high, (number, 1)).round(digits)
    return np.hstack([positions, values])

  uids = [f's{i}' for i in range(num_scans)]
  results = {u: some(60, 0, 1) for u in uids if rng.random() < 0.9}
  annotations = {u: some(4, 3, 15) for u in uids if rng.random() < 0.7}
  excluded = {u: some(6, -2, 12) for u in uids}
  return results, annotations, excluded, uids


class ReferenceTest(parameterized.TestCase):
  @parameterized.product(
    seed=tuple(range(6)), max_marks=(None, 20, 3), digits=(1, 2, 9)
  )
  def test_equals_the_slow_writing_to_the_bit(self, seed, max_marks, digits):
    scans = _random_scans(seed, digits=digits)
    fps, sensitivity = _slow_curve(*scans, max_marks)
    points = froc.curve(luna16.match(*scans, max_marks=max_marks))
    np.testing.assert_array_equal(points.fps, fps)
    np.testing.assert_allclose(points.sensitivity, sensitivity, rtol=1e-15)

  def test_resampling_equals_scoring_the_drawn_scans(self):
    results, annotations, excluded, uids = _random_scans(7)
    draws = bootstrap.draw(len(uids), resamples=5, seed=1)
    matches = luna16.match(results, annotations, excluded, uids)
    again = froc.resample(matches, draws)
    for row, weights in enumerate(draws):
      copies = [(u, f'{u}_{k}') for u, w in zip(uids, weights, strict=True)
                for k in range(w)]  # fmt: skip
      drawn = [
        {new: table[old] for old, new in copies if old in table}
        for table in (results, annotations, excluded)
      ]
      points = froc.curve(luna16.match(*drawn, [new for _, new in copies]))
      for rule in froc.RULES:
        np.testing.assert_allclose(
          again.sensitivities[rule][row], froc.read(points, rule), atol=1e-12
        )
      np.testing.assert_allclose(
        again.band[row],
        np.interp(froc.BAND_FPS, points.fps, points.sensitivity),
        atol=1e-12,
      )

  def test_long_lists_are_cut_without_changing_a_resample(self):
    rng = np.random.default_rng(3)
    far = np.hstack([rng.uniform(500, 900, (4000, 3)), rng.random((4000, 1))])
    uids = ['a', 'b', 'c']
    results = {u: far[i::3] for i, u in enumerate(uids)}
    nodules = np.hstack([far[:90, :3], np.full((90, 1), 4.0)])
    annotations = {u: nodules[i::3] for i, u in enumerate(uids)}
    matches = luna16.match(results, annotations, {}, uids, max_marks=None)
    again = froc.resample(matches, np.ones((1, 3), int))
    points = froc.curve(matches)
    for rule in froc.RULES:
      np.testing.assert_allclose(
        again.sensitivities[rule][0], froc.read(points, rule), atol=1e-12
      )


class MetricsTest(absltest.TestCase):
  def test_has_every_name_and_an_interval_round_each_value(self):
    results, annotations, excluded, uids = _random_scans(0)
    groups = {uid: f'p{i // 2}' for i, uid in enumerate(uids)}
    entries = luna16.metrics(
      results, results, annotations, excluded, uids, groups=groups,
      resamples=200,
    )  # fmt: skip
    rates = ('0.125', '0.25', '0.5', '1', '2', '4', '8')
    self.assertEqual(
      set(entries),
      {'cpm', 'cpm_nearest', 'candidate_sensitivity', 'candidates_per_scan'}
      | {f'sensitivity_at_{rate}' for rate in rates},
    )
    for name, entry in entries.items():
      self.assertEqual(entry['n'], 20, name)
      self.assertLessEqual(entry['low'], entry['value'] + 0.02, name)
      self.assertGreaterEqual(entry['high'], entry['value'] - 0.02, name)
    sensitivities = [entries[f'sensitivity_at_{r}']['value'] for r in rates]
    self.assertAlmostEqual(entries['cpm']['value'], np.mean(sensitivities))

  def test_candidates_have_no_cap(self):
    marks = [(1000 * i, 0, 0, 1 - i / 1000) for i in range(149)]
    candidates = {'a': _rows(*marks, (0, 90, 0, 0.0001))}
    entries = luna16.metrics(
      candidates, candidates, {'a': _rows((0, 90, 0, 5))}, {}, ['a', 'b']
    )
    self.assertEqual(entries['cpm']['value'], 0)
    self.assertEqual(entries['candidate_sensitivity']['value'], 1)
    self.assertEqual(entries['candidates_per_scan']['value'], 75)

  def test_without_nodules_sensitivity_is_undefined_and_says_why(self):
    entries = luna16.metrics({}, {}, {}, {}, ['a', 'b'])
    self.assertIsNone(entries['cpm']['value'])
    self.assertIn('no nodule', entries['cpm']['why'])
    self.assertIsNone(entries['candidate_sensitivity']['value'])
    self.assertEqual(entries['candidates_per_scan']['value'], 0)

  def test_nothing_found_scores_zero(self):
    entries = luna16.metrics({}, None, {'a': _rows((0, 0, 0, 5))}, {}, ['a'])
    self.assertEqual(entries['cpm']['value'], 0)
    self.assertNotIn('candidate_sensitivity', entries)

  def test_paired_difference_is_narrower_than_the_intervals(self):
    results, annotations, excluded, uids = _random_scans(2)
    worse = {u: rows[:-1] for u, rows in results.items() if len(rows)}
    arguments = (annotations, excluded, uids)
    own = luna16.cpm_difference(results, results, *arguments, resamples=50)
    self.assertEqual((own['value'], own['low'], own['high']), (0, 0, 0))
    difference = luna16.cpm_difference(results, worse, *arguments)
    alone = luna16.metrics(results, None, *arguments)['cpm']
    other = luna16.metrics(worse, None, *arguments)['cpm']
    self.assertAlmostEqual(difference['value'], alone['value'] - other['value'])
    self.assertLess(
      difference['high'] - difference['low'], alone['high'] - alone['low']
    )


if __name__ == '__main__':
  absltest.main()
