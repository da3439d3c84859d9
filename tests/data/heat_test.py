"""Tests of heat maps laid over pictures."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import heat


class OverlayTest(parameterized.TestCase):
  def test_hand_worked(self):
    """Seven tenths of the colour where it is hottest or coldest."""
    pixels = np.full((1, 4), 100, np.uint8)
    found = heat.overlay(pixels, np.array([[0.0, 2.0, -2.0, 1.0]]))
    self.assertEqual(found.dtype, np.uint8)
    # 0.3 * 100 + 0.7 * (255, 255, 0) and (0, 0.4 * 255, 255); of half the heat
    # 0.65 * 100 + 0.35 * (255, 255 / 4, 0).
    expected = [[100] * 3, [208, 208, 30], [30, 101, 208], [154, 87, 65]]
    np.testing.assert_allclose(found[0], expected, atol=1)

  @parameterized.parameters(1e-6, 1.0, 1e4)
  def test_the_scale_of_the_heat_does_not_matter(self, scale):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    values = rng.normal(size=(3, 4))
    one, other = (heat.overlay(pixels, x) for x in (values, scale * values))
    np.testing.assert_allclose(one.astype(int), other, atol=1)
    self.assertEqual(one.shape, pixels.shape)

  def test_a_coarse_map_spans_the_picture(self):
    pixels = np.full((40, 60), 128, np.uint8)
    found = heat.overlay(pixels, np.array([[1.0, 0.0], [0.0, 0.0]]))
    reddish = found[..., 0].astype(int) - found[..., 2]
    self.assertEqual(np.unravel_index(reddish.argmax(), (40, 60)), (0, 0))
    self.assertGreater(reddish[9, 14], 100)
    self.assertFalse(reddish[31:].any() or reddish[:, 46:].any())

  def test_one_pixel_does_not_dim_the_rest(self):
    pixels, values = np.zeros((30, 30), np.uint8), np.zeros((30, 30))
    values[:10], values[20, 20] = 1, 1000
    self.assertGreater(heat.overlay(pixels, values)[5, 5, 0], 170)

  @parameterized.parameters((np.zeros((2, 2)),), (np.zeros((5, 7)),))
  def test_without_heat_the_picture_stays(self, values):
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    found = heat.overlay(pixels, values)
    np.testing.assert_array_equal(found, np.repeat(pixels[..., None], 3, -1))
    spot = np.zeros((50, 50))
    spot[10, 10] = 1
    shown = heat.overlay(np.zeros((50, 50), np.uint8), spot)
    self.assertGreater(shown[10, 10, 0], 170)


if __name__ == '__main__':
  absltest.main()
