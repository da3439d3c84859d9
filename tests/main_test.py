"""Tests of the command line: a newcomer's mistakes, then whole smoke runs."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = 'experiments/nodule3d.py'


def _run(*args: str, **environment: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, 'main.py', *args],
    cwd=_ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )


class MistakesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def fails(self, code: int, *args: str) -> str:
    """Runs, and returns the one line that the failure prints."""
    result = _run(
      *args,
      f'--data_dir={self.folder}/data',
      *(() if any('workdir' in a for a in args) else (f'--workdir={self.folder}/run',)),
    )
    self.assertEqual(result.returncode, code, result.stderr)
    lines = result.stderr.strip().splitlines()
    self.assertLen(lines, 1, result.stderr)
    return lines[0]

  def test_no_config(self):
    self.assertIn('experiments/nodule3d.py', self.fails(2))

  def test_no_such_config(self):
    line = self.fails(2, '--config=experiments/nodule4d.py')
    self.assertIn('experiments/nodule4d.py', line)

  def test_unknown_variant(self):
    line = self.fails(2, f'--config={_CONFIG}:lunar16')
    self.assertIn('lunar16', line)
    self.assertIn('luna16', line)

  def test_misspelt_key(self):
    line = self.fails(
      2, f'--config={_CONFIG}', '--config.stages.screening.stepz=3'
    )
    self.assertIn('stepz', line)

  def test_mistyped_value(self):
    line = self.fails(
      2, f'--config={_CONFIG}', '--config.stages.screening.steps=many'
    )
    self.assertIn('many', line)

  def test_unknown_flag(self):
    self.assertIn('wrokdir', self.fails(2, f'--config={_CONFIG}', '--wrokdir=x'))

  @parameterized.parameters('lidc', 'luna16', 'series_csv')
  def test_no_manual_dir(self, variant):
    line = self.fails(2, f'--config={_CONFIG}:{variant}')
    self.assertIn('--manual_dir', line)

  def test_manual_dir_for_phantoms_names_the_real_variants(self):
    line = self.fails(2, f'--config={_CONFIG}', f'--manual_dir={self.folder}')
    self.assertIn('luna16', line)

  def test_empty_manual_dir(self):
    empty = self.folder / 'empty'
    empty.mkdir()
    line = self.fails(1, f'--config={_CONFIG}:lidc', f'--manual_dir={empty}')
    self.assertIn(str(empty), line)

  def test_csv_with_a_bad_line(self):
    raw = self.folder / 'raw'
    raw.mkdir()
    (raw / 'mapping.csv').write_text('bg,0\naneurysm,1\n')
    (raw / 'annotations.csv').write_text(
      'a,aneurysm,1,2,3,4,p1\nb,aneurysm,1,two,3,4,p2\n'
    )
    line = self.fails(1, f'--config={_CONFIG}:series_csv', f'--manual_dir={raw}')
    self.assertIn('annotations.csv:2', line)
    self.assertIn('two', line)

  def test_unwritable_work_folder(self):
    file = self.folder / 'file'
    file.write_text('')
    line = self.fails(
      2, f'--config={_CONFIG}:smoke', f'--workdir={file}/run'
    )
    self.assertIn(str(file), line)

  def test_predict_without_a_model(self):
    line = self.fails(
      2, f'--config={_CONFIG}', '--mode=predict', f'--input={self.folder}'
    )
    self.assertIn('results', line.replace('finished work folder', 'results'))


if __name__ == '__main__':
  absltest.main()
