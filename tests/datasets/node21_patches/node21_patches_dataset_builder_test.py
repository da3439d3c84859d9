import csv
import json
import pathlib

import numpy as np
from absl.testing import absltest

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.io import volumes
from tests import real_data


class Node21PatchesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def prepare(self, **options):
    directory = build.prepare(
      'node21_patches',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    return directory, report

  def add(self, series, number=0, shift=0, direction=(1.0, 1.0, 1.0)):
    """Writes a cube whose mask is 3 x 3 x 5 voxels about (5, 4, 4)."""
    voxels = np.zeros((11, 10, 10), np.int16)
    volume = types.Volume(
      voxels, (1.0, 1.0, 1.0), (shift, 0.0, 0.0), np.diag(direction)
    )
    volumes.write(volume, self.raw / f'{series}_dcm_{number}.mha')
    mask = np.zeros_like(voxels)
    mask[3:8, 3:6, 3:6] = 1
    mask = types.Volume(mask, volume.spacing, volume.origin, volume.direction)
    volumes.write(mask, self.raw / f'{series}_seg_{number}.mha')
    return volume

  def test_measures_the_mask(self):
    volume = self.add('1.1', direction=(-1.0, -1.0, 1.0))
    directory, report = self.prepare()
    cases = sources.open_cases(directory, 'train')
    (case,) = cases
    np.testing.assert_array_equal(
      case.lesions.centers, volume.index_to_world([[5, 4, 4]])
    )
    diameter = np.cbrt(6 * 45 / np.pi)
    np.testing.assert_allclose(case.lesions.diameters, [diameter])
    record = cases.record(0)
    self.assertEqual(record['mask'].sum(), 45)
    self.assertEqual(record['label'], 1)
    np.testing.assert_allclose(record['mask_diameter'], diameter)
    self.assertIn('1 from the mask', report['notes'][0])

  def test_prefers_the_match_and_excludes_neighbours(self):
    self.add('1.1')
    self.add('1.1', 1, shift=5)
    self.add('1.1', 2, shift=50)
    names = ('file', 'luna_x', 'luna_y', 'luna_z', 'luna_diameter_mm')
    with (self.raw / 'manifest.csv').open('w') as file:
      rows = csv.writer(file)
      rows.writerow(names)
      for number, x in enumerate((4.2, 9.2, 54.2)):
        rows.writerow([f'1.1_dcm_{number}.mha', x, 4, 5, 3.5])
    directory, _ = self.prepare()
    cases = sources.open_cases(directory, 'all')
    self.assertCountEqual(cases.keys, ['1.1_0', '1.1_1', '1.1_2'])
    found = dict(zip(cases.keys, cases.findings, strict=True))
    lesions, excluded = found['1.1_0']
    np.testing.assert_array_equal(lesions.centers, [[4.2, 4, 5]])
    np.testing.assert_array_equal(lesions.diameters, [3.5])
    np.testing.assert_array_equal(excluded.centers, [[9.2, 4, 5]])
    self.assertEmpty(found['1.1_2'][1])
    self.assertLen(set(cases.groups), 1)

  def test_leaves_series_out(self):
    self.add('1.1')
    self.add('1.2')
    directory, report = self.prepare(exclude_series=('1.1',))
    self.assertEqual(sources.open_cases(directory, 'all').keys, ['1.2_0'])
    self.assertEqual(report['left_out'], {'excluded': 1})

  def test_a_cube_without_mask_is_refused(self):
    self.add('1.1')
    (self.raw / '1.1_seg_0.mha').unlink()
    with self.assertRaisesRegex(ValueError, 'found no mask 1.1_seg_0.mha'):
      self.prepare()

  def test_patients_need_a_map(self):
    self.add('1.1')
    with self.assertRaisesRegex(ValueError, 'without patient_map'):
      self.prepare(exclude_patients=('P1',))

  def test_the_real_cubes_without_two_patients(self):
    self.raw = real_data.folder('luna16_nodule_patches')
    patients = real_data.folder('lidc_xml') / 'LIDC-IDRI-mappingLUNA16.txt'
    directory, report = self.prepare(
      patient_map=str(patients),
      exclude_patients=('LIDC-IDRI-0001', 'LIDC-IDRI-0003'),
    )
    self.assertEqual(report['left_out'], {'excluded': 4})
    train, validation = (
      sources.open_cases(directory, name) for name in ('train', 'validation')
    )
    self.assertLen(set(train.keys + validation.keys), 216)
    self.assertEmpty(set(train.groups) & set(validation.groups))
    cases = sources.concatenate([train, validation])
    for i, case in enumerate(cases):
      mask = cases.record(i)['mask']
      index = case.volume.world_to_index(case.lesions.centers[0])
      away = index - np.argwhere(mask).mean(axis=0)
      self.assertLess(np.linalg.norm(away), 3)


if __name__ == '__main__':
  absltest.main()
