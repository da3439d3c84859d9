import jax
import numpy as np
from absl.testing import absltest

from medzoo.train import devices
from medzoo.train import optim
from medzoo.train import state as state_lib
from tests.train import tiny


def _create(seed=0, trainable=None, create=state_lib.create, **options):
  task = tiny.Task()
  batch = next(tiny.make_batches())
  key = jax.random.key(seed)
  tx, _ = optim.make(
    tiny.settings().optimizer,
    steps=10,
    params=state_lib.shapes(task, key, batch)['params'],
    trainable=trainable,
  )
  return create(
    task,
    key,
    batch,
    tx,
    mesh=devices.make_mesh(),
    trainable=trainable,
    **options,
  )


class StateTest(absltest.TestCase):
  def test_fresh(self):
    one, two, other = _create(0), _create(0), _create(1)
    same = jax.tree.map(np.array_equal, one, two)
    self.assertTrue(jax.tree.all(same))
    self.assertFalse(
      np.array_equal(one.params['c1']['kernel'], other.params['c1']['kernel'])
    )
    self.assertEqual(int(one.step), 0)
    self.assertEqual(one.variables.keys(), {'params', 'batch_stats'})

  def test_template_has_the_shapes_and_shardings(self):
    state = _create(trainable=('head',))
    template = _create(trainable=('head',), create=state_lib.template)
    self.assertEqual(jax.tree.structure(state), jax.tree.structure(template))
    for one, two in zip(
      jax.tree.leaves(state), jax.tree.leaves(template), strict=True
    ):
      self.assertEqual(one.shape, two.shape)
      self.assertEqual(one.dtype, two.dtype)
      self.assertEqual(one.sharding, two.sharding)

  def test_optimiser_state_is_for_the_trained_only(self):
    size = sum(leaf.size for leaf in jax.tree.leaves(_create().opt_state))
    head = _create(trainable=('head',))
    self.assertLess(
      sum(leaf.size for leaf in jax.tree.leaves(head.opt_state)), size / 4
    )

  def test_initial_is_taken_and_not_shared(self):
    initial = jax.tree.map(np.array, _create(1).variables)
    state = _create(0, initial=initial)
    np.testing.assert_array_equal(
      state.params['c1']['kernel'], initial['params']['c1']['kernel']
    )
    initial['params']['c1']['kernel'] += 1
    self.assertFalse(
      np.array_equal(
        state.params['c1']['kernel'], initial['params']['c1']['kernel']
      )
    )

  def test_initial_must_fit(self):
    initial = jax.device_get(_create().variables)
    initial['params']['head']['bias'] = np.zeros(3, np.float32)
    with self.assertRaisesRegex(
      ValueError, r'params/head/bias: found \(3,\), expected \(2,\)'
    ):
      _create(initial=initial)
    del initial['params']['head']['bias']
    with self.assertRaisesRegex(ValueError, 'head/bias: found None'):
      _create(initial=initial)


if __name__ == '__main__':
  absltest.main()
