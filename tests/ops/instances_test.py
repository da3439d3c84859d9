"""Tests of the choice of one instance a class."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.ops import instances


class InstancesTest(absltest.TestCase):
  def test_surest_worked_by_hand(self):
    index, there = instances.surest(
      jnp.array([0.5, 0.9, 0.9, 0.3, 0.8], np.float32),
      jnp.array([2, 1, 1, 2, 3], np.int32),
      jnp.array([True, True, True, True, False]),
      4,
    )
    # Of equals the first; of class 3 there is none that is valid.
    self.assertEqual(index.tolist(), [1, 0, 0])
    self.assertEqual(there.tolist(), [True, True, False])

  def test_pastes_where_the_box_is_and_nothing_of_an_absent_class(self):
    found = {
      'boxes': jnp.array([[2, 3, 6, 9], [0, 0, 8, 12]], jnp.float32),
      'scores': jnp.array([0.7, 0.9], jnp.float32),
      'labels': jnp.array([2, 2], jnp.int32),
      'valid': jnp.array([True, False]),
      'masks': jnp.ones((2, 4, 4), jnp.float32),
    }
    pasted = instances.paste_surest(found, 3, (8, 12), aligned=True)
    truth = np.zeros((8, 12), bool)
    truth[2:6, 3:9] = True
    np.testing.assert_array_equal(pasted['maps'][1] >= 0.5, truth)
    self.assertFalse(np.asarray(pasted['maps'][0]).any())
    np.testing.assert_array_equal(pasted['boxes'], [[0, 0, 0, 0], [2, 3, 6, 9]])
    np.testing.assert_allclose(pasted['scores'], [0, 0.7], rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
