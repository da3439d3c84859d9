"""Whole smoke runs of the detectors of boxes on slices and in pictures."""

import json
import os
import shutil
import tempfile

from absl.testing import absltest

from tests import program
from tests import real_data

_CONFIG = 'experiments/lidc_lstm.py'


def setUpModule():
  # Compiling is most of a smoke run, and much of it the same in all of them.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp()
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'


def tearDownModule():
  shutil.rmtree(os.environ.pop('JAX_COMPILATION_CACHE_DIR'))


class SlicesTest(program.SmokeCase):
  config = f'{_CONFIG}:smoke'

  def test_results_and_report(self):
    names = ['ap50', 'precision', 'recall', 'accuracy']
    names += ['froc_mean', 'froc_mean_boxes']
    self.assertCountEqual(
      self.results['baselines'], ['laplacian_of_gaussian', 'nothing']
    )
    self.assertCountEqual(self.results['ablations'], ['first_outputs'])
    self.assert_has_metrics(
      names,
      [
        self.results['metrics'],
        *self.results['baselines'].values(),
        *self.results['ablations'].values(),
      ],
    )
    self.assertIn('ap50 - first_outputs', self.results['paired_differences'])
    self.assert_has_a_report()

  def test_predicts_on_a_folder_of_dicom(self):
    patient = next((self.folder / 'data' / 'phantom_files').glob('lidc-*/*/'))
    found, output = self.predict(patient)
    self.assertEqual(found['frame'], 'LPS mm')
    self.assertEqual(found['threshold'], self.results['threshold'])
    header = (output / 'luna16.csv').read_text().splitlines()[0]
    self.assertEqual(header, 'seriesuid,coordX,coordY,coordZ,probability')
    document = json.loads((output / 'coco.json').read_text())
    names = [image['file_name'] for image in document['images']]
    length = len(list(patient.rglob('*.dcm')))
    self.assertEqual(names, [f'{found["case"]}/{z}' for z in range(length)])

  def test_predicts_on_a_real_patient(self):
    found, output = self.predict(
      real_data.folder('lidc_idri') / 'LIDC-IDRI-0001'
    )
    self.assertStartsWith(found['case'], '1.3.6.1.4.1.14519.5.2.1.6279.6001')
    self.assertEqual(found['skipped'][0]['reason'], 'not_dicom')
    document = json.loads((output / 'coco.json').read_text())
    self.assertLen(document['images'], 133)


class PicturesTest(program.SmokeCase):
  config = f'{_CONFIG}:smoke_boxes_json'

  def test_results_and_report(self):
    names = ['ap50', 'precision', 'recall', 'accuracy']
    self.assertEqual(self.results['dataset']['classes'], ['solid', 'subsolid'])
    self.assertCountEqual(self.results['baselines'], ['nothing'])
    self.assert_has_metrics(
      names, [self.results['metrics'], self.results['baselines']['nothing']]
    )
    self.assertIsNone(self.results['metrics']['froc_mean']['value'])
    self.assert_has_a_report()

  def test_predicts_on_a_folder_of_pictures(self):
    root = next((self.folder / 'data' / 'phantom_files').glob('boxes_json-*/'))
    found, output = self.predict(next(root.glob('pictures/*/')))
    self.assertEqual({case['frame'] for case in found['cases']}, {'pixels'})
    self.assertFalse((output / 'luna16.csv').exists())
    document = json.loads((output / 'coco.json').read_text())
    self.assertEqual(
      [row['name'] for row in document['categories']], ['solid', 'subsolid']
    )
    self.assertEqual(
      [image['file_name'] for image in document['images']],
      [case['case'] for case in found['cases']],
    )


if __name__ == '__main__':
  absltest.main()
