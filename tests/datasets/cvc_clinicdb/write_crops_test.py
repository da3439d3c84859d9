import csv
import json
import pathlib

import numpy as np
from absl.testing import absltest
from PIL import Image

from datasets import build
from datasets.cvc_clinicdb import write_crops
from medzoo.data import crops
from medzoo.data import sources

_SHAPE = (96, 128)


def _write_frames(root):
  """Writes four frames of two sequences, each with a polyp but one."""
  rng = np.random.default_rng(0)
  for name in ('Original', 'Ground Truth'):
    (root / name).mkdir(parents=True)
  for i in range(4):
    pixels = rng.integers(60, 250, (*_SHAPE, 3), np.uint8)
    mask = np.zeros(_SHAPE, np.uint8)
    if i:
      mask[20 : 40 + i, 30:60] = 255
    Image.fromarray(pixels).save(root / f'Original/f{i}.png')
    Image.fromarray(mask).save(root / f'Ground Truth/f{i}.png')
  lines = ['file,sequence,split', 'f0,a,train', 'f1,a,train', 'f2,b,validation']
  (root / 'sequences.csv').write_text('\n'.join([*lines, 'f3,b,validation\n']))


class WriteCropsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    _write_frames(self.folder / 'raw')
    self.dataset = build.prepare(
      'cvc_clinicdb',
      manual_dir=self.folder / 'raw',
      data_dir=self.folder / 'data',
    )
    self.output = self.folder / 'crops'

  def run_command(self, *arguments):
    return write_crops.main([self.dataset, str(self.output), *arguments])

  def test_crops_are_pictures_in_keras_folders(self):
    self.assertEqual(self.run_command('--margin=0.2', '--seed=3'), 0)
    with (self.output / 'patients.csv').open(newline='') as file:
      rows = {row['file']: row for row in csv.DictReader(file)}
    written = {
      path.relative_to(self.output).as_posix()
      for path in self.output.rglob('*.png')
    }
    self.assertEqual(set(rows), written)
    self.assertIn('train/polyps/f1_polyp_0.png', written)
    self.assertLen(written, 6)
    for split in ('train', 'validation'):
      cases = sources.open_cases(self.dataset, split)
      for case in crops.Crops(cases, margin=0.2, seed=3):
        kind = ('non_polyps', 'polyps')[case.label]
        name = '_'.join(case.volume.series_uid.rsplit('/', 1))
        file = f'{split}/{kind}/{name}.png'
        np.testing.assert_array_equal(
          np.asarray(Image.open(self.output / file)), case.volume.voxels[0]
        )
        self.assertEqual(
          (rows[file]['patient'], rows[file]['split']), (case.group, split)
        )
    counts = json.loads((self.output / 'counts.json').read_text())
    self.assertEqual(counts['validation']['polyp'], 2)
    self.assertEqual(counts['train']['mucosa'], 1)

  def test_nothing_is_written_over(self):
    self.output.mkdir()
    self.assertEqual(self.run_command(), 1)
    self.assertEmpty(list(self.output.iterdir()))

  def test_a_dataset_is_needed(self):
    self.dataset = str(self.folder)
    self.assertEqual(self.run_command(), 1)
    self.assertFalse(self.output.exists())


if __name__ == '__main__':
  absltest.main()
