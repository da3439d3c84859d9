import csv
import json
import pathlib
import tarfile

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest

from datasets import build
from medzoo.data import sources
from medzoo.io import tables
from tests import real_data
from tests.datasets import raw_files


class LidcIdriTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'

  def prepare(self, **options):
    directory = build.prepare(
      'lidc_idri', manual_dir=self.raw, data_dir=self.folder / 'data', **options
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    return directory, report

  def add(self, series, patient, *, readers=3, xml='', **options):
    folder = self.raw / patient / series
    voxels = raw_files.scan(len(series))
    raw_files.write_dicom(folder, series, patient, voxels, **options)
    raw_files.write_xml(
      self.raw / xml / f'{series}.xml' if xml else folder / '1.xml',
      series,
      readers,
    )

  def test_lesions_excluded_and_tables(self):
    self.add('1.1', 'P1')
    self.add('1.2', 'P2', readers=2)
    directory, _ = self.prepare()
    cases = sources.open_cases(directory, 'all')
    by_key = {case.volume.series_uid: case for case in cases}
    found = by_key['1.1'].lesions
    np.testing.assert_allclose(found.centers, [[-2.0, -4.0, -24.0]])
    volume = 75 * np.prod(raw_files.SPACING)
    np.testing.assert_allclose(
      found.diameters, np.cbrt(6 * volume / np.pi), rtol=1e-12
    )
    # Two steps of the clustering, and the non-nodule.
    self.assertLen(by_key['1.1'].excluded, 3)
    self.assertEmpty(by_key['1.2'].lesions)
    self.assertLen(by_key['1.2'].excluded, 3)
    record = cases.record(cases.keys.index('1.1'))
    self.assertEqual(record['lesion_readers'].tolist(), [3])
    folder = pathlib.Path(directory)
    rows = tables.read_marks(folder / 'annotations.csv', 'diameter_mm')
    self.assertEqual(list(rows), ['1.1'])
    rows = tables.read_marks(folder / 'annotations_excluded.csv', 'diameter_mm')
    self.assertEqual((rows['1.2'][:, 3] == -1).sum(), 1)
    self.assertCountEqual(
      tables.read_seriesuids(folder / 'seriesuids.csv'), ['1.1', '1.2']
    )

  def test_what_is_left_out_is_counted_by_reason(self):
    self.add('1.1', 'P1')
    self.add('1.2', 'P2', thickness=3.0)
    self.add('1.3', 'P3', modality='DX')
    self.add('1.4', 'P4')
    (self.raw / 'P4/1.4/1.xml').unlink()
    self.add('1.5', 'P5')
    (self.raw / 'P5/1.5/3.dcm').unlink()
    _, report = self.prepare()
    self.assertEqual(
      report['left_out'],
      {'thick_slices': 1, 'no_ct': 1, 'no_xml': 1, 'missing_slices': 1},
    )
    self.assertEqual(report['splits'].keys(), {'train'})
    _, report = self.prepare(max_slice_mm=3.0)
    self.assertNotIn('thick_slices', report['left_out'])

  def test_marks_on_another_image_leave_the_scan_out(self):
    self.add('1.1', 'P1')
    self.add('1.2', 'P1')
    xml = self.raw / 'P1/1.2/1.xml'
    xml.write_text(xml.read_text().replace('1.2.3<', '1.2.33<'))
    _, report = self.prepare()
    self.assertEqual(report['left_out'], {'bad_marks': 1})

  def test_xml_lies_anywhere(self):
    self.add('1.1', 'P1', xml='tcia-lidc-xml/157')
    self.add('1.2', 'P2', xml='tcia-lidc-xml/158')
    apart, _ = self.prepare()
    self.assertLen(sources.open_cases(apart, 'all'), 2)
    with tarfile.open(self.raw / 'xml.tar.xz', 'w:xz') as archive:
      archive.add(self.raw / 'tcia-lidc-xml', 'tcia-lidc-xml')
    for path in (self.raw / 'tcia-lidc-xml').rglob('*.xml'):
      path.unlink()
    packed, _ = self.prepare()
    self.assertNotEqual(apart, packed)
    self.assertLen(sources.open_cases(packed, 'all'), 2)

  def test_no_patient_is_in_two_splits_or_named(self):
    for i in range(12):
      self.add(f'1.{i + 1}', f'PATIENT{i // 2}')
    directory, report = self.prepare(
      shares={'train': 6, 'validation': 2, 'test': 4}
    )
    sizes = {name: part['cases'] for name, part in report['splits'].items()}
    self.assertEqual(sizes, {'train': 6, 'validation': 2, 'test': 4})
    groups = [set(sources.open_cases(directory, name).groups) for name in sizes]
    self.assertLen(set.union(*groups), 6)
    self.assertEqual(sum(map(len, groups)), 6)
    for path in pathlib.Path(directory).iterdir():
      self.assertNotIn(b'PATIENT', path.read_bytes())

  def test_a_tree_without_xml_is_refused(self):
    self.add('1.1', 'P1')
    (self.raw / 'P1/1.1/1.xml').unlink()
    with self.assertRaisesRegex(ValueError, 'found no XML of LIDC-IDRI'):
      self.prepare()

  def test_the_real_patients(self):
    self.raw = real_data.folder('lidc_idri')
    truth = real_data.folder('luna16')
    directory, report = self.prepare()
    self.assertEqual(report['left_out'], {})
    self.assertEqual(report['splits'].keys(), {'train', 'test'})
    cases = sources.open_cases(directory, 'all')
    for case in cases:
      np.testing.assert_array_equal(
        case.volume.voxels, _read_with_itk(self.raw, case.volume.series_uid)
      )
    for name, count in (('annotations', 4), ('annotations_excluded', 13)):
      ours = _read_sized(pathlib.Path(directory) / f'{name}.csv', cases.keys)
      theirs = _read_sized(truth / f'{name}.csv', cases.keys)
      self.assertLen(theirs, count)
      self.assertLen(ours, count)
      gap = np.abs(ours[:, None] - theirs[None]).max(axis=-1)
      np.testing.assert_array_less(gap.min(axis=0), 0.01)
      self.assertLen(set(gap.argmin(axis=0)), count)
    for i in range(len(cases)):
      self.assertEqual(set(cases.record(i)['lesion_readers']), {4})


def _read_with_itk(root, series):
  for folder in {path.parent for path in root.rglob('*.dcm')}:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    if names:
      return sitk.GetArrayFromImage(sitk.ReadImage(names))
  raise AssertionError(series)


def _read_sized(path, keys):
  """Reads the rows with a diameter; a series becomes a far away offset."""
  with path.open() as file:
    return np.array(
      [
        [
          1e6 * keys.index(row['seriesuid']) + float(row['coordX']),
          *(float(row[name]) for name in ('coordY', 'coordZ', 'diameter_mm')),
        ]
        for row in csv.DictReader(file)
        if row['seriesuid'] in keys and float(row['diameter_mm']) > 0
      ]
    )


if __name__ == '__main__':
  absltest.main()
