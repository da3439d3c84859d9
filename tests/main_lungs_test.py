"""A whole smoke run of the detector of lungs in chest X-rays."""

import csv
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
from absl.testing import absltest
from PIL import Image
from pycocotools import coco
from pycocotools import cocoeval

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
  config = 'experiments/lung_maskrcnn.py:smoke'

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
      ['unet', 'all'],
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
    (root,) = (self.folder / 'data' / 'phantom_files').glob('folders-*')
    films = self.create_tempdir().full_path
    for path in sorted((root / 'images').iterdir())[:4]:
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
    (root,) = (self.folder / 'data' / 'phantom_files').glob('folders-*')
    raw = pathlib.Path(self.create_tempdir().full_path) / 'raw'
    shutil.copytree(root, raw)
    with (raw / 'patients.csv').open() as file:
      bare = list(csv.DictReader(file))[::6]
    for row in bare:
      for folder in ('rightMask', 'leftMask'):
        (raw / folder / row['file']).with_suffix('.png').unlink()
    workdir = raw.parent / 'run'
    result = program.run(
      f'--config={self.config}_pseudo',
      f'--manual_dir={raw}',
      f'--data_dir={raw.parent}/data',
      f'--workdir={workdir}',
      JAX_NUM_CPU_DEVICES=str(self.devices),
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    with (workdir / 'pseudo' / 'films.csv').open() as file:
      labelled = [row['film'] for row in csv.DictReader(file)]
    # Nobody trains on the others' patients.
    training = [row['file'] for row in bare if row['split'] == 'train']
    self.assertEqual(labelled, [f'images/{name}' for name in training])
    log = (workdir / 'log.txt').read_text()
    self.assertIn('unet: 8 training examples', log)
    self.assertIn(f'kept {len(training)} of {len(training)} films', log)
    self.assertIn(f'all: {8 + len(training)} training examples', log)


if __name__ == '__main__':
  absltest.main()
