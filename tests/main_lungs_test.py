"""A whole smoke run of the detector of lungs in chest X-rays."""

import csv
import json
import os
import shutil
import tempfile

import numpy as np
from absl.testing import absltest
from PIL import Image
from pycocotools import coco
from pycocotools import cocoeval

from datasets import phantom_files
from tests import program

_METRICS = [
  f'{name}_{side}'
  for name in ('dice', 'iou', 'hd95')
  for side in ('right', 'left')
]
_METRICS += ['both_lungs_found', 'false_lung_rate', 'box_ap', 'mask_ap']


def setUpModule():
  # Compiling is most of a smoke run, and much of it the same in all of them.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp()
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'


def tearDownModule():
  shutil.rmtree(os.environ.pop('JAX_COMPILATION_CACHE_DIR'))


class LungsTest(program.SmokeCase):
  """A run on films of which some have no masks: U-Nets outline them first."""

  config = 'experiments/lung_maskrcnn.py:smoke_pseudo'

  @classmethod
  def prepare(cls):
    made = phantom_files.make(
      'lung_cxr', 'phantom_smoke', {}, cls.folder / 'data'
    )
    cls.raw = cls.folder / 'raw'
    shutil.copytree(made, cls.raw)
    with (cls.raw / 'patients.csv').open() as file:
      cls.bare = list(csv.DictReader(file))[::6]
    for row in cls.bare:
      for folder in ('rightMask', 'leftMask'):
        (cls.raw / folder / row['file']).with_suffix('.png').unlink()
    return [f'--manual_dir={cls.raw}']

  def test_results_and_report(self):
    self.assertCountEqual(self.results['baselines'], ['mean_mask', 'unet'])
    self.assert_has_metrics(
      _METRICS,
      [self.results['metrics'], *self.results['baselines'].values()],
    )
    self.assertEqual(
      self.results['dataset']['classes'], ['right lung', 'left lung']
    )
    self.assertEqual(
      [stage['name'] for stage in self.results['stages']],
      ['unet', 'unet_shallow', 'pseudo', 'all'],
    )
    self.assert_has_a_report()

  def test_pycocotools_finds_the_same_average_precision(self):
    folder = self.workdir / 'predictions' / 'unet'
    truth = coco.COCO(folder / 'truth_coco.json')
    scored = cocoeval.COCOeval(
      truth, truth.loadRes(str(folder / 'coco.json')), 'segm'
    )
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    self.assertAlmostEqual(
      scored.stats[0],
      self.results['baselines']['unet']['mask_ap']['value'],
      places=6,
    )

  def test_predicts_on_a_folder_of_films(self):
    films = self.create_tempdir().full_path
    for path in sorted((self.raw / 'images').iterdir())[:4]:
      shutil.copy(path, films)
    found, output = self.predict(films)
    names = sorted(os.listdir(films))
    self.assertEqual([case['case'] for case in found['cases']], names)
    with (output / 'lungs.csv').open() as file:
      self.assertEqual([row['case'] for row in csv.DictReader(file)], names)
    document = json.loads((output / 'coco.json').read_text())
    sizes = [(x['height'], x['width']) for x in document['images']]
    masks = sorted((output / 'masks').iterdir())
    self.assertLen(masks, len(names))
    shapes = [np.array(Image.open(path)).shape for path in masks]
    self.assertCountEqual(shapes, sizes)

  def test_labels_films_without_masks_and_trains_on_them(self):
    with (self.workdir / 'pseudo' / 'films.csv').open() as file:
      labelled = [row['film'] for row in csv.DictReader(file)]
    # Nobody trains on the others' patients.
    training = [row['file'] for row in self.bare if row['split'] == 'train']
    self.assertEqual(labelled, [f'images/{name}' for name in training])
    log = (self.workdir / 'log.txt').read_text()
    self.assertIn('unet: 8 training examples', log)
    self.assertIn(f'kept {len(training)} of {len(training)} films', log)
    self.assertIn(f'all: {8 + len(training)} training examples', log)


if __name__ == '__main__':
  absltest.main()
