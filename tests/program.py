"""Runs main.py as a user does."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[1]


def run(*args: str, **environment: str) -> subprocess.CompletedProcess:
  """Runs it with flags and more environment variables, to its end."""
  return subprocess.run(
    [sys.executable, 'main.py', *args],
    cwd=ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )


class SmokeCase(absltest.TestCase):
  """A whole run of a config, and what its work folder can do.

  To be derived from: without a config there is nothing to run.

  Attributes:
    config: what to run.
    devices: on how many; a program for one compiles quicker.
  """

  config: str
  devices = 1

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.workdir = cls.folder / 'run'
    cls.run_main(f'--data_dir={cls.folder}/data', *cls.prepare())
    cls.results = json.loads((cls.workdir / 'results.json').read_text())

  @classmethod
  def prepare(cls):
    """Makes what a run needs that has no phantoms; returns flags for it."""
    return []

  @classmethod
  def run_main(cls, *args):
    result = run(
      f'--config={cls.config}',
      f'--workdir={cls.workdir}',
      *args,
      JAX_NUM_CPU_DEVICES=str(cls.devices),
    )
    assert result.returncode == 0, result.stderr

  def predict(self, source):
    """Returns what is in detections.json and the folder it lies in."""
    output = pathlib.Path(self.create_tempdir().full_path)
    self.run_main('--mode=predict', f'--input={source}', f'--output={output}')
    found = json.loads((output / 'detections.json').read_text())
    for case in found.get('cases', [found]):
      for path in case['pictures']:
        self.assertTrue((output / path).is_file(), path)
    return found, output

  def assert_has_metrics(self, names, systems):
    for system in systems:
      self.assertContainsSubset(names, system)
      for entry in system.values():
        self.assertContainsSubset(['value', 'low', 'high', 'n'], entry)

  def assert_has_a_report(self):
    page = (self.workdir / 'report.html').read_text()
    self.assertIn('not a medical device', page)
    self.assertIn('mean nothing', page)
    self.assertNotIn('src="http', page)
