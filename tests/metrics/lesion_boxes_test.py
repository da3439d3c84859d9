import itertools

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import froc
from medzoo.metrics import lesion_boxes


def _boxes(*rows):
  """Half-open boxes from `z1, z2, x1, y1, x2, y2`, ends inclusive."""
  rows = np.array(rows, float).reshape(-1, 6)
  z1, z2, x1, y1, x2, y2 = rows.T
  return np.stack([z1, y1, x1, z2 + 1, y2 + 1, x2 + 1], axis=1)


def _scan(truths, detections, scores):
  return lesion_boxes.Scan(
    _boxes(*truths), _boxes(*detections), np.array(scores, float)
  )


_SQUARE = (4, 4, 0, 0, 9, 9)


class MergeTest(parameterized.TestCase):
  @parameterized.named_parameters(
    # 10 x 10 pixels each: half of the smaller is 50.
    ('exactly_half', (4, 4, 5, 0, 14, 9), 2),
    ('more_than_half', (4, 4, 4, 0, 13, 9), 1),
    ('half_in_depth', (4, 5, 0, 0, 4, 9), 2),
    ('inside', (4, 4, 3, 3, 4, 4), 1),
    ('other_slice', (5, 5, 0, 0, 9, 9), 2),
  )
  def test_more_than_half_of_the_smaller_volume(self, other, count):
    for pair in itertools.permutations([_SQUARE, other]):
      self.assertLen(lesion_boxes.merge(_boxes(*pair)), count)

  def test_a_union_bounds_its_boxes_and_is_what_the_next_is_held_to(self):
    # The third shares 48 of its 100 with either, and 60 with their bounds.
    first, second = (4, 4, 0, 0, 9, 9), (4, 4, 4, 0, 13, 9)
    third = (4, 4, 2, 4, 11, 13)
    self.assertLen(lesion_boxes.merge(_boxes(first, third)), 2)
    self.assertLen(lesion_boxes.merge(_boxes(second, third)), 2)
    merged = lesion_boxes.merge(_boxes(first, second, third))
    np.testing.assert_array_equal(merged, _boxes((4, 4, 0, 0, 13, 13)))

  def test_the_first_union_is_joined(self):
    # Apart, and the third lies on both by more than half of either.
    left, right = (1, 1, 0, 0, 9, 9), (1, 1, 10, 0, 19, 9)
    merged = lesion_boxes.merge(_boxes(right, left, (1, 1, 2, 0, 17, 9)))
    np.testing.assert_array_equal(
      merged, _boxes((1, 1, 2, 0, 19, 9), (1, 1, 0, 0, 9, 9))
    )

  def test_unions_that_come_to_overlap_stay_apart(self):
    left, right, bridge = (
      (1, 1, 0, 0, 9, 9),
      (1, 1, 10, 0, 19, 9),
      (1, 1, 2, 0, 17, 9),
    )
    self.assertLen(lesion_boxes.merge(_boxes(left, right, bridge)), 2)
    self.assertLen(lesion_boxes.merge(_boxes(left, bridge, right)), 1)

  def test_none(self):
    self.assertEqual(lesion_boxes.merge(_boxes()).shape, (0, 6))


class HitTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('same', (4, 4, 0, 0, 9, 9), True),
    ('exactly_half_the_area', (4, 4, 5, 0, 14, 9), False),
    ('more_than_half', (4, 4, 4, 0, 13, 9), True),
    ('half_of_the_smaller', (4, 4, 9, 0, 10, 0), False),
    ('most_of_the_smaller', (4, 4, 8, 0, 10, 0), True),
    ('slices_touch', (0, 4, 0, 0, 9, 9), True),
    ('next_slice', (5, 9, 0, 0, 9, 9), False),
    ('depth_does_not_matter', (0, 99, 0, 0, 9, 9), True),
    ('inside_out', (4, 4, 9, 0, 0, 9), False),
    ('inside_out_in_depth', (5, 3, 0, 0, 9, 9), False),
  )
  def test_rule(self, detection, expected):
    found = lesion_boxes.hits(_boxes(detection), _boxes(_SQUARE))
    self.assertEqual(found.tolist(), [[expected]])

  def test_match(self):
    # Two detections of one lesion, one of two lesions, and a false one.
    two = (4, 4, 0, 0, 9, 9), (6, 6, 0, 0, 9, 9)
    found = (4, 4, 0, 0, 9, 9), (4, 6, 0, 0, 9, 9), (5, 5, 0, 0, 9, 9)
    matches = lesion_boxes.match(
      [_scan([], [], []), _scan(two, found, [0.9, 0.5, 0.7])]
    )
    self.assertEqual(matches.scores.tolist(), [0.9, 0.5, 0.7])
    self.assertEqual(matches.is_nodule.tolist(), [True, True, False])
    self.assertEqual(matches.scan.tolist(), [1, 1, 1])
    self.assertEqual(matches.marks.tolist(), [0, 3])


def _voxels(row):
  z1, z2, x1, y1, x2, y2 = map(int, row)
  return set(
    itertools.product(
      range(z1, z2 + 1), range(y1, y2 + 1), range(x1, x2 + 1)
    )
  )  # fmt: skip


def _corners(voxels):
  z, y, x = zip(*voxels, strict=True)
  return min(z), max(z), min(x), min(y), max(x), max(y)


def _more_than_half(a, b):
  return len(a & b) / min(len(a), len(b)) > 0.5


def _by_voxels(dump):
  """The whole rule once more, by counting voxels; scores must differ."""
  events, number = [], 0
  for truths, detections, scores in dump:
    unions = []
    for truth in map(_voxels, truths):
      for i, union in enumerate(unions):
        if _more_than_half(union, truth):
          unions[i] = _voxels(_corners(union | truth))
          break
      else:
        unions.append(truth)
    number += len(unions)
    found = {}
    for row, score in zip(detections, scores, strict=True):
      box, hit = _voxels(row), False
      for i, union in enumerate(unions):
        slices = {z for z, _, _ in box} & {z for z, _, _ in union}
        plane = [{(y, x) for _, y, x in v} for v in (box, union)]
        if slices and _more_than_half(*plane):
          hit = True
          found[i] = max(found.get(i, 0), score)
      events += [] if hit else [(score, False)]
    events += [(score, True) for score in found.values()]
  sensitivities = []
  for rate in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
    best = 0
    for threshold, _ in events:
      above = [truth for score, truth in events if score >= threshold]
      if above.count(False) / len(dump) <= rate:
        best = max(best, above.count(True))
    sensitivities.append(best / number)
  return number, sensitivities


def _dump(seed, scans):
  rng = np.random.default_rng(seed)

  def rows(count):
    low = rng.integers(0, 6, (count, 3))
    z, x, y = low.T
    dz, dx, dy = rng.integers(0, 5, (3, count))
    return np.stack([z, z + dz, x, y, x + dx, y + dy], axis=1)

  sizes = rng.integers(0, 7, (scans, 2))
  return [
    (rows(m), rows(n), rng.permutation(10**6)[:n] / 1e6 + i * 1e-9)
    for i, (m, n) in enumerate(sizes)
  ]


class EvaluateTest(parameterized.TestCase):
  @parameterized.parameters(*range(12))
  def test_equals_counted_voxels(self, seed):
    dump = _dump(seed, scans=(7, 8, 15)[seed % 3])
    scores = lesion_boxes.evaluate([_scan(*s) for s in dump], resamples=5)
    number, sensitivities = _by_voxels(dump)
    self.assertEqual(scores['merged_truths'], number)
    np.testing.assert_allclose(
      [entry['value'] for entry in scores['sensitivity'].values()],
      sensitivities,
    )
    self.assertAlmostEqual(
      scores['froc_mean_boxes']['value'], np.mean(sensitivities)
    )

  @parameterized.parameters((7, 25), (14, 41), (115, 150))
  def test_a_lesion_found_exactly_at_a_rate_counts(self, scans, false):
    # 1 false positive per scan, the lesion, the others; the share of the
    # first among all, times all, rounds to more than 1 per scan.
    self.assertGreater(scans / false * false / scans, 1)
    boxes = [_SQUARE] + [(9, 9, 0, 0, 9, 9)] * false
    scores = [0.5] + [0.9] * scans + [0.1] * (false - scans)
    empty = [_scan([], [], [])] * (scans - 1)
    result = lesion_boxes.evaluate(
      [_scan([_SQUARE], boxes, scores), *empty], resamples=5
    )
    self.assertEqual(result['sensitivity']['1']['value'], 1)
    self.assertLess(result['sensitivity']['0.5']['value'], 1)

  def test_by_hand(self):
    far = (9, 9, 0, 0, 9, 9)
    scans = [
      _scan([_SQUARE, _SQUARE], [_SQUARE, far], [0.9, 0.8]),
      _scan([_SQUARE], [_SQUARE, far, far], [0.5, 0.7, 0.6]),
      _scan([_SQUARE], [], []),
      _scan([], [], []),
    ]
    scores = lesion_boxes.evaluate(scans, groups=['p', 'p', 'q', 'r'])
    entry = scores.pop('froc_mean_boxes')
    third = 1 / 3
    expected = [third] * 3 + [2 * third] * 4
    self.assertAlmostEqual(entry['value'], np.mean(expected))
    self.assertEqual(entry['n'], 3)
    self.assertLessEqual(entry['low'], entry['value'])
    self.assertGreaterEqual(entry['high'], entry['value'])
    # Where only the third patient is drawn there is no lesion.
    self.assertGreater(entry['dropped'], 0)
    values = [e['value'] for e in scores.pop('sensitivity').values()]
    np.testing.assert_allclose(values, expected)
    by_rule = scores.pop('froc_mean_by_rule')
    self.assertEqual(tuple(by_rule), froc.RULES)
    self.assertEqual(by_rule['interpolated'], entry['value'])
    self.assertEqual(
      scores,
      {
        'scans': 4,
        'raw_truths': 4,
        'merged_truths': 3,
        'detections': 5,
        'truths_found': 2,
        'false_positives': 3,
      },
    )

  def test_undefined_without_lesions(self):
    scores = lesion_boxes.evaluate([_scan([], [_SQUARE], [1])])
    self.assertIsNone(scores['froc_mean_boxes']['value'])
    self.assertIn('no lesion', scores['froc_mean_boxes']['why'])
    self.assertIsNone(scores['froc_mean_by_rule']['last'])

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, 'no scans'):
      lesion_boxes.evaluate([])
    with self.assertRaisesRegex(ValueError, '2 groups for 1 scans'):
      lesion_boxes.evaluate([_scan([], [], [])], groups=['a', 'b'])


class BoundTest(absltest.TestCase):
  def test_by_hand(self):
    numbers, bounds = lesion_boxes.bound(
      np.array([3, 5, 1, 4]),
      np.array(
        [[1.0, 2, 3, 4], [0, 3, 2, 6], [9, 9, 9.5, 9.5], [50, 50, 60, 60]]
      ),
      np.array([7, 7, 2, -1]),
    )
    self.assertEqual(numbers.tolist(), [2, 7])
    self.assertEqual(
      bounds.tolist(), [[1, 9, 9, 2, 9.5, 9.5], [3, 0, 2, 6, 3, 6]]
    )

  def test_no_boxes(self):
    none = np.zeros(0, int)
    numbers, bounds = lesion_boxes.bound(none, np.zeros((0, 4)), none)
    self.assertEqual((numbers.shape, bounds.shape), ((0,), (0, 6)))


if __name__ == '__main__':
  absltest.main()
