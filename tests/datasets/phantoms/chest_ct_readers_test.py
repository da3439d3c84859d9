"""Tests that outlines enclose exactly what they are drawn round."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from datasets.phantoms import chest_ct_readers as readers
from medzoo.io import lidc_contours
from medzoo.io import lidc_types


def _filled(mask: np.ndarray) -> np.ndarray:
  """Returns what LIDC's rules make of a mask's outlines."""
  contours = [
    lidc_types.Contour('', 0.0, inclusion, points)
    for inclusion, points in readers.outline(mask)
  ]
  inside, corner = lidc_contours.interior(contours)
  result = np.zeros(mask.shape, bool)
  place = tuple(
    slice(c, c + n) for c, n in zip(corner, inside.shape, strict=True)
  )
  result[place] = inside
  return result


class OutlineTest(parameterized.TestCase):
  def test_one_pixel(self):
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    ((inclusion, points),) = readers.outline(mask)
    self.assertTrue(inclusion)
    self.assertLen(points, 4)
    np.testing.assert_array_equal(_filled(mask), mask)

  def test_ring_has_a_hole(self):
    y, x = np.mgrid[:21, :21] - 10
    mask = (np.hypot(y, x) < 8) & (np.hypot(y, x) > 3)
    outlines = readers.outline(mask)
    self.assertEqual([inclusion for inclusion, _ in outlines], [True, False])
    np.testing.assert_array_equal(_filled(mask), mask)

  def test_two_parts(self):
    mask = np.zeros((12, 20), bool)
    mask[3:8, 3:8] = True
    mask[4:9, 12:17] = True
    self.assertLen(readers.outline(mask), 2)
    np.testing.assert_array_equal(_filled(mask), mask)

  @parameterized.parameters(range(12))
  def test_chains_are_closed_and_true(self, seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 3.0)
    mask = noise > 0.05
    mask[:2] = mask[-2:] = False
    mask[:, :2] = mask[:, -2:] = False
    # Outlines of readers do not go into notches of one pixel.
    cross = ndimage.generate_binary_structure(2, 1)
    mask = ndimage.binary_closing(mask, cross)
    for _, points in readers.outline(mask):
      step = abs(points - np.roll(points, 1, axis=0)).max(1)
      self.assertLessEqual(step.max(), 1)
    np.testing.assert_array_equal(_filled(mask), mask)


if __name__ == '__main__':
  absltest.main()
