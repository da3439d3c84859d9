import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.data import heat_maps


class HeatMapsTest(absltest.TestCase):
  def test_over(self):
    picture = np.full((40, 60, 3), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[1, 4] = 7
    drawn = heat_maps.over(picture, heat)
    # It spans from edge to edge, and where nothing speaks nothing is drawn.
    changed = np.argwhere((drawn != picture).any(-1))
    self.assertBetween(changed[:, 0].min(), 5, 10)
    self.assertBetween(changed[:, 0].max(), 19, 25)
    self.assertBetween(changed[:, 1].min(), 35, 40)
    # Yellow is the most.
    red, green, blue = drawn[15, 45].tolist()
    self.assertGreater(min(red, green), 160)
    self.assertLess(blue, 80)
    np.testing.assert_array_equal(heat_maps.over(picture, 0 * heat), picture)

  def test_signs(self):
    picture = np.full((50, 50, 3), (90, 120, 150), np.uint8)
    values = np.zeros((50, 50), np.float32)
    values[10:15, 10:15], values[35:40, 35:40] = 2, -2
    drawn = heat_maps.signed_over(picture, values).astype(int)
    self.assertEqual(drawn[25, 25].tolist(), [120, 120, 120])
    self.assertGreater(drawn[12, 12, 0] - drawn[12, 12, 2], 100)
    self.assertGreater(drawn[37, 37, 2] - drawn[37, 37, 0], 100)
    flat = heat_maps.signed_over(picture, 0 * values)
    self.assertTrue((flat == 120).all())

  def test_greys_of_any_depth_in_a_row(self):
    saliency = types.Saliency(np.ones((7, 7)), np.ones((9, 9)))
    for kind in (np.uint8, np.uint16, np.int16, np.float32):
      voxels = np.arange(800).reshape(1, 20, 40).astype(kind)
      volume = types.Volume(voxels, (None,) * 3)
      alone = heat_maps.row(volume, None, 80)
      self.assertEqual(alone.shape, (40, 80, 3))
      row = heat_maps.row(volume, saliency, 80)
      self.assertEqual(row.shape, (40, 248, 3))
      np.testing.assert_array_equal(row[:, :80], alone)


if __name__ == '__main__':
  absltest.main()
