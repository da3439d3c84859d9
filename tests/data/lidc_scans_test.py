import pathlib
import tarfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import lidc_scans
from medzoo.io import dicom
from tests.datasets import raw_files
from tests.io import lidc_messages as messages


class ScansTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def add(self, series, *, xml=True, **options):
    folder = self.folder / series
    voxels = raw_files.scan(len(series))
    raw_files.write_dicom(folder, series, 'NAME', voxels, **options)
    if xml:
      raw_files.write_xml(folder / '1.xml', series)

  def only(self):
    (scan,) = lidc_scans.find(self.folder)
    return scan

  def refuse(self, code):
    with self.assertRaises(lidc_scans.LeftOut) as caught:
      scan = self.only()
      lidc_scans.measure(scan, lidc_scans.read(scan))
    self.assertEqual(caught.exception.code, code)

  def test_joins_images_and_messages_by_series(self):
    self.add('1.1', xml=False)
    self.add('1.2')
    raw_files.write_xml(self.folder / 'more' / '3.xml', '1.3')
    (self.folder / 'film.xml').write_text(messages.FILM)
    with tarfile.open(self.folder / 'xml.tar', 'w') as archive:
      archive.add(self.folder / 'more')
    found = {x.uid: x for x in lidc_scans.find(self.folder)}
    self.assertEqual(list(found), ['1.2', '1.3', '1.1'])
    self.assertIsNone(found['1.1'].document)
    self.assertIsNone(found['1.3'].series)
    self.assertEqual(found['1.2'].series.uid, '1.2')
    self.assertEqual(found['1.2'].document.series_uid, '1.2')
    (alone,) = lidc_scans.find(self.folder / 'xml.tar')
    self.assertEqual(alone.uid, '1.3')

  def test_a_place_without_either(self):
    with self.assertRaisesRegex(ValueError, 'nothing to read, expected DICOM'):
      list(lidc_scans.find(self.folder))
    with self.assertRaisesRegex(ValueError, 'no such path'):
      list(lidc_scans.find(self.folder / 'x'))

  def test_marks_and_points(self):
    self.add('1.1')
    scan = self.only()
    reading = lidc_scans.measure(scan, lidc_scans.read(scan))
    self.assertEqual([x.session for x in reading.marks], [0, 1, 2])
    cube = np.argwhere(raw_files.scan(3) == 40)
    for mark in reading.marks:
      np.testing.assert_array_equal(mark.voxels, cube)
    (point,) = reading.points
    self.assertEqual((point.kind, point.session), ('non_nodule', 3))
    np.testing.assert_allclose(point.index, [0, 4, 3], atol=1e-9)
    self.assertEqual(reading.sessions, 4)
    self.assertEqual(reading.group, scan.series.patient)
    self.assertNotIn('NAME', reading.group)
    self.assertEqual(reading.slices['1.1.4'], 3)

  def test_contours_decide_what_is_small(self):
    self.add('1.1', xml=False)
    ring = [(2, 2), (4, 2), (4, 4), (2, 4)]
    (self.folder / '1.xml').write_text(
      messages.ct(
        messages.non_nodule(9, 8, '1.1.2')
        + messages.nodule(messages.roi([(5, 6)], '1.1.1'))
        + messages.nodule(messages.roi(ring, '1.1.3'), rated=False),
        messages.nodule(messages.roi([(7, 3)], '1.1.6'), rated=False),
        series='1.1',
      )
    )
    scan = self.only()
    reading = lidc_scans.measure(scan, lidc_scans.read(scan))
    (mark,) = reading.marks
    self.assertEqual(mark.voxels.tolist(), [[2, 3, 3]])
    self.assertEqual(
      [
        (x.kind, x.session, np.round(x.index, 6).tolist())
        for x in reading.points
      ],
      [
        ('small', 0, [0, 6, 5]),
        ('non_nodule', 0, [1, 8, 9]),
        ('small', 1, [5, 3, 7]),
      ],
    )

  def test_a_grid_takes_the_marks_too(self):
    self.add('1.1')
    scan = self.only()
    whole = lidc_scans.measure(scan, lidc_scans.read(scan))
    empty = lidc_scans.measure(scan, lidc_scans.read(scan, dicom.grid))
    np.testing.assert_array_equal(whole.marks[0].center, empty.marks[0].center)

  def test_left_out(self):
    raw_files.write_xml(self.folder / '1.xml', '1.1')
    self.refuse('no_images')
    self.add('1.1', modality='DX')
    self.refuse('no_ct')
    self.add('1.1')
    (self.folder / '1.1/3.dcm').unlink()
    self.refuse('missing_slices')

  def test_without_marks(self):
    self.add('1.1', xml=False)
    self.refuse('no_xml')

  def test_marks_on_another_image(self):
    self.add('1.1')
    xml = self.folder / '1.1/1.xml'
    xml.write_text(xml.read_text().replace('1.1.3<', '1.1.33<'))
    self.refuse('bad_marks')

  def test_gray(self):
    values = np.array([[-3000, -1200, -1199], [-400, 399, 2000]], np.int16)
    shown = lidc_scans.gray(values)
    self.assertEqual(shown.dtype, np.uint8)
    self.assertEqual(shown.tolist(), [[0, 0, 0], [128, 255, 255]])


if __name__ == '__main__':
  absltest.main()
