import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import drawing

_BOX = np.array([[100.0, 200, 140, 260]])


class DrawTest(parameterized.TestCase):
  def test_the_edge_of_a_box_is_its_outermost_pixels(self):
    pixels = np.full((480, 500), 7, np.uint8)
    drawn = drawing.draw(pixels, [drawing.Marks(_BOX, drawing.GREEN)])
    self.assertEqual(drawn.shape, (480, 500, 3))
    expected = np.zeros((480, 500), bool)
    expected[100:140, 200:260] = True
    expected[102:138, 202:258] = False
    np.testing.assert_array_equal((drawn == drawing.GREEN).all(-1), expected)
    self.assertTrue((drawn[~expected] == 7).all())

  @parameterized.parameters(((240, 60), 2), ((100, 239), 3), ((480, 10), 1))
  def test_small_pictures_are_enlarged_by_whole_pixels(self, shape, zoom):
    pixels = np.arange(np.prod(shape) * 3).astype(np.uint8).reshape(*shape, 3)
    drawn = drawing.draw(pixels, [])
    self.assertEqual(drawn.shape, (shape[0] * zoom, shape[1] * zoom, 3))
    np.testing.assert_array_equal(drawn[::zoom, ::zoom], pixels)

  def test_later_ones_lie_above(self):
    marks = [drawing.Marks(_BOX, c) for c in (drawing.RED, drawing.BLUE)]
    drawn = drawing.draw(np.zeros((480, 480), np.uint8), marks)
    self.assertEqual(tuple(drawn[100, 200]), drawing.BLUE)
    self.assertFalse((drawn == drawing.RED).all(-1).any())

  @parameterized.parameters(
    [[[0.0, 0, 20, 20]]],
    [[[470.0, 470, 480, 480]]],
    [[[-50.0, -50, 600, 600]]],
    [[[30.0, 30, 30, 30]]],
  )
  def test_texts_stay_in_the_picture(self, box):
    plain, labelled = (
      drawing.draw(
        np.zeros((480, 480), np.uint8),
        [drawing.Marks(np.array(box), drawing.GREEN, texts)],
      )
      for texts in ((), ('nodule 0.87',))
    )
    self.assertGreater((labelled != plain).any(-1).sum(), 100)


if __name__ == '__main__':
  absltest.main()
