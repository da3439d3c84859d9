"""Tests of whole pictures as networks see them."""

import dataclasses

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo import types
from medzoo.data import labelled_pictures
from medzoo.data import pictures
from tests.data import film_cases
from tests.data import labelled_cases


def _volume(pixels):
  pixels = np.asarray(pixels)
  return types.Volume(pixels[None], (None, None, None), series_uid='x-7')


def _prepare(volume, shape, colour=True, equalize=False):
  return labelled_pictures.prepare(
    volume, shape=shape, colour=colour, equalize=equalize
  )


class PrepareTest(parameterized.TestCase):
  def test_colour_of_the_same_size_stays(self):
    volume = labelled_cases.picture().volume
    found = _prepare(volume, (30, 40))
    np.testing.assert_array_equal(found.pixels, volume.voxels[0])
    self.assertEqual(found.inner, (30, 40))

  def test_colour_is_stretched(self):
    """Hand-worked: twice as wide, half as high, quarters between pixels."""
    rows = np.array([[[0, 8, 40], [100, 200, 80]]] * 4, np.uint8)
    found = _prepare(_volume(rows), (2, 4))
    expected = [[0, 8, 40], [25, 56, 50], [75, 152, 70], [100, 200, 80]]
    self.assertEqual(found.pixels.tolist(), [expected] * 2)
    self.assertEqual(found.inner, (2, 4))

  def test_a_larger_picture_is_as_scipy_has_it(self):
    volume = labelled_cases.picture().volume
    found = _prepare(volume, (75, 60)).pixels
    y, x = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((75, 30), (60, 40)))
    for channel in range(3):
      expected = ndimage.map_coordinates(
        volume.voxels[0, ..., channel].astype(float),
        np.meshgrid(y, x, indexing='ij'),
        order=1,
        mode='nearest',
      )
      # Pillow rounds after either direction.
      np.testing.assert_allclose(found[..., channel], expected, atol=1.1)

  def test_grey_is_repeated_with_its_levels(self):
    volume = labelled_cases.picture(colour=False).volume
    found = _prepare(volume, (30, 40)).pixels
    for channel in range(3):
      np.testing.assert_array_equal(found[..., channel], volume.voxels[0])

  @parameterized.parameters(False, True)
  def test_without_colour_it_is_a_film(self, equalize):
    volume = film_cases.film(shape=(60, 45)).volume
    found = _prepare(volume, (32, 32), colour=False, equalize=equalize)
    film = pictures.prepare(volume, shape=(32, 32), equalize=equalize)
    self.assertEqual(found.pixels.shape, (32, 32, 1))
    np.testing.assert_array_equal(found.pixels[..., 0], film.pixels)
    self.assertEqual(found.inner, (32, 24))

  @parameterized.named_parameters(
    (
      'sixteen_bits',
      np.zeros((4, 4), np.uint16),
      False,
      'found pixels of uint',
    ),
    (
      'equalized',
      np.zeros((4, 4), np.uint8),
      True,
      'found equalize with colou',
    ),
  )
  def test_refuses(self, pixels, equalize, message):
    with self.assertRaisesRegex(ValueError, f'x-7: {message}'):
      _prepare(_volume(pixels), (4, 4), equalize=equalize)

  @parameterized.parameters(False, True)
  def test_refuses_several_slices(self, colour):
    volume = dataclasses.replace(
      _volume(np.zeros((4, 4), np.uint8)), voxels=np.zeros((2, 4, 4), np.uint8)
    )
    with self.assertRaisesRegex(ValueError, 'x-7: found 2 slices'):
      _prepare(volume, (4, 4), colour=colour)


if __name__ == '__main__':
  absltest.main()
