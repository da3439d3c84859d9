"""Tests of the task that judges whole pictures."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest
from scipy import special
from sklearn import metrics

from medzoo.data import drawing
from medzoo.data import labelled_transforms
from medzoo.tasks import classification
from tests.data import labelled_cases

_KEY = jax.random.key(0, impl='rbg')


class _Network(nn.Module):
  """A convolution with batch statistics, and dropout."""

  outputs: int = 1
  dropout: float = 0.3

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Conv(6, (3, 3), strides=(2, 2))(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(x)
    x = nn.relu(x).mean((1, 2))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return {'logits': nn.Dense(self.outputs)(x)}


class _Given(nn.Module):
  """Says what the image says."""

  @nn.compact
  def __call__(self, x, *, train):
    del train
    return {'logits': x}


def _batch(count=16):
  finish, rows = labelled_transforms.ToExample(), []
  for i in range(count):
    case = labelled_cases.picture(shape=(16, 16), label=i % 2, seed=i)
    element = {'image': case.volume.voxels[0], 'label': case.label}
    rows.append(finish.map(element) | {'valid': np.bool_(True)})
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _given(logits, labels, valid=None):
  logits = np.asarray(logits, np.float32)
  valid = np.ones(len(labels), bool) if valid is None else np.array(valid)
  return {
    'image': logits.reshape(len(labels), -1),
    'label': np.array(labels, np.int32),
    'valid': valid,
  }


class ClassificationTest(absltest.TestCase):
  def test_learns_pictures_by_heart(self):
    task, batch = classification.Task(_Network(2, dropout=0.1)), _batch()
    variables = jax.jit(task.init)(_KEY, batch)
    tx = optax.adam(0.1)

    @jax.jit
    def step(variables, state, batch, key):
      def loss(params):
        return task.loss(
          {**variables, 'params': params}, batch, key, train=True
        )

      (value, (_, new)), gradient = jax.value_and_grad(loss, has_aux=True)(
        variables['params']
      )
      updates, state = tx.update(gradient, state)
      params = optax.apply_updates(variables['params'], updates)
      return {**new, 'params': params}, state, value

    state, values = tx.init(variables['params']), []
    for i in range(60):
      key = jax.random.fold_in(_KEY, i)
      variables, state, value = step(variables, state, batch, key)
      values.append(float(value))
    self.assertLess(np.mean(values[-5:]), 0.3 * values[0])
    evaluator = task.evaluator()
    evaluator.update(batch, jax.jit(task.predict)(variables, batch))
    scores = evaluator.compute()
    self.assertEqual(scores['auc'], 1)
    self.assertEqual(scores['accuracy'], 1)
    self.assertLess(scores['loss'], 0.3)

  def test_dropout_is_the_keys(self):
    """And statistics change in training alone."""
    task, batch = classification.Classification(_Network()), _batch(4)
    variables = jax.jit(task.init)(_KEY, batch)
    loss = jax.jit(task.loss, static_argnames='train')
    one, (_, state) = loss(variables, batch, _KEY, train=True)
    again, _ = loss(variables, batch, _KEY, train=True)
    other, _ = loss(variables, batch, jax.random.fold_in(_KEY, 1), train=True)
    self.assertEqual(one, again)
    self.assertNotEqual(one, other)
    still, (_, kept) = loss(variables, batch, _KEY, train=False)
    self.assertEqual(
      still, loss(variables, batch, jax.random.fold_in(_KEY, 1), train=False)[0]
    )
    for new, changed in ((state, True), (kept, False)):
      before, after = (
        x['batch_stats']['BatchNorm_0']['mean'] for x in (variables, new)
      )
      self.assertEqual(bool((before != after).any()), changed)

  def loss(self, batch, **arguments):
    task = classification.Classification(_Given(), **arguments)
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    total, (terms, _) = task.loss({}, batch, _KEY, train=True)
    return float(total), {name: float(x) for name, x in terms.items()}

  def test_is_the_cross_entropy_of_one_output_and_of_two(self):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 2)), np.arange(9) % 2
    expected = metrics.log_loss(labels, special.softmax(logits, 1))
    odds = logits[:, 1] - logits[:, 0]
    accuracy = metrics.accuracy_score(labels, odds > 0)
    for given in (logits, odds):
      total, terms = self.loss(_given(given, labels))
      self.assertAlmostEqual(total, expected, places=5)
      self.assertAlmostEqual(terms['cross_entropy'], expected, places=5)
      self.assertAlmostEqual(terms['accuracy'], accuracy, places=5)

  def test_of_several_classes_it_is_that_of_the_softmax(self):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 4)), np.arange(9) % 4
    shares = special.softmax(logits, 1)
    total, terms = self.loss(_given(logits, labels))
    expected = metrics.log_loss(labels, shares)
    self.assertAlmostEqual(total, expected, places=5)
    self.assertAlmostEqual(terms['cross_entropy'], expected, places=5)
    self.assertAlmostEqual(
      terms['accuracy'],
      metrics.accuracy_score(labels, shares.argmax(1)),
      places=5,
    )
    weights = (0.5, 2.0, 1.0, 3.0)
    smooth = 0.8 * np.eye(4)[labels] + 0.2 / 4
    losses = -(smooth * np.log(shares)).sum(1) * np.take(weights, labels)
    total, terms = self.loss(
      _given(logits, labels), class_weights=weights, label_smoothing=0.2
    )
    self.assertAlmostEqual(total, losses.mean(), places=5)
    self.assertAlmostEqual(terms['cross_entropy'], expected, places=5)

  def test_weights_of_other_classes_are_refused(self):
    for logits, number in (([[1, 2, 3.0]], 3), ([1.0], 2)):
      with self.assertRaisesRegex(
        ValueError, f'found 4 weights, expected {number}, one for each class'
      ):
        self.loss(_given(logits, [1]), class_weights=(1, 1, 1, 1))

  def test_what_is_not_valid_has_no_influence(self):
    expected = self.loss(_given([1, -2], [1, 0]))
    found = self.loss(_given([1, np.nan, -2], [1, 1, 0], [True, False, True]))
    self.assertEqual(found, expected)
    self.assertEqual(self.loss(_given([1], [1], [False]))[0], 0)

  def test_class_weights(self):
    """Balanced ones count both classes alike, and their mean is 1."""
    logits, labels = [1, 2, -1, 0.5], [0, 0, 0, 1]
    weights = (4 / (2 * 3), 4 / (2 * 1))
    total, terms = self.loss(_given(logits, labels), class_weights=weights)
    expected = [
      metrics.log_loss(
        labels,
        special.expit(logits),
        sample_weight=sample_weight,
      )
      for sample_weight in (np.take(weights, labels), None)
    ]
    self.assertAlmostEqual(total, expected[0], places=5)
    self.assertAlmostEqual(terms['cross_entropy'], expected[1], places=5)

  def test_label_smoothing(self):
    logits, labels = np.array([2.0, -1.0]), [1, 0]
    total, terms = self.loss(_given(logits, labels), label_smoothing=0.2)
    p = 1 / (1 + np.exp(-logits))
    targets = np.array([0.9, 0.1])
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    self.assertAlmostEqual(total, expected, places=5)
    self.assertLess(terms['cross_entropy'], total)


class EvaluatorTest(absltest.TestCase):
  def test_as_scikit_learn_has_it(self):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 30), rng.normal(size=30)
    valid = rng.random(30) < 0.8
    evaluator = classification.Evaluator()
    for part in (slice(0, 12), slice(12, 30)):
      batch = _given(logits[part], labels[part], valid[part])
      evaluator.update(batch, {'logit': logits[part]})
    scores = evaluator.compute()
    truth, odds = labels[valid], logits[valid]
    self.assertAlmostEqual(scores['auc'], metrics.roc_auc_score(truth, odds))
    self.assertAlmostEqual(
      scores['accuracy'], metrics.accuracy_score(truth, odds > 0)
    )
    self.assertAlmostEqual(
      scores['loss'], metrics.log_loss(truth, 1 / (1 + np.exp(-odds)))
    )
    self.assertEqual(evaluator.pictures(), {})

  def test_several_classes_as_scikit_learn_has_them(self):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 40), rng.normal(size=(40, 3))
    valid = rng.random(40) < 0.8
    evaluator = classification.Evaluator()
    for part in (slice(0, 15), slice(15, 40)):
      batch = _given(logits[part], labels[part], valid[part])
      evaluator.update(batch, {'logit': logits[part]})
    scores = evaluator.compute()
    truth, shares = labels[valid], special.softmax(logits[valid], 1)
    self.assertAlmostEqual(
      scores['auc'], metrics.roc_auc_score(truth, shares, multi_class='ovr')
    )
    self.assertAlmostEqual(
      scores['accuracy'], metrics.accuracy_score(truth, shares.argmax(1))
    )
    self.assertAlmostEqual(scores['loss'], metrics.log_loss(truth, shares))

  def test_shows_what_pictures_of_several_classes_were_called(self):
    evaluator = classification.Evaluator()
    batch = {
      'image': np.full((2, 48, 64, 1), 0.5, np.float32),
      'label': np.array([2, 2]),
      'valid': np.ones(2, bool),
    }
    evaluator.update(batch, {'logit': np.array([[0.0, 1, 3], [9, 1, 3]])})
    shown = evaluator.pictures().values()
    self.assertEqual(
      [tuple(pixels[-1, 300]) for pixels in shown],
      [drawing.GREEN, drawing.RED],
    )

  def test_certain_mistakes_are_finite(self):
    evaluator = classification.Evaluator()
    evaluator.update(_given([900], [0]), {'logit': np.array([900.0])})
    self.assertEqual(evaluator.compute()['loss'], 900)

  def test_without_examples_nothing_is_known(self):
    evaluator = classification.Evaluator()
    evaluator.update(_given([1], [0], [False]), {'logit': np.array([1.0])})
    scores = evaluator.compute()
    self.assertEqual(set(scores), {'auc', 'accuracy', 'loss'})
    self.assertTrue(all(np.isnan(value) for value in scores.values()))

  def test_shows_pictures_with_what_was_said(self):
    for channels in (1, 3):
      evaluator = classification.Evaluator()
      images = np.full((6, 48, 64, channels), 0.5, np.float32)
      valid = np.arange(6) != 1
      batch = {'image': images, 'label': np.arange(6) % 2, 'valid': valid}
      evaluator.update(batch, {'logit': np.array([-2.0, 0, 1, 1, -1, 2])})
      shown = evaluator.pictures()
      self.assertEqual(list(shown), [f'picture_{i}' for i in range(4)])
      right = [drawing.GREEN, drawing.RED, drawing.GREEN, drawing.GREEN]
      for pixels, color in zip(shown.values(), right, strict=True):
        self.assertEqual(
          (pixels.shape, pixels.dtype), ((384, 512, 3), np.uint8)
        )
        self.assertEqual(tuple(pixels[-1, 300]), color)
        self.assertEqual(tuple(pixels[200, 300]), (128, 128, 128))


if __name__ == '__main__':
  absltest.main()
