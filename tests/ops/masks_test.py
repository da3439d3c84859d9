import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo.ops import masks
from tests.ops import roi_align_test


def _ellipses(shape=(60, 48)):
  """Two masks and boxes round them, of fractions of pixels."""
  y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
  found, boxes = [], []
  for cy, cx, ry, rx in ((30, 14, 22, 10), (27, 33, 17, 12)):
    found.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1)
    boxes.append([cy - ry - 0.6, cx - rx - 0.3, cy + ry + 0.9, cx + rx + 0.5])
  return np.stack(found), np.array(boxes, np.float32)


def _resize(mask, h, w):
  """Bilinear, with pixels' centres in the middle of pixels."""
  y, x = np.mgrid[:h, :w]
  places = [(p + 0.5) * mask.shape[0] / n - 0.5 for p, n in ((y, h), (x, w))]
  return ndimage.map_coordinates(mask, places, order=1, mode='nearest')


def _paste(mask, box, shape):
  """Resizes a mask, with a border of a cell, and lays it into an image."""
  m = len(mask)
  padded = np.pad(mask, 1)
  found = np.zeros(shape)
  ends = []
  for low, high in ((box[0], box[2]), (box[1], box[3])):
    middle, half = (low + high) / 2, (high - low) / 2 * (m + 2) / m
    first, last = int(middle - half), int(middle + half)
    ends.append((first, max(last - first + 1, 1)))
  (y0, h), (x0, w) = ends
  resized = _resize(padded, h, w)
  for i, j in np.ndindex(h, w):
    if 0 <= y0 + i < shape[0] and 0 <= x0 + j < shape[1]:
      found[y0 + i, x0 + j] = resized[i, j]
  return found


@functools.partial(jax.jit, static_argnums=(2, 3))
def _crop(layers, boxes, size, aligned=False):
  return masks.crop(layers, boxes, size, aligned=aligned)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _put(probabilities, boxes, shape, aligned=False):
  return masks.paste(probabilities, boxes, shape, aligned=aligned)


class CropTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_equals_the_point_by_point_mean(self, aligned):
    layers, boxes = _ellipses()
    layers = np.concatenate([layers, layers])
    boxes = np.concatenate([boxes, [[0, 0, 60, 48], [9.2, 20, 15.5, 23]]])
    found = _crop(layers, boxes.astype(np.float32), 7, aligned)
    for i in range(4):
      expected = roi_align_test.reference(
        layers[i, ..., None].astype(float), boxes[[i]], 1, 7, None, aligned
      )
      np.testing.assert_allclose(found[i], expected[0, ..., 0], atol=1e-5)

  def test_of_a_full_mask_is_full_and_of_padding_finite(self):
    boxes = jnp.array([[3.0, 4, 20, 30], [0, 0, 40, 40], [0, 0, 0, 0]])
    found = _crop(np.ones((3, 40, 40), np.uint8), boxes, 14)
    np.testing.assert_allclose(found, 1, atol=1e-6)


class PasteTest(parameterized.TestCase):
  def test_equals_resizing(self):
    rng = np.random.default_rng(0)
    boxes = np.array(
      [
        [5.2, 9.7, 31.4, 22.1],
        [-8.3, 30, 12, 70],
        [20, 20, 20.4, 20.2],
        [-9, -9, -5, -4],
        [0, 0, 48, 40],
      ],
      np.float32,
    )
    small = rng.uniform(size=(5, 6, 6)).astype(np.float32)
    found = _put(small, boxes, (48, 40))
    self.assertEqual(found.shape, (5, 48, 40))
    for i in range(5):
      expected = _paste(small[i], boxes[i], (48, 40))
      np.testing.assert_allclose(found[i], expected, atol=1e-5)

  def test_aligned_lies_where_the_box_lies(self):
    # Two cells along y: the first ends in the middle of the box.
    half = jnp.array([[[1.0, 1], [0, 0]]])
    box = jnp.array([[8.0, 0, 24, 16]])
    found = _put(half, box, (32, 16), True)[0, :, 8]
    # Cells lie at 12 and 20, the cells round them, which are 0, at 4 and 28.
    expected = np.interp(np.arange(32) + 0.5, [4, 12, 20, 28], [0, 1, 0, 0])
    np.testing.assert_allclose(found, expected, atol=1e-6)

  @parameterized.parameters((False, 0.85), (True, 0.95))
  def test_undoes_crop(self, aligned, least):
    layers, boxes = _ellipses()
    small = _crop(layers, boxes, 28, aligned)
    back = np.asarray(_put(small, boxes, layers.shape[1:], aligned)) > 0.5
    for found, expected in zip(back, layers, strict=True):
      iou = (found & expected).sum() / (found | expected).sum()
      self.assertGreater(iou, least)


class BoxesOfTest(parameterized.TestCase):
  @parameterized.parameters(np, jnp)
  def test_bounds_and_empty_ones(self, xp):
    layers = np.zeros((4, 9, 7), bool)
    layers[0, 2:5, 3:7] = True
    layers[1, 0, 0] = layers[1, 8, 6] = True
    layers[3, 4, 5] = True
    found = masks.boxes_of(xp.asarray(layers))
    self.assertIsInstance(found, np.ndarray if xp is np else jax.Array)
    expected = [[2, 3, 5, 7], [0, 0, 9, 7], [0, 0, 0, 0], [4, 5, 5, 6]]
    np.testing.assert_array_equal(found, expected)
    self.assertEqual(found.dtype, np.float32)


if __name__ == '__main__':
  absltest.main()
