import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import outlines
from tests.train import lung_cases

_RED = (255, 0, 0)


def _film(pixels):
  return types.Volume(pixels[None], (None, None, None))


class OutlinesTest(parameterized.TestCase):
  @parameterized.parameters(64, 160, 640)
  def test_an_outline_lies_on_the_edge(self, side):
    shape = (120, 160)
    mask = lung_cases.disc(shape, (0.5, 0.5), 0.3)
    film = _film(np.full(shape, 7, np.uint8))
    drawn = outlines.draw(film, [outlines.Outline(mask, _RED)], side)
    self.assertEqual(drawn.shape, (side * 3 // 4, side, 3))
    rows, columns = np.nonzero((drawn == _RED).all(-1))
    scale = side / 160
    apart = np.hypot(rows + 0.5 - 60 * scale, columns + 0.5 - 80 * scale)
    # Two or three pixels wide, its outer side on the mask's edge.
    self.assertLess(abs(apart.max() - 36 * scale), 1 + scale)
    self.assertGreater(apart.min(), 36 * scale - 4 - scale)
    self.assertGreater(len(rows), 2 * np.pi * 36 * scale)

  def test_greys_of_any_depth(self):
    steps = np.tile(np.linspace(0, 1, 64), (48, 1))
    expected = outlines.draw(_film((steps * 255).astype(np.uint8)), [], 64)
    for pixels in (
      (steps * 60000 - 30000).astype(np.int16),
      (steps * 3).astype(np.float32) - 1,
      (steps * 4095).astype(np.uint16),
    ):
      drawn = outlines.draw(_film(pixels), [], 64)
      np.testing.assert_allclose(drawn, expected.astype(float), atol=3)
    self.assertEqual((expected.min(), expected.max()), (0, 255))

  def test_a_few_bright_pixels_do_not_darken_the_rest(self):
    pixels = np.tile(np.arange(100, dtype=np.int16), (100, 1))
    pixels[0, :5] = 30000
    drawn = outlines.draw(_film(pixels), [], 100)
    self.assertGreater(drawn[50, 98, 0], 240)

  def test_colour_is_kept(self):
    pixels = np.random.default_rng(0).integers(0, 99, (20, 30, 3))
    drawn = outlines.draw(_film(pixels.astype(np.uint8)), [], 30)
    np.testing.assert_array_equal(drawn, pixels)

  def test_texts_stay_inside_and_later_ones_lie_above(self):
    mask = np.zeros((60, 80), bool)
    mask[:20, 70:] = True
    film = _film(np.zeros((60, 80), np.uint8))
    marks = [outlines.Outline(mask, (0, 255, 0)),
             outlines.Outline(mask, _RED, 'left lung 0.98')]  # fmt: skip
    drawn = outlines.draw(film, marks, 400)
    self.assertFalse((drawn == (0, 255, 0)).all(-1).any())
    plain = outlines.draw(film, [marks[0], outlines.Outline(mask, _RED)], 400)
    changed = np.argwhere((drawn != plain).any(-1))
    self.assertGreater(len(changed), 100)
    self.assertLess(changed[:, 0].max(), 30)
    self.assertBetween(changed[:, 1].min(), 280, 380)

  def test_one_value_and_no_mask(self):
    film = _film(np.full((9, 12), 500, np.int16))
    empty = outlines.Outline(np.zeros((9, 12), bool), _RED, 'nothing')
    drawn = outlines.draw(film, [empty], 48)
    self.assertEqual(np.unique(drawn).tolist(), [0])


if __name__ == '__main__':
  absltest.main()
