"""Tests of the four views of a film and its lungs."""

import numpy as np
from absl.testing import absltest

from medzoo.data import drawing
from medzoo.data import lung_panels
from medzoo.data import outlines
from medzoo.data import pictures
from tests.data import film_cases


class DrawTest(absltest.TestCase):
  def test_four_views_side_by_side(self):
    case = film_cases.film(shape=(120, 90))
    pixels = lung_panels.draw(case.volume, case.masks, side=120)
    self.assertEqual((pixels.shape, pixels.dtype), ((120, 360, 3), np.uint8))
    film, alone, boxed, overlay = np.split(pixels, 4, axis=1)
    grey = pictures.prepare(
      case.volume, shape=(120, 120), equalize=False
    ).pixels[:, :90, None]
    lung = case.masks.masks.any(0)
    np.testing.assert_array_equal(film, np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(alone, film * lung[..., None])
    np.testing.assert_array_equal(overlay[~lung], film[~lung])
    for label, mask in zip(case.masks.labels, case.masks.masks, strict=True):
      color = np.array(outlines.LUNG_COLORS[int(label)])
      np.testing.assert_allclose(
        overlay[mask], (film[mask] + color.astype(float)) / 2, atol=0.5
      )
      rows, columns = np.nonzero(mask)
      y, x = rows.min(), columns.min()
      self.assertEqual(tuple(boxed[y, x]), tuple(color))
      self.assertEqual(tuple(boxed[rows.max(), columns.max()]), tuple(color))
      np.testing.assert_array_equal(boxed[y + 1, x + 1], film[y + 1, x + 1])
      middle = (y + rows.max() + 1) // 2, (x + columns.max() + 1) // 2
      self.assertEqual(tuple(boxed[middle]), drawing.RED)

  def test_a_film_without_lungs(self):
    case = film_cases.film(labels=())
    film, alone, boxed, overlay = np.split(
      lung_panels.draw(case.volume, case.masks), 4, axis=1
    )
    self.assertFalse(alone.any())
    np.testing.assert_array_equal(boxed, film)
    np.testing.assert_array_equal(overlay, film)


if __name__ == '__main__':
  absltest.main()
