"""Tests of the loss of maps, against sums written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.losses import segmentation


def _inputs(seed=0, shape=(3, 5, 4, 2)):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, shape).astype(np.float32)
  masks = (rng.random((shape[0], shape[3], *shape[1:3])) < 0.4).astype(np.int32)
  return logits, masks, np.ones(shape[0], bool)


def _loss(logits, masks, valid, **options):
  return segmentation.segmentation_loss(
    jnp.asarray(logits), jnp.asarray(masks), jnp.asarray(valid), **options
  )


def _reference(logits, masks, images):
  """Cross-entropy and Dice of some images, map by map."""
  entropy, dice = [], []
  for i in images:
    for k in range(masks.shape[1]):
      p = 1 / (1 + np.exp(-logits[i, :, :, k].astype(float)))
      m = masks[i, k]
      entropy.append(-np.mean(np.where(m > 0, np.log(p), np.log(1 - p))))
      if m.any():
        dice.append(1 - 2 * (p * m).sum() / (p.sum() + m.sum()))
  return np.array([np.mean(entropy), np.mean(dice)])


class SegmentationLossTest(absltest.TestCase):
  def test_agrees_with_numpy(self):
    logits, masks, valid = _inputs()
    masks[1, 0] = 0
    total, terms = _loss(logits, masks, valid, weights=(0.5, 2.0))
    expected = _reference(logits, masks, range(3))
    self.assertEqual(list(terms), ['cross_entropy', 'dice'])
    np.testing.assert_allclose(
      [terms['cross_entropy'], terms['dice']], expected, rtol=1e-5
    )
    np.testing.assert_allclose(total, expected @ (0.5, 2.0), rtol=1e-5)

  def test_right_maps_lose_nothing_and_wrong_ones_much(self):
    _, masks, valid = _inputs()
    masks[0, 1] = 0
    sign = np.moveaxis(2.0 * masks - 1, 1, -1)
    total, _ = _loss(30 * sign, masks, valid)
    self.assertLess(total, 1e-5)
    total, terms = _loss(-30 * sign, masks, valid)
    self.assertGreater(terms['cross_entropy'], 29)
    self.assertGreater(terms['dice'], 0.8)

  def test_padding_has_no_influence(self):
    logits, masks, valid = _inputs()
    valid[2] = False
    total, _ = _loss(logits, masks, valid)
    expected = _reference(logits, masks, range(2))
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)
    logits[2] = np.nan
    self.assertEqual(_loss(logits, masks, valid)[0], total)
    self.assertEqual(_loss(logits, masks, np.zeros(3, bool))[0], 0)

  def test_gradients_are_finite_and_point_to_the_masks(self):
    logits, masks, valid = _inputs()
    logits *= 30
    masks[0] = 0
    gradient = jax.jit(jax.grad(lambda x: _loss(x, masks, valid)[0]))(
      jnp.asarray(logits)
    )
    self.assertTrue(np.isfinite(gradient).all())
    truth = np.moveaxis(masks, 1, -1) > 0
    self.assertLessEqual(gradient[truth].max(), 1e-6)
    self.assertLess(gradient[truth].min(), 0)
    self.assertGreater(gradient[~truth].max(), 0)

  def test_dice_is_one_minus_the_overlap(self):
    masks = np.zeros((1, 2, 4, 4), np.float32)
    masks[0, 0, :2], masks[0, 1, :, :1] = 1, 1
    maps = np.zeros_like(masks)
    maps[0, 0, 1:3] = 1
    found = segmentation.soft_dice(jnp.asarray(maps), jnp.asarray(masks))
    np.testing.assert_allclose(found, [[0.5, 1.0]])


if __name__ == '__main__':
  absltest.main()
