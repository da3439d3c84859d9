import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import boxes


def _random(rng, count, rank):
  low = rng.integers(0, 8, (count, rank))
  return np.concatenate([low, low + rng.integers(1, 8, (count, rank))], -1)


def _mask(box, rank):
  mask = np.zeros((16,) * rank, bool)
  mask[tuple(map(slice, box[:rank], box[rank:]))] = True
  return mask


class BoxesTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    a = np.array([[0.0, 0, 2, 2]])
    b = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 1, 1]])
    np.testing.assert_allclose(boxes.iou(a, b), [[1, 1 / 7, 0, 1 / 4]])
    a = np.array([[0.0, 0, 0, 2, 2, 2]])
    b = np.array([[0.0, 0, 1, 2, 2, 3]])
    np.testing.assert_allclose(boxes.iou(a, b), [[4 / 12]])

  @parameterized.product(rank=(2, 3), xp=(np, jnp))
  def test_equals_counted_voxels(self, rank, xp):
    rng = np.random.default_rng(rank)
    a, b = _random(rng, 9, rank), _random(rng, 7, rank)
    both = xp.asarray(a, 'float32'), xp.asarray(b, 'float32')
    found, shared = boxes.iou(*both), boxes.intersection(*both)
    self.assertIsInstance(found, np.ndarray if xp is np else jax.Array)
    for i, j in np.ndindex(9, 7):
      x, y = _mask(a[i], rank), _mask(b[j], rank)
      self.assertAlmostEqual(
        float(found[i, j]), (x & y).sum() / (x | y).sum(), places=6
      )
      self.assertEqual(float(shared[i, j]), (x & y).sum())

  def test_symmetric_and_unmoved_by_shift_and_scale(self):
    rng = np.random.default_rng(0)
    a = _random(rng, 6, 3).astype(float)
    b = _random(rng, 5, 3).astype(float)
    expected = boxes.iou(a, b)
    np.testing.assert_allclose(boxes.iou(b, a).T, expected)
    np.testing.assert_allclose(boxes.iou(3 * a + 5, 3 * b + 5), expected)

  def test_boxes_without_extent(self):
    flat = np.array([[1.0, 1, 1, 5], [3, 3, 1, 1]])
    np.testing.assert_array_equal(boxes.size(flat), [0, 0])
    np.testing.assert_array_equal(boxes.iou(flat, flat), np.zeros((2, 2)))
    grad = jax.grad(lambda a: boxes.iou(a, a).sum())(jnp.asarray(flat))
    self.assertTrue(np.isfinite(grad).all())


if __name__ == '__main__':
  absltest.main()
