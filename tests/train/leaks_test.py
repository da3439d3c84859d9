"""Whatever learns from labels made up by sequence must not know them again.

Frames of a sequence look alike. A label that chance gave to a sequence can only
be told by a frame whose neighbours were trained on, so whoever does better than
chance has seen them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn.metrics
from absl.testing import absltest

from medzoo.data import labelled_pictures
from medzoo.data import sources
from medzoo.models import small_cnn
from medzoo.predictors import hog_ridge
from medzoo.tasks import classification
from tests.train import picture_cases

_SEQUENCES, _FRAMES, _SIDE = 80, 3, 16


def _frames(seed=0):
  """Sequences of much the same picture, with a label that chance gave each."""
  rng = np.random.default_rng(seed)
  cases = picture_cases.Cases()
  labels = rng.permutation(np.arange(_SEQUENCES) % 2)
  for i, label in enumerate(labels.tolist()):
    own = rng.integers(30, 220, (1, _SIDE, _SIDE, 3))
    for j in range(_FRAMES):
      pixels = own + rng.integers(-15, 16, own.shape)
      cases.append(
        picture_cases.case(f'{i}/{j}', f's{i}', label, pixels.astype(np.uint8))
      )
  return cases


def _area(cases, found):
  return sklearn.metrics.roc_auc_score(
    cases.labels, [float(one.logit) for one in found]
  )


def _judge_by_hog(training, tested):
  settings = hog_ridge.tune(training, _area, {'width': [1.0], 'ridge': [0.1]})
  predictor = hog_ridge.HogRidge({}, {}, **vars(settings))
  return [predictor({}, case.volume)['picture'].logit for case in tested]


def _judge_by_network(training, tested):
  task = classification.Classification(
    small_cnn.SmallCNN(filters=(8,), units=(32,), dropout=0.0, norm='batch')
  )
  batch, rest = _batch(training), _batch(tested)
  variables = task.init(jax.random.key(0), batch)
  tx = optax.adam(3e-3)

  @jax.jit
  def step(variables, state, key):
    def loss(params):
      return task.loss({**variables, 'params': params}, batch, key, train=True)

    grads, (_, statistics) = jax.grad(loss, has_aux=True)(variables['params'])
    updates, state = tx.update(grads, state)
    params = optax.apply_updates(variables['params'], updates)
    return {**statistics, 'params': params}, state

  state = tx.init(variables['params'])
  for i in range(30):
    variables, state = step(variables, state, jax.random.key(i))
  return np.asarray(task.predict(variables, rest)['logit'])


def _batch(cases):
  pictures = [
    labelled_pictures.prepare(
      case.volume, shape=(_SIDE, _SIDE), colour=True, equalize=False
    ).pixels
    for case in cases
  ]
  return {
    'image': jnp.stack(pictures).astype(jnp.float32) / 255,
    'label': jnp.array(cases.labels),
    'valid': jnp.ones(len(cases), bool),
  }


def _cross_validated(cases, groups, judge):
  """The mean area under the ROC curve of the folds.

  Together they would be worse than chance: where a label is rarer in training
  it is the more frequent in testing.
  """
  areas = []
  for fold in sources.kfold(groups, 2, seed=0):
    rest = np.setdiff1d(np.arange(len(cases)), fold)
    tested = cases.subset(fold)
    logits = judge(cases.subset(rest), tested)
    areas.append(sklearn.metrics.roc_auc_score(tested.labels, logits))
  return np.mean(areas)


class LeaksTest(absltest.TestCase):
  def test_labels_made_up_by_sequence_are_not_known_again(self):
    cases = _frames()
    names = [case.group for case in cases]
    alone = [case.volume.series_uid for case in cases]
    for judge in (_judge_by_hog, _judge_by_network):
      # The standard error of 80 sequences is 0.065.
      self.assertBetween(_cross_validated(cases, names, judge), 0.3, 0.7)
      # Were frames divided, and not sequences, both would know nearly all.
      self.assertGreater(_cross_validated(cases, alone, judge), 0.9)


if __name__ == '__main__':
  absltest.main()
