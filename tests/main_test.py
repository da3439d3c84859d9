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

from tests import program

_CONFIG = 'experiments/nodule3d.py'


def setUpModule():
  # Compiling is most of a smoke run, and the same in all of them.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp()
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  # Its 3D convolutions are too slow otherwise.
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '0'


def tearDownModule():
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
  shutil.rmtree(os.environ.pop('JAX_COMPILATION_CACHE_DIR'))


class MistakesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def fails(self, code: int, *args: str) -> str:
    """Runs, and returns the one line that the failure prints."""
    result = program.run(
      *args,
      f'--data_dir={self.folder}/data',
      *(
        ()
        if any('workdir' in a for a in args)
        else (f'--workdir={self.folder}/run',)
      ),
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
    self.assertIn(
      'wrokdir', self.fails(2, f'--config={_CONFIG}', '--wrokdir=x')
    )

  def test_no_manual_dir(self):
    line = self.fails(2, f'--config={_CONFIG}:lidc')
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
    line = self.fails(
      1, f'--config={_CONFIG}:series_csv', f'--manual_dir={raw}'
    )
    self.assertIn('annotations.csv:2', line)
    self.assertIn('two', line)

  def test_unwritable_work_folder(self):
    file = self.folder / 'file'
    file.write_text('')
    line = self.fails(2, f'--config={_CONFIG}:smoke', f'--workdir={file}/run')
    self.assertIn(str(file), line)

  def test_predict_without_a_model(self):
    line = self.fails(
      2, f'--config={_CONFIG}', '--mode=predict', f'--input={self.folder}'
    )
    self.assertIn('finished work folder', line)


class SmokeTest(absltest.TestCase):
  """One whole run, then everything that a finished work folder can do."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(tempfile.mkdtemp())
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.whole = cls.folder / 'whole'
    cls.first = cls.train(cls.whole)
    assert cls.first.returncode == 0, cls.first.stderr

  @classmethod
  def train(cls, workdir: pathlib.Path) -> subprocess.CompletedProcess:
    return program.run(*cls.call(workdir))

  @classmethod
  def call(cls, workdir: pathlib.Path) -> list[str]:
    return [
      f'--config={_CONFIG}:smoke',
      f'--workdir={workdir}',
      f'--data_dir={cls.folder / "data"}',
    ]

  def results(self, workdir: pathlib.Path) -> dict:
    return json.loads((workdir / 'results.json').read_text())

  def test_results_and_report(self):
    results = self.results(self.whole)
    self.assertTrue(results['finished'])
    self.assertTrue(results['dataset']['synthetic'])
    self.assertEqual((results['folds'], results['ablations']), ([], {}))
    names = ['cpm', 'cpm_nearest', 'recall', 'fps_per_scan']
    names += ['candidate_sensitivity', 'candidates_per_scan']
    names += [f'sensitivity_at_{x}' for x in '0.125 0.25 0.5 1 2 4 8'.split()]
    self.assertContainsSubset(names, results['metrics'])
    for entry in results['metrics'].values():
      self.assertContainsSubset(['value', 'low', 'high', 'n'], entry)
    self.assertIn('laplacian_of_gaussian', results['baselines'])
    page = (self.whole / 'report.html').read_text()
    self.assertIn('not a medical device', page)
    self.assertIn('mean nothing', page)
    self.assertNotIn('src="http', page)
    last = self.first.stdout.strip().splitlines()
    self.assertStartsWith(last[-2], 'cpm ')
    self.assertIn('report.html', last[-1])

  def test_a_finished_run_does_nothing_more(self):
    path = self.whole / 'results.json'
    before = path.stat().st_mtime_ns
    again = self.train(self.whole)
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertEqual(path.stat().st_mtime_ns, before)

  def test_another_config_is_refused_by_its_keys(self):
    result = program.run(*self.call(self.whole), '--config.seed=1')
    self.assertEqual(result.returncode, 2)
    self.assertIn('seed', result.stderr)

  def test_killed_in_each_stage_it_ends_with_the_same_bits(self):
    workdir = self.folder / 'killed'
    for stage in ('screening', 'reduction'):
      self.kill_after_a_checkpoint(workdir, stage)
    result = self.train(workdir)
    self.assertEqual(result.returncode, 0, result.stderr)
    one, other = self.results(self.whole), self.results(workdir)
    self.assertEqual(one['metrics'], other['metrics'])
    for path in sorted((self.whole / 'model').glob('*.safetensors')):
      self.assertEqual(
        path.read_bytes(), (workdir / 'model' / path.name).read_bytes()
      )

  def kill_after_a_checkpoint(self, workdir: pathlib.Path, stage: str) -> None:
    """Kills a run once a stage has a checkpoint and is not finished."""
    process = subprocess.Popen(
      [sys.executable, 'main.py', *self.call(workdir)],
      cwd=program.ROOT,
      stderr=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
    )
    checkpoints = workdir / stage / 'checkpoints'
    while process.poll() is None:
      if any(path.name.isdigit() for path in checkpoints.glob('*')):
        os.kill(process.pid, signal.SIGKILL)
      time.sleep(0.05)
    self.assertEqual(process.wait(), -signal.SIGKILL)

  def test_predict_needs_only_the_model(self):
    model = self.folder / 'elsewhere' / 'model'
    shutil.copytree(self.whole / 'model', model)
    patient = next((self.folder / 'data' / 'phantom_files').glob('*/*/'))
    output = self.folder / 'predicted'
    result = program.run(
      f'--config={_CONFIG}:smoke',
      '--mode=predict',
      f'--workdir={model.parent}',
      f'--input={patient}',
      f'--output={output}',
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    found = json.loads((output / 'detections.json').read_text())
    keys = ['case', 'model', 'threshold', 'frame', 'detections', 'skipped']
    cases = found.get('cases', [found])
    for case in cases:
      self.assertContainsSubset(keys[:-1], case)
    self.assertIn('skipped', found)
    header = (output / 'luna16.csv').read_text().splitlines()[0]
    self.assertEqual(header, 'seriesuid,coordX,coordY,coordZ,probability')

  def test_evaluate_again_and_on_other_scans(self):
    before = self.results(self.whole)['metrics']
    result = program.run(*self.call(self.whole), '--mode=evaluate')
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(self.results(self.whole)['metrics'], before)
    raw = next((self.folder / 'data' / 'phantom_files').glob('lidc-*/'))
    output = self.folder / 'evaluated'
    result = program.run(
      *self.call(self.whole),
      '--mode=evaluate',
      f'--manual_dir={raw}',
      f'--output={output}',
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(self.results(output)['dataset']['examples'], 6)
    self.assertTrue((output / 'report.html').exists())


class LayoutsTest(parameterized.TestCase):
  """Runs on raw scans as a user has them."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def make(self, layout: str, cases: int) -> None:
    """Writes phantoms as a user's raw files."""
    made = subprocess.run(
      [
        *(sys.executable, '-m', 'datasets.phantoms.chest_ct', '--size=smoke'),
        *(f'--layout={layout}', f'--cases={cases}'),
        f'--output={self.folder}/raw',
      ],
      cwd=program.ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(made.returncode, 0, made.stderr)

  def run_main(self, variant: str, *args: str) -> str:
    """Returns what a run on these files prints."""
    result = program.run(
      f'--config={_CONFIG}:{variant}',
      f'--manual_dir={self.folder}/raw',
      f'--data_dir={self.folder}/data',
      f'--workdir={self.folder}/run',
      *args,
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    return result.stdout

  @parameterized.parameters(('luna16', 10, 2, 2), ('series_csv', 6, 1, 0))
  def test_trains_and_scores(self, layout, cases, scored, folds):
    self.make(layout, cases)
    self.run_main(f'smoke_{layout}')
    results = json.loads((self.folder / 'run' / 'results.json').read_text())
    self.assertTrue(results['finished'])
    self.assertFalse(results['dataset']['synthetic'])
    self.assertGreaterEqual(results['metrics']['cpm']['n'], scored)
    self.assertEqual(
      [fold['name'] for fold in results['folds']],
      [f'fold_{k}' for k in range(folds)],
    )
    if folds:
      examples = sum(fold['examples'] for fold in results['folds'])
      self.assertEqual(examples, results['dataset']['examples'])
    for fold in results['folds']:
      self.assertIn('value', fold['cpm'])
      for stage in ('screening', 'reduction'):
        self.assertEqual(fold[f'{stage}_best_step'], 6)
    self.assertTrue((self.folder / 'run' / 'report.html').exists())

  def test_prepares_dicom_series_with_luna16s_tables(self):
    self.make('luna16_dicom', 6)
    printed = self.run_main('smoke_luna16', '--mode=prepare')
    self.assertIn('prepared: ', printed)
    folder = pathlib.Path(printed.removeprefix('prepared: ').strip())
    info = json.loads((folder / 'dataset_info.json').read_text())
    counts = {
      split['name']: sum(map(int, split['shardLengths']))
      for split in info['splits']
    }
    self.assertEqual(counts, {'train': 4, 'validation': 1, 'test': 1})


if __name__ == '__main__':
  absltest.main()
