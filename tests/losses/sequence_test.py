import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from scipy import optimize

from medzoo.losses import sequence

_loss = jax.jit(sequence.sequence_loss, static_argnames='image_shape')


def _relative(box, center):
  """Returns (dy, dx, h, w) of corners."""
  y0, x0, y1, x1 = box
  return [
    (y0 + y1) / 2 - center[0],
    (x0 + x1) / 2 - center[1],
    y1 - y0,
    x1 - x0,
  ]


class AssignTest(absltest.TestCase):
  def test_equals_plain_loops(self):
    rng = np.random.default_rng(0)
    assign = jax.jit(
      functools.partial(sequence.assign, grid=(3, 4), stride=(32, 32), steps=3)
    )
    for trial in range(20):
      low = rng.uniform(-5, 90, (8, 2))
      boxes = np.concatenate([low, low + rng.uniform(1, 60, (8, 2))], -1)
      labels = rng.integers(0, 3, 8) * (rng.random() < 0.8)
      found, ids = assign(jnp.asarray(boxes, jnp.float32), jnp.asarray(labels))
      for i, j in np.ndindex(3, 4):
        center = 32 * i + 16, 32 * j + 16
        mine = []
        for box, label in zip(boxes, labels, strict=True):
          dy, dx, h, w = relative = _relative(box, center)
          touches = min(box[2], 32 * i + 32) > max(box[0], 32 * i) and min(
            box[3], 32 * j + 32
          ) > max(box[1], 32 * j)
          near = abs(dy) < 1.8 * 32 and abs(dx) < 1.8 * 32
          if label and touches and near:
            mine.append((dy**2 + dx**2, relative, label))
        mine = sorted(mine)[:3]
        expected = np.zeros((3, 4))
        expected[: len(mine)] = [m[1] for m in mine] or np.zeros((0, 4))
        np.testing.assert_allclose(
          found[i, j], expected, atol=1e-3, err_msg=f'{trial}'
        )
        self.assertEqual(
          ids[i, j].tolist(), ([m[2] for m in mine] + [0] * 3)[:3]
        )

  def test_too_long_and_empty_boxes_are_left_out(self):
    boxes = jnp.asarray([[0.0, 0, 40, 20], [5, 5, 5, 9], [0, 0, 8, 8]])
    _, ids = sequence.assign(
      boxes,
      jnp.asarray([1, 2, 3]),
      grid=(1, 1),
      stride=(32, 32),
      steps=5,
      max_side=40.0,
    )
    self.assertEqual(ids.ravel().tolist(), [3, 0, 0, 0, 0])


class MatchTest(absltest.TestCase):
  def test_costs_what_scipy_finds(self):
    """1,000 random cases: none to 9 truths, ties, costs of all kinds."""
    rng = np.random.default_rng(0)
    cost = rng.uniform(0, 106, (1000, 5, 9)).astype(np.float32)
    cost[::3] = rng.integers(0, 3, cost[::3].shape)
    cost[1::3] = 100 * rng.integers(0, 2, cost[1::3].shape)
    cost[1::3] += np.arange(5)[:, None]
    count = rng.integers(0, 10, 1000)
    # Padding may lie anywhere, and its cost means nothing.
    valid = rng.permuted(np.arange(9) < count[:, None], axis=1)
    cost = np.where(valid[:, None], cost, rng.uniform(0, 9e3, cost.shape))
    cost = cost.astype(np.float32)
    found = np.asarray(jax.jit(jax.vmap(sequence.match))(cost, valid))
    for costs, kept, chosen in zip(cost, valid, found, strict=True):
      rows, columns = optimize.linear_sum_assignment(costs[:, kept])
      expected = costs[:, kept][rows, columns].sum()
      steps = np.flatnonzero(chosen >= 0)
      self.assertLen(steps, min(5, kept.sum()))
      self.assertLen(set(chosen[steps]), len(steps))
      self.assertTrue(kept[chosen[steps]].all())
      self.assertAlmostEqual(
        float(costs[steps, chosen[steps]].sum()), float(expected), places=3
      )
    self.assertGreater((count == 0).sum(), 50)
    self.assertGreater((count > 5).sum(), 300)

  def test_ends_on_what_is_not_a_number(self):
    for bad in (np.nan, np.inf):
      cost = jnp.full((5, 5), bad).at[3, 0].set(1.0)
      chosen = jax.jit(sequence.match)(cost, jnp.arange(5) < 1)
      self.assertEqual(chosen.tolist(), [-1, -1, -1, 0, -1])

  def test_cost_worked_by_hand(self):
    boxes = jnp.asarray([[0.0, 0, 10, 10], [0, 4, 10, 10]])
    truth = jnp.asarray([[0.0, 0, 10, 10], [0, 40, 10, 10]])
    cost = sequence.match_cost(boxes, truth)
    expected = [[0, 100 + 40 / 2000], [1 + 4 / 2000, 101 + 36 / 2000]]
    np.testing.assert_allclose(cost, expected, rtol=1e-6)
    # The first step takes the only truth unless it misses where another hits.
    valid = jnp.asarray([True, False])
    self.assertEqual(sequence.match(cost, valid).tolist(), [0, -1])
    cost = sequence.match_cost(boxes.at[0, 0].set(30), truth)
    self.assertEqual(sequence.match(cost, valid).tolist(), [-1, 0])


def _outputs(shape, classes, seed=0):
  rng = np.random.default_rng(seed)
  scales = {'boxes': 20, 'logits': 1, 'rezoom_logits': 1, 'deltas': 4}
  sizes = {'boxes': 4, 'deltas': 4}
  return {
    name: jnp.asarray(
      scale * rng.normal(size=(*shape, sizes.get(name, classes))), jnp.float32
    )
    for name, scale in scales.items()
  }


def _nats(logits, label):
  return np.logaddexp.reduce(logits) - logits[label]


class SequenceLossTest(absltest.TestCase):
  def test_equals_plain_loops(self):
    """Two images of 2 x 3 cells, three classes; the second is padding."""
    outputs = _outputs((2, 2, 3, 4), 3)
    # One box that the second look is to call right.
    outputs['boxes'] = (
      outputs['boxes'].at[0, 0, 0, 0].set(jnp.asarray([1.0, 2, 20, 22]))
    )
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (2, 6, 2))
    boxes = np.concatenate([low, low + rng.uniform(9, 40, low.shape)], -1)
    boxes[0, 0] = [6, 6, 26, 28]
    labels = np.array([[2, 1, 0, 1, 2, 0], [1, 1, 1, 1, 1, 1]])
    valid = np.array([True, False])
    total, terms = _loss(
      outputs,
      jnp.asarray(boxes, jnp.float32),
      jnp.asarray(labels),
      jnp.asarray(valid),
      image_shape=(64, 96),
    )
    expected = dict(confidence=0, box=0, rezoom=0, reregression=0)
    right = 0
    out = {name: np.asarray(x, np.float64) for name, x in outputs.items()}
    targets, ids = sequence.assign(
      jnp.asarray(boxes[0], jnp.float32),
      jnp.asarray(labels[0]),
      grid=(2, 3),
      stride=(32.0, 32.0),
      steps=4,
    )
    for i, j in np.ndindex(2, 3):
      kept = np.flatnonzero(ids[i, j])
      truth = np.asarray(targets[i, j], np.float64)[kept]
      cost = sequence.match_cost(
        outputs['boxes'][0, i, j], jnp.asarray(truth, jnp.float32)
      )
      chosen = dict(zip(*optimize.linear_sum_assignment(cost), strict=True))
      for t in range(4):
        label = second = 0
        if t in chosen:
          label = int(ids[i, j, kept[chosen[t]]])
          residual = truth[chosen[t]] - out['boxes'][0, i, j, t]
          expected['box'] += abs(residual).sum()
          error = residual[:2] / truth[chosen[t]][2:]
          second = label * (np.linalg.norm(error) < 0.2)
          right += second > 0
          residual -= out['deltas'][0, i, j, t]
          expected['reregression'] += np.minimum(residual**2, 100).sum()
        expected['confidence'] += _nats(out['logits'][0, i, j, t], label)
        expected['rezoom'] += _nats(out['rezoom_logits'][0, i, j, t], second)
    self.assertGreaterEqual(right, 1)
    for name, value in expected.items():
      np.testing.assert_allclose(terms[name], value / 6, rtol=1e-4)
    weights = {
      'confidence': 1,
      'box': 0.1,
      'rezoom': 0.1,
      'reregression': 0.003,
    }
    np.testing.assert_allclose(
      total, sum(weights[n] * expected[n] / 6 for n in weights), rtol=1e-4
    )

  def test_without_truth_only_the_classes_count(self):
    outputs = _outputs((1, 2, 2, 3), 2)
    for n in (0, 3):
      _, terms = _loss(
        outputs,
        jnp.zeros((1, n, 4)),
        jnp.zeros((1, n), jnp.int32),
        jnp.ones(1, bool),
        image_shape=(64, 64),
      )
      self.assertEqual(float(terms['box']), 0)
      self.assertGreater(float(terms['confidence']), 0)

  def test_without_a_second_look_there_are_two_terms(self):
    outputs = _outputs((1, 2, 2, 1), 2)
    outputs = {name: outputs[name] for name in ('boxes', 'logits')}
    loss, terms = _loss(
      outputs,
      jnp.asarray([[[4.0, 4, 20, 20]]]),
      jnp.ones((1, 1), jnp.int32),
      jnp.ones(1, bool),
      image_shape=(64, 64),
    )
    self.assertEqual(set(terms), {'confidence', 'box'})
    np.testing.assert_allclose(loss, terms['confidence'] + 0.1 * terms['box'])

  def test_what_is_ignored_has_no_say(self):
    outputs = _outputs((1, 1, 1, 1), 2)
    outputs['boxes'] = jnp.asarray([0.0, 0, 10, 10]).reshape(1, 1, 1, 1, 4)

    def call(ignored, label):
      return _loss(
        outputs,
        jnp.asarray([[[11.0, 11, 21, 21]]]),
        jnp.full((1, 1), label),
        jnp.ones(1, bool),
        image_shape=(32, 32),
        ignored=jnp.asarray([[ignored, [0.0] * 4]]),
      )[1]['confidence']

    self.assertEqual(float(call([11.0, 11, 20, 20], 0)), 0)
    self.assertGreater(float(call([0.0, 0, 8, 8], 0)), 0)
    self.assertGreater(float(call([11.0, 11, 20, 20], 1)), 0)

  def test_gradients_are_finite(self):
    outputs = _outputs((1, 2, 2, 5), 2)
    outputs['boxes'] = outputs['boxes'].at[0, 0, 0, 0].set(0)
    grads = jax.grad(
      lambda outputs: _loss(
        outputs,
        jnp.asarray([[[4.0, 4, 20, 20], [0, 0, 0, 0]]]),
        jnp.asarray([[1, 0]]),
        jnp.ones(1, bool),
        image_shape=(64, 64),
      )[0]
    )(outputs)
    for grad in jax.tree.leaves(grads):
      self.assertTrue(jnp.isfinite(grad).all())

  def test_is_quick_on_many_cells(self):
    outputs = _outputs((8, 16, 22, 5), 2)
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 230, (8, 6, 2))
    boxes = jnp.asarray(np.concatenate([low, low + 20], -1), jnp.float32)

    @jax.jit
    def grads(outputs, boxes):
      return jax.value_and_grad(
        lambda outputs: sequence.sequence_loss(
          outputs,
          boxes,
          jnp.ones((8, 6), jnp.int32),
          jnp.ones(8, bool),
          image_shape=(256, 352),
        )[0]
      )(outputs)

    jax.block_until_ready(grads(outputs, boxes))
    seconds = []
    for _ in range(5):
      start = time.perf_counter()
      jax.block_until_ready(grads(outputs, boxes))
      seconds.append(time.perf_counter() - start)
    self.assertLess(min(seconds), 0.5)


if __name__ == '__main__':
  absltest.main()
