import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.io import lidc_contours
from medzoo.io import lidc_types


def _contour(points, inclusion=True) -> lidc_types.Contour:
  return lidc_types.Contour('1', 0.0, inclusion, np.array(points, np.int32))


def _draw(*contours: lidc_types.Contour) -> list[str]:
  mask, _ = lidc_contours.interior(contours)
  return [''.join('#' if x else '.' for x in row) for row in mask]


def _inside(points: np.ndarray, x: int, y: int) -> bool:
  """Strictly inside, by the definition: edge by edge in whole numbers."""
  odd = False
  for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0), strict=True):
    cross = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    between = min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(
      ay, by
    )
    if cross == 0 and between:
      return False
    if (ay > y) != (by > y) and (cross > 0) == (by > ay):
      odd = not odd
  return odd


def _box(x0, y0, x1, y1) -> list[tuple[int, int]]:
  return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


class InteriorTest(parameterized.TestCase):
  def test_edge_pixels_are_out(self):
    # A chain of neighbours as readers' software writes it, and its corners.
    chain = [(1, 0), (2, 0), (3, 1), (3, 2), (2, 3), (1, 3), (0, 2), (0, 1)]
    expected = ['....', '.##.', '.##.', '....']
    self.assertEqual(_draw(_contour(chain)), expected)
    self.assertEqual(_draw(_contour(chain[::-1])), expected)
    self.assertEqual(_draw(_contour([*chain, chain[0]])), expected)

  def test_long_edges_are_edges_too(self):
    self.assertEqual(
      _draw(_contour([(0, 0), (4, 4), (0, 4)])),
      ['.....', '.....', '.#...', '.##..', '.....'],
    )

  def test_says_where_it_is(self):
    mask, corner = lidc_contours.interior([_contour(_box(100, 40, 110, 45))])
    self.assertEqual(corner, (40, 100))
    self.assertEqual(mask.shape, (6, 11))
    self.assertEqual(mask.sum(), 4 * 9)

  def test_holes_go_with_their_edges_in_whatever_order(self):
    outline, hole = (
      _contour(_box(0, 0, 6, 6)),
      _contour(_box(2, 2, 4, 4), False),
    )
    expected = ['.......', '.#####.'] + ['.#...#.'] * 3 + ['.#####.', '.......']
    self.assertEqual(_draw(outline, hole), expected)
    self.assertEqual(_draw(hole, outline), expected)

  def test_parts_are_joined(self):
    self.assertEqual(
      _draw(_contour(_box(0, 0, 2, 2)), _contour(_box(3, 0, 6, 2))),
      ['.......', '.#..##.', '.......'],
    )

  @parameterized.parameters(([(5, 5)],), ([(5, 5), (9, 5)],))
  def test_points_and_lines_enclose_nothing(self, points):
    mask, _ = lidc_contours.interior([_contour(points)])
    self.assertFalse(mask.any())

  @parameterized.parameters(*range(20))
  def test_agrees_with_the_definition(self, seed: int):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 12, (rng.integers(3, 12), 2))
    mask, (y0, x0) = lidc_contours.interior([_contour(points)])
    expected = [
      [_inside(points, x + x0, y + y0) for x in range(mask.shape[1])]
      for y in range(mask.shape[0])
    ]
    np.testing.assert_array_equal(mask, expected)


if __name__ == '__main__':
  absltest.main()
