import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import nms_boxes


def _iou(a, b):
  rank = len(a) // 2
  shared, size_a, size_b = 1.0, 1.0, 1.0
  for i in range(rank):
    low, high = max(a[i], b[i]), min(a[i + rank], b[i + rank])
    shared *= max(high - low, 0)
    size_a *= a[i + rank] - a[i]
    size_b *= b[i + rank] - b[i]
  return shared / (size_a + size_b - shared)


def reference(boxes, scores, groups, iou, valid):
  """Every pair compared, one after the other."""
  kept = []
  for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
    if valid[i] and not any(
      groups[i] == groups[j] and _iou(boxes[i], boxes[j]) > iou for j in kept
    ):
      kept.append(i)
  return kept


def _random(rng, count, rank):
  low = rng.integers(0, 30, (count, rank))
  boxes = np.concatenate([low, low + rng.integers(8, 24, (count, rank))], -1)
  # Eighths are often equal.
  return boxes.astype(np.float32), np.float32(rng.integers(0, 8, count) / 8)


_nms = jax.jit(nms_boxes.nms, static_argnums=(2, 3))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _batched(boxes, scores, groups, iou, max_keep, valid):
  return nms_boxes.batched(boxes, scores, groups, iou, max_keep, valid)


class NmsTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    # Each overlaps the next by a third.
    left = np.arange(0, 20, 5)[:, None]
    boxes = jnp.asarray(left * [0, 1, 0, 1] + [0, 0, 10, 10], jnp.float32)
    scores = jnp.array([0.7, 0.9, 0.8, 0.6])
    found, valid = _nms(boxes, scores, 0.3, 4, jnp.ones(4, bool))
    # 1 drops 0 and 2; so 3 stays, which 2 would have dropped.
    np.testing.assert_array_equal(found, [1, 3, 0, 0])
    np.testing.assert_array_equal(valid, [True, True, False, False])
    # What overlaps by just the limit stays.
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 2, 4, 4]])
    _, valid = _nms(boxes, scores[:2], 0.5, 2, jnp.ones(2, bool))
    self.assertTrue(valid.all())

  @parameterized.product(rank=(2, 3), num_groups=(1, 3))
  def test_equals_the_greedy_loop(self, rank, num_groups):
    for seed in range(5):
      rng = np.random.default_rng(seed)
      boxes, scores = _random(rng, 60, rank)
      groups = rng.integers(0, num_groups, 60).astype(np.int32)
      real = rng.uniform(size=60) < 0.9
      expected = reference(boxes, scores, groups, 0.3, real)
      found, valid = _batched(boxes, scores, groups, 0.3, 60, real)
      self.assertSequenceEqual(found[valid].tolist(), expected)
      self.assertBetween(len(expected), 4, 50)
      found, valid = _batched(boxes, scores, groups, 0.3, 3, real)
      self.assertSequenceEqual(found.tolist(), expected[:3])
      self.assertTrue(valid.all())

  def test_again_changes_nothing(self):
    boxes, scores = _random(np.random.default_rng(9), 60, 2)
    groups = np.zeros(60, np.int32)
    found, valid = _batched(boxes, scores, groups, 0.3, 60, valid=groups == 0)
    again, still = _batched(
      boxes[found], scores[found], groups, 0.3, 60, valid=valid
    )
    count = valid.sum()
    np.testing.assert_array_equal(again[:count], np.arange(count))
    np.testing.assert_array_equal(still, valid)

  def test_a_chain_in_which_each_touches_the_next(self):
    # The longest way to the fixed point: every second box stays.
    left = np.arange(60.0)[:, None]
    boxes = jnp.asarray(left * [0, 1, 0, 1] + [0, 0, 2, 2], jnp.float32)
    scores = jnp.linspace(1, 0, 60)
    found, valid = _batched(
      boxes, scores, jnp.zeros(60, jnp.int32), 0.3, 60, jnp.ones(60, bool)
    )
    np.testing.assert_array_equal(found[:30], np.arange(0, 60, 2))
    self.assertEqual(valid.sum(), 30)

  def test_a_batch_and_room_to_spare(self):
    rng = np.random.default_rng(0)
    boxes, scores = map(
      np.stack, zip(*(_random(rng, 9, 2) for _ in range(4)), strict=True)
    )
    real = rng.uniform(size=(4, 9)) < 0.5
    found, valid = jax.jit(
      jax.vmap(lambda b, s, v: nms_boxes.nms(b, s, 0.3, 12, v))
    )(boxes, scores, real)
    self.assertEqual(found.shape, (4, 12))
    for i in range(4):
      expected = reference(boxes[i], scores[i], np.zeros(9), 0.3, real[i])
      self.assertSequenceEqual(found[i][valid[i]].tolist(), expected)
      np.testing.assert_array_equal(found[i][~valid[i]], 0)


if __name__ == '__main__':
  absltest.main()
