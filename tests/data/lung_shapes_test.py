"""Tests of clean masks out of maps."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo.data import lung_shapes


def _reference(mask, side):
  """The same with scipy's set operations, each of them slow."""
  opened = mask
  if side > 1:
    square = np.ones((side, side), bool)
    # Beyond the film it goes on as at the edge.
    wide = np.pad(mask, side, mode='edge')
    opened = ndimage.binary_opening(wide, square)[side:-side, side:-side]
  parts, count = ndimage.label(opened)
  if not count:
    return np.zeros_like(mask)
  sizes = ndimage.sum_labels(opened, parts, range(1, count + 1))
  return ndimage.binary_fill_holes(parts == 1 + np.argmax(sizes))


class CleanTest(parameterized.TestCase):
  def test_hand_worked(self):
    map_ = np.zeros((300, 200))
    map_[100:200, 50:110] = 0.9
    map_[140:150, 70:80] = 0.1  # a hole
    map_[150:152, 110:160] = 0.9  # a thin bridge to
    map_[140:160, 160:180] = 0.9  # a smaller part
    map_[20:22, 20:22] = 1  # a speck
    map_[100:200, 30:50] = 0.49
    mask, corners = lung_shapes.clean(map_)
    expected = np.zeros((300, 200), bool)
    expected[100:200, 50:110] = True
    np.testing.assert_array_equal(mask, expected)
    self.assertEqual(corners.tolist(), [100, 50, 200, 110])
    mask, corners = lung_shapes.clean(map_, threshold=0.45)
    self.assertEqual(corners.tolist(), [100, 30, 200, 110])

  @parameterized.parameters(
    (40, 1, 0.3), (150, 2, 0.5), (200, 2, 0.7), (320, 3, 0.5), (400, 4, 0.9)
  )
  def test_agrees_with_scipy(self, height, side, level):
    rng = np.random.default_rng(height)
    for sigma in (1, 4, 12):
      noise = ndimage.gaussian_filter(rng.random((height, 120)), sigma)
      map_ = noise > np.quantile(noise, 1 - level)
      mask, corners = lung_shapes.clean(map_)
      np.testing.assert_array_equal(mask, _reference(map_, side))
      rows, columns = np.nonzero(mask)
      self.assertEqual(
        corners.tolist(),
        [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1],
      )

  def test_a_lung_that_the_film_cuts_off_reaches_its_edge(self):
    map_ = np.zeros((400, 300))
    map_[300:, :100] = 1
    mask, corners = lung_shapes.clean(map_)
    np.testing.assert_array_equal(mask, map_ > 0)
    self.assertEqual(corners.tolist(), [300, 0, 400, 100])

  @parameterized.parameters(0, 1)
  def test_nothing_has_no_box(self, specks):
    map_ = np.zeros((400, 300))
    map_[7, :specks] = 1
    mask, corners = lung_shapes.clean(map_)
    self.assertFalse(mask.any())
    self.assertEqual(corners.tolist(), [0, 0, 0, 0])

  def test_does_not_write_what_it_is_given(self):
    map_ = np.ones((20, 20), bool)
    map_[5, 5] = False
    before = map_.copy()
    mask, _ = lung_shapes.clean(map_)
    np.testing.assert_array_equal(map_, before)
    self.assertTrue(mask.all())


class DetectionsTest(absltest.TestCase):
  def test_the_surest_comes_first(self):
    maps = np.zeros((2, 60, 80))
    maps[0, 10:40, 5:25] = 0.7
    maps[1, 12:42, 50:70] = 0.8
    maps[1, 20:30, 50:70] = 0.95
    found = lung_shapes.detections(maps)
    self.assertEqual(
      found.labels.tolist(), [lung_shapes.LEFT, lung_shapes.RIGHT]
    )
    np.testing.assert_allclose(found.scores, [0.85, 0.7])
    np.testing.assert_array_equal(found.masks, maps[::-1] > 0)
    self.assertEqual(
      found.corners.tolist(), [[12, 50, 42, 70], [10, 5, 40, 25]]
    )

  def test_empty_lungs_are_left_out(self):
    maps = np.zeros((2, 60, 80))
    found = lung_shapes.detections(maps)
    self.assertEqual(found.masks.shape, (0, 60, 80))
    self.assertEqual(found.corners.shape, (0, 4))
    self.assertEqual((len(found), found.labels.dtype), (0, np.int32))
    maps[1, :5, :5] = 1
    self.assertEqual(lung_shapes.detections(maps).labels.tolist(), [2])


if __name__ == '__main__':
  absltest.main()
