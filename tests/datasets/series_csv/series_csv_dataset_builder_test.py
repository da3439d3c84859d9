import json
import pathlib
import shutil

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.io import volumes
from tests.datasets import raw_files


class SeriesCsvTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    (self.raw / 'scans').mkdir(parents=True)
    self.turned = types.Volume(
      raw_files.scan(0),
      raw_files.SPACING,
      raw_files.ORIGIN,
      np.diag([-1.0, -1.0, 1.0]),
    )
    volumes.write(self.turned, self.raw / 'scans/a.nii.gz')
    volumes.write(self.turned, self.raw / 'scans/b.mha')
    raw_files.write_dicom(
      self.raw / 'scans/c', '1.1', 'P1', raw_files.scan(1), modality='MR'
    )
    (self.raw / 'mapping.csv').write_text('bg,0\naneurysm,1\nnodule,2\n')

  def prepare(self, *rows, **options):
    (self.raw / 'annotations.csv').write_text('\n'.join(rows) + '\n')
    directory = build.prepare(
      'series_csv',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    return directory, report

  def test_reads_every_kind_of_row(self):
    directory, report = self.prepare(
      'scans/a.nii.gz,nodule,10,11.5,3,6.5,g1',
      'scans/a.nii.gz,aneurysm,0,0,0,,g1',
      'scans/b.mha,aneurysm,,,,,g2',
      'scans/c,aneurysm,10,10,3,4,g3',
      'scans/c,bg,1,1,1,,g3',
    )
    cases = sources.open_cases(directory, 'all')
    by_key = {case.volume.series_uid: case for case in cases}
    self.assertCountEqual(by_key, ['scans/a.nii.gz', 'scans/b.mha', '1.1'])
    a = by_key['scans/a.nii.gz']
    self.assertEqual(a.lesions.labels.tolist(), [2, 1])
    np.testing.assert_array_equal(a.lesions.diameters, [6.5, np.nan])
    np.testing.assert_allclose(
      a.lesions.centers,
      self.turned.index_to_world([[3, 11.5, 10], [0, 0, 0]]),
      atol=1e-5,
    )
    np.testing.assert_allclose(
      a.volume.world_to_index(a.lesions.centers)[0], [3, 11.5, 10], atol=1e-5
    )
    self.assertEmpty(by_key['scans/b.mha'].lesions)
    c = by_key['1.1']
    self.assertEqual(c.volume.modality, 'MR')
    self.assertLen(c.lesions, 1)
    self.assertEqual(
      report['notes'],
      [
        '1 rows class a whole image: it is kept, no lesion',
        '1 rows place background: they are no lesions',
      ],
    )

  def test_groups_stay_together(self):
    directory, _ = self.prepare(
      'scans/a.nii.gz,nodule,1,1,1,2,same',
      'scans/b.mha,nodule,1,1,1,2,same',
      'scans/c,nodule,1,1,1,2,other',
      shares={'train': 2, 'test': 1},
    )
    self.assertLen(sources.open_cases(directory, 'train'), 2)
    self.assertNotIn('same', sources.open_cases(directory, 'all').groups)

  def test_files_outside_of_the_folder_count(self):
    outside = self.folder / 'outside.mha'
    volumes.write(self.turned, outside)
    row = f'{outside},nodule,1,1,1,2,g'
    first, _ = self.prepare(row)
    second, _ = self.prepare(row)
    self.assertEqual(first, second)
    outside.write_bytes(outside.read_bytes() + b' ')
    third, _ = self.prepare(row)
    self.assertNotEqual(first, third)

  def test_a_series_under_two_names_is_refused(self):
    folder = self.raw / 'scans/again'
    shutil.copytree(self.raw / 'scans/c', folder)
    with self.assertRaisesRegex(ValueError, '1.1: found 2 cases of this name'):
      self.prepare('scans/c,,,,,,g', 'scans/again,,,,,,g')

  def test_a_single_image_is_left_out(self):
    directory, report = self.prepare(
      'scans/c/1.dcm,nodule,1,1,0,2,g', 'scans/c,nodule,1,1,1,2,g'
    )
    self.assertEqual(report['left_out'], {'single_image': 1})
    self.assertEqual(sources.open_cases(directory, 'all').keys, ['1.1'])

  @parameterized.parameters(
    ('scans/none.mha,nodule,1,1,1,2,g', 'annotations.csv:2: found no file'),
    ('scans/b.mha,cyst,1,1,1,2,g', "annotations.csv:2: .*'cyst'"),
    ('scans/b.mha,nodule,1,x,1,2,g', "annotations.csv:2: .*y 'x'"),
    ('scans/b.mha,nodule,1,1,6,2,g', 'annotations.csv:2: .*24 x 24 x 6'),
    ('scans/a.nii.gz,nodule,1,1,1,2,g', "annotations.csv:2: found group 'g'"),
  )
  def test_a_bad_line_is_named(self, row, message):
    with self.assertRaisesRegex(ValueError, message):
      self.prepare('scans/a.nii.gz,nodule,1,1,1,2,g1', row)


if __name__ == '__main__':
  absltest.main()
