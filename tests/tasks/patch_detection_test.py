"""Tests of the task that both stages of the nodule detector train on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest

from medzoo.losses import hybrid
from medzoo.models import candidate_screening
from medzoo.models import false_positive_reduction
from medzoo.tasks import patch_detection


def _batch(n: int, shape: tuple[int, int, int], seed: int = 0) -> dict:
  """Half bright balls near the middle, half noise."""
  rng = np.random.default_rng(seed)
  label = np.arange(n) % 2
  offset = rng.uniform(-2, 2, (n, 3)) * label[:, None]
  image = rng.normal(0.2, 0.05, (n, *shape, 1))
  axes = np.meshgrid(
    *(np.arange(s) - (s - 1) / 2 for s in shape), indexing='ij'
  )
  for i in np.flatnonzero(label):
    gap = sum((a - o) ** 2 for a, o in zip(axes, offset[i], strict=True))
    image[i, ..., 0] += 0.6 * (gap < 16)
  return {
    'image': image.astype(np.float32),
    'label': label.astype(np.int32),
    'offset': offset.astype(np.float32),
    'diameter': (8.0 * label).astype(np.float32),
    'valid': np.ones(n, bool),
  }


def _screening(**changes) -> patch_detection.PatchDetection:
  model = candidate_screening.Model(widths=(4, 4, 4, 8), momentum=0.9)
  return patch_detection.PatchDetection(
    model, extent=(15.0, 30.0, 30.0), **changes
  )


class PatchDetectionTest(absltest.TestCase):
  def test_learns_one_batch_by_heart(self):
    task = _screening()
    batch = _batch(8, (15, 30, 30))
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    tx = optax.adam(1e-2)

    @jax.jit
    def step(variables, state, batch, key):
      def loss(params):
        return task.loss(
          {**variables, 'params': params}, batch, key, train=True
        )

      (value, (_, new)), grads = jax.value_and_grad(loss, has_aux=True)(
        variables['params']
      )
      updates, state = tx.update(grads, state)
      params = optax.apply_updates(variables['params'], updates)
      return {'params': params, **new}, state, value

    state = tx.init(variables['params'])
    values = []
    for i in range(20):
      variables, state, value = step(variables, state, batch, jax.random.key(i))
      values.append(float(value))
    self.assertLess(values[-1], 0.15)
    evaluator = task.evaluator()
    evaluator.update(batch, jax.jit(task.predict)(variables, batch))
    self.assertEqual(evaluator.compute()['auc'], 1.0)

  def test_what_is_not_valid_has_no_influence(self):
    task = _screening(hard=1.0)
    batch = _batch(4, (15, 30, 30))
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    batch['valid'][3] = False
    loss = jax.jit(
      lambda batch: task.loss(variables, batch, jax.random.key(0), train=False)[
        0
      ]
    )
    first = loss(batch)
    batch['label'][3] = 0
    self.assertEqual(first, loss(batch))

  def test_the_hybrid_loss_is_the_weighted_sum_of_its_terms(self):
    model = false_positive_reduction.Model(
      widths=(2, 2, 2, 2, 4),
      hidden=4,
      regression_hidden=4,
      regression_pool=(2, 3, 3),
    )
    task = patch_detection.PatchDetection(
      model, extent=(25.0, 48.0, 48.0), hard=1.0, regression_weight=0.25
    )
    batch = jax.tree.map(jnp.asarray, _batch(2, (25, 48, 48)))
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    total, (terms, _) = jax.jit(task.loss, static_argnames='train')(
      variables, batch, jax.random.key(0), train=False
    )
    expected = terms['classification'] + 0.25 * terms['regression']
    np.testing.assert_allclose(total, expected, rtol=1e-6)


class EvaluatorTest(absltest.TestCase):
  def test_hand_worked(self):
    evaluator = patch_detection.Evaluator((10.0, 10.0, 10.0))
    batch = {
      'label': np.array([1, 0, 0, 1]),
      'offset': np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [9, 9, 9]]),
      'diameter': np.array([5.0, 0, 0, 9]),
      'valid': np.array([True, True, True, False]),
    }
    regression = hybrid.encode(
      jnp.array([[1.0, 0, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]]),
      jnp.ones(4),
      (10, 10, 10),
    )
    logits = np.array([[0, 2.0], [0, 1.0], [0, 3.0], [0, 0]])
    evaluator.update(
      batch, {'logits': logits, 'regression': np.asarray(regression)}
    )
    scores = evaluator.compute()
    self.assertEqual(scores['auc'], 0.5)
    self.assertAlmostEqual(scores['location_error'], 3.0, places=4)
    negative = np.mean(np.log1p(np.exp([1.0, 3.0])))
    expected = (np.log1p(np.exp(-2.0)) + negative) / 2
    self.assertAlmostEqual(scores['loss'], expected, places=6)


if __name__ == '__main__':
  absltest.main()
