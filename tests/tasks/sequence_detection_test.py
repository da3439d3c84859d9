"""Tests of the task that the CNN-LSTM detector trains on."""

import jax
import numpy as np
import optax
from absl.testing import absltest

from medzoo.data import drawing
from medzoo.models import cnn_lstm
from medzoo.models import small_encoder
from medzoo.ops import boxes as box_ops
from medzoo.tasks import sequence_detection


def _batch(n: int, side: int = 64, seed: int = 0) -> dict:
  """Bright rectangles, none to two an image, the second image without any."""
  rng = np.random.default_rng(seed)
  image = rng.normal(0.2, 0.03, (n, side, side, 3))
  boxes, labels = np.zeros((n, 3, 4)), np.zeros((n, 3), int)
  for i in range(n):
    for j in range(0 if i == 1 else 1 + i % 2):
      # One in the upper half, one in the lower.
      y0, x0 = rng.integers(2, 10) + 32 * j, rng.integers(2, 38)
      box = [y0, x0, y0 + rng.integers(12, 20), x0 + rng.integers(12, 24)]
      boxes[i, j], labels[i, j] = box, 1
      image[i, box[0] : box[2], box[1] : box[3]] += 0.6
  return {
    'image': image.astype(np.float32),
    'boxes': boxes.astype(np.float32),
    'labels': labels.astype(np.int32),
    'valid': np.ones(n, bool),
  }


def _task(**changes) -> sequence_detection.SequenceDetection:
  sizes = {
    'encoder': small_encoder.SmallEncoder((8, 16, 24, 32), 16, 4),
    'coarse_channels': 32,
    'fine_channels': 16,
    'context_from': 24,
    'feature_scale': 1.0,
    'rezoom_scale': 0.1,
    'units': 48,
    'steps': 3,
    'dropout': 0.0,
    'rezoom_units': 32,
  }
  model = cnn_lstm.CnnLstm(**{**sizes, **changes})
  return sequence_detection.SequenceDetection(model, max_boxes=16)


def _train(task, batch, steps, rate):
  """Returns the variables and losses after some steps on one batch."""
  variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
  tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adam(optax.cosine_decay_schedule(rate, steps)),
  )

  @jax.jit
  def step(variables, state, batch, key):
    def loss(params):
      return task.loss({**variables, 'params': params}, batch, key, train=True)

    (value, (_, new)), grads = jax.value_and_grad(loss, has_aux=True)(
      variables['params']
    )
    updates, state = tx.update(grads, state)
    params = optax.apply_updates(variables['params'], updates)
    return {'params': params, **new}, state, value

  state = tx.init(variables['params'])
  values = []
  for i in range(steps):
    variables, state, value = step(variables, state, batch, jax.random.key(i))
    values.append(float(value))
  return variables, values


class SequenceDetectionTest(absltest.TestCase):
  def test_learns_eight_images_by_heart(self):
    task, batch = _task(), _batch(8)
    variables, _ = _train(task, batch, 100, 5e-3)
    found = jax.jit(task.predict)(variables, batch)
    evaluator = task.evaluator()
    evaluator.update(batch, found)
    self.assertEqual(evaluator.compute()['ap50'], 1.0)
    for i in range(8):
      sure = found['accepted'][i] & (found['scores'][i] > 0.5)
      truth = batch['boxes'][i][batch['labels'][i] > 0]
      iou = box_ops.iou(np.asarray(found['boxes'][i][sure]), truth)
      self.assertEqual(iou.shape, (len(truth), len(truth)))
      if len(truth):
        self.assertGreater(iou.max(0).min(), 0.5)

  def test_what_is_not_valid_has_no_influence(self):
    task, batch = _task(), _batch(3)
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    batch['valid'][2] = False
    loss = jax.jit(
      lambda batch: task.loss(variables, batch, jax.random.key(0), train=False)
    )
    total, (terms, _) = loss(batch)
    self.assertEqual(
      set(terms), {'confidence', 'box', 'rezoom', 'reregression'}
    )
    batch['labels'][2] = 0
    self.assertEqual(total, loss(batch)[0])

  def test_overfeat_predicts_without_a_second_look(self):
    task, batch = _task(layers=0, steps=1, rezoom=False), _batch(2)
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    found = jax.jit(task.predict)(variables, batch)
    self.assertEqual(found['boxes'].shape, (2, 16, 4))
    self.assertFalse((found['accepted'] & found['suppressed']).any())
    self.assertTrue((np.diff(found['scores']) <= 0).all())


class EvaluatorTest(absltest.TestCase):
  def test_hand_worked(self):
    batch = {
      'image': np.zeros((2, 60, 60, 3), np.float32),
      'boxes': np.array([[[0.0, 0, 10, 10], [20, 20, 30, 30]]] * 2),
      'labels': np.array([[1, 2], [1, 1]]),
      'ignored': np.array([[[40.0, 40, 50, 50]]] * 2),
      'valid': np.array([True, False]),
    }
    predictions = {
      'boxes': np.array(
        [
          [
            [0.0, 0, 10, 9],  # hit
            [0, 0, 10, 10],  # suppressed
            [20, 20, 30, 30],  # of another class: false
            [40, 40, 50, 49],  # on an ignored finding
            [20, 20, 30, 31],  # hit
          ]
        ]
        * 2
      ),
      'scores': np.array([[0.9, 0.8, 0.7, 0.6, 0.5]] * 2),
      'labels': np.array([[1, 1, 1, 1, 2]] * 2),
      'accepted': np.array([[True, False, True, True, True]] * 2),
      'suppressed': np.array([[False, True, False, False, False]] * 2),
    }
    evaluator = sequence_detection.Evaluator()
    evaluator.update(batch, predictions)
    # Half the recall at precision 1, the other half at 2 of 3.
    self.assertAlmostEqual(evaluator.compute()['ap50'], (1 + 2 / 3) / 2)

  def test_shows_the_first_images_with_a_truth(self):
    number = np.arange(8)
    boxes = np.zeros((8, 2, 4))
    boxes[:, 0] = 100, 100, 120, 140
    batch = {
      'image': number[:, None, None, None] / 255 * np.ones((480, 480, 3)),
      'boxes': boxes,
      # There is none in the first, and the second is padding.
      'labels': np.where(number == 0, 0, 1)[:, None] * [1, 0],
      'valid': number != 1,
    }
    found = np.array([200.0, 200, 220, 240]) + [[0], [100], [200], [50]]
    # Neighbours are not shown.
    batch['image'][..., ::2] = 0
    predictions = {
      'boxes': np.tile(found, (8, 1, 1)),
      'scores': np.tile([0.9, 0.8, 0.1, 0.1], (8, 1)),
      'labels': np.ones((8, 4), int),
      'accepted': np.tile([True, False, True, False], (8, 1)),
      'suppressed': np.tile([False, True, False, True], (8, 1)),
    }
    evaluator = sequence_detection.Evaluator()
    for part in (slice(0, 5), slice(5, 8)):
      evaluator.update(
        {name: x[part] for name, x in batch.items()},
        {name: x[part] for name, x in predictions.items()},
      )
    pictures = evaluator.pictures()
    self.assertEqual(list(pictures), [f'boxes_{i}' for i in range(4)])
    for pixels, value in zip(pictures.values(), (2, 3, 4, 5), strict=True):
      self.assertEqual((pixels.shape, pixels.dtype), ((480, 480, 3), np.uint8))
      self.assertEqual(tuple(pixels[10, 10]), (value, value, value))
      self.assertEqual(tuple(pixels[100, 100]), drawing.GREEN)
      self.assertEqual(tuple(pixels[219, 239]), drawing.BLUE)
      self.assertEqual(tuple(pixels[319, 339]), drawing.RED)
      # Of neither kind are unsure ones drawn.
      for corner in (400, 250):
        self.assertEqual(tuple(pixels[corner, corner]), (value, value, value))

  def test_without_truth_it_is_not_a_number(self):
    evaluator = sequence_detection.Evaluator()
    self.assertTrue(np.isnan(evaluator.compute()['ap50']))


if __name__ == '__main__':
  absltest.main()
