import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import anchors


class AnchorsTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    # 32 * sqrt(2) / 2 is 22.6 and 32 / sqrt(2) / 2 is 11.3.
    found = anchors.grid((1, 2), 16, [32], [0.5, 1, 2])
    cell = np.array(
      [[-11, -23, 11, 23], [-16, -16, 16, 16], [-23, -11, 23, 11]]
    )
    expected = np.concatenate([cell, cell + [0, 16, 0, 16]])
    np.testing.assert_array_equal(found, expected)

  def test_halves_round_to_even(self):
    found = anchors.grid((1, 1), 8, [31, 33, 35], [1])
    np.testing.assert_array_equal(found[:, 2], [16, 16, 18])

  @parameterized.parameters(((3, 5), 4), ((4, 2), (61, 64)))
  def test_equals_loops(self, shape, stride):
    sizes, ratios = (24, 48.5), (0.5, 1.0, 2.0)
    steps = stride if isinstance(stride, tuple) else (stride, stride)
    expected = []
    for i, j in np.ndindex(shape):
      for ratio in ratios:
        for size in sizes:
          h, w = size * ratio**0.5, size / ratio**0.5
          half = np.round([h / 2, w / 2])
          center = np.array([i * steps[0], j * steps[1]])
          expected.append([*(center - half), *(center + half)])
    found = anchors.grid(shape, stride, sizes, ratios)
    np.testing.assert_array_equal(found, expected)


if __name__ == '__main__':
  absltest.main()
