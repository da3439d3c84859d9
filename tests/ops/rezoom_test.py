import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from scipy import ndimage

from medzoo.ops import rezoom


class RezoomTest(absltest.TestCase):
  def test_equals_scipy(self):
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(2, 8, 12, 3)).astype(np.float32)
    boxes = rng.normal(0, 30, (2, 2, 3, 4, 4)).astype(np.float32)
    found = jax.jit(rezoom.sample, static_argnums=2)(fine, boxes, (64, 96))
    self.assertEqual(found.shape, (2, 2, 3, 4, 12))
    for b, i, j, t in np.ndindex(2, 2, 3, 4):
      dy, dx, h, w = boxes[b, i, j, t]
      y, x = 32 * i + 16 + dy, 32 * j + 16 + dx
      ys = np.array([y - h / 4, y - h / 4, y + h / 4, y + h / 4])
      xs = np.array([x - w / 4, x + w / 4, x - w / 4, x + w / 4])
      for c in range(3):
        expected = ndimage.map_coordinates(
          fine[b, ..., c], [ys / 8 - 0.5, xs / 8 - 0.5], order=1, mode='nearest'
        )
        np.testing.assert_allclose(
          found[b, i, j, t, c::3], expected, rtol=1e-3, atol=1e-4
        )

  def test_the_gradient_moves_boxes_too(self):
    # Features that grow by 1 a pixel to the right.
    fine = jnp.broadcast_to(
      (jnp.arange(8.0) * 8)[None, None, :, None], (1, 8, 8, 1)
    )
    boxes = jnp.asarray([1.0, 2.0, 8.0, 8.0]).reshape(1, 1, 1, 1, 4)
    total = jax.jit(lambda b: rezoom.sample(fine, b, (64, 64)).sum())
    grad = jax.grad(total)(boxes)
    np.testing.assert_allclose(grad.ravel(), [0, 4, 0, 0], atol=1e-5)


if __name__ == '__main__':
  absltest.main()
