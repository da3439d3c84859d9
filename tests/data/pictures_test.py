"""Tests of films as networks see them."""

import time

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo import types
from medzoo.data import pictures


def _volume(film):
  return types.Volume(
    np.asarray(film)[None], (None, None, None), series_uid='x'
  )


def _film(shape=(90, 60), seed=0):
  """A smooth film with every grey from 0 to 1."""
  rng = np.random.default_rng(seed)
  film = ndimage.gaussian_filter(rng.random(shape), 6)
  film -= film.min()
  return film / film.max()


class PrepareTest(parameterized.TestCase):
  @parameterized.parameters(
    ((90, 60), (64, 64), (64, 43)),
    ((60, 90), (64, 64), (43, 64)),
    ((30, 30), (64, 96), (64, 64)),
    ((1, 500), (64, 64), (1, 64)),
  )
  def test_fits_with_its_proportions_and_is_padded(self, size, shape, inner):
    picture = pictures.prepare(
      _volume(200 + 50 * np.indices(size).sum(0) / sum(size)),
      shape=shape,
      equalize=False,
    )
    self.assertEqual(picture.pixels.shape, shape)
    self.assertEqual(picture.pixels.dtype, np.uint8)
    self.assertEqual((picture.inner, picture.size), (inner, size))
    self.assertFalse(picture.pixels[inner[0] :].any())
    self.assertFalse(picture.pixels[:, inner[1] :].any())
    # The darkest is in the film's first corner, the brightest in its last.
    film = picture.pixels[: inner[0], : inner[1]]
    self.assertEqual(film[0, 0], 0)
    self.assertEqual(film[-1, -1], 255)

  def test_shrinking_weighs_pixels_by_a_triangle(self):
    film = np.random.default_rng(0).random((400, 240))

    def weights(size):
      centers = 10 * (np.arange(size // 10) + 0.5)
      distance = abs(centers[:, None] - (np.arange(size) + 0.5))
      weights = np.maximum(1 - distance / 10, 0)
      return weights / weights.sum(1, keepdims=True)

    means = weights(400) @ film @ weights(240).T
    found = pictures.prepare(_volume(film), shape=(40, 40), equalize=False)
    low, high = np.percentile(means, (0.5, 99.5))
    expected = np.clip(255 * (means - low) / (high - low), 0, 255)
    np.testing.assert_allclose(found.pixels[:, :24], expected, atol=0.51)

  @parameterized.parameters(True, False)
  def test_any_type_gives_the_same_pixels(self, equalize):
    film = _film()
    expected = pictures.prepare(
      _volume(film), shape=(64, 64), equalize=equalize
    ).pixels.astype(int)
    for other in (
      np.round(film * 4095).astype(np.uint16),
      np.round(film * 4000 - 1000).astype(np.int16),
      np.round(film * 255).astype(np.uint8),
      (film * 7 + 3).astype(np.float32),
      np.repeat(np.round(film * 65535).astype(np.uint16)[..., None], 3, -1),
      np.repeat(np.round(film * 255).astype(np.uint8)[..., None], 3, -1),
    ):
      with self.subTest(str((other.dtype, other.ndim))):
        pixels = pictures.prepare(
          _volume(other), shape=(64, 64), equalize=equalize
        ).pixels
        self.assertLessEqual(abs(pixels - expected).max(), 4)

  def test_colour_becomes_luminance(self):
    """Red is darker than green, and blue darker than both."""
    film = np.zeros((30, 40, 3))
    film[:, 10:20, 2], film[:, 20:30, 0], film[:, 30:, 1] = 1, 1, 1
    for colours in (255 * film, film.astype(np.float32)):
      colours = colours.astype(np.uint8 if colours.max() > 1 else np.float32)
      pixels = pictures.prepare(
        _volume(colours), shape=(30, 40), equalize=False
      ).pixels
      np.testing.assert_allclose(
        pixels[15, [5, 15, 25, 35]],
        np.round(255 * np.array([0, 0.114, 0.299, 0.587]) / 0.587),
        atol=1,
      )

  def test_few_extreme_pixels_do_not_set_the_range(self):
    film = 1000 + 500 * _film((100, 100))
    plain = pictures.prepare(_volume(film), shape=(100, 100), equalize=False)
    film[:5, :5], film[-5:, -5:] = 60000, -60000
    pixels = pictures.prepare(
      _volume(film), shape=(100, 100), equalize=False
    ).pixels
    middle = (slice(20, 80),) * 2
    difference = pixels[middle].astype(int) - plain.pixels[middle]
    self.assertLess(abs(difference).max(), 30)

  def test_equalized_greys_are_equally_frequent(self):
    film = _film((256, 256)) ** 3
    pixels = pictures.prepare(
      _volume(film), shape=(256, 256), equalize=True
    ).pixels
    counts, _ = np.histogram(pixels, 8, (0, 256))
    np.testing.assert_allclose(counts / pixels.size, 1 / 8, atol=0.04)

  def test_equalizing_keeps_the_order_and_forgets_the_curve(self):
    film = _film((128, 128))
    linear, curved = (
      pictures.prepare(_volume(x), shape=(128, 128), equalize=True).pixels
      for x in (film, film**2.2)
    )
    order = np.argsort(film.ravel())
    self.assertTrue((np.diff(linear.ravel()[order].astype(int)) >= 0).all())
    difference = abs(linear.astype(int) - curved)
    self.assertLess(np.percentile(difference, 95), 6)

  def test_black_margins_and_padding_leave_equalized_greys_alone(self):
    film = 1 + _film((64, 64))
    alone = pictures.prepare(_volume(film), shape=(64, 64), equalize=True)
    padded = pictures.prepare(_volume(film), shape=(64, 200), equalize=True)
    framed = np.pad(film, ((0, 0), (0, 64)))
    framed = pictures.prepare(_volume(framed), shape=(64, 128), equalize=True)
    for other in (padded, framed):
      difference = other.pixels[:, :63].astype(int) - alone.pixels[:, :63]
      # A window that starts at black has fewer levels for the film.
      self.assertLess(np.percentile(abs(difference), 95), 10)
      self.assertFalse(other.pixels[:, 64:].any())

  @parameterized.product(equalize=(True, False), dtype=(np.uint8, np.float32))
  def test_one_grey_becomes_black(self, equalize, dtype):
    picture = pictures.prepare(
      _volume(np.full((20, 30), 7, dtype)), shape=(32, 32), equalize=equalize
    )
    self.assertFalse(picture.pixels.any())

  def test_a_scan_is_refused(self):
    volume = types.Volume(np.zeros((2, 8, 8)), (1, 1, 1), series_uid='scan')
    with self.assertRaisesRegex(ValueError, 'scan: found 2 slices.*picture'):
      pictures.prepare(volume, shape=(8, 8), equalize=False)

  def test_a_large_film_takes_a_second_at_most(self):
    film = np.tile(np.arange(4000, dtype=np.uint16), (4000, 1))
    best = np.inf
    for _ in range(3):
      began = time.process_time()
      pictures.prepare(_volume(film), shape=(256, 256), equalize=True)
      best = min(best, time.process_time() - began)
    self.assertLess(best, 1)


class PlaceTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.picture = pictures.prepare(
      _volume(_film((180, 120))), shape=(64, 64), equalize=False
    )

  def test_corners_go_there_and_back(self):
    corners = np.array([[0.0, 0, 180, 120], [10, 20, 30, 50]])
    placed = self.picture.to_network(corners)
    np.testing.assert_allclose(placed[0], (0, 0, 64, 43))
    np.testing.assert_allclose(self.picture.to_picture(placed), corners)

  def test_a_box_lands_where_its_pixels_do(self):
    mask = np.zeros((1, 180, 120), bool)
    mask[0, 45:135, 30:90] = True
    placed = self.picture.place(mask)[0]
    y0, x0, y1, x1 = self.picture.to_network(np.array([[45.0, 30, 135, 90]]))[0]
    self.assertAlmostEqual(placed.sum(), (y1 - y0) * (x1 - x0), delta=8)
    self.assertEqual(placed[32, 21], 1)
    y, x = ndimage.center_of_mass(placed)
    np.testing.assert_allclose(
      (y, x), ((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2), atol=0.1
    )

  def test_restoring_undoes_placing(self):
    y, x = (np.indices((180, 120)) + 0.5) / ((180,), (120,))[0][0]
    ramps = np.stack([y, x]).astype(np.float32)
    restored = self.picture.restore(self.picture.place(ramps))
    self.assertEqual(
      (restored.shape, restored.dtype), ((2, 180, 120), np.float32)
    )
    inner = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(restored[inner], ramps[inner], atol=2e-3)

  def test_restoring_is_bilinear_from_pixel_centres(self):
    picture = pictures.Picture(np.zeros((8, 8), np.uint8), (6, 4), (18, 12))
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    rows, columns = (np.indices((18, 12)) + 0.5) / 3 - 0.5
    for found, plane in zip(picture.restore(maps), maps, strict=True):
      expected = ndimage.map_coordinates(
        plane[:6, :4], (rows, columns), order=1, mode='nearest'
      )
      np.testing.assert_allclose(found, expected, atol=1e-6)

  def test_padding_is_not_restored(self):
    maps = np.ones((1, 64, 64), np.float32)
    maps[:, :, 43:] = -100
    np.testing.assert_array_equal(self.picture.restore(maps), 1)


if __name__ == '__main__':
  absltest.main()
