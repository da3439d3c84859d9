import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import box_coder


def _random(rng, count, rank):
  low = rng.uniform(-20, 80, (count, rank))
  side = rng.uniform(1, 60, (count, rank))
  return jnp.asarray(np.concatenate([low, low + side], -1), jnp.float32)


class BoxCoderTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    anchor = jnp.array([[10.0, 20, 20, 40]])
    # The centre moves from (15, 30) by half a height and a quarter width.
    box = jnp.array([[10.0, 30, 30, 40]])
    found = box_coder.encode(box, anchor, (10, 10, 5, 5))
    expected = [[5, 2.5, 5 * np.log(2), 5 * np.log(0.5)]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    box = jnp.array([[0.0, 0, 0, 2, 4, 6]])
    anchor = jnp.array([[1.0, 2, 3, 3, 6, 9]])
    found = box_coder.encode(box, anchor, (1,) * 6)
    np.testing.assert_allclose(found, [[-0.5, -0.5, -0.5, 0, 0, 0]], atol=1e-6)

  @parameterized.parameters(2, 3)
  def test_decode_is_the_inverse(self, rank):
    rng = np.random.default_rng(rank)
    boxes, anchors = _random(rng, 50, rank), _random(rng, 50, rank)
    weights = (10,) * rank + (5,) * rank
    deltas = box_coder.encode(boxes, anchors, weights)
    found = box_coder.decode(deltas, anchors, weights)
    np.testing.assert_allclose(found, boxes, atol=1e-3)

  def test_anchors_broadcast_to_classes(self):
    rng = np.random.default_rng(0)
    anchors = _random(rng, 4, 2)
    deltas = jnp.asarray(rng.normal(size=(4, 3, 4)), jnp.float32)
    found = box_coder.decode(deltas, anchors[:, None], (10, 10, 5, 5))
    for i in range(3):
      expected = box_coder.decode(deltas[:, i], anchors, (10, 10, 5, 5))
      np.testing.assert_allclose(found[:, i], expected, rtol=1e-6)

  def test_growth_is_clipped(self):
    anchor = jnp.array([[0.0, 0, 16, 16]])
    found = box_coder.decode(jnp.array([[0.0, 0, 99, 0]]), anchor, (1,) * 4)
    np.testing.assert_allclose(found, [[-492, 0, 508, 16]], rtol=1e-5)

  def test_padding_stays_finite(self):
    boxes = jnp.array([[0.0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    anchors = jnp.array([[1.0, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]])

    def both(boxes, anchors):
      deltas = box_coder.encode(boxes, anchors, (10, 10, 5, 5))
      return deltas, box_coder.decode(deltas, anchors, (10, 10, 5, 5))

    found, vjp = jax.vjp(both, boxes, anchors)
    for x in jax.tree.leaves((found, vjp(found))):
      self.assertTrue(np.isfinite(x).all())


if __name__ == '__main__':
  absltest.main()
