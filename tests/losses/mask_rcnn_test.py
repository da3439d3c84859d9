import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.losses import mask_rcnn

_rpn = jax.jit(mask_rcnn.rpn)
_box_head = jax.jit(mask_rcnn.box_head)
_mask_head = jax.jit(mask_rcnn.mask_head)


def _entropy(logit, label):
  """Binary cross-entropy, the long way."""
  p = 1 / (1 + np.exp(-logit))
  return -(label * np.log(p) + (1 - label) * np.log(1 - p))


def _smooth(x):
  x = abs(x)
  return x * x * 9 / 2 if x < 1 / 9 else x - 1 / 18


class RpnTest(absltest.TestCase):
  def test_worked_by_hand(self):
    logits = jnp.array([[2.0, -1.0, 0.5], [3.0, 1.0, 9.0]])
    positive = jnp.array([[True, False, True], [False, True, True]])
    valid = jnp.array([[True, True, True], [True, False, False]])
    deltas = jnp.zeros((2, 3, 4)).at[0, 0].set(jnp.array([1.0, 0, 0.05, 0]))
    targets = jnp.full((2, 3, 4), jnp.nan).at[0, 0].set(0.0)
    targets = targets.at[0, 2].set(jnp.array([0.0, 0, 0, -2]))
    found = _rpn(logits, deltas, positive, targets, valid)
    self.assertSameElements(found, ['rpn_objectness', 'rpn_box'])
    expected = (
      _entropy(2, 1) + _entropy(-1, 0) + _entropy(0.5, 1) + _entropy(3, 0)
    ) / 4
    self.assertAlmostEqual(float(found['rpn_objectness']), expected, places=5)
    # 1 - 1/18, 0.05^2 * 9/2 and 2 - 1/18, over the four that were sampled.
    expected = (17 / 18 + 0.01125 + 35 / 18) / 4
    self.assertAlmostEqual(float(found['rpn_box']), expected, places=5)


class BoxHeadTest(absltest.TestCase):
  def test_equals_loops(self):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 6, 3)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (2, 6, 3, 4)).astype(np.float32)
    targets = rng.normal(0, 0.3, (2, 6, 4)).astype(np.float32)
    labels = np.array([[0, 1, 2, 0, 1, 2], [2, 0, 1, 1, 0, 0]], np.int32)
    valid = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], bool)
    found = _box_head(
      *map(jnp.asarray, (logits, deltas, labels, targets, valid))
    )
    self.assertSameElements(found, ['classification', 'box'])
    entropy, box = [], 0
    for i in zip(*np.nonzero(valid), strict=True):
      shares = np.exp(logits[i]) / np.exp(logits[i]).sum()
      entropy.append(-np.log(shares[labels[i]]))
      if labels[i]:
        box += sum(map(_smooth, deltas[i][labels[i]] - targets[i]))
    self.assertAlmostEqual(
      float(found['classification']), np.mean(entropy), places=5
    )
    self.assertAlmostEqual(float(found['box']), box / 8, places=5)

  def test_the_gradient_reaches_the_own_class_only(self):
    grad = jax.grad(
      lambda deltas: _box_head(
        jnp.zeros((2, 3)),
        deltas,
        jnp.array([0, 2]),
        jnp.ones((2, 4)),
        jnp.ones(2, bool),
      )['box']
    )(jnp.zeros((2, 3, 4)))
    expected = np.zeros((2, 3, 4))
    expected[1, 2] = -1 / 2
    np.testing.assert_allclose(grad, expected)


class MaskHeadTest(absltest.TestCase):
  def test_equals_loops(self):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
    targets = rng.uniform(size=(5, 3, 3)).astype(np.float32)
    labels = np.array([1, 2, 0, 1, 2], np.int32)
    valid = np.array([True, True, True, False, True])
    found = _mask_head(*map(jnp.asarray, (logits, labels, targets, valid)))
    self.assertSameElements(found, ['mask'])
    expected = [
      _entropy(logits[i, y, x, labels[i]], targets[i, y, x])
      for i in (0, 1, 4)
      for y, x in np.ndindex(3, 3)
    ]
    self.assertAlmostEqual(float(found['mask']), np.mean(expected), places=5)


class PaddingTest(absltest.TestCase):
  def _losses(self, outputs, targets, labels, valid):
    return (
      _rpn(
        outputs['objectness'],
        outputs['moves'],
        labels > 0,
        targets['box'],
        valid,
      )
      | _box_head(
        outputs['classes'], outputs['boxes'], labels, targets['box'], valid
      )
      | _mask_head(outputs['masks'], labels, targets['mask'], valid)
    )

  def _outputs(self, n):
    shapes = {
      'objectness': (n,),
      'moves': (n, 4),
      'classes': (n, 3),
      'boxes': (n, 3, 4),
      'masks': (n, 2, 2, 3),
    }
    rng = np.random.default_rng(0)
    return {
      name: jnp.asarray(rng.normal(size=shape), jnp.float32)
      for name, shape in shapes.items()
    }

  def test_has_no_part(self):
    n = 6
    outputs, labels = self._outputs(n), jnp.array([1, 0, 2, 1, 0, 7])
    valid = jnp.arange(n) < 3
    nothing = {
      'box': jnp.full((n, 4), jnp.nan).at[:3].set(0.5),
      'mask': jnp.full((n, 2, 2), jnp.nan).at[:3].set(1.0),
    }
    padded, grad = jax.value_and_grad(
      lambda o: sum(self._losses(o, nothing, labels, valid).values())
    )(outputs)
    short = jax.tree.map(lambda x: x[:3], (outputs, nothing, labels, valid))
    expected = self._losses(*short)
    self.assertLen(expected, 5)
    np.testing.assert_allclose(padded, sum(expected.values()), rtol=1e-6)
    for leaf in jax.tree.leaves(grad):
      self.assertTrue(np.isfinite(leaf).all())
      np.testing.assert_array_equal(leaf[3:], 0)

  def test_without_positives_or_anything(self):
    n = 4
    outputs, labels = self._outputs(n), jnp.zeros(n, jnp.int32)
    targets = {
      'box': jnp.full((n, 4), jnp.nan),
      'mask': jnp.full((n, 2, 2), jnp.nan),
    }
    for valid in (jnp.ones(n, bool), jnp.zeros(n, bool)):
      found = self._losses(outputs, targets, labels, valid)
      for name in ('rpn_box', 'box', 'mask'):
        self.assertEqual(found[name], 0)
      for name in ('rpn_objectness', 'classification'):
        self.assertEqual(float(found[name]) > 0, bool(valid.any()))
      grads = jax.grad(
        lambda o, v=valid: sum(self._losses(o, targets, labels, v).values())
      )(outputs)
      for grad in jax.tree.leaves(grads):
        self.assertTrue(np.isfinite(grad).all())


if __name__ == '__main__':
  absltest.main()
