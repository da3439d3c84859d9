import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import roi_align

# Inside, across an edge, wholly outside, smaller than a cell, and padding.
_BOXES = np.array(
  [
    [3.0, 5, 29, 41],
    [-20, -9, 13.3, 60],
    [30, 44.4, 70, 90],
    [-90, -90, -50, -60],
    [11, 17, 11.7, 18],
    [0, 0, 0, 0],
  ],
  np.float32,
)


def _read(map_, y, x):
  """Reads a map at a point, index coordinates."""
  h, w = map_.shape[:2]
  y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
  total = 0
  for i in {math.floor(y), math.ceil(y)}:
    for j in {math.floor(x), math.ceil(x)}:
      total = total + map_[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
  return total


def reference(map_, boxes, stride, size, ratio, aligned):
  """Averages point by point; `ratio` None is a point a cell, rounded up."""
  found = np.zeros((len(boxes), size, size, map_.shape[-1]))
  for k, box in enumerate(np.asarray(boxes, float)):
    y0, x0, y1, x1 = box / stride - (0.5 if aligned else 0)
    h, w = y1 - y0, x1 - x0
    if not aligned:
      h, w = max(h, 1), max(w, 1)
    h, w = h / size, w / size
    m, n = (ratio or max(math.ceil(side), 1) for side in (h, w))
    for i, j in np.ndindex(size, size):
      points = [
        _read(map_, y0 + (i + (s + 0.5) / m) * h, x0 + (j + (t + 0.5) / n) * w)
        for s in range(m)
        for t in range(n)
      ]
      found[k, i, j] = np.mean(points, 0)
  return found


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _align(*args):
  return roi_align.roi_align(*args)


class RoiAlignTest(parameterized.TestCase):
  @parameterized.product(aligned=(False, True), ratio=(1, 2))
  def test_equals_the_point_by_point_mean(self, aligned, ratio):
    rng = np.random.default_rng(0)
    map_ = rng.normal(size=(9, 13, 2)).astype(np.float32)
    found = _align(map_, _BOXES, 4, 3, ratio, aligned)
    expected = reference(map_, _BOXES, 4, 3, ratio, aligned)
    np.testing.assert_allclose(found, expected, atol=1e-5)

  @parameterized.parameters(False, True)
  def test_a_ramp_is_exact(self, aligned):
    # Features that are their own place, so means are the bins' centres.
    y, x = np.mgrid[:16, :16] + (0.5 if aligned else 0.0)
    map_ = np.stack([y, x], -1).astype(np.float32) * 8
    boxes = np.array([[16.0, 20, 80, 100], [37.5, 11, 61, 99]], np.float32)
    found = _align(map_, boxes, 8, 4, 2, aligned)
    for box, bins in zip(boxes, found, strict=True):
      side = (box[2:] - box[:2]) / 4
      for i, j in np.ndindex(4, 4):
        center = box[:2] + side * (i + 0.5, j + 0.5)
        np.testing.assert_allclose(bins[i, j], center, rtol=1e-5)

  def test_the_gradient_spreads_over_features_only(self):
    boxes = jnp.asarray(_BOXES[[0]])
    grads = jax.grad(
      lambda f, b: _align(f, b, 4, 2, 2, False).sum(), argnums=(0, 1)
    )(jnp.ones((9, 13, 1)), boxes)
    # Each of the 4 means is worth 1, shared out over the features it is of.
    self.assertAlmostEqual(float(grads[0].sum()), 4, places=5)
    self.assertEqual(grads[0][8, 12, 0], 0)
    self.assertGreater(grads[0][4, 5, 0], 0)
    np.testing.assert_array_equal(grads[1], 0)

  def test_many_boxes_are_as_many_single_ones(self):
    rng = np.random.default_rng(0)
    map_ = rng.normal(size=(8, 8, 1)).astype(np.float32)
    low = rng.uniform(0, 20, (150, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 12, (150, 2))], -1)
    boxes = boxes.astype(np.float32)
    found = _align(map_, boxes, 4, 2, 1, True)
    expected = reference(map_, boxes, 4, 2, 1, True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


class MultilevelTest(absltest.TestCase):
  def test_each_box_reads_its_level(self):
    rng = np.random.default_rng(0)
    maps = [
      rng.normal(size=(64 // 2**i, 64 // 2**i, 2)).astype(np.float32)
      for i in range(3)
    ]
    # Square roots of areas: 20, just below 112, 112 itself, 150, 240, 0.
    boxes = np.array(
      [
        [5.0, 5, 25, 25],
        [0, 0, 111.9, 112],
        [10, 20, 10 + 56, 20 + 224],
        [0, 50, 150, 200],
        [8, 8, 248, 248],
        [0, 0, 0, 0],
      ],
      np.float32,
    )
    found = jax.jit(
      lambda m, b: roi_align.multilevel(m, (4, 8, 16), b, 3, 2, False)
    )(maps, boxes)
    for n, level in enumerate([0, 0, 1, 1, 2, 0]):
      expected = reference(
        maps[level], boxes[n : n + 1], 4 * 2**level, 3, 2, False
      )
      np.testing.assert_allclose(found[n : n + 1], expected, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
