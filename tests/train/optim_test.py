import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.train import optim

_PARAMS = {
  'c1': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
  'c10': {'kernel': jnp.ones((3, 3))},
  'top': {'head': {'kernel': jnp.ones((3, 2))}},
}


def _make(trainable=None, steps=10, **spec):
  spec = {'name': 'sgd', 'learning_rate': 0.1, **spec}
  return optim.make(spec, steps=steps, params=_PARAMS, trainable=trainable)


def _first_update(tx, grads, params=None):
  params = _PARAMS if params is None else params
  return tx.update(grads, tx.init(params), params)[0]


class OptimTest(parameterized.TestCase):
  def test_adam_is_adam(self):
    tx, _ = _make(name='adam', eps=1e-5)
    reference = optax.adam(0.1, eps=1e-5)
    grads = jax.tree.map(lambda leaf: 0.3 * leaf, _PARAMS)
    for one, two in zip(
      jax.tree.leaves(_first_update(tx, grads)),
      jax.tree.leaves(_first_update(reference, grads)),
      strict=True,
    ):
      np.testing.assert_allclose(one, two, rtol=1e-6)

  def test_momentum(self):
    tx, _ = _make(momentum=0.5)
    grads = jax.tree.map(jnp.ones_like, _PARAMS)
    state = tx.init(_PARAMS)
    _, state = tx.update(grads, state, _PARAMS)
    updates, _ = tx.update(grads, state, _PARAMS)
    np.testing.assert_allclose(updates['c1']['bias'], -0.15, rtol=1e-6)

  @parameterized.parameters(
    # The gradient is 0: what moves is the decay. Adam rescales it away.
    ('sgd', -0.1 * 0.01),
    ('adam', -0.1),
    ('adamw', -0.1 * 0.01),
  )
  def test_weight_decay(self, name, expected):
    tx, _ = _make(name=name, weight_decay=0.01)
    updates = _first_update(tx, jax.tree.map(jnp.zeros_like, _PARAMS))
    np.testing.assert_allclose(updates['c1']['kernel'], expected, rtol=1e-4)
    np.testing.assert_array_equal(updates['c1']['bias'], 0)

  def test_clips_the_global_norm(self):
    tx, _ = _make(clip_norm=2.0, momentum=0.0)
    grads = jax.tree.map(lambda leaf: 50 * leaf, _PARAMS)
    norm = optax.tree.norm(_first_update(tx, grads))
    np.testing.assert_allclose(norm, 0.2, rtol=1e-5)

  def test_constant_with_warmup(self):
    _, schedule = _make(schedule={'name': 'constant', 'warmup_steps': 3})
    rates = [float(schedule(step)) for step in range(5)]
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1, 0.1], 1e-5)

  def test_cosine(self):
    spec = {'name': 'cosine', 'warmup_steps': 2, 'end_factor': 0.1}
    _, schedule = _make(schedule=spec, steps=10)
    self.assertAlmostEqual(float(schedule(2)), 0.1, places=6)
    self.assertAlmostEqual(float(schedule(6)), 0.055, places=6)
    self.assertAlmostEqual(float(schedule(10)), 0.01, places=6)

  def test_step(self):
    spec = {'name': 'step', 'boundaries': (3, 6), 'factor': 0.5}
    _, schedule = _make(schedule=spec)
    rates = [float(schedule(step)) for step in (0, 2, 4, 8)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.05, 0.025], rtol=1e-6)

  @parameterized.parameters(
    ({'name': 'lion'}, "optimizer.name: found 'lion'.*adam, adamw, sgd"),
    ({'momentun': 0.9}, 'optimizer.momentun: sgd has no such option; it has'),
    (
      {'schedule': {'name': 'poly'}},
      "optimizer.schedule.name: found 'poly', expected one of constant",
    ),
    (
      {'schedule': {'name': 'step'}},
      'optimizer.schedule.boundaries: step needs it',
    ),
    (
      {'schedule': {'name': 'constant', 'factor': 1}},
      'optimizer.schedule.factor: constant has no such option; it has none',
    ),
  )
  def test_refuses(self, spec, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**spec)

  def test_needs_a_learning_rate(self):
    with self.assertRaisesRegex(ValueError, 'learning_rate is missing'):
      optim.make({'name': 'adam'}, steps=1, params=_PARAMS)

  def test_unmatched_prefix_is_an_error(self):
    with self.assertRaisesRegex(
      ValueError, "no module 'c2'; the model has c1, c10, top"
    ):
      _make(trainable=('c1', 'c2'))
    with self.assertRaisesRegex(ValueError, 'at least one'):
      _make(trainable=())

  def test_prefixes_are_whole_names(self):
    chosen, frozen = optim.partition(_PARAMS, ('c1', 'top/head'))
    self.assertEqual(chosen.keys(), {'c1', 'top'})
    self.assertEqual(frozen.keys(), {'c10'})

  @parameterized.parameters((None,), (('c1',),), (('top/head', 'c1/bias'),))
  def test_merge_undoes_partition(self, trainable):
    merged = optim.merge(*optim.partition(_PARAMS, trainable))
    self.assertEqual(jax.tree.structure(merged), jax.tree.structure(_PARAMS))
    self.assertTrue(jax.tree.all(jax.tree.map(np.array_equal, merged, _PARAMS)))


if __name__ == '__main__':
  absltest.main()
