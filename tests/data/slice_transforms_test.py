"""Tests of what is done to slices with boxes before a network sees them."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import slice_transforms

_SHAPE = (60, 80)


def _example(boxes, ignored=(), labels=None):
  """Boxes are white in the first channel, what is ignored in the second."""
  boxes = np.array(boxes, np.float32).reshape(-1, 4)
  ignored = np.array(ignored, np.float32).reshape(-1, 4)
  image = np.zeros((*_SHAPE, 3), np.uint8)
  for channel, rows in ((0, boxes), (1, ignored)):
    for y0, x0, y1, x1 in rows.astype(int):
      image[y0:y1, x0:x1, channel] = 255
  labels = np.arange(1, len(boxes) + 1) if labels is None else labels
  return {
    'image': image,
    'boxes': boxes,
    'labels': np.array(labels, np.int32),
    'ignored': ignored,
  }


def _bounds(mask):
  """The box of what is set."""
  y, x = np.nonzero(mask)
  return np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])


def _turned(example, view, seed):
  return view.random_map(example, np.random.default_rng(seed))


class RandomViewTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('flip', True, 0.0, (0.0, 0.0)),
    ('scale', False, 0.3, (0.0, 0.0)),
    ('shift', False, 0.0, (7.0, 12.0)),
    ('all', True, 0.2, (6.0, 6.0)),
  )
  def test_boxes_move_with_the_image(self, flip, scale, shift):
    view = slice_transforms.RandomView(_SHAPE, flip, scale, shift)
    example = _example([(24, 40, 36, 62)], [(20, 22, 42, 30)])
    seen = set()
    for seed in range(30):
      found = _turned(example, view, seed)
      self.assertEqual(found['image'].shape, (*_SHAPE, 3))
      self.assertEqual(found['image'].dtype, np.uint8)
      for channel, name in ((0, 'boxes'), (1, 'ignored')):
        drawn = _bounds(found['image'][..., channel] > 127)
        np.testing.assert_allclose(found[name], drawn[None], atol=1)
      self.assertEqual(found['labels'].tolist(), [1])
      seen.add(tuple(found['boxes'][0].tolist()))
    self.assertGreaterEqual(len(seen), 2 if flip else 30)
    heights = np.array([y1 - y0 for y0, _, y1, _ in seen])
    self.assertBetween(heights.min(), 12 * (1 - scale) - 1e-3, 12)
    self.assertBetween(heights.max(), 12, 12 * (1 + scale) + 1e-3)
    if scale:
      self.assertGreater(np.ptp(heights), 12 * scale)

  def test_mirroring_is_exact(self):
    view = slice_transforms.RandomView(_SHAPE, True, 0.0, (0.0, 0.0))
    example = _example([(3, 5, 20, 17)], [(30, 60, 50, 79)])
    mirrored = 0
    for seed in range(40):
      found = _turned(example, view, seed)
      if found['boxes'][0, 1] == 5:
        np.testing.assert_array_equal(found['image'], example['image'])
        continue
      mirrored += 1
      np.testing.assert_array_equal(found['image'], example['image'][:, ::-1])
      np.testing.assert_allclose(found['boxes'], [[3, 63, 20, 75]])
      np.testing.assert_allclose(found['ignored'], [[30, 1, 50, 20]])
    self.assertBetween(mirrored, 10, 30)

  def test_cut_at_the_frame_and_dropped_beyond(self):
    view = slice_transforms.RandomView(_SHAPE, True, 0.1, (30.0, 30.0))
    boxes = [
      (0, 0, 10, 10),
      (50, 70, 60, 80),
      (26, 34, 34, 46),
      (0, 30, 20, 50),
    ]
    example = _example(boxes, [(40, 0, 60, 20)], labels=[4, 3, 2, 1])
    kept = set()
    for seed in range(40):
      found = _turned(example, view, seed)
      kept.add(len(found['labels']) + len(found['ignored']))
      by_label = dict(
        zip(found['labels'].tolist(), found['boxes'], strict=True)
      )
      for corners, label in zip(boxes, (4, 3, 2, 1), strict=True):
        # What is seen of a box where it is drawn alone.
        alone = example | {'image': _example([corners])['image']}
        there = _turned(alone, view, seed)['image'][..., 0] > 127
        share = there.sum() / np.prod(np.subtract(corners[2:], corners[:2]))
        if label in by_label:
          # A middle that is just inside leaves a quarter, scaled by 0.9.
          self.assertGreater(share, 0.15)
          drawn = _bounds(there)
          np.testing.assert_allclose(by_label[label], drawn, atol=1)
        else:
          self.assertLess(share, 0.65)
      cut = np.clip(found['boxes'], 0, np.tile(_SHAPE, 2))
      np.testing.assert_array_equal(found['boxes'], cut)
    self.assertContainsSubset({2, 3, 4}, kept)

  def test_a_middle_on_the_edge_is_dropped(self):
    view = slice_transforms.RandomView(_SHAPE, False, 0.0, (0.0, 0.0))
    example = _example([(0, 0, 4, 4)], [(0, 0, 9, 9)])
    example['boxes'] = np.array(
      [(-4, 2, 4, 8), (-4, 2, 4.5, 8), (10, 76, 20, 84), (10, 76, 20, 83)]
    )
    example['labels'] = np.arange(4)
    found = _turned(example, view, 0)
    np.testing.assert_array_equal(
      found['boxes'], [(0, 2, 4.5, 8), (10, 76, 20, 80)]
    )
    self.assertEqual(found['labels'].tolist(), [1, 3])
    self.assertLen(found['ignored'], 1)

  def test_a_part_shows_a_box_if_there_is_one(self):
    view = slice_transforms.RandomView((32, 32), True, 0.1, (2.0, 2.0))
    example = _example([(2, 3, 9, 11), (48, 66, 59, 79)], labels=[1, 2])
    seen = set()
    for seed in range(60):
      found = _turned(example, view, seed)
      self.assertEqual(found['image'].shape, (32, 32, 3))
      self.assertLen(found['labels'], 1)
      seen.add(int(found['labels'][0]))
      drawn = _bounds(found['image'][..., 0] > 127)
      np.testing.assert_allclose(found['boxes'][0], drawn, atol=1)
    self.assertEqual(seen, {1, 2})

  def test_without_boxes(self):
    view = slice_transforms.RandomView(_SHAPE, True, 0.1, (3.0, 3.0))
    found = _turned(_example([]), view, 0)
    self.assertEqual(found['boxes'].shape, (0, 4))
    self.assertEqual(found['ignored'].shape, (0, 4))
    self.assertEmpty(found['labels'])


class FinishTest(absltest.TestCase):
  def test_boxes_are_padded(self):
    example = _example([(1, 2, 3, 4)], [(5, 6, 7, 8), (0, 0, 1, 1)], [2])
    found = slice_transforms.PadBoxes(3, 2).map(example)
    self.assertCountEqual(found, ['image', 'boxes', 'labels', 'ignored'])
    nothing = [0, 0, 0, 0]
    self.assertEqual(found['boxes'].tolist(), [[1, 2, 3, 4], nothing, nothing])
    self.assertEqual(found['labels'].tolist(), [2, 0, 0])
    self.assertEqual(found['ignored'].tolist(), [[5, 6, 7, 8], [0, 0, 1, 1]])
    empty = slice_transforms.PadBoxes(1, 1).map(_example([]))
    self.assertEqual(empty['boxes'].tolist(), [nothing])
    self.assertEqual(empty['ignored'].tolist(), [nothing])
    for some in (found, empty):
      self.assertEqual(some['boxes'].dtype, np.float32)
      self.assertEqual(some['ignored'].dtype, np.float32)
      self.assertEqual(some['labels'].dtype, np.int32)

  def test_floats_are_made_once(self):
    example = _example([(0, 0, 60, 40)])
    example['image'][0, 0] = 0, 51, 255
    found = slice_transforms.ToFloat().map(example)
    self.assertEqual(found['image'].dtype, np.float32)
    np.testing.assert_allclose(found['image'][0, 0], [0, 0.2, 1])
    np.testing.assert_allclose(found['image'] * 255, example['image'])
    again = slice_transforms.ToFloat().map(found)
    np.testing.assert_array_equal(again['image'], found['image'])
    self.assertIs(again['boxes'], example['boxes'])


if __name__ == '__main__':
  absltest.main()
