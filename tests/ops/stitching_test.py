import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from scipy import optimize

from medzoo.ops import stitching

_stitch = jax.jit(functools.partial(stitching.stitch, steps=5))


def _iou(a, b):
  height = min(a[2], b[2]) - max(a[0], b[0])
  width = min(a[3], b[3]) - max(a[1], b[1])
  shared = max(height, 0) * max(width, 0)
  sizes = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
  return shared / max(sum(sizes) - shared, 1e-9)


def _form(box):
  y0, x0, y1, x1 = box
  return (y0 + y1) / 2, (x0 + x1) / 2, y1 - y0, x1 - x0


def _overlaps(a, b, tau):
  (ya, xa, ha, wa), (yb, xb, hb, wb) = _form(a), _form(b)
  if abs(xa - xb) > (wa + wb) / 1.5 or abs(ya - yb) > (ha + hb) / 2:
    return False
  return _iou(a, b) > tau


def _slow(boxes, scores, cells, valid, noise, tau=0.25):
  """TensorBox's rule as it reads, on lists of the boxes' numbers.

  Noise on the costs breaks ties, of which sums of L1 distances have many.
  """
  accepted = []
  for low, high in stitching.BANDS:
    for cell in sorted(set(cells[valid])):
      current = [
        i for i in np.flatnonzero(valid & (cells == cell)) if scores[i] > low
      ]
      relevant = [
        a
        for a in accepted
        if any(_overlaps(boxes[a], boxes[i], tau) for i in current)
      ]
      if not relevant or not current:
        accepted += [i for i in current if i not in accepted]
        continue
      cost = np.array(
        [
          [
            10000.0
            - 1000 * _overlaps(boxes[i], boxes[a], tau)
            + np.abs(np.subtract(_form(boxes[i]), _form(boxes[a]))).sum() / 10
            for a in relevant
          ]
          for i in current
        ]
      )
      cost += noise.uniform(-5e-3, 5e-3, cost.shape)
      pairs = dict(zip(*optimize.linear_sum_assignment(cost), strict=True))
      added = []
      for row, i in enumerate(current):
        if scores[i] > high:
          continue
        a = relevant[pairs[row]] if row in pairs else None
        if a is not None and _overlaps(boxes[i], boxes[a], tau):
          if scores[i] <= scores[a] or _iou(boxes[i], boxes[a]) <= 0.7:
            continue
          accepted.remove(a)
        added.append(i)
      accepted += [i for i in added if i not in accepted]
  return np.isin(np.arange(len(boxes)), accepted)


def _case(rng, count, steps):
  """Crowded boxes: jittered copies of a few, spread over a few cells."""
  low = rng.uniform(0, 60, (4, 2))
  seeds = np.concatenate([low, low + rng.uniform(5, 40, (4, 2))], -1)
  boxes = seeds[rng.integers(0, 4, count)]
  boxes = boxes + rng.normal(0, rng.choice([1, 5]), boxes.shape)
  scores = rng.uniform(0, 1, count) ** rng.choice([0.3, 1, 4])
  slots = rng.choice(9 * steps, count, replace=False)
  return boxes, scores, slots // steps, rng.random(count) < 0.9


class StitchTest(absltest.TestCase):
  def test_equals_the_slow_rule(self):
    rng = np.random.default_rng(0)
    tied = dropped = 0
    for trial in range(150):
      boxes, scores, cells, valid = _case(rng, 24, 5)
      boxes, scores = boxes.astype(np.float32), scores.astype(np.float32)
      accepted, suppressed = map(
        np.asarray, _stitch(boxes, scores, cells, valid)
      )
      # Where matchings tie, each of them is right.
      for seed in range(30):
        noise = np.random.default_rng(seed)
        expected = _slow(boxes, scores, cells, valid, noise)
        if (accepted == expected).all():
          break
      tied += seed > 0
      np.testing.assert_array_equal(accepted, expected, err_msg=f'{trial}')
      np.testing.assert_array_equal(
        suppressed, valid & (scores > 0.001) & ~expected
      )
      # Greedy suppression would never drop the surest.
      surest = np.where(valid, scores, -1).argmax()
      dropped += valid[surest] and not expected[surest]
    self.assertLess(tied, 8)
    self.assertGreater(dropped, 0)

  def test_worked_by_hand(self):
    boxes = jnp.asarray(
      [
        [0.0, 0, 10, 10],  # cell 0
        [0, 3, 10, 13],  # cell 0 too: another object, for it is the same cell's
        [1, 0, 11, 10],  # cell 1 sees the first again, more sure of it
        [40, 40, 50, 50],  # cell 1, too unsure for any band
        [0, 0, 10, 10],  # padding
      ]
    )
    accepted, suppressed = _stitch(
      boxes,
      jnp.asarray([0.81, 0.9, 0.85, 0.0005, 0.99]),
      jnp.asarray([0, 0, 1, 1, 0]),
      jnp.asarray([True, True, True, True, False]),
    )
    self.assertEqual(accepted.tolist(), [False, True, True, False, False])
    self.assertEqual(suppressed.tolist(), [True, False, False, False, False])

  def test_fewer_boxes_than_steps_none_valid_and_not_a_number(self):
    boxes = jnp.asarray([[0.0, 0, 4, 4], [jnp.nan, 0, jnp.inf, 4]])
    scores, cells = jnp.asarray([0.5, jnp.nan]), jnp.asarray([3, 3])
    for valid, expected in (([1, 1], [True, False]), ([0, 0], [False, False])):
      accepted, _ = _stitch(boxes, scores, cells, jnp.asarray(valid, bool))
      self.assertEqual(accepted.tolist(), expected)


class SelectTest(absltest.TestCase):
  def test_worked_by_hand(self):
    # One image of 20 x 60 pixels: cells of 20 x 30, two steps, two classes.
    relative, logits = np.zeros((1, 1, 2, 2, 4)), np.zeros((1, 1, 2, 2, 3))
    logits[..., 0] = 9
    relative[0, 0, 1, 0] = 1, -2, 6, 8
    logits[0, 0, 1, 0] = np.log([0.2, 0.1, 0.7])
    relative[0, 0, 0, 1] = 0, 0, 4, 4
    logits[0, 0, 0, 1] = np.log([0.5, 0.3, 0.2])
    outputs = {'boxes': jnp.asarray(relative), 'logits': jnp.asarray(logits)}
    first = self._select(outputs)
    np.testing.assert_allclose(
      first['boxes'][0, :2], [[8, 39, 14, 47], [8, 13, 12, 17]], rtol=1e-6
    )
    np.testing.assert_allclose(first['scores'][0, 0], 0.7, rtol=1e-6)
    self.assertEqual(first['labels'][0, 0], 2)
    self.assertEqual(first['steps'][0, 0], 0)
    # What has no extent is no box, however sure its cell is of it.
    self.assertEqual(first['accepted'][0].tolist(), [True, True, False])
    outputs['deltas'] = jnp.zeros_like(outputs['boxes']).at[0, 0, 0, 1].set(2)
    outputs['rezoom_logits'] = outputs['logits'].at[0, 0, 0, 1, 1].set(5)
    again = self._select(outputs)
    np.testing.assert_allclose(again['boxes'][0, 0], [9, 14, 15, 20], rtol=1e-6)
    self.assertEqual(again['labels'][0, :2].tolist(), [1, 2])
    self.assertEqual(again['steps'][0, :2].tolist(), [1, 0])
    jax.tree.map(
      np.testing.assert_array_equal,
      first,
      self._select(outputs, second_look=False),
    )

  def _select(self, outputs, **options):
    select = functools.partial(
      stitching.select,
      image_shape=(20, 60),
      max_boxes=3,
      min_iou=0.25,
      **options,
    )
    return jax.jit(select)(outputs)


if __name__ == '__main__':
  absltest.main()
