import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from PIL import ImageDraw

from medzoo.data import borders

_SHAPE = (144, 192)
_BOX = (8, 20, 136, 172)


def _shape_of(kind, box=_BOX, shape=_SHAPE):
  """Returns a field (h, w) bool that just fills a box."""
  y0, x0, y1, x1 = box
  image = Image.new('1', shape[::-1])
  draw = ImageDraw.Draw(image)
  if kind == 'octagon':
    c = (y1 - y0) // 4
    right, below = x1 - 1, y1 - 1
    points = [
      (x0 + c, y0),
      (right - c, y0),
      (right, y0 + c),
      (right, below - c),
    ]
    points += [(right - c, below), (x0 + c, below)]
    draw.polygon([*points, (x0, below - c), (x0, y0 + c)], fill=1)
  elif kind == 'disc':
    draw.ellipse([x0, y0, x1 - 1, y1 - 1], fill=1)
  else:
    draw.rectangle([x0, y0, x1 - 1, y1 - 1], fill=1)
  return np.array(image)


def _frame(field, black=11, seed=0):
  """Returns a frame whose border is noisy as video and JPEG leave it."""
  rng = np.random.default_rng(seed)
  y, x = np.indices(field.shape)
  red = 120 + 60 * np.sin(y / 17) * np.cos(x / 23)
  mucosa = red[..., None] * [1, 0.55, 0.3]
  pixels = np.where(field[..., None], mucosa, black)
  return (
    (pixels + rng.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
  )


def _write(pixels, place, text, size):
  image = Image.fromarray(pixels)
  ImageDraw.Draw(image).text(place, text, fill='white', font_size=size)
  return np.array(image)


class BordersTest(parameterized.TestCase):
  def assert_near(self, found, expected, most=1):
    self.assertLessEqual(
      np.abs(np.subtract(found, expected)).max(), most, (found, expected)
    )

  @parameterized.product(
    kind=('octagon', 'disc', 'rectangle'), black=(0, 11, 22)
  )
  def test_fields_of_any_form_are_found(self, kind, black):
    field = _shape_of(kind)
    pixels = _frame(field, black)
    self.assert_near(borders.find_field(pixels), _BOX)
    lit = borders.find_lit(pixels)
    self.assertLess((lit != field).mean(), 0.01)

  def test_a_border_may_be_brighter_on_one_side(self):
    pixels = _frame(_shape_of('octagon'), 11)
    pixels[:, 180:] += 10
    self.assert_near(borders.find_field(pixels), _BOX)

  @parameterized.parameters(
    ((0, 20, 136, 172),), ((0, 0, 144, 100),), ((30, 40, 90, 120),)
  )
  def test_fields_may_be_cut_off_or_small(self, box):
    pixels = _frame(_shape_of('rectangle', box))
    self.assert_near(borders.find_field(pixels), box)

  def test_letters_beside_the_field_are_no_part_of_it(self):
    pixels = _frame(_shape_of('octagon', (8, 60, 136, 184)))
    pixels = _write(pixels, (2, 2), 'P 1', 10)
    pixels = _write(pixels, (2, 60), '12:04', 16)
    self.assert_near(borders.find_field(pixels), (8, 60, 136, 184))

  def test_darkness_within_the_field_is_part_of_it(self):
    field = _shape_of('octagon')
    pixels = _frame(field)
    y, x = np.indices(_SHAPE)
    pixels[(y - 70) ** 2 + (x - 90) ** 2 < 40**2] = 6
    self.assert_near(borders.find_field(pixels), _BOX)
    self.assertLess((borders.find_lit(pixels) != field).mean(), 0.01)

  def test_a_dark_fold_does_not_halve_the_field(self):
    pixels = _frame(_shape_of('rectangle'))
    pixels[:, 120:128] = 11
    self.assert_near(borders.find_field(pixels), _BOX)

  @parameterized.parameters(90, 9, 0)
  def test_without_a_border_or_light_all_is_field(self, level):
    pixels = np.full((*_SHAPE, 3), level, np.uint8)
    self.assertEqual(borders.find_field(pixels), (0, 0, *_SHAPE))
    self.assertTrue(borders.find_lit(pixels).all())

  def test_greys_and_larger_pictures_do_too(self):
    pixels = _frame(_shape_of('octagon'))
    self.assert_near(borders.find_field(pixels[..., 0]), _BOX)
    large = np.kron(pixels, np.ones((4, 4, 1), np.uint8))
    self.assert_near(borders.find_field(large), np.multiply(_BOX, 4), 4)

  def test_the_box_of_a_mask_is_half_open(self):
    mask = np.zeros((6, 8), bool)
    mask[2, 3] = mask[4, 5] = True
    self.assertEqual(borders.bound(mask), (2, 3, 5, 6))


if __name__ == '__main__':
  absltest.main()
