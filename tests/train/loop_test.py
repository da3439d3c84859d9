import errno
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.train import checkpoints
from medzoo.train import loop
from medzoo.train import record
from medzoo.train import writers
from tests.train import tiny

_SELECT = {'metric': 'accuracy', 'mode': 'max', 'patience': None}


class Scripted(tiny.Task):
  """A task whose validation metric follows a script."""

  def __init__(self, values):
    super().__init__()
    self.values = iter(values)

  def evaluator(self):
    value = next(self.values)

    class Evaluator(tiny.Evaluator):
      def compute(self):
        return {'accuracy': value}

    return Evaluator()


class Showing(tiny.Task):
  """A task with pictures of what it does."""

  def evaluator(self):
    class Evaluator(tiny.Evaluator):
      def pictures(self):
        return {'first': np.full((2, 3, 3), self.count, np.uint8)}

    return Evaluator()


class Poisoned(tiny.Task):
  """A task whose cross-entropy is NaN where the batch says so."""

  def loss(self, variables, batch, key, *, train):
    loss, (_, state) = super().loss(variables, batch, key, train=train)
    bad = jnp.where(batch['poison'].any(), jnp.nan, 0.0)
    return loss, ({'cross_entropy': loss + bad}, state)


class Poison(tiny.Stopping):
  """Batches that say so from a step on."""

  def change(self, count, batch):
    return {**batch, 'poison': batch['valid'] & (count >= self.step)}


def _metrics(workdir):
  """Rows of metrics.jsonl without what depends on the clock."""
  return [
    {k: v for k, v in row.items() if 'per_second' not in k}
    for row in writers.read_rows(workdir / 'metrics.jsonl')
  ]


class LoopTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.straight_folder = pathlib.Path(folder) / 'straight'
    cls.straight = tiny.fit(cls.straight_folder)

  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(self.create_tempdir().full_path)
    self.checkpoints = self.workdir / 'tiny' / 'checkpoints'

  def _assert_as_straight(self, result):
    self.assertEqual(result.history, self.straight.history)
    self.assertEqual(result.best_step, self.straight.best_step)
    self.assertEqual(result.best_value, self.straight.best_value)
    same = jax.tree.map(
      lambda one, two: one.tobytes() == two.tobytes(),
      result.variables,
      self.straight.variables,
    )
    self.assertTrue(jax.tree.all(same))
    self.assertEqual(_metrics(self.workdir), _metrics(self.straight_folder))

  def test_learns(self):
    losses = [row['loss'] for row in self.straight.history['train']]
    self.assertLess(losses[-1], losses[0])
    self.assertEqual(self.straight.steps, 30)
    self.assertGreater(self.straight.seconds, self.straight.compile_seconds)
    self.assertGreater(self.straight.compile_seconds, 0)
    self.assertGreater(self.straight.peak_memory_mb, 50)
    steps = [row['step'] for row in self.straight.history['validation']]
    self.assertEqual(steps, [6, 12, 18, 24, 30])

  def test_finished_is_not_done_again(self):
    folder = self.straight_folder / 'tiny' / 'checkpoints'
    found = loop.finished(folder)
    self.assertEqual(found.history, self.straight.history)
    before = (self.straight_folder / 'metrics.jsonl').read_bytes()
    again = tiny.fit(self.straight_folder)
    self.assertEqual(
      before, (self.straight_folder / 'metrics.jsonl').read_bytes()
    )
    for result in (found, again):
      self.assertEqual(result.best_step, self.straight.best_step)
      same = jax.tree.map(
        np.array_equal, result.variables, self.straight.variables
      )
      self.assertTrue(jax.tree.all(same))
    self.assertIsNone(loop.finished(self.workdir))

  def test_killed_run_ends_as_the_straight_one(self):
    step = random.randint(1, 29)
    program = (
      'import pathlib, sys; from tests.train import tiny; '
      'tiny.fit_and_die(pathlib.Path(sys.argv[1]), int(sys.argv[2]))'
    )
    run = subprocess.run(
      [sys.executable, '-c', program, str(self.workdir), str(step)],
      capture_output=True,
      text=True,
    )
    self.assertEqual(run.returncode, -signal.SIGKILL, run.stderr)
    self.assertIsNone(loop.finished(self.checkpoints))
    with self.subTest(f'killed at step {step}'):
      self._assert_as_straight(tiny.fit(self.workdir))

  def test_damaged_end_is_done_again(self):
    shutil.copytree(self.straight_folder, self.workdir, dirs_exist_ok=True)
    path = next((self.checkpoints / '30' / 'best').rglob('d/*'))
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    self._assert_as_straight(tiny.fit(self.workdir))
    log = (self.workdir / 'log.txt').read_text()
    self.assertRegex(log, '/30: damaged checkpoint .*best/.* has changed')
    self.assertRegex(log, 'going on from the checkpoint of step 25')
    (self.checkpoints / '30' / 'manifest.json').write_text('{}')
    lines = []
    self.assertIsNone(loop.finished(self.checkpoints, warn=lines.append))
    self.assertLen(lines, 1)

  def test_full_disk_loses_nothing(self):
    shutil.copytree(self.straight_folder, self.workdir, dirs_exist_ok=True)
    shutil.rmtree(self.checkpoints / '30')
    with (
      mock.patch.object(
        checkpoints.os,
        'posix_fallocate',
        side_effect=OSError(errno.ENOSPC, 'No space left on device'),
      ),
      self.assertRaisesRegex(checkpoints.CheckpointError, 'step 30: no space'),
    ):
      tiny.fit(self.workdir)
    self._assert_as_straight(tiny.fit(self.workdir))

  def test_pictures_go_to_tensorboard(self):
    with mock.patch.object(writers.Writer, 'image', autospec=True) as image:
      tiny.fit(self.workdir, task=Showing(), steps=4, eval_every=2)
    for call, step in zip(image.call_args_list, (2, 4), strict=True):
      _, *args, pixels = call.args
      self.assertEqual(args, ['tiny', step, 'first'])
      # Shown is what the whole pass has seen.
      self.assertTrue((pixels == 16).all())

  def test_other_seed_other_result(self):
    other = tiny.fit(self.workdir, seed=4, steps=4)
    self.assertNotEqual(
      other.history['train'][0], self.straight.history['train'][0]
    )

  def test_never_a_best_takes_the_last(self):
    result = tiny.fit(
      self.workdir, task=Scripted([None]), steps=2, eval_every=2
    )
    self.assertEqual((result.best_step, result.best_value), (2, None))

  def test_selected_variables_are_those_of_their_step(self):
    scripted = tiny.fit(
      self.workdir / 'a', task=Scripted([0.1, 0.9, 0.2]), eval_every=2, steps=6
    )
    with self.assertRaises(KeyboardInterrupt):
      tiny.fit(
        self.workdir / 'b',
        batches=tiny.Stopping(tiny.make_batches(), 5),
        checkpoint_every=4,
        select=None,
        eval_every=2,
        steps=6,
      )
    store = checkpoints.Checkpoints(self.workdir / 'b/tiny/checkpoints')
    self.assertEqual(store.steps(), [4])
    same = jax.tree.map(np.array_equal, scripted.variables, store.read_best())
    self.assertTrue(jax.tree.all(same))

  def test_stops_early(self):
    result = tiny.fit(
      self.workdir,
      task=Scripted([0.5, 0.6, 0.6, 0.4, 0.9]),
      select={**_SELECT, 'patience': 2},
      eval_every=1,
    )
    self.assertEqual((result.steps, result.best_step), (4, 2))
    self.assertEqual(loop.finished(self.checkpoints).steps, 4)
    log = (self.workdir / 'log.txt').read_text()
    self.assertRegex(log, 'stopped early at step 4, best accuracy 0.6')

  def test_nan_names_step_and_term(self):
    with self.assertRaisesRegex(
      record.Diverged, 'tiny: cross_entropy is nan at step 8;'
    ):
      tiny.fit(
        self.workdir,
        task=Poisoned(),
        batches=Poison(tiny.make_batches(), 7),
        eval_every=30,
      )
    self.assertEqual(checkpoints.Checkpoints(self.checkpoints).steps(), [5])

  def test_starts_from_other_variables_and_trains_some(self):
    result = tiny.fit(
      self.workdir,
      initial=self.straight.variables,
      trainable=('head',),
      steps=4,
      select=None,
    )
    for collection, tree in result.variables.items():
      for module, values in tree.items():
        same = jax.tree.map(
          np.array_equal, values, self.straight.variables[collection][module]
        )
        self.assertEqual(jax.tree.all(same), module != 'head')

  @parameterized.parameters(
    ({'steps': 0}, 'steps: found 0'),
    ({'select': {'metric': 'accuracy'}}, 'select: found metric, expected'),
    ({'select': {**_SELECT, 'mode': 'best'}}, "select.mode: found 'best'"),
    ({'trainable': ('tail',)}, "no module 'tail'"),
    (
      {'select': {**_SELECT, 'metric': 'auc'}},
      "tiny.select.metric: found 'auc', expected one of accuracy",
    ),
  )
  def test_refuses(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      tiny.fit(self.workdir, **changes)

  def test_batches_must_not_end(self):
    batches = iter(
      tiny.grain.MapDataset.range(24)
      .seed(0)
      .random_map(tiny.example)
      .batch(8)
      .to_iter_dataset()
    )
    with self.assertRaisesRegex(ValueError, 'ended at step 3'):
      tiny.fit(self.workdir, batches=batches)


if __name__ == '__main__':
  absltest.main()
