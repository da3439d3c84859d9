import itertools

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import average_precision
from medzoo.metrics import box_matches
from medzoo.ops import boxes
from tests.metrics import random_boxes


def _row(*lefts):
  """Boxes of width 10 in a row, by their left ends."""
  return np.array([[0.0, x, 10, x + 10] for x in lefts]).reshape(-1, 4)


def _found(lefts, scores):
  return box_matches.Detections(
    _row(*lefts), np.array(scores, float), np.ones(len(lefts), int)
  )


def _there(lefts, ignored=(), crowd=()):
  numbers = np.arange(len(lefts))
  return box_matches.Truths(
    _row(*lefts),
    np.ones(len(lefts), int),
    np.isin(numbers, ignored),
    np.isin(numbers, crowd),
  )


def _most(enough):
  """Size of the largest matching, by trying every one."""
  n, m = enough.shape
  if n > m:
    return _most(enough.T)
  return max(
    sum(enough[i, j] for i, j in enumerate(chosen))
    for chosen in itertools.permutations(range(m), n)
  )


class MatchTest(parameterized.TestCase):
  def test_a_truth_is_found_once(self):
    matches = box_matches.match([_found([0, 1], [0.5, 0.9])], [_there([0])])
    self.assertEqual(matches.scores.tolist(), [0.9, 0.5])
    self.assertEqual(matches.hit.tolist(), [True, False])
    self.assertEqual(matches.ignored.tolist(), [False, False])

  def test_the_best_truth_is_taken_though_another_had_needed_it(self):
    pair = [_found([2, 4], [0.9, 0.8])], [_there([3, 0])]
    self.assertEqual(box_matches.match(*pair).hit.tolist(), [True, False])
    self.assertEqual(box_matches.match_bipartite(*pair).hit.tolist(), [1, 1])

  def test_of_truths_that_overlap_equally_the_last_is_taken(self):
    for second, hit in ((0, True), (7, False)):
      found = _found([2, second], [0.9, 0.8])
      matches = box_matches.match([found], [_there([0, 4])])
      self.assertEqual(matches.hit.tolist(), [True, hit])

  def test_an_ignored_truth_only_where_no_other_is_to_be_had(self):
    found = _found([0, 0, 0], [0.9, 0.8, 0.7])
    matches = box_matches.match([found], [_there([0, 2], ignored=[0])])
    self.assertEqual(matches.hit.tolist(), [True, False, False])
    self.assertEqual(matches.ignored.tolist(), [False, True, False])
    self.assertEqual(matches.truths[1].tolist(), [1])

  def test_a_crowd_takes_every_detection_that_lies_on_it(self):
    there = box_matches.Truths(
      np.array([[0.0, 0, 10, 95]]), *[np.array([k]) for k in (1, False, True)]
    )
    found = _found([0, 50, 90, 91], [0.9, 0.8, 0.7, 0.6])
    matches = box_matches.match([found], [there])
    self.assertEqual(matches.ignored.tolist(), [True, True, True, False])

  def test_overlap_of_exactly_the_threshold_is_enough(self):
    half = box_matches.Detections(
      np.array([[0.0, 0, 10, 5]]), np.ones(1), np.ones(1, int)
    )
    self.assertTrue(box_matches.match([half], [_there([0])]).hit[0])
    self.assertTrue(box_matches.match_bipartite([half], [_there([0])]).hit[0])

  def test_cap_is_of_an_image_and_a_class(self):
    detections, truths = random_boxes.images(0)
    matches = box_matches.match(detections, truths, max_detections=1)
    pairs = list(zip(matches.image, matches.labels, strict=True))
    self.assertLen(set(pairs), len(pairs))
    for image, label, score in zip(
      matches.image, matches.labels, matches.scores, strict=True
    ):
      found = detections[image]
      self.assertEqual(score, found.scores[found.labels == label].max())

  @parameterized.named_parameters(
    ('images', [], [], 'of 0 images and truths of 0: expected as many'),
    ('more', [_found([], [])] * 2, [_there([])], 'of 2 images and truths of 1'),
    ('rows', [_found([0], [])], [_there([])], r'image 0: expected \(n, 4\)'),
    ('nan', [_found([0], [np.nan])], [_there([])], 'image 0: its detections'),
    ('inf', [_found([], [])], [_there([np.inf])], 'image 0: its truths'),
  )
  def test_bad_input(self, detections, truths, message):
    for rule in (box_matches.match, box_matches.match_bipartite):
      with self.assertRaisesRegex(ValueError, message):
        rule(detections, truths)


class BipartiteTest(parameterized.TestCase):
  @parameterized.parameters(*range(40))
  def test_hits_are_the_largest_matching_at_every_threshold(self, seed):
    rng = np.random.default_rng(seed)
    found = _found(rng.integers(0, 20, 5), rng.random(5).round(1))
    there = _there(rng.integers(0, 20, rng.integers(0, 5)))
    points = average_precision.curve(
      box_matches.match_bipartite([found], [there])
    )
    for i, threshold in enumerate(points.thresholds):
      above = found.boxes[found.scores >= threshold]
      most = _most(boxes.iou(above, there.boxes) >= 0.5)
      if len(there.boxes):
        self.assertAlmostEqual(points.recall[i], most / len(there.boxes))
      self.assertAlmostEqual(points.precision[i], most / len(above))
      self.assertAlmostEqual(points.false_positives[i], len(above) - most)

  def test_never_finds_less_than_the_greedy_rule(self):
    for seed in range(10):
      pair = random_boxes.images(seed, special=False)
      best = box_matches.match_bipartite(*pair).hit.sum()
      self.assertGreaterEqual(best, box_matches.match(*pair).hit.sum())

  def test_ignored_truths(self):
    found = _found([0, 0, 30], [0.9, 0.8, 0.7])
    matches = box_matches.match_bipartite(
      [found], [_there([0, 2], ignored=[1])]
    )
    self.assertEqual(matches.hit.tolist(), [True, False, False])
    self.assertEqual(matches.ignored.tolist(), [False, True, False])


if __name__ == '__main__':
  absltest.main()
