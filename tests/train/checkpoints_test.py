import errno
import os
import pathlib
import subprocess
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest

from medzoo.train import checkpoints
from medzoo.train import devices
from medzoo.train import state as state_lib
from tests.train import tiny


def _state(seed):
  rng = np.random.default_rng(seed)
  params = {
    'c1': {'kernel': jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)},
    'half': jnp.asarray(rng.normal(size=5), jnp.bfloat16),
  }
  state = state_lib.TrainState(
    step=jnp.int32(seed),
    params=params,
    model_state={'batch_stats': {'mean': jnp.full(4, 0.1)}},
    opt_state=optax.adam(optax.constant_schedule(0.1)).init(params),
  )
  return devices.replicate(state, devices.make_mesh())


def _template():
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    _state(0),
  )


class CheckpointsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'ck'
    self.warnings = []
    self.store = checkpoints.Checkpoints(self.folder, warn=self.warnings.append)

  def _save(self, *steps, **options):
    for step in steps:
      self.store.save(
        step, _state(step), tiny.make_batches(), {'a': step / 3}, **options
      )

  def _restore(self):
    return self.store.restore_latest(_template(), tiny.make_batches())

  def _assert_same(self, one, two):
    self.assertEqual(jax.tree.structure(one), jax.tree.structure(two))
    for left, right in zip(
      jax.tree.leaves(one), jax.tree.leaves(two), strict=True
    ):
      self.assertEqual(left.dtype, right.dtype)
      self.assertEqual(left.sharding, right.sharding)
      self.assertEqual(np.asarray(left).tobytes(), np.asarray(right).tobytes())

  def test_round_trip_to_the_bit(self):
    batches = tiny.make_batches()
    for _ in range(3):
      next(batches)
    extra = {'third': 1 / 3, 'nan': float('nan'), 'rows': [{'x': 1e-300}]}
    best = _state(7).variables
    self.store.save(5, _state(5), batches, extra, best=best)
    expected = next(batches)
    again = tiny.make_batches()
    restored = self.store.restore_latest(_template(), again)
    self.assertEqual(restored.step, 5)
    self._assert_same(restored.state, _state(5))
    self._assert_same(restored.best, best)
    self.assertEqual(restored.extra['third'], 1 / 3)
    self.assertEqual(restored.extra['rows'], extra['rows'])
    self.assertTrue(np.isnan(restored.extra['nan']))
    np.testing.assert_array_equal(next(again)['image'], expected['image'])

  def test_nothing_there(self):
    self.assertIsNone(self._restore())
    self.assertIsNone(self.store.read_extra())
    self.assertIsNone(self.store.read_best())

  def test_keeps_the_newest(self):
    self._save(5, 10, 15)
    self.assertEqual(self.store.steps(), [10, 15])
    self.assertEqual({p.name for p in self.folder.iterdir()}, {'10', '15'})

  def test_reads_the_selected_without_a_template(self):
    self._save(1)
    last = self.store.read_best()
    np.testing.assert_array_equal(
      last['params']['c1']['kernel'], _state(1).params['c1']['kernel']
    )
    self._save(2, best=_state(9).variables)
    best = self.store.read_best()
    self.assertIsInstance(best['params']['half'], np.ndarray)
    np.testing.assert_array_equal(
      best['params']['c1']['kernel'], _state(9).params['c1']['kernel']
    )

  def test_every_flipped_byte_is_noticed(self):
    self._save(1)
    rng = np.random.default_rng(0)
    for path in sorted((self.folder / '1').rglob('*')):
      if not path.is_file() or not path.stat().st_size:
        continue
      whole = path.read_bytes()
      spoilt = bytearray(whole)
      spoilt[rng.integers(len(whole))] ^= 0x80
      path.write_bytes(spoilt)
      with self.assertRaises(checkpoints._Damaged, msg=path):
        checkpoints._verify(self.folder / '1')
      path.write_bytes(whole)
    checkpoints._verify(self.folder / '1')

  def test_damaged_one_gives_way_to_the_one_before(self):
    self._save(1, 2)
    path = next((self.folder / '2' / 'variables').rglob('d/*'))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    restored = self._restore()
    self._assert_same(restored.state, _state(1))
    self.assertLen(self.warnings, 1)
    self.assertRegex(self.warnings[0], '/2: damaged checkpoint .* has changed')
    self.assertEqual(self.store.steps(), [1])

  def test_missing_files_are_noticed(self):
    self._save(1, 2)
    next((self.folder / '2' / 'optimizer').rglob('d/*')).unlink()
    (self.folder / '1' / 'manifest.json').unlink()
    self.assertIsNone(self._restore())
    self.assertRegex(self.warnings[0], 'is missing')
    self.assertRegex(self.warnings[1], 'unreadable manifest.json')

  def test_what_a_killed_save_leaves_is_cleared(self):
    self._save(1)
    for name in ('_write', '_seal', '_prune'):
      owner = checkpoints if name == '_seal' else self.store
      with (
        mock.patch.object(owner, name, side_effect=KeyboardInterrupt),
        self.assertRaises(KeyboardInterrupt),
      ):
        self._save(2)
      whole = 2 if name == '_prune' else 1
      self.assertEqual(self._restore().step, whole, name)
    (self.folder / '0.removed').mkdir()
    (self.folder / 'reserved').write_bytes(b'0')
    self._save(3)
    self.assertEqual({p.name for p in self.folder.iterdir()}, {'2', '3'})

  def test_same_step_again(self):
    self._save(1, 1)
    self.assertEqual(self._restore().step, 1)

  def test_no_room(self):
    self._save(1)
    full = OSError(errno.ENOSPC, 'No space left on device')
    with (
      mock.patch.object(os, 'posix_fallocate', side_effect=full),
      self.assertRaises(checkpoints.CheckpointError) as caught,
    ):
      self._save(2)
    self._check_full(caught.exception)

  def test_disk_fills_while_writing(self):
    self._save(1)
    full = ValueError('RESOURCE_EXHAUSTED: ...: No space left on device')
    with (
      mock.patch.object(checkpoints, '_seal', side_effect=full),
      self.assertRaises(checkpoints.CheckpointError) as caught,
    ):
      self._save(2)
    self._check_full(caught.exception)

  def _check_full(self, error):
    self.assertEqual(error.errno, errno.ENOSPC)
    self.assertNotIn('\n', str(error))
    self.assertRegex(str(error), f'step 2.*no space left.*{self.folder}')
    self.assertEqual({p.name for p in self.folder.iterdir()}, {'1'})
    self._assert_same(self._restore().state, _state(1))
    self._save(2)
    self.assertEqual(self._restore().step, 2)

  def test_full_file_system(self):
    self.folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=900k', 'tmpfs', self.folder]
    if subprocess.run(mount, capture_output=True).returncode:
      self.skipTest('may not mount a small file system')
    self.addCleanup(subprocess.run, ['umount', self.folder], check=True)
    self._save(1)
    (self.folder / '0').mkdir()
    (self.folder / '0' / 'filler').write_bytes(bytes(500 * 1024))
    with self.assertRaises(checkpoints.CheckpointError) as caught:
      self._save(2)
    self.assertRegex(str(caught.exception), 'no space left')
    self._assert_same(self._restore().state, _state(1))


if __name__ == '__main__':
  absltest.main()
