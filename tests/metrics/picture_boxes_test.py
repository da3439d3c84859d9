"""Tests of scoring boxes in whole frames, with cases worked by hand."""

import numpy as np
from absl.testing import absltest

from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches
from medzoo.metrics import picture_boxes


def _mask(y0, x0, y1, x1):
  mask = np.zeros((40, 40), bool)
  mask[y0:y1, x0:x1] = True
  return mask


def _match(frames):
  """Frames are (found rows of a box and a score, true boxes)."""
  detections, truths, inside = [], [], []
  for found, there in frames:
    boxes = np.array([row[0] for row in found], float).reshape(-1, 4)
    masks = np.array([_mask(*box) for box in there]).reshape(-1, 40, 40)
    scores = np.array([row[1] for row in found], float)
    detections.append(
      box_matches.Detections(boxes, scores, np.ones(len(found), int))
    )
    nothing = np.zeros(len(there), bool)
    truths.append(
      box_matches.Truths(
        np.array(there, float).reshape(-1, 4),
        np.ones(len(there), int),
        nothing,
        nothing,
      )
    )
    inside.append(picture_boxes.centres_inside(boxes, masks))
  return picture_boxes.match(detections, truths, inside)


def _metrics(matches, threshold, groups):
  index, number = bootstrap.group_index(groups)
  draws = bootstrap.draw(number, resamples=200, seed=0)
  return picture_boxes.metrics(matches, threshold, index, draws)


_FRAMES = [
  # A hit, its double, and one of an IoU of 0.5 to the hair.
  (
    [((0, 0, 10, 10), 0.9), ((0, 0, 10, 9), 0.8), ((20, 20, 30, 25), 0.6)],
    [(0, 0, 10, 10), (20, 20, 30, 30)],
  ),
  # Its centre lies on the polyp, but it is four times as large.
  ([((5, 5, 25, 25), 0.7)], [(10, 10, 20, 20)]),
  # A clean frame with an alarm, and one without.
  ([((0, 0, 10, 10), 0.5)], []),
  ([], []),
]


class PictureBoxesTest(absltest.TestCase):
  def test_by_hand(self):
    matches = _match(_FRAMES)
    found = _metrics(matches, 0.5, 'aabb')
    values = {name: entry['value'] for name, entry in found.items()}
    self.assertEqual(
      values,
      {
        'detection_f1': 2 * 2 / (5 + 3),
        'detection_precision': 2 / 5,
        'detection_recall': 2 / 3,
        'detection_f1_centre': 2 * 3 / (5 + 3),
        'false_alarms_per_clean_frame': 1 / 2,
      },
    )
    for entry in found.values():
      self.assertEqual(entry['n'], 2)
      self.assertLessEqual(entry['low'], entry['value'])
      self.assertGreaterEqual(entry['high'], entry['value'])
    at = _metrics(matches, 0.85, 'aabb')
    self.assertEqual(at['detection_precision']['value'], 1)
    self.assertEqual(at['detection_recall']['value'], 1 / 3)
    self.assertEqual(at['detection_f1']['value'], 0.5)
    self.assertEqual(at['false_alarms_per_clean_frame']['value'], 0)

  def test_f1(self):
    matches = _match(_FRAMES)
    self.assertEqual(picture_boxes.f1(matches['iou'], -np.inf), 0.5)
    self.assertEqual(picture_boxes.f1(matches['centre'], 0.95), 0)
    nothing = _match([([], [])])
    self.assertTrue(np.isnan(picture_boxes.f1(nothing['iou'], 0)))

  def test_the_best_threshold(self):
    # F1 is 2/4 at 0.9, 2/5 at 0.8, 2/6 at 0.7, 4/7 at 0.6, 4/8 at 0.5.
    self.assertEqual(picture_boxes.choose(_match(_FRAMES)), 0.6)
    self.assertEqual(picture_boxes.choose(_match([([], [(0, 0, 5, 5)])])), 0)

  def test_what_is_undefined_says_why(self):
    found = _metrics(_match(_FRAMES[:2]), 0.95, 'ab')
    for name, why in (
      ('detection_precision', 'nothing scores 0.95'),
      ('false_alarms_per_clean_frame', 'each of these frames has something'),
    ):
      self.assertIsNone(found[name]['value'])
      self.assertStartsWith(found[name]['why'], why)
    self.assertEqual(found['detection_f1']['value'], 0)
    clean = _metrics(_match(_FRAMES[3:]), 0.5, 'a')
    self.assertStartsWith(clean['detection_recall']['why'], 'there is nothing')
    self.assertStartsWith(clean['detection_f1']['why'], 'nothing was found')
    self.assertEqual(clean['false_alarms_per_clean_frame']['value'], 0)

  def test_centres(self):
    masks = np.stack([_mask(0, 0, 10, 10), _mask(20, 20, 40, 40)])
    corners = np.array(
      [[0, 0, 8, 8], [19, 19, 21, 21], [38, 38, 44, 44], [0, 20, 9, 29]], float
    )
    self.assertEqual(
      picture_boxes.centres_inside(corners, masks).tolist(),
      [[True, False], [False, True], [False, True], [False, False]],
    )
    none = picture_boxes.centres_inside(np.zeros((0, 4)), masks)
    self.assertEqual(none.shape, (0, 2))
    none = picture_boxes.centres_inside(corners, masks[:0])
    self.assertEqual(none.shape, (4, 0))

  def test_a_ring_does_not_hold_its_middle(self):
    ring = _mask(0, 0, 30, 30) & ~_mask(10, 10, 20, 20)
    corners = np.array([[0.0, 0, 30, 30]])
    self.assertFalse(picture_boxes.centres_inside(corners, ring[None])[0, 0])

  def test_differences(self):
    matches = _match(_FRAMES)
    index, number = bootstrap.group_index('aabb')
    draws = bootstrap.draw(number, resamples=100, seed=0)
    same = picture_boxes.differences(matches, 0.5, matches, 0.5, index, draws)
    self.assertEqual(set(same), set(picture_boxes.COMPARED))
    for entry in same.values():
      self.assertEqual([entry[k] for k in ('value', 'low', 'high')], [0, 0, 0])
    other = picture_boxes.differences(matches, 0.6, matches, 0.5, index, draws)
    self.assertAlmostEqual(other['detection_f1']['value'], 4 / 7 - 4 / 8)


if __name__ == '__main__':
  absltest.main()
