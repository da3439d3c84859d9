"""Tests that phantoms are written as real data are published."""

import csv
import pathlib
import tempfile

import numpy as np
import pydicom
import SimpleITK as sitk
from absl.testing import absltest

from datasets.phantoms import chest_ct
from datasets.phantoms import chest_ct_layouts as layouts
from datasets.phantoms import chest_ct_uids as uids
from medzoo.data import slices
from medzoo.io import box_lists
from medzoo.io import dicom
from medzoo.io import images
from medzoo.io import lidc_lesions
from medzoo.io import lidc_xml

_CASES = 6


def _rows(path: pathlib.Path) -> list[list[str]]:
  with path.open(newline='') as file:
    return list(csv.reader(file))


class LayoutsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.phantoms = [chest_ct.make(0, i, size='smoke') for i in range(_CASES)]
    cls.tables = [layouts.annotations(phantom) for phantom in cls.phantoms]

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)

  def test_lidc_reads_back_to_the_voxel(self):
    layouts.write_lidc(self.phantoms, self.folder)
    for phantom in self.phantoms:
      uid = phantom.volume.series_uid
      series = self.folder / phantom.patient / phantom.study_uid / uid
      volume = dicom.read_series(series)
      np.testing.assert_array_equal(volume.voxels, phantom.volume.voxels)
      np.testing.assert_allclose(volume.spacing, phantom.volume.spacing)
      np.testing.assert_allclose(volume.origin, phantom.volume.origin)
      self.assertEqual(volume.series_uid, uid)
      self.assertEqual(volume.modality, 'CT')

  def test_scanners_differ_as_real_ones_do(self):
    layouts.write_lidc(self.phantoms, self.folder)
    headers = [
      pydicom.dcmread(next(path.glob('*.dcm')), stop_before_pixels=True)
      for path in self.folder.glob('*/*/*')
    ]
    self.assertGreater(len({h.Manufacturer for h in headers}), 1)
    for header in headers:
      self.assertStartsWith(header.PatientID, 'PHANTOM-')
      self.assertEqual(header.PatientName, header.PatientID)
      for name in ('SeriesInstanceUID', 'SOPInstanceUID', 'StudyInstanceUID'):
        self.assertTrue(header[name].value.is_valid)
    directions = {phantom.scanner.reversed for phantom in self.phantoms}
    self.assertEqual(directions, {False, True})

  def test_clustering_the_xml_gives_the_annotations(self):
    layouts.write_lidc(self.phantoms, self.folder)
    for phantom, (found, excluded) in zip(
      self.phantoms, self.tables, strict=True
    ):
      volume = phantom.volume
      path = next(self.folder.glob(f'*/*/{volume.series_uid}/*.xml'))
      document = lidc_xml.parse(path)
      self.assertEqual(document.series_uid, volume.series_uid)
      self.assertLen(document.sessions, 4)
      places = {
        uids.image(volume.series_uid, i): i for i in range(len(volume.voxels))
      }
      lesions = lidc_lesions.lesions(document, places, volume)
      theirs = [
        np.append(lesion.center, lesion.diameter)
        for lesion in lesions
        if lesion.readers >= 3
      ]
      theirs = np.array(sorted(map(tuple, theirs))).reshape(-1, 4)
      ours = np.array(sorted(map(tuple, found))).reshape(-1, 4)
      np.testing.assert_allclose(theirs, ours, atol=1e-6)
      points = sum(
        len(session.small_nodules) + len(session.non_nodules)
        for session in document.sessions
      )
      self.assertEqual(points, (excluded[:, 3] < 0).sum())

  def test_luna16(self):
    layouts.write_luna16(self.phantoms, self.folder)
    series = [phantom.volume.series_uid for phantom in self.phantoms]
    self.assertEqual(
      [row[0] for row in _rows(self.folder / 'seriesuids.csv')], series
    )
    rows = _rows(self.folder / 'annotations.csv')
    self.assertEqual(
      rows[0], ['seriesuid', 'coordX', 'coordY', 'coordZ', 'diameter_mm']
    )
    self.assertLen(rows[1:], sum(len(found) for found, _ in self.tables))
    excluded = _rows(self.folder / 'annotations_excluded.csv')
    self.assertLen(excluded[1:], sum(len(table) for _, table in self.tables))
    candidates = _rows(self.folder / 'candidates_V2.csv')[1:]
    self.assertEqual({row[4] for row in candidates}, {'0', '1'})

  def test_luna16_images_hold_the_same_places(self):
    layouts.write_luna16(self.phantoms, self.folder)
    flipped = 0
    for number, phantom in enumerate(self.phantoms):
      volume = phantom.volume
      path = self.folder / f'subset{number}' / f'{volume.series_uid}.mhd'
      image = sitk.ReadImage(str(path))
      flipped += image.GetDirection()[0] < 0
      for index in np.argwhere(volume.voxels > 300)[::500]:
        world = volume.index_to_world(index)
        place = image.TransformPhysicalPointToIndex(world.tolist())
        self.assertEqual(image[place], volume.voxels[tuple(index)])
    self.assertEqual(flipped, 1)

  def test_hospital(self):
    layouts.write_luna16_dicom(self.phantoms[:2], self.folder)
    found = dicom.find_series(self.folder)
    self.assertLen(found, 2)
    rows = _rows(self.folder / 'annotations.csv')[1:]
    known = {phantom.volume.series_uid for phantom in self.phantoms[:2]}
    self.assertLessEqual({row[0] for row in rows}, known)
    self.assertNotEmpty(rows)

  def test_series_csv(self):
    layouts.write_series_csv(self.phantoms, self.folder)
    self.assertEqual(
      _rows(self.folder / 'mapping.csv'), [['bg', '0'], ['nodule', '1']]
    )
    rows = _rows(self.folder / 'annotations.csv')
    paths = {row[0] for row in rows}
    self.assertLen(paths, _CASES)
    for number, phantom in enumerate(self.phantoms):
      found = self.tables[number][0]
      mine = [row for row in rows if f'{number:04d}' in row[0]]
      self.assertTrue(all((self.folder / row[0]).exists() for row in mine))
      self.assertEqual({row[6] for row in mine}, {phantom.patient})
      if not len(found):
        self.assertEqual(mine[0][1:6], ['bg', '', '', '', ''])
        continue
      index = np.array([row[2:5] for row in mine], float)[:, ::-1]
      world = phantom.volume.index_to_world(index)
      np.testing.assert_allclose(world, found[:, :3], atol=1e-6)
    self.assertEqual(sum(path.endswith('.mhd') for path in paths), _CASES // 4)

  def test_boxes_json_has_the_boxes_that_the_xml_gives(self):
    layouts.write_lidc(self.phantoms, self.folder / 'lidc')
    layouts.write_boxes_json(self.phantoms, self.folder)
    count = 0
    for number, phantom in enumerate(self.phantoms):
      volume = phantom.volume
      uid = volume.series_uid
      xml = next(self.folder.glob(f'lidc/*/*/{uid}/*.xml'))
      places = {uids.image(uid, i): i for i in range(len(volume.voxels))}
      boxes = lidc_lesions.boxes(lidc_xml.parse(xml), places, volume)
      stack = slices.prepare(
        volume,
        shape=(128, 176),
        pixel_mm=1.0,
        window=dict(name='window', low=-1000.0, high=400.0),
        region='lung',
      )
      expected = stack.to_pixels(boxes.corners)
      name = f'{phantom.patient}-{number:04d}.json'
      for record in box_lists.read(self.folder / name):
        z = int(record.image[-7:-4])
        mine = expected[(boxes.slices == z) & ~boxes.ignored]
        np.testing.assert_allclose(
          np.reshape(sorted(record.corners.tolist()), (-1, 4)),
          np.reshape(sorted(mine.tolist()), (-1, 4)),
          atol=0.01,
        )
        pixels = images.read(self.folder / record.image)
        np.testing.assert_array_equal(pixels, stack.images([z])[0])
        count += len(mine)
    self.assertGreater(count, 10)


if __name__ == '__main__':
  absltest.main()
