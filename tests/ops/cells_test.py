import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.ops import cells


class CellsTest(absltest.TestCase):
  def test_worked_by_hand(self):
    middle = cells.centers((2, 3), (10, 20))
    np.testing.assert_array_equal(middle[0, 0], [5, 10])
    np.testing.assert_array_equal(middle[1, 2], [15, 50])
    box = jnp.asarray([10.0, 40, 16, 44])
    np.testing.assert_array_equal(
      cells.encode(box, middle[1, 2]), [-2, -8, 6, 4]
    )
    flat = cells.decode(jnp.asarray([1.0, 2, -3, 4]), jnp.zeros(2))
    np.testing.assert_array_equal(flat, [1, 0, 1, 4])

  def test_round_trip(self):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (9, 2))
    box = jnp.asarray(
      np.concatenate([low, low + rng.uniform(1, 9, (9, 2))], -1)
    )
    middle = cells.centers((4, 5), (32, 32))[:, :, None]
    back = cells.decode(cells.encode(box, middle), middle)
    np.testing.assert_allclose(
      back, np.broadcast_to(box, back.shape), atol=1e-4
    )


if __name__ == '__main__':
  absltest.main()
