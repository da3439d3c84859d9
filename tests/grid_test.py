import csv
import json
import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from experiments import grid


def _finish(command, check):
  """Stands for main.py: scores the learning rate, fails at 0.3."""
  del check
  flags = dict(flag.removeprefix('--').split('=', 1) for flag in command[2:])
  rate = float(flags['config.stages.all.rate'])
  if rate == 0.3:
    return subprocess.CompletedProcess(command, 2)
  workdir = pathlib.Path(flags['workdir'])
  workdir.mkdir(parents=True, exist_ok=True)
  metrics = {
    'auc': {'value': rate, 'low': 0.0, 'high': 1.0, 'n': 4},
    'f1': {'value': None, 'why': 'no positive'},
    'confusion_matrix': {'value': [[1, 2], [3, 4]], 'labels': ['a', 'b']},
  }
  results = {'metrics': metrics, 'timing': {'train_seconds': 2.0}}
  (workdir / 'results.json').write_text(json.dumps(results))
  return subprocess.CompletedProcess(command, 0)


class GridTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.table = self.folder / 'rates.csv'
    self.run = self.enter_context(
      mock.patch.object(subprocess, 'run', side_effect=_finish)
    )

  def call(self, text, *flags):
    self.table.write_text(text)
    return grid.main(
      [
        '--config=experiments/nodule3d.py:smoke',
        f'--grid={self.table}',
        f'--workdir={self.folder / "runs"}',
        *flags,
      ]
    )

  def results(self):
    path = self.folder / 'runs' / 'results.csv'
    with path.open(newline='') as file:
      return list(csv.DictReader(file))

  def test_appends_metrics_to_every_row(self):
    code = self.call(
      'stages.all.rate,seed\n0.1,0\n0.2,1\n', '--manual_dir=scans'
    )
    self.assertEqual(code, 0)
    rows = self.results()
    self.assertEqual([row['auc'] for row in rows], ['0.1', '0.2'])
    self.assertEqual([row['seed'] for row in rows], ['0', '1'])
    self.assertEqual([row['f1'] for row in rows], ['', ''])
    self.assertEqual(rows[0]['auc_high'], '1')
    self.assertNotIn('confusion_matrix', rows[0])
    command = self.run.call_args_list[0].args[0]
    self.assertEqual(command[0], sys.executable)
    self.assertIn('--manual_dir=scans', command)
    self.assertIn('--config.seed=0', command)

  def test_a_row_that_fails_stays_and_the_others_go_on(self):
    self.assertEqual(self.call('stages.all.rate\n0.3\n0.2\n'), 1)
    rows = self.results()
    self.assertEqual([row['finished'] for row in rows], ['exit 2', 'yes'])
    self.assertEqual([row['auc'] for row in rows], ['', '0.2'])

  def test_a_row_has_the_same_work_folder_wherever_it_stands(self):
    def folders():
      flags = [call.args[0] for call in self.run.call_args_list]
      self.run.reset_mock()
      return [next(x for x in f if '--workdir' in x) for f in flags]

    self.call('stages.all.rate\n0.1\n0.2\n')
    first = folders()
    self.call('stages.all.rate\n0.2\n0.4\n0.1\n')
    second = folders()
    self.assertEqual([second[2], second[0]], first)
    self.assertLen({*first, *second}, 3)

  @parameterized.named_parameters(
    ('empty', '', '0 rows'),
    ('no rows', 'seed\n', '0 rows'),
    ('key twice', 'seed,seed\n1,2\n', 'each once'),
    ('short row', 'seed,x\n\n1\n', 'line 3'),
    ('same rows', 'seed\n1\n1\n', 'line 3'),
  )
  def test_refuses(self, text, words):
    with mock.patch('sys.stderr') as stderr:
      self.assertEqual(self.call(text), 2)
    said = ''.join(call.args[0] for call in stderr.write.call_args_list)
    self.assertIn(words, said)
    self.assertIn(str(self.table), said)
    self.run.assert_not_called()

  def test_a_missing_table_is_named(self):
    with self.assertRaisesRegex(ValueError, 'nowhere.csv: cannot be read'):
      grid.read(self.folder / 'nowhere.csv')


if __name__ == '__main__':
  absltest.main()
