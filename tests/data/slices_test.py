"""Tests of slices as pictures: where things come to lie, and what they show."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import slices

_BRIGHT = {'name': 'window', 'low': 0.0, 'high': 400.0}
# Rows and columns of tissue in the scan below, and what is bright in it.
_BODY = (20, 30, 100, 120)
_RECTANGLE = np.array([33.0, 45, 57, 80])


def _scan(spacing, depth=6, shape=(120, 160)):
  """Tissue in air; on the third slice a bright rectangle in it."""
  voxels = np.full((depth, *shape), -1000, np.int16)
  y0, x0, y1, x1 = _BODY
  voxels[:, y0:y1, x0:x1] = 0
  y0, x0, y1, x1 = _RECTANGLE.astype(int)
  voxels[2, y0:y1, x0:x1] = 400
  return types.Volume(voxels, (2.0, *spacing), modality='CT')


def _plain(shape, spacing=(1.0, 1.0)):
  return types.Volume(np.zeros(shape, np.int16), (2.0, *spacing))


def _prepare(volume, shape, pixel_mm=1.0, region='none'):
  return slices.prepare(
    volume, shape=shape, pixel_mm=pixel_mm, window=_BRIGHT, region=region
  )


class PrepareTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('cropped', (0.8, 0.8), (64, 72), 1.0, 'body'),
    ('cropped_to_the_voxel', (1.0, 1.0), (80, 90), 1.0, 'body'),
    ('coarser', (0.8, 0.8), (32, 80), 1.0, 'body'),
    ('finer', (0.7, 0.7), (251, 301), 0.31, 'body'),
    ('padded', (0.9, 0.9), (200, 160), 1.0, 'none'),
    ('padded_on_two_sides', (0.9, 0.9), (100, 231), 1.13, 'none'),
    ('whole_and_coarser', (0.9, 0.9), (61, 80), 0.5, 'none'),
    ('tall_voxels', (1.3, 0.6), (99, 70), 1.0, 'body'),
    ('wide_voxels', (0.5, 1.1), (83, 200), 0.9, 'none'),
  )
  def test_a_rectangle_is_where_to_pixels_says(
    self, spacing, shape, pixel_mm, region
  ):
    stack = _prepare(_scan(spacing), shape, pixel_mm, region)
    self.assertEqual(stack.pixels.shape, (6, *shape))
    self.assertEqual(stack.pixels.dtype, np.uint8)
    (corners,) = stack.to_pixels(_RECTANGLE[None])
    image = stack.pixels[2] / 255
    rows, columns = np.indices(shape) + 0.5
    middle = [(image * at).sum() / image.sum() for at in (rows, columns)]
    np.testing.assert_allclose(
      middle, (corners[:2] + corners[2:]) / 2, atol=0.1
    )
    height, width = corners[2:] - corners[:2]
    self.assertAlmostEqual(image.sum() / (height * width), 1, delta=0.01)
    # Inside it is white and outside black, but for a pixel or two at the edge.
    reach = np.ceil(1 / min(1, *stack.step)) + 1
    inside, outside = corners + reach * np.outer((1, -1), (1, 1, -1, -1))
    for (y0, x0, y1, x1), color, keep in (
      (inside, 1, True),
      (outside, 0, False),
    ):
      within = (rows > y0) & (rows < y1) & (columns > x0) & (columns < x1)
      self.assertTrue((image[within == keep] == color).all())
    self.assertFalse(stack.pixels[[0, 1, 3, 4, 5]].any())

  def test_it_is_cut_round_the_region(self):
    stack = _prepare(_scan((1.0, 1.0)), (50, 60), 1.0, 'body')
    # The body is found on a grid of 2 mm, on which its edges are.
    self.assertEqual(stack.center, (60.0, 75.0))
    self.assertEqual(stack.step, (1.6, 1.6))
    corners = stack.to_pixels(np.array([_BODY], float))
    np.testing.assert_allclose(corners, [[0, 1.875, 50, 58.125]])

  @parameterized.named_parameters(
    # 40 mm by 30 mm, voxels of 1 mm by 0.5 mm.
    ('fits', (40, 40), 1.0, (1.0, 2.0), (10, 10, 20, 20)),
    ('has_room', (60, 50), 1.0, (1.0, 2.0), (20, 15, 30, 25)),
    ('finest', (80, 60), 0.5, (0.5, 1.0), (20, 10, 40, 30)),
    ('too_high', (20, 40), 1.0, (2.0, 4.0), (5, 15, 10, 20)),
    ('too_wide', (99, 15), 1.0, (2.0, 4.0), (44.5, 2.5, 49.5, 7.5)),
  )
  def test_coarser_where_it_would_not_fit(self, shape, mm, step, expected):
    stack = _prepare(_plain((3, 40, 60), (1.0, 0.5)), shape, mm)
    self.assertEqual(stack.step, step)
    self.assertEqual(stack.center, (20, 30))
    corners = np.array([[10.0, 10, 20, 30]])
    np.testing.assert_allclose(stack.to_pixels(corners), [expected])

  def test_there_and_back(self):
    corners = np.random.default_rng(0).uniform(-9, 200, (50, 4))
    for region, shape in (('body', (64, 81)), ('none', (333, 20))):
      stack = _prepare(_scan((1.3, 0.6)), shape, 1.0, region)
      pixels = stack.to_pixels(corners)
      np.testing.assert_allclose(stack.to_voxels(pixels), corners)
      self.assertGreater(abs(pixels - corners).max(), 1)
      self.assertEqual(stack.to_pixels(corners[:0]).shape, (0, 4))

  def test_the_window_and_the_frame(self):
    volume = _plain((2, 10, 10))
    volume.voxels[0], volume.voxels[1] = 100, 999
    stack = _prepare(volume, (16, 14))
    np.testing.assert_array_equal(stack.pixels[0, 3:-3, 2:-2], 64)
    np.testing.assert_array_equal(stack.pixels[1, 3:-3, 2:-2], 255)
    self.assertEqual(np.count_nonzero(stack.pixels[1]), 100)

  @parameterized.parameters(2, 4)
  def test_pixels_are_means(self, factor):
    board = np.indices((48, 64)).sum(0) % 2 * 400
    ramp = np.add.outer(np.arange(48), 3 * np.arange(64))
    volume = types.Volume(np.stack([board, ramp]).astype(float), (1, 1, 1))
    stack = _prepare(volume, (48 // factor, 64 // factor), 1.0)
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(stack.pixels[0][inner], 127.5, atol=1)
    means = ramp.reshape(48 // factor, factor, 64 // factor, factor)
    means = means.mean((1, 3)) * 255 / 400
    np.testing.assert_allclose(stack.pixels[1][inner], means[inner], atol=1.5)

  @parameterized.parameters((), (3,))
  def test_pictures_stay_as_they_are(self, *channels):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 7, 9, *channels), np.uint8)
    volume = types.Volume(pixels, (None, 1.0, 1.0))
    stack = _prepare(volume, (7, 9), 0.3, 'lung')
    colors = pixels if channels else np.stack([pixels] * 3, -1)
    np.testing.assert_array_equal(stack.pixels, colors)
    np.testing.assert_array_equal(stack.images([1, 0]), colors[[1, 0]])
    corners = np.array([[1.5, 2, 3, 4]])
    np.testing.assert_array_equal(stack.to_pixels(corners), corners)
    framed = _prepare(volume, (9, 9), 0.3, 'lung')
    np.testing.assert_array_equal(framed.pixels[:, 1:-1], colors)
    self.assertFalse(framed.pixels[:, [0, -1]].any())
    np.testing.assert_array_equal(
      framed.to_pixels(corners), corners + [[1, 0, 1, 0]]
    )


class NeighboursTest(absltest.TestCase):
  def test_every_slice_has_those_of_its_scan(self):
    pixels = np.arange(7, dtype=np.uint8)[:, None, None] + np.zeros(
      (1, 2, 3), np.uint8
    )
    images = slices.with_neighbours(pixels, [2, 3, 5], 2, 6, 1)
    self.assertEqual(images.shape, (3, 2, 3, 3))
    self.assertEqual(images.dtype, np.uint8)
    expected = np.array([(2, 2, 3), (2, 3, 4), (4, 5, 5)])
    np.testing.assert_array_equal(
      images, np.broadcast_to(expected[:, None, None], (3, 2, 3, 3))
    )
    far = slices.with_neighbours(pixels, [2, 3, 5], 1, 7, 3)[:, 0, 0]
    self.assertEqual(far.tolist(), [[1, 2, 5], [1, 3, 6], [2, 5, 6]])
    alone = slices.with_neighbours(pixels, [6], 6, 7, 1)
    np.testing.assert_array_equal(alone, np.full((1, 2, 3, 3), 6))

  def test_a_stack_is_one_scan(self):
    volume = _plain((3, 8, 8))
    volume.voxels[:] = np.array([0, 200, 400])[:, None, None]
    stack = _prepare(volume, (8, 8))
    self.assertLen(stack, 3)
    images = stack.images([0, 1, 2])[:, 4, 4].tolist()
    self.assertEqual(images, [[0, 0, 128], [0, 128, 255], [128, 255, 255]])


if __name__ == '__main__':
  absltest.main()
