"""Whole smoke runs of the classifiers of pictures."""

import csv
import json
import os
import shutil
import tempfile

from absl.testing import absltest

from tests import program

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


class FramesTest(PicturesCase):
  config = 'experiments/polyp_cnn.py:smoke'

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
