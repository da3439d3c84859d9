import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import matching


def _reference(iou, high, low, allow_low_quality):
  found = []
  for j in range(iou.shape[1]):
    best, index = 0, -1
    for i in range(iou.shape[0]):
      if index < 0 or iou[i, j] > best:
        best, index = iou[i, j], i
    closest = allow_low_quality and any(
      iou[i, j] == max(iou[i]) > 0 for i in range(iou.shape[0])
    )
    if best >= high or closest:
      found.append(index)
    else:
      found.append(-1 if best < low else -2)
  return found


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _match(iou, valid, high, low, allow_low_quality):
  return matching.match(iou, valid, high, low, allow_low_quality)


class MatchingTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    iou = jnp.array([[0.8, 0.4, 0.1, 0.7, 0.3], [0.1, 0.45, 0.2, 0.7, 0.0]])
    valid = jnp.ones(2, bool)
    found = _match(iou, valid, 0.7, 0.3, False)
    np.testing.assert_array_equal(found, [0, -2, -1, 0, -2])
    # The second truth's best, the fourth anchor, keeps the first truth.
    found = _match(iou.at[1, 3].set(0.6), valid, 0.75, 0.3, True)
    np.testing.assert_array_equal(found, [0, -2, -1, 0, -2])
    found = _match(iou.at[1, 3].set(0.0), valid, 0.75, 0.3, True)
    np.testing.assert_array_equal(found, [0, 1, -1, -2, -2])

  @parameterized.product(allow_low_quality=(False, True), seed=(0, 1))
  def test_equals_loops(self, allow_low_quality, seed):
    # Tenths have ties, also for the best of a truth.
    rng = np.random.default_rng(seed)
    iou = np.float32(rng.integers(0, 7, (4, 40)) / 10)
    found = _match(iou, jnp.ones(4, bool), 0.6, 0.3, allow_low_quality)
    expected = _reference(
      iou, np.float32(0.6), np.float32(0.3), allow_low_quality
    )
    np.testing.assert_array_equal(found, expected)

  def test_padding_has_no_part(self):
    rng = np.random.default_rng(0)
    iou = np.float32(rng.uniform(0, 0.9, (4, 40)))
    valid = jnp.array([True, False, True, False])
    found = _match(iou, valid, 0.7, 0.3, True)
    expected = _reference(iou[::2], 0.7, 0.3, True)
    expected = [2 * i if i > 0 else i for i in expected]
    np.testing.assert_array_equal(found, expected)
    found = _match(iou, jnp.zeros(4, bool), 0.7, 0.3, True)
    np.testing.assert_array_equal(found, np.full(40, matching.BACKGROUND))

  def test_a_truth_that_nothing_touches_claims_nothing(self):
    iou = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0]])
    found = _match(iou, jnp.ones(2, bool), 0.7, 0.3, True)
    np.testing.assert_array_equal(found, [-1, 1, -1])


if __name__ == '__main__':
  absltest.main()
