import os
import subprocess
import sys

import jax
import numpy as np
from absl.testing import absltest

from medzoo.train import devices
from medzoo.train import optim
from medzoo.train import state as state_lib
from medzoo.train import step as step_lib
from tests.train import tiny


def _setup(mesh, trainable=None):
  task = tiny.Task()
  key = jax.random.key(0)
  batch = next(tiny.make_batches())
  tx, _ = optim.make(
    tiny.settings().optimizer,
    steps=10,
    params=state_lib.shapes(task, key, batch)['params'],
    trainable=trainable,
  )
  state = state_lib.create(task, key, batch, tx, mesh=mesh, trainable=trainable)
  return task, tx, state, batch, key


def _flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def compare_devices():
  """Prints how far two devices are from one; run with two forced."""
  assert jax.device_count() == 2
  results = []
  for count in (1, 2):
    mesh = devices.make_mesh(jax.devices()[:count])
    task, tx, state, batch, key = _setup(mesh)
    with jax.set_mesh(mesh):
      terms, grads, stats = jax.jit(step_lib.gradients, static_argnums=0)(
        task, state, devices.shard_batch(batch, mesh), key
      )
      results.append([float(terms['loss']), _flat(grads), _flat(stats)])
    predict = step_lib.make_predict_step(task, mesh)
    results[-1].append(predict(state.variables, batch)['logits'])
    with jax.set_mesh(mesh):
      step = step_lib.make_train_step(task, tx, mesh)
      state, terms = step(state, devices.shard_batch(batch, mesh), key)
    results[-1].append(float(terms['gradient_norm']))
  for one, two in zip(*results, strict=True):
    print(np.abs(one - two).max() / np.abs(one).max())


class StepTest(absltest.TestCase):
  def test_equal_settings_share_what_is_compiled(self):
    mesh = devices.make_mesh()
    task, tx, state, batch, key = _setup(mesh)
    params = state.params
    one = step_lib.make_train_step(task, tx, mesh)
    settings = tiny.settings().optimizer
    for steps, is_same in ((10, True), (11, False)):
      again, _ = optim.make(dict(settings), steps=steps, params=params)
      self.assertEqual(again is tx, is_same)
      self.assertEqual(
        step_lib.make_train_step(task, again, mesh) is one, is_same
      )
    predict = step_lib.make_predict_step(task, mesh)
    self.assertIs(step_lib.make_predict_step(task, mesh), predict)
    other = step_lib.make_predict_step(tiny.Task(), mesh)
    self.assertIsNot(other, predict)

  def test_step_moves_parameters_and_averages(self):
    mesh = devices.make_mesh()
    task, tx, state, batch, key = _setup(mesh)
    before = jax.device_get(state)
    step = step_lib.make_train_step(task, tx, mesh)
    with jax.set_mesh(mesh):
      state, terms = step(state, devices.shard_batch(batch, mesh), key)
    self.assertEqual(terms.keys(), {'loss', 'cross_entropy', 'gradient_norm'})
    self.assertEqual(int(state.step), 1)
    self.assertFalse(
      np.array_equal(
        before.params['c1']['kernel'], state.params['c1']['kernel']
      )
    )
    self.assertFalse(
      np.array_equal(
        before.model_state['batch_stats']['bn1']['mean'],
        state.model_state['batch_stats']['bn1']['mean'],
      )
    )

  def test_key_is_folded_with_the_step(self):
    mesh = devices.make_mesh()
    task, _, state, batch, key = _setup(mesh)
    gradients = jax.jit(step_lib.gradients, static_argnums=0)
    losses = [
      float(
        gradients(task, state.replace(step=np.int32(step)), batch, key)[0][
          'loss'
        ]
      )
      for step in (0, 0, 1)
    ]
    self.assertEqual(losses[0], losses[1])
    self.assertNotEqual(losses[0], losses[2])

  def test_frozen_modules_stay_as_they_are(self):
    mesh = devices.make_mesh()
    trainable = ('bn2', 'head')
    task, tx, state, batch, key = _setup(mesh, trainable)
    before = jax.device_get(state)
    step = step_lib.make_train_step(task, tx, mesh, trainable)
    with jax.set_mesh(mesh):
      for _ in range(3):
        state, _ = step(state, devices.shard_batch(batch, mesh), key)
    for old, new in (
      (before.params, state.params),
      (before.model_state['batch_stats'], state.model_state['batch_stats']),
    ):
      for module in old:
        same = jax.tree.map(np.array_equal, old[module], new[module])
        self.assertEqual(jax.tree.all(same), module not in trainable, module)

  def test_frozen_norms_normalise_by_their_averages(self):
    # tiny.Net passes the flag in both ways that Linen allows.
    task = tiny.Task(tiny.Net(dropout=0.0))
    _, _, state, batch, key = _setup(devices.make_mesh())
    gradients = jax.jit(step_lib.gradients, static_argnums=(0, 4))
    frozen, _, _ = gradients(task, state, batch, key, ('head',))
    trained, _, _ = gradients(task, state, batch, key, None)
    logits = task.predict(state.variables, batch)['logits']
    each = jax.nn.log_softmax(logits)[np.arange(8), batch['label']]
    np.testing.assert_allclose(frozen['loss'], -each.mean(), rtol=1e-5)
    self.assertGreater(abs(float(frozen['loss'] - trained['loss'])), 1e-3)

  def test_batch_must_fit_the_devices(self):
    class TwoDevices:
      local_devices = (0, 1)

    with self.assertRaisesRegex(
      ValueError, 'batch_size: found 5, expected a multiple of the 2 devices'
    ):
      devices.shard_batch({'image': np.zeros((5, 3))}, TwoDevices())

  def test_two_devices_agree_with_one(self):
    environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
    }
    run = subprocess.run(
      [
        sys.executable,
        '-c',
        'from tests.train import step_test; step_test.compare_devices()',
      ],
      env=environment,
      capture_output=True,
      text=True,
    )
    self.assertEqual(run.returncode, 0, run.stderr)
    errors = [float(line) for line in run.stdout.split()]
    self.assertLen(errors, 5)
    self.assertLess(max(errors), 1e-5, errors)


if __name__ == '__main__':
  absltest.main()
