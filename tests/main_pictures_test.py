"""Whole smoke runs of the classifiers of pictures."""

import csv
import functools
import json
import os
import shutil
import tempfile

from absl.testing import absltest
from PIL import Image

from datasets import build
from medzoo.train import run
from tests import program
from tests.train import picture_cases

_CLASSES = ['accuracy', 'auc', 'sensitivity', 'specificity', 'precision', 'f1']
_BOXES = ['detection_f1', 'detection_precision', 'detection_recall']


def setUpModule():
  # Compiling is most of a smoke run, and much of it the same in all of them.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp()
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'


def tearDownModule():
  shutil.rmtree(os.environ.pop('JAX_COMPILATION_CACHE_DIR'))


class PicturesCase(program.SmokeCase):
  """What all runs of classifiers have in common; to be derived from."""

  def assert_has_classes(self, baselines):
    metrics = self.results['metrics']
    for name in _CLASSES:
      self.assertContainsSubset(['value', 'low', 'high', 'n'], metrics[name])
    dataset = self.results['dataset']
    self.assertEqual(
      metrics['confusion_matrix']['labels'],
      [dataset['background'], *dataset['classes']],
    )
    self.assertContainsSubset(baselines, self.results['baselines'])
    for name in baselines:
      self.assertIn(f'auc - {name}', self.results['paired_differences'])
    self.assert_has_a_report()

  def predictions(self):
    path = self.workdir / 'predictions' / 'predictions.csv'
    with path.open(newline='') as file:
      return list(csv.DictReader(file))


class FilmsTest(PicturesCase):
  config = 'experiments/xray_nodule.py:smoke'

  def test_results_and_report(self):
    self.assert_has_classes(['majority', 'hog_ridge'])
    self.assertEqual(
      [(row['name'], row['kind']) for row in self.results['stages']],
      [('pretrain', 'fit'), ('encoder', 'load'), ('codes', 'map'),
       ('head', 'fit')],
    )  # fmt: skip
    self.assertEqual(self.results['sizes']['encoder: starts from'], 'pretrain')
    self.assertLen(self.predictions(), self.results['dataset']['examples'])

  def test_predicts_with_what_speaks_for_it(self):
    root = next((self.folder / 'data' / 'phantom_files').glob('nlmcxr-*/'))
    film = next((root / 'NLMCXR_png').iterdir())
    found, output = self.predict(film)
    self.assertEqual(found['probability_of'], 'nodule')
    self.assertIn(found['class'], ('normal', 'nodule'))
    self.assertBetween(found['probability'], 0, 1)
    self.assertLen(found['pictures'], 1)
    rows = (output / 'predictions.csv').read_text().splitlines()
    self.assertEqual(rows[0], 'case,probability,class')


class FoldersTest(PicturesCase):
  """Three folders, and thus three classes."""

  config = 'experiments/xray_nodule.py:smoke_folder'

  @classmethod
  def prepare(cls):
    for case in picture_cases.shapes(24):
      name = ('empty', 'disc', 'lines')[case.label]
      path = cls.folder / 'raw' / name / f'{case.group}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(case.volume.voxels[0]).save(path)
    return [f'--manual_dir={cls.folder}/raw']

  def test_results_and_report(self):
    self.assert_has_a_report()
    metrics = self.results['metrics']
    # By the alphabet.
    names = ['disc', 'empty', 'lines']
    self.assertEqual(metrics['confusion_matrix']['labels'], names)
    for system in (metrics, *self.results['baselines'].values()):
      for name in names:
        self.assertIn(f'sensitivity_{name}', system)
    # Stripes and discs are no riddle to gradients.
    self.assertGreater(
      self.results['baselines']['hog_ridge']['accuracy']['value'], 0.9
    )
    self.assertIn('auc - hog_ridge', self.results['paired_differences'])
    self.assertIn('temperature', self.results['threshold'])
    rows = self.predictions()
    self.assertLen(rows, self.results['dataset']['examples'])
    self.assertIn('probability_2', rows[0])
    facts = json.loads((self.workdir / 'model' / 'config.json').read_text())
    self.assertEqual(
      facts['config']['stages']['head']['model']['num_classes'], 3
    )

  def test_predicts_one_of_three(self):
    found, output = self.predict(self.folder / 'raw' / 'disc' / 's1.png')
    self.assertEqual(found['class'], found['probability_of'])
    self.assertAlmostEqual(sum(found['probabilities'].values()), 1)
    self.assertEqual(max(found['probabilities'].values()), found['probability'])
    self.assertLen(found['pictures'], 1)
    rows = (output / 'predictions.csv').read_text().splitlines()
    self.assertEqual(
      rows[0],
      'case,class,probability_disc,probability_empty,probability_lines',
    )

  def test_scores_folders_of_the_same_classes_alone(self):
    raw, output = self.folder / 'few', self.folder / 'other'
    data = f'{self.folder}/data'
    for path in self.folder.glob('raw/*/s[0-5].png'):
      (raw / path.parent.name).mkdir(parents=True, exist_ok=True)
      shutil.copy(path, raw / path.parent.name)
    self.run_main(
      '--mode=evaluate',
      f'--manual_dir={raw}',
      f'--output={output}',
      f'--data_dir={data}',
    )
    results = json.loads((output / 'results.json').read_text())
    self.assertEqual(results['threshold'], self.results['threshold'])
    self.assertEqual(results['dataset']['examples'], 6)
    self.assertIn('auc_lines', results['metrics'])
    shutil.rmtree(raw / 'lines')
    dataset = {'name': 'image_folder', 'options': {}, 'synthetic': False}
    prepare = functools.partial(build.prepare, manual_dir=raw, data_dir=data)
    with self.assertRaisesRegex(
      ValueError, '^found the classes disc, empty, expected disc, empty, lines'
    ):
      run.evaluate_on(dataset, self.workdir, prepare, None, output)


class FramesTest(PicturesCase):
  config = 'experiments/polyp_cnn.py:smoke'
  devices = 2

  def test_results_and_report(self):
    self.assert_has_classes(['crop_size', 'crop_place', 'hog_ridge'])
    self.assertContainsSubset(_BOXES, self.results['metrics'])
    self.assertIn('centre_box', self.results['baselines'])
    self.assertEqual(
      self.results['baselines']['crop_size']['auc']['value'], 0.5
    )
    rows = self.predictions()
    self.assertEqual(sum(row['label'] == '1' for row in rows), len(rows) / 2)

  def test_searches_frames_that_nobody_has_outlined(self):
    root = next((self.folder / 'data' / 'phantom_files').glob('frames-*/'))
    found, output = self.predict(root / 'Original')
    self.assertLen(found['cases'], 16)
    for case in found['cases']:
      self.assertEqual(case['frame'], 'pixels')
      self.assertEqual(case['threshold'], self.results['detection_threshold'])
    self.assertTrue((output / 'coco.json').exists())

  def test_one_device_scores_within_the_intervals_of_two(self):
    workdir = self.folder / 'one'
    result = program.run(
      f'--config={self.config}',
      f'--workdir={workdir}',
      f'--data_dir={self.folder}/data',
      JAX_NUM_CPU_DEVICES='1',
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    one = json.loads((workdir / 'results.json').read_text())
    two = self.results
    self.assertEqual([one['device'], two['device']], ['cpu x1', 'cpu x2'])
    for name in [*_CLASSES, *_BOXES]:
      entry, other = one['metrics'][name], two['metrics'][name]
      self.assertEqual(entry['value'] is None, other['value'] is None, name)
      if entry['value'] is not None:
        self.assertLessEqual(entry['low'], other['high'], name)
        self.assertLessEqual(other['low'], entry['high'], name)

  def test_scores_other_frames(self):
    root = next((self.folder / 'data' / 'phantom_files').glob('frames-*/'))
    output = self.folder / 'other'
    self.run_main(
      '--mode=evaluate',
      f'--manual_dir={root}',
      f'--output={output}',
      f'--data_dir={self.folder}/data',
    )
    results = json.loads((output / 'results.json').read_text())
    self.assertContainsSubset([*_CLASSES, *_BOXES], results['metrics'])
    self.assertEqual(results['threshold'], self.results['threshold'])
    self.assertFalse(results['dataset']['synthetic'])
    self.assertTrue((output / 'report.html').exists())


if __name__ == '__main__':
  absltest.main()
