"""Tests of the task that the U-Net trains on."""

import jax
import numpy as np
import optax
from absl.testing import absltest

from medzoo.data import drawing
from medzoo.data import picture_transforms
from medzoo.data import pictures
from medzoo.models import unet
from medzoo.tasks import segmentation
from tests.data import film_cases


def _batch(labels):
  """A film for each tuple of labels."""
  finish, rows = picture_transforms.ToExample(), []
  for i, some in enumerate(labels):
    case = film_cases.film(shape=(32, 28), labels=some, shift=0.03 * i)
    picture = pictures.prepare(case.volume, shape=(32, 32), equalize=False)
    masks = np.zeros((2, 32, 32), np.uint8)
    for label, mask in zip(case.masks.labels, case.masks.masks, strict=True):
      masks[label - 1] = picture.place(mask[None])[0] >= 0.5
    element = {
      'image': picture.pixels,
      'masks': masks,
      'sizes': np.array(picture.inner),
    }
    rows.append(finish.map(element) | {'valid': np.bool_(True)})
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _task():
  return segmentation.Segmentation(unet.UNet((8, 16, 16), momentum=0.8))


def _train(task, batch, steps):
  variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
  tx = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

  @jax.jit
  def step(variables, state, batch):
    def loss(params):
      return task.loss(
        {**variables, 'params': params}, batch, jax.random.key(0), train=True
      )

    (value, (_, new)), gradient = jax.value_and_grad(loss, has_aux=True)(
      variables['params']
    )
    updates, state = tx.update(gradient, state)
    params = optax.apply_updates(variables['params'], updates)
    return {**new, 'params': params}, state, value

  state, values = tx.init(variables['params']), []
  for _ in range(steps):
    variables, state, value = step(variables, state, batch)
    values.append(float(value))
  return variables, values


class SegmentationTest(absltest.TestCase):
  def test_learns_films_by_heart(self):
    """Right from left, and which one is absent."""
    task, batch = _task(), _batch([(1, 2), (1,), (2,), ()])
    variables, values = _train(task, batch, 60)
    self.assertLess(values[-1], 0.2 * values[0])
    found = jax.jit(task.predict)(variables, batch)
    evaluator = task.evaluator()
    evaluator.update(batch, found)
    scores = evaluator.compute()
    self.assertGreater(scores['dice_right'], 0.95)
    self.assertGreater(scores['dice_left'], 0.95)
    there = batch['masks'].any((2, 3))
    area = np.asarray(found['masks']).mean((2, 3))
    self.assertLess(area[~there].max(), 0.01)

  def test_what_is_not_valid_has_no_influence(self):
    task, batch = _task(), _batch([(1, 2), (1,), (2,)])
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    batch['valid'][2] = False
    loss = jax.jit(
      lambda batch: task.loss(variables, batch, jax.random.key(0), train=False)
    )
    total, (terms, _) = loss(batch)
    self.assertEqual(set(terms), {'cross_entropy', 'dice'})
    batch['masks'][2] = 1
    self.assertEqual(total, loss(batch)[0])


class EvaluatorTest(absltest.TestCase):
  def batch(self):
    truth, found = (
      np.zeros((4, 2, 8, 8), np.uint8),
      np.zeros((4, 2, 8, 8), bool),
    )
    # Dice of the right lung 1, 2/3 and, absent, none; of the left one 0.
    truth[0, 0, :4], found[0, 0, :4] = 1, True
    truth[1, 0, :4], found[1, 0, :2] = 1, True
    found[2, 0, :4] = True
    truth[2, 1, :4] = 1
    truth[3], found[3] = 1, True
    valid = np.array([True, True, True, False])
    image = np.full((4, 8, 8, 1), 0.5, np.float32)
    return {'image': image, 'masks': truth, 'valid': valid}, {'masks': found}

  def test_hand_worked(self):
    evaluator = segmentation.Evaluator()
    batch, found = self.batch()
    evaluator.update(batch, found)
    scores = evaluator.compute()
    self.assertAlmostEqual(scores['dice_right'], (1 + 2 / 3) / 2)
    self.assertEqual(scores['dice_left'], 0)
    self.assertAlmostEqual(scores['dice'], (1 + 2 / 3) / 4)

  def test_a_lung_that_nobody_has_is_left_out(self):
    evaluator = segmentation.Evaluator()
    batch, found = self.batch()
    batch['valid'][2] = False
    evaluator.update(batch, found)
    scores = evaluator.compute()
    self.assertTrue(np.isnan(scores['dice_left']))
    self.assertAlmostEqual(scores['dice'], (1 + 2 / 3) / 2)
    scores = segmentation.Evaluator().compute()
    self.assertTrue(all(np.isnan(value) for value in scores.values()))

  def test_shows_what_differs(self):
    evaluator = segmentation.Evaluator()
    batch, found = self.batch()
    found['masks'][1, 1, 6:] = True
    evaluator.update(batch, found)
    shown = evaluator.pictures()
    self.assertEqual(list(shown), ['lungs_0', 'lungs_1', 'lungs_2'])
    for pixels in shown.values():
      self.assertEqual((pixels.shape, pixels.dtype), ((480, 480, 3), np.uint8))
    # Eight rows of 60 pixels each.
    colors = [
      tuple(shown['lungs_1'][60 * row + 30, 240]) for row in (1, 3, 5, 7)
    ]
    grey = (128, 128, 128)
    self.assertEqual(colors, [grey, drawing.GREEN, grey, drawing.RED])


if __name__ == '__main__':
  absltest.main()
