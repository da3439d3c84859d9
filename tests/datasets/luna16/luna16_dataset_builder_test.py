import json
import pathlib

import numpy as np
from absl.testing import absltest

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.io import volumes
from tests.datasets import raw_files

MARK = np.array([[-2.0, -4.0, -24.0, 5.0]])


class Luna16Test(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def prepare(self, **options):
    directory = build.prepare(
      'luna16', manual_dir=self.raw, data_dir=self.folder / 'data', **options
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    return directory, report

  def add_mhd(self, subset, name):
    folder = self.raw / subset
    folder.mkdir(parents=True, exist_ok=True)
    volume = types.Volume(
      raw_files.scan(0), raw_files.SPACING, raw_files.ORIGIN
    )
    volumes.write(volume, folder / f'{name}.mhd')

  def write(self, file, *names):
    marks = dict.fromkeys(names, MARK)
    tables.write_marks(self.raw / file, marks, 'diameter_mm')

  def test_official_subsets(self):
    self.add_mhd('subset0/subset0', '1.1')
    self.add_mhd('subset7', '1.2')
    self.add_mhd('seg-lungs-LUNA16', '1.1')
    (self.raw / 'CSVFILES').mkdir()
    self.write('CSVFILES/annotations.csv', '1.1', '1.9')
    self.write('CSVFILES/annotations_excluded.csv', '1.2')
    directory, report = self.prepare()
    self.assertEqual(list(report['splits']), ['subset0', 'subset7'])
    self.assertIn('subset1, subset2', report['notes'][0])
    self.assertIn('1 annotated series', report['notes'][1])
    (first,) = sources.open_cases(directory, 'subset0')
    np.testing.assert_array_equal(first.lesions.centers, MARK[:, :3])
    self.assertEqual(first.volume.modality, 'CT')
    (second,) = sources.open_cases(directory, 'subset7')
    self.assertEmpty(second.lesions)
    self.assertLen(second.excluded, 1)

  def test_a_map_makes_patients_the_groups(self):
    for subset, name in (('subset0', '1.1'), ('subset1', '1.2')):
      self.add_mhd(subset, name)
    self.write('annotations.csv', '1.1')
    patients = self.folder / 'map.txt'
    patients.write_text(
      'PatientID StudyInstanceUID SeriesInstanceUID \n'
      'P1 2.1 1.1 \nP1 2.2 1.2 \n'
    )
    apart = sources.open_cases(self.prepare()[0], 'all')
    joined, _ = self.prepare(patient_map=str(patients))
    self.assertLen(set(apart.groups), 2)
    self.assertLen(set(sources.open_cases(joined, 'all').groups), 1)

  def test_dicom_series_in_world_coordinates(self):
    for i in range(4):
      raw_files.write_dicom(
        self.raw / f's{i}', f'1.{i + 1}', f'P{i // 2}', raw_files.scan(i)
      )
    raw_files.write_dicom(
      self.raw / 's4', '1.5', 'P5', raw_files.scan(0), modality='DX'
    )
    self.write('annotations.csv', '1.1', '1.3')
    directory, report = self.prepare(shares={'train': 1, 'test': 1})
    self.assertEqual(report['left_out'], {'no_ct': 1})
    sides = [
      set(sources.open_cases(directory, name).groups)
      for name in ('train', 'test')
    ]
    self.assertEqual([len(side) for side in sides], [1, 1])
    self.assertEmpty(sides[0] & sides[1])
    cases = sources.open_cases(directory, 'all')
    case = cases[cases.keys.index('1.3')]
    index = np.round(case.volume.world_to_index(case.lesions.centers[0]))
    self.assertEqual(case.volume.voxels[tuple(index.astype(int))], 40)

  def test_a_list_restricts_the_series(self):
    for i in range(3):
      raw_files.write_dicom(
        self.raw / f's{i}', f'1.{i + 1}', f'P{i}', raw_files.scan(i)
      )
    self.write('annotations.csv', '1.1')
    tables.write_seriesuids(self.raw / 'seriesuids.csv', ['1.1', '1.2'])
    directory, report = self.prepare()
    self.assertCountEqual(
      sources.open_cases(directory, 'all').keys, ['1.1', '1.2']
    )
    self.assertEqual(report['left_out'], {'not_listed': 1})

  def test_annotations_of_other_scans_are_refused(self):
    self.add_mhd('subset0', '1.1')
    self.write('annotations.csv', '1.2')
    with self.assertRaisesRegex(ValueError, 'none of which is one of the 1 se'):
      self.prepare()

  def test_missing_annotations_and_bad_lines_are_refused(self):
    self.add_mhd('subset0', '1.1')
    with self.assertRaisesRegex(ValueError, 'found no annotations.csv'):
      self.prepare()
    self.write('annotations.csv', '1.1')
    path = self.raw / 'annotations.csv'
    path.write_text(path.read_text() + '1.1,a,2,3,4\n')
    with self.assertRaisesRegex(ValueError, 'annotations.csv.*3.*coordX'):
      self.prepare()


if __name__ == '__main__':
  absltest.main()
