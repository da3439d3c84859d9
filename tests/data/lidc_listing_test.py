import pathlib

from absl.testing import absltest

from datasets.phantoms import chest_ct
from medzoo.data import lidc_listing
from tests import real_data
from tests.datasets import raw_files


class ListingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def rows(self):
    return {x['series']: x for x in lidc_listing.rows(self.folder)}

  def test_a_phantom(self):
    chest_ct.write(self.folder, cases=1, size='smoke')
    phantom = chest_ct.make(0, 0, size='smoke')
    (row,) = self.rows().values()
    self.assertEqual(row['vendor'], phantom.scanner.manufacturer)
    self.assertEqual(
      (row['slices'], row['rows'], row['columns']), phantom.volume.voxels.shape
    )
    steps = [row[f'{name}_step'] for name in ('slice', 'row', 'column')]
    for step, expected in zip(steps, phantom.volume.spacing, strict=True):
      self.assertAlmostEqual(step, expected, 3)
    self.assertEqual(float(row['thickness']), phantom.scanner.thickness)
    self.assertEqual(row['readers'], len(phantom.readings))
    marks = [mark for x in phantom.readings for mark in x.marks]
    self.assertEqual(row['nodules'], len(marks))
    self.assertEqual(row['lesions_1'], len({mark.nodule for mark in marks}))
    self.assertEqual(
      row['small_nodules'], sum(len(x.small) for x in phantom.readings)
    )
    self.assertEqual(
      row['non_nodules'], sum(len(x.others) for x in phantom.readings)
    )
    self.assertNotIn('refused', row)
    self.assertContainsSubset(row, lidc_listing.COLUMNS)
    self.assertNotIn(phantom.patient, str(row))

  def test_what_agrees_and_what_is_refused(self):
    for series in ('1.1', '1.2', '1.3'):
      folder = self.folder / series
      voxels = raw_files.scan(0)
      raw_files.write_dicom(folder, series, 'NAME', voxels)
      if series != '1.3':
        raw_files.write_xml(folder / '1.xml', series)
    (self.folder / '1.2/3.dcm').unlink()
    rows = self.rows()
    lesions = [rows['1.1'][f'lesions_{n}'] for n in (1, 2, 3, 4)]
    self.assertEqual(lesions, [1, 1, 1, 0])
    self.assertEqual(rows['1.2']['refused'], 'missing_slices')
    self.assertEqual(rows['1.2']['nodules'], 3)
    self.assertEqual(rows['1.2']['slices'], 5)
    self.assertNotIn('slice_step', rows['1.2'])
    self.assertNotIn('nodules', rows['1.3'])
    self.assertEqual(rows['1.3']['slice_step'], 2)

  def test_the_xml_alone(self):
    raw_files.write_xml(self.folder / '1.xml', '1.1')
    self.assertEqual(
      self.rows(),
      {
        '1.1': {
          'series': '1.1',
          'readers': 4,
          'nodules': 3,
          'small_nodules': 0,
          'non_nodules': 1,
        }
      },
    )

  def test_the_real_patients(self):
    self.folder = real_data.folder('lidc_idri')
    first, second = sorted(self.rows().values(), key=lambda x: x['slices'])
    for row in (first, second):
      self.assertEqual(row['vendor'], 'GE MEDICAL SYSTEMS')
      self.assertEqual((row['rows'], row['columns']), (512, 512))
      self.assertEqual(row['slice_step'], 2.5)
      self.assertEqual(row['readers'], 4)
      self.assertNotIn('LIDC-IDRI-', str(row))
    self.assertEqual((first['slices'], second['slices']), (133, 140))
    self.assertEqual((first['lesions_1'], first['lesions_4']), (1, 1))
    # LUNA16 lists three nodules, which all four readers marked.
    self.assertEqual((second['lesions_3'], second['lesions_4']), (3, 3))


if __name__ == '__main__':
  absltest.main()
