import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import anchors
from medzoo.ops import proposals
from tests.ops import nms_boxes_test

_SHAPE = (48, 40)
_ANCHORS = [
  anchors.grid((6, 5), 8, [12], [0.5, 1, 2]),
  anchors.grid((3, 3), 16, [24], [0.5, 1, 2]),
]


def _reference(logits, deltas, settings):
  """One box after the other, in float64."""
  found = []
  for level in range(len(logits)):
    order = np.argsort(-logits[level], kind='stable')[: settings.pre_nms]
    boxes, scores = [], []
    for i in order:
      y0, x0, y1, x1 = map(float, _ANCHORS[level][i])
      dy, dx, dh, dw = map(float, deltas[level][i])
      y, x = (y0 + y1) / 2 + dy * (y1 - y0), (x0 + x1) / 2 + dx * (x1 - x0)
      h, w = (y1 - y0) * np.exp(dh), (x1 - x0) * np.exp(dw)
      box = [y - h / 2, x - w / 2, y + h / 2, x + w / 2]
      box = np.clip(box, 0, [*_SHAPE, *_SHAPE])
      score = 1 / (1 + np.exp(-float(logits[level][i])))
      sides = box[2:] - box[:2]
      if min(sides) >= settings.min_side and score >= settings.min_score:
        boxes.append(box)
        scores.append(score)
    kept = nms_boxes_test.reference(
      boxes, scores, np.zeros(len(boxes)), settings.iou, [True] * len(boxes)
    )
    found += [(scores[i], boxes[i]) for i in kept]
  found.sort(key=lambda pair: -pair[0])
  return found[: settings.post_nms]


def _outputs(seed):
  rng = np.random.default_rng(seed)
  logits = [rng.normal(0, 2, len(a)) for a in _ANCHORS]
  deltas = [rng.normal(0, 0.4, a.shape) for a in _ANCHORS]
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (logits, deltas))


@functools.partial(jax.jit, static_argnums=2)
def _select(logits, deltas, settings):
  return proposals.select(logits, deltas, _ANCHORS, _SHAPE, settings)


class ProposalsTest(parameterized.TestCase):
  @parameterized.parameters(
    proposals.Settings(pre_nms=60, post_nms=20, iou=0.5),
    # Fewer than there is room for, as many are too small or unsure.
    proposals.Settings(
      pre_nms=30, post_nms=150, iou=0.3, min_score=0.4, min_side=8.0
    ),
  )
  def test_equals_loops(self, settings):
    for seed in range(3):
      logits, deltas = _outputs(seed)
      boxes, scores, valid = _select(logits, deltas, settings)
      expected = _reference(logits, deltas, settings)
      count = len(expected)
      self.assertGreater(count, 5)
      self.assertEqual(boxes.shape, (settings.post_nms, 4))
      np.testing.assert_array_equal(valid, np.arange(settings.post_nms) < count)
      wanted = np.array([score for score, _ in expected])
      np.testing.assert_allclose(scores[:count], wanted, rtol=1e-5)
      wanted = np.stack([box for _, box in expected])
      np.testing.assert_allclose(boxes[:count], wanted, atol=1e-4)
      np.testing.assert_array_equal(boxes[count:], 0)
      np.testing.assert_array_equal(scores[count:], 0)

  def test_no_gradient_flows(self):
    logits, deltas = _outputs(0)
    settings = proposals.Settings(pre_nms=60, post_nms=20, iou=0.5)

    def total(logits, deltas):
      boxes, scores, _ = _select(logits, deltas, settings)
      return boxes.sum() + scores.sum()

    for grad in jax.tree.leaves(jax.grad(total, (0, 1))(logits, deltas)):
      np.testing.assert_array_equal(grad, 0)

  def test_a_batch_of_images_of_their_own_shapes(self):
    logits, deltas = _outputs(0)
    settings = proposals.Settings(pre_nms=60, post_nms=20, iou=0.5)
    shapes = jnp.array([_SHAPE, (20, 30)])
    select = functools.partial(proposals.select, settings=settings)
    boxes, _, valid = jax.jit(jax.vmap(select, (None, None, None, 0)))(
      logits, deltas, _ANCHORS, shapes
    )
    expected, _, _ = _select(logits, deltas, settings)
    np.testing.assert_allclose(boxes[0], expected, rtol=1e-5)
    self.assertTrue(valid[1].any())
    np.testing.assert_array_less(boxes[1].max(0), [20.001, 30.001] * 2)


if __name__ == '__main__':
  absltest.main()
