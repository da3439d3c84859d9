import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pydicom
from absl.testing import absltest
from absl.testing import parameterized
from pydicom import uid

from medzoo.io import dicom
from medzoo.io import dicom_headers
from tests.io import dicom_maker


class _Folder(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self._folder = tempfile.TemporaryDirectory()
    self.addCleanup(self._folder.cleanup)
    self.folder = pathlib.Path(self._folder.name)
    self.stored = dicom_maker.pixels(6)
    self.expected = self.stored.astype(int) - 1024

  def write(self, tweak=None, stored=None, **options):
    stored = self.stored if stored is None else stored
    return dicom_maker.series(self.folder, stored, tweak, **options)

  def check(self, expected=None, *, repairs=(), path=None, **options):
    volume = dicom.read_series(path or self.folder, **options)
    expected = self.expected if expected is None else expected
    np.testing.assert_array_equal(volume.voxels, expected)
    self.assertEqual(volume.repairs, tuple(repairs))
    if 'repair' not in options:
      grid = dicom.grid(dicom.choose(path or self.folder, **options))
      self.assertEqual(grid.voxels.shape, volume.voxels.shape)
      self.assertEqual(grid.spacing, volume.spacing)
      self.assertEqual(grid.origin, volume.origin)
      np.testing.assert_array_equal(grid.direction, volume.direction)
    return volume

  def refuse(self, code, path=None, **options):
    with self.assertRaises(dicom.Refused) as caught:
      dicom.read_series(path or self.folder, **options)
    self.assertEqual(caught.exception.code, code, caught.exception.detail)
    self.assertNotIn('\n', str(caught.exception))
    self.assertNotIn('Secret', str(caught.exception))
    if code != 'truncated_pixels' and not options:
      with self.assertRaises(dicom.Refused) as again:
        dicom.grid(dicom.choose(path or self.folder))
      self.assertEqual(str(again.exception), str(caught.exception))
    return caught.exception.detail


class ReadTest(_Folder):
  def test_regular(self):
    self.write()
    volume = self.check()
    self.assertEqual(volume.voxels.dtype, np.int16)
    self.assertEqual(volume.spacing, (2.0, 0.7, 0.6))
    self.assertEqual(volume.origin, (-10.0, -20.0, 0.0))
    np.testing.assert_array_equal(volume.direction, np.eye(3))
    self.assertEqual(volume.modality, 'CT')
    self.assertEqual(volume.series_uid, dicom_maker.SERIES)

  def test_reversed(self):
    def tweak(header, index):
      header.ImagePositionPatient = [-10.0, -20.0, -2.0 * index]

    self.write(tweak)
    volume = self.check(self.expected[::-1])
    self.assertEqual(volume.origin, (-10.0, -20.0, -10.0))

  def test_oblique(self):
    # A quarter of a right angle about x, then a flip of the columns.
    c, s = np.cos(np.pi / 8), np.sin(np.pi / 8)
    row, column = np.array([1.0, 0, 0]), np.array([0, -c, -s])
    normal = np.cross(row, column)

    def tweak(header, index):
      header.ImageOrientationPatient = [
        f'{x:.6f}' for x in np.concatenate([row, column])
      ]
      position = np.array([5.0, 6.0, 7.0]) + 1.5 * index * normal
      header.ImagePositionPatient = [f'{x:.4f}' for x in position]

    self.write(tweak)
    volume = self.check()
    self.assertAlmostEqual(volume.spacing[0], 1.5, places=3)
    np.testing.assert_allclose(volume.direction[:, 1], column, atol=1e-5)
    np.testing.assert_allclose(volume.direction[:, 2], normal, atol=1e-5)
    self.assertAlmostEqual(np.linalg.det(volume.direction), 1, places=6)
    there = volume.index_to_world(np.array([2.0, 0, 0]))
    np.testing.assert_allclose(there, [5, 6, 7] + 3 * normal, atol=1e-3)

  def test_instance_numbers_do_not_count(self):
    numbers = [3, 6, 1, 5, 2, 4]

    def tweak(header, index):
      header.InstanceNumber = numbers[index]

    self.write(tweak)
    self.check()

  def test_instance_numbers_may_be_missing(self):
    def tweak(header, index):
      del header.InstanceNumber

    self.write(tweak)
    self.check()

  @parameterized.product(seed=[0, 1, 2, 3], spacing=[0.8, 2.0, 5.0])
  def test_jitter(self, seed, spacing):
    rng = np.random.default_rng(seed)
    jitter = rng.uniform(-0.05, 0.05, (20, 3))
    jitter[:, 2] = 0.05 * np.sign(jitter[:, 2])  # as bad as it can be
    stored = dicom_maker.pixels(20)

    def tweak(header, index):
      position = np.array([-10, -20, spacing * index]) + jitter[index]
      header.ImagePositionPatient = position.round(4).tolist()

    self.write(tweak, stored=stored)
    volume = self.check(stored.astype(int) - 1024)
    self.assertAlmostEqual(volume.spacing[0], spacing, delta=0.006)
    np.testing.assert_allclose(volume.origin, [-10, -20, 0], atol=0.06)
    (self.folder / f'{dicom_maker.SERIES}-007.dcm').unlink()
    with self.assertRaisesRegex(dicom.Refused, 'missing_slices'):
      dicom.read_series(self.folder)

  def test_slope_of_each_slice(self):
    def tweak(header, index):
      header.RescaleSlope, header.RescaleIntercept = index + 1, -10 * index

    self.write(tweak)
    scale = np.arange(6).reshape(6, 1, 1)
    volume = self.check(self.stored * (scale + 1).astype(int) - 10 * scale)
    self.assertEqual(volume.voxels.dtype, np.int16)

  def test_fractional_slope_in_one_slice(self):
    def tweak(header, index):
      header.RescaleSlope = 0.25 if index == 3 else 1

    self.write(tweak)
    volume = dicom.read_series(self.folder)
    self.assertEqual(volume.voxels.dtype, np.float32)
    self.expected = self.expected.astype(float)
    self.expected[3] = self.stored[3] * 0.25 - 1024
    np.testing.assert_allclose(volume.voxels, self.expected)

  def test_values_too_large_for_int16(self):
    stored = np.array(self.stored, np.uint16)
    stored[4, 0, 0] = 65535
    self.write(stored=stored)
    volume = dicom.read_series(self.folder)
    self.assertEqual(volume.voxels.dtype, np.float32)
    np.testing.assert_array_equal(volume.voxels, stored.astype(float) - 1024)

  def test_missing_slope_is_one(self):
    def tweak(header, index):
      header.Modality, header.SOPClassUID = 'MR', dicom_maker.MR
      del header.RescaleSlope, header.RescaleIntercept

    self.write(tweak)
    self.check(self.stored)

  @parameterized.parameters('nan', '0', 'one', '1\\2')
  def test_senseless_slope(self, slope):
    paths = self.write()
    header = pydicom.dcmread(paths[2])
    with pydicom.config.disable_value_validation():
      header.RescaleSlope = 12345
    header.save_as(paths[2])
    data = paths[2].read_bytes()
    text = slope.encode().ljust(8)
    paths[2].write_bytes(data.replace(b'12345.0 ', text))
    self.refuse('truncated_pixels')

  @parameterized.parameters(
    (12, 11, np.uint16), (12, 11, np.int16), (12, 13, np.int16)
  )
  def test_unused_bits_are_ignored(self, stored_bits, high, dtype):
    low = high + 1 - stored_bits
    values = self.stored - (1000 if dtype == np.int16 else 0)
    raw = (values.astype(np.int64) & 0xFFF) << low
    raw = raw | (0b11 if low else 0) | (0b1 << (high + 1))
    raw = raw.astype(np.uint16).view(dtype)

    def tweak(header, index):
      header.BitsStored, header.HighBit = stored_bits, high

    self.write(tweak, stored=raw)
    self.check(values.astype(int) - 1024)

  @parameterized.parameters(np.uint8, np.int8, np.uint32, np.int32)
  def test_other_containers(self, dtype):
    stored = (self.stored % 128).astype(dtype)
    self.write(stored=stored)
    self.check(stored.astype(int) - 1024)

  def test_nested_folders_without_extensions(self):
    for index, path in enumerate(self.write()):
      folder = self.folder / f'd{index % 3}' / 'deep'
      folder.mkdir(parents=True, exist_ok=True)
      path.rename(folder / f'I{index}')
    self.check()

  def test_without_preamble(self):
    for index, path in enumerate(self.write()):
      if index % 2:
        path.write_bytes(path.read_bytes()[132:])  # file meta stays
      else:
        header = pydicom.dcmread(path)
        size = header.file_meta.FileMetaInformationGroupLength
        path.write_bytes(path.read_bytes()[132 + 12 + size :])
    self.check()

  def test_implicit_without_file_meta(self):
    for path in self.write(syntax=uid.ImplicitVRLittleEndian):
      header = pydicom.dcmread(path)
      size = header.file_meta.FileMetaInformationGroupLength
      path.write_bytes(path.read_bytes()[132 + 12 + size :])
    self.check()

  def test_what_is_no_image_is_skipped(self):
    self.write()
    for modality, kind in (
      ('SEG', '1.2.840.10008.5.1.4.1.1.66.4'),
      ('SR', '1.2.840.10008.5.1.4.1.1.88.33'),
      ('RTDOSE', '1.2.840.10008.5.1.4.1.1.481.2'),
    ):
      header = dicom_maker.image(self.stored[0], 0)
      header.Modality, header.SOPClassUID = modality, kind
      dicom_maker.save(header, self.folder / f'{modality}.dcm')
    header = dicom_maker.image(self.stored[0], 0)
    header.SOPClassUID = uid.MediaStorageDirectoryStorage
    dicom_maker.save(header, self.folder / 'DICOMDIR')
    (self.folder / 'marks.xml').write_text('<a/>')
    (self.folder / 'scan.nii').write_bytes(b'\x5c\x01\0\0' + bytes(400))
    (self.folder / 'empty').write_bytes(b'')
    (self.folder / 'short').write_bytes(b'\x08\0')
    self.check()
    found = dicom.find_series(self.folder)
    self.assertLen(found, 1)
    kinds = {pathlib.Path(path).name: kind for path, kind in found[0].skipped}
    self.assertEqual(
      kinds,
      {
        'SEG.dcm': 'SEG',
        'SR.dcm': 'SR',
        'RTDOSE.dcm': 'RTDOSE',
        'DICOMDIR': 'DICOMDIR',
        'marks.xml': 'not_dicom',
        'scan.nii': 'not_dicom',
        'empty': 'not_dicom',
        'short': 'not_dicom',
      },
    )

  def test_single_file(self):
    path = self.write()[2]
    volume = self.check(self.expected[2:3], path=path)
    self.assertEqual(volume.spacing, (None, 0.7, 0.6))
    self.assertEqual(volume.origin, (-10.0, -20.0, 4.0))

  def test_multi_frame(self):
    order = [4, 0, 5, 2, 1, 3]
    header = dicom_maker.enhanced(self.stored, order)
    path = dicom_maker.save(header, self.folder / 'all')
    scale = (1 + np.arange(6) % 2).reshape(6, 1, 1)
    expected = self.stored.astype(int) * scale - 1000
    volume = self.check(expected)
    self.assertEqual(volume.spacing, (2.0, 0.7, 0.6))
    self.check(expected, path=path)

  def test_two_multi_frame_files(self):
    for name, order in (('a', [0, 2, 4]), ('b', [5, 3, 1])):
      header = dicom_maker.enhanced(self.stored, order)
      dicom_maker.save(header, self.folder / name)
    scale = (1 + np.arange(6) % 2).reshape(6, 1, 1)
    self.check(self.stored.astype(int) * scale - 1000)

  def test_slice_index(self):
    paths = self.write(
      lambda header, index: setattr(
        header, 'ImagePositionPatient', [0, 0, -2.0 * index]
      )
    )
    twin = pydicom.dcmread(paths[1])
    twin.SOPInstanceUID = '1.2.3.4.9.77'
    dicom_maker.save(twin, self.folder / 'twin')
    series = dicom.choose(self.folder)
    index = dicom.slice_index(series)
    self.assertLen(index, 7)
    self.assertEqual(index['1.2.3.4.9.0'], 5)
    self.assertEqual(index['1.2.3.4.9.1'], 4)
    self.assertEqual(index['1.2.3.4.9.77'], 4)
    volume = dicom.read(series)
    np.testing.assert_array_equal(volume.voxels[4], self.expected[1])

  def test_scanner(self):
    def tweak(header, index):
      header.Manufacturer = 'MAKER  & SONS '
      header.SliceThickness = '2.50'

    path = str(self.write(tweak)[0])
    self.assertEqual(
      dicom_headers.read_scanner(path),
      {
        'Manufacturer': 'MAKER  & SONS',
        'ManufacturerModelName': '',
        'SliceThickness': '2.50',
      },
    )

  def test_find_series(self):
    self.write()
    for name, patient in (('5.6', 'secret-17'), ('5.7', 'secret-18')):

      def tweak(header, index, name=name, patient=patient):
        header.SeriesInstanceUID, header.PatientID = name, patient

      dicom_maker.series(self.folder / name, self.stored[:4], tweak)
    found = dicom.find_series(self.folder)
    self.assertEqual([one.uid for one in found], ['1.2.3.4', '5.6', '5.7'])
    self.assertEqual([len(one.paths) for one in found], [6, 4, 4])
    self.assertEqual(found[0].patient, found[1].patient)
    self.assertNotEqual(found[0].patient, found[2].patient)
    self.assertNotIn('secret', str(found))
    np.testing.assert_array_equal(
      dicom.read(found[1]).voxels, self.expected[:4]
    )


class RepairTest(_Folder):
  def test_duplicates(self):
    paths = self.write()
    for index in (0, 3):
      twin = pydicom.dcmread(paths[index])
      twin.SOPInstanceUID += '.1'
      twin.InstanceNumber = 99
      dicom_maker.save(twin, self.folder / f'twin{index}')
    (self.folder / 'copy').write_bytes(paths[3].read_bytes())
    self.check(repairs=['duplicate_slices'])

  def test_the_whole_series_twice(self):
    self.write()
    dicom_maker.series(self.folder / 'again', self.stored)
    self.check(repairs=['duplicate_slices'])

  def test_duplicates_whose_positions_differ_by_rounding(self):
    paths = self.write()
    twin = pydicom.dcmread(paths[2])
    twin.ImagePositionPatient = [-10.0, -20.0, 4.0001]
    dicom_maker.save(twin, self.folder / 'twin')
    self.check(repairs=['duplicate_slices'])

  def test_localizer_inside(self):
    self.write()
    scout = dicom_maker.image(dicom_maker.pixels(1, (4, 30))[0], 90)
    scout.ImageType = ['ORIGINAL', 'PRIMARY', 'LOCALIZER']
    scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dicom_maker.save(scout, self.folder / 'scout')
    self.check(repairs=['localizer'])

  def test_localizer_in_its_own_series(self):
    self.write()
    for index in range(3):
      scout = dicom_maker.image(self.stored[0], index)
      scout.ImageType = ['DERIVED', 'SECONDARY', 'LOCALIZER']
      scout.SeriesInstanceUID = '7.7'
      dicom_maker.save(scout, self.folder / f'scout{index}')
    self.check(repairs=['localizer'])
    # It is read where it is what is asked for.
    self.check(
      np.repeat(self.expected[:1], 3, 0),
      series='7.7',
    )

  def test_foreign_slice(self):
    self.write()
    for index in range(2):
      stray = dicom_maker.image(self.stored[0], index)
      stray.SeriesInstanceUID = '8.8'
      dicom_maker.save(stray, self.folder / f'stray{index}')
    self.check(repairs=['foreign_series'])
    self.refuse('too_few_slices', series='8.8')

  @parameterized.parameters(
    (np.int16, -2000, None),
    (np.int16, -2000, -1500),
    (np.int16, -1500, -2000),
    (np.uint16, 63536, None),
    (np.uint16, 5000, 5100),
  )
  def test_padding(self, dtype, value, limit):
    stored = self.stored.astype(dtype)
    other = value if limit is None else limit
    stored[:, 0, 0] = value
    stored[:, 0, 1] = other
    stored[:, 0, 2] = max(value, other) + 1
    stored[:, 0, 3] = min(value, other) - 1
    # In explicit files either type occurs whatever the image is.
    for kind in ('SS', 'US'):

      def tweak(header, index, kind=kind):
        for tag, number in ((0x00280120, value), (0x00280121, limit)):
          if number is not None:
            wrapped = np.array(number).astype(np.uint16)
            wrapped = wrapped.view(np.int16) if kind == 'SS' else wrapped
            header.add_new(tag, kind, int(wrapped))

      self.write(tweak, stored=stored)
      expected = stored.astype(int) - 1024
      expected[:, 0, :2] = -1024
      self.check(expected, repairs=['padding'])

  def test_padding_that_no_pixel_has(self):
    self.write(lambda header, _: setattr(header, 'PixelPaddingValue', -2000))
    self.check()

  def test_padding_comes_before_slope(self):
    stored = self.stored
    stored[:, 0, 0] = -7

    def tweak(header, index):
      header.PixelPaddingValue = -7
      header.RescaleSlope, header.RescaleIntercept = 2, 100

    self.write(tweak)
    expected = stored.astype(int) * 2 + 100
    expected[:, 0, 0] = -1024
    self.check(expected, repairs=['padding'])

  def test_padding_is_air_in_ct_only(self):
    def tweak(header, index):
      header.PixelPaddingValue = int(self.stored[index, 0, 0])
      header.Modality, header.SOPClassUID = 'MR', dicom_maker.MR

    self.write(tweak)
    self.check()

  def test_padding_beyond_the_stored_bits(self):
    stored = self.stored.astype(np.uint16)
    stored[:, 0, 0] = 63536

    def tweak(header, index):
      header.BitsStored, header.HighBit = 12, 11
      header.PixelPaddingValue = 63536

    self.write(tweak, stored=stored)
    self.expected[:, 0, 0] = -1024
    self.check(repairs=['padding'])

  def test_nothing_else_is_clamped(self):
    self.stored[:, 0, 0] = -2000
    self.write()
    self.expected[:, 0, 0] = -3024
    self.check()

  def test_all_at_once(self):
    paths = self.write()
    twin = pydicom.dcmread(paths[0])
    dicom_maker.save(twin, self.folder / 'twin')
    scout = dicom_maker.image(self.stored[0], 0)
    scout.ImageType = ['ORIGINAL', 'PRIMARY', 'LOCALIZER']
    dicom_maker.save(scout, self.folder / 'scout')
    stray = dicom_maker.image(self.stored[0], 0)
    stray.SeriesInstanceUID = '8.8'
    dicom_maker.save(stray, self.folder / 'stray')
    self.check(repairs=['duplicate_slices', 'localizer', 'foreign_series'])


class RefuseTest(_Folder):
  def test_not_dicom(self):
    self.refuse('not_dicom')
    self.refuse('not_dicom', self.folder / 'nowhere')
    (self.folder / 'notes.txt').write_text('hello')
    self.refuse('not_dicom')
    self.refuse('not_dicom', self.folder / 'notes.txt')
    header = dicom_maker.image(self.stored[0], 0)
    header.Modality, header.SOPClassUID = 'SEG', '1.2.840.10008.5.1.4.1.1.66.4'
    dicom_maker.save(header, self.folder / 'seg')
    self.assertIn('SEG', self.refuse('not_dicom'))

  def test_several_series(self):
    self.write()

    def tweak(header, index):
      header.SeriesInstanceUID = '8.8'

    self.write(tweak, stored=self.stored[:3])
    detail = self.refuse('several_series')
    self.assertIn('8.8', detail)
    self.check(series='1.2.3.4')
    self.check(self.expected[:3], series='8.8')
    self.refuse('not_dicom', series='9.9')

  def test_two_strays_and_no_whole_series(self):
    for name in ('8.8', '8.9'):
      stray = dicom_maker.image(self.stored[0], 0)
      stray.SeriesInstanceUID = name
      dicom_maker.save(stray, self.folder / name)
    self.refuse('several_series')

  @parameterized.parameters(
    'PixelSpacing', 'ImagePositionPatient', 'ImageOrientationPatient'
  )
  def test_missing_geometry(self, name):
    def tweak(header, index):
      if index == 2:
        delattr(header, name)

    paths = self.write(tweak)
    self.refuse('missing_geometry')
    self.refuse('missing_geometry', paths[2])
    self.write(lambda header, _: setattr(header, name, None))
    self.refuse('missing_geometry')

  @parameterized.parameters(
    ('PixelSpacing', [0, 0.7]),
    ('PixelSpacing', [-1, 0.7]),
    ('PixelSpacing', ['nan', 0.7]),
    ('PixelSpacing', [0.7]),
    ('PixelSpacing', ['inf', 1]),
    ('ImagePositionPatient', [1, 2]),
    ('ImagePositionPatient', [1, 2, 'nan']),
    ('ImageOrientationPatient', [0, 0, 0, 0, 0, 0]),
    ('ImageOrientationPatient', [1, 0, 0, 1, 0, 0]),
    ('ImageOrientationPatient', [1, 0, 0, 0, 1]),
  )
  def test_senseless_geometry(self, name, value):
    with pydicom.config.disable_value_validation():
      self.write(lambda header, _: setattr(header, name, value))
    self.refuse('missing_geometry')

  def test_frames_without_positions(self):
    header = dicom_maker.image(self.stored, 0)
    header.NumberOfFrames = 6
    path = dicom_maker.save(header, self.folder / 'cine')
    self.refuse('missing_geometry', path)

  def test_mixed_orientation(self):
    def tweak(header, index):
      if index == 5:
        header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        header.Rows, header.Columns = 10, 8  # the first reason counts

    self.write(tweak)
    self.refuse('mixed_orientation')

  def test_mixed_shape(self):
    def tweak(header, index):
      if index == 5:
        header.Rows, header.Columns = 10, 8

    self.write(tweak)
    self.refuse('mixed_shape')

  def test_mixed_pixel_spacing(self):
    def tweak(header, index):
      if index == 5:
        header.PixelSpacing = [0.7, 0.601]

    self.write(tweak)
    self.refuse('mixed_shape')

  def test_pixel_spacing_rounded_otherwise(self):
    def tweak(header, index):
      if index % 2:
        header.PixelSpacing = [0.7, 0.60001]

    self.write(tweak)
    self.check()

  @parameterized.parameters(
    dict(z=6.0), dict(z=6.003), dict(z=6.0, slope=2), dict(z=6.0, x=3.0)
  )
  def test_conflicting_slices(self, z, slope=1, x=-10.0):
    self.write()
    other = 3 if slope != 1 or x != -10.0 else 5
    twin = dicom_maker.image(self.stored[other], 9)
    twin.ImagePositionPatient = [x, -20.0, z]
    twin.RescaleSlope = slope
    dicom_maker.save(twin, self.folder / 'twin')
    self.refuse('conflicting_slices')

  def test_two_phases(self):
    self.write()
    dicom_maker.series(self.folder / 'phase', dicom_maker.pixels(6, seed=1))
    self.refuse('conflicting_slices')

  @parameterized.parameters(1, 2)
  def test_too_few_slices(self, number):
    self.write(stored=self.stored[:number])
    self.refuse('too_few_slices')

  def test_one_slice_again_and_again(self):
    for index in range(5):
      dicom_maker.save(
        dicom_maker.image(self.stored[0], 0), self.folder / str(index)
      )
    self.refuse('too_few_slices')

  def test_gantry_tilt(self):
    def tweak(header, index):
      c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
      header.ImageOrientationPatient = [1, 0, 0, 0, c, -s]
      header.GantryDetectorTilt = 10

    self.write(tweak)
    detail = self.refuse('gantry_tilt')
    self.assertIn('10.00 degrees', detail)
    self.assertIn('the tag says 10', detail)

  def test_the_tilt_tag_does_not_decide(self):
    self.write(lambda header, _: setattr(header, 'GantryDetectorTilt', 10))
    self.check()

  @parameterized.parameters((0.1, False), (0.15, True))
  def test_drift_of_a_pixel(self, drift, tilted):
    # Over five gaps, against a pixel of 0.6 mm.
    def tweak(header, index):
      header.ImagePositionPatient = [drift * index, 0, 2.0 * index]

    self.write(tweak)
    if tilted:
      self.refuse('gantry_tilt')
    else:
      self.check()

  @parameterized.parameters(
    ([0, 2, 6, 8, 10, 12], 'missing_slices'),
    ([0, 2, 4, 10.05, 12, 18], 'missing_slices'),
    ([0, 2, 4, 6, 8, 11], 'uneven_spacing'),
    ([0, 2, 4, 9, 14, 19], 'uneven_spacing'),
    ([0, 2, 4, 6, 8, 10.2], 'uneven_spacing'),
    ([0, 5, 15, 20, 20.5, 25], 'uneven_spacing'),
    ([0, 2, 4, 6.2, 8.2, 10.2], 'uneven_spacing'),
    ([0, 2, 4, 6, 8, 10.15], 'uneven_spacing'),
  )
  def test_spacing(self, heights, code):
    def tweak(header, index):
      header.ImagePositionPatient = [0, 0, heights[index]]

    self.write(tweak)
    self.refuse(code)

  @parameterized.parameters(
    [[0, 2, 4, 6, 8.09, 10.09]], [[0, 10, 20, 30.2, 40, 50]]
  )
  def test_regular_enough(self, heights):
    def tweak(header, index):
      header.ImagePositionPatient = [0, 0, heights[index]]

    self.write(tweak)
    self.check()

  def test_gaps_that_add_up(self):
    # Each is within 0.1 mm of the median; the middle is half a slice off.
    stored = dicom_maker.pixels(61)

    def tweak(header, index):
      height = 0.96 * min(index, 30) + 1.05 * max(index - 30, 0)
      header.ImagePositionPatient = [0, 0, height]

    self.write(tweak, stored=stored)
    self.assertIn('straight line', self.refuse('uneven_spacing'))

  def test_a_slice_that_lies_aside(self):
    def tweak(header, index):
      if index == 2:
        header.ImagePositionPatient = [-8.5, -20, 4]

    self.write(tweak)
    self.refuse('uneven_spacing')

  def test_truncated_file(self):
    paths = self.write()
    data = paths[3].read_bytes()
    for size in (len(data) - 1, len(data) - 100, len(data) - 165):
      paths[3].write_bytes(data[:size])
      self.refuse('truncated_pixels')
      self.refuse('truncated_pixels', paths[3])

  def test_file_cut_anywhere_is_not_passed_over(self):
    path = self.write()[5]
    data = path.read_bytes()
    for size in range(200, len(data), 41):
      path.write_bytes(data[:size])
      self.refuse('truncated_pixels')

  def test_short_pixel_data(self):
    def tweak(header, index):
      if index == 2:
        header.PixelData = header.PixelData[:-20]

    self.write(tweak)
    self.refuse('truncated_pixels')

  def test_no_pixel_data(self):
    paths = self.write()
    header = pydicom.dcmread(paths[2])
    del header.PixelData
    header.save_as(paths[2])
    self.refuse('truncated_pixels')

  def test_a_truncated_duplicate(self):
    paths = self.write()
    data = paths[3].read_bytes()
    (self.folder / 'twin').write_bytes(data[:-30])
    self.refuse('truncated_pixels')

  @parameterized.parameters(
    dict(Rows=9),
    dict(Rows=7),
    dict(Rows=65535, Columns=65535),
    dict(NumberOfFrames=2**31),
    dict(NumberOfFrames=7),
  )
  def test_sizes_that_lie(self, **tags):
    def tweak(header, index):
      for name, value in tags.items():
        setattr(header, name, value)

    paths = self.write(tweak)
    start = time.monotonic()
    self.refuse('truncated_pixels')
    self.refuse('truncated_pixels', paths[0])
    self.assertLess(time.monotonic() - start, 2)

  @parameterized.parameters(uid.MPEG4HP41, uid.JPEG2000MC, '1.2.3.4.5')
  def test_unread_syntax(self, syntax):
    def tweak(header, index):
      dicom_maker.encapsulated(header, [b'\0\0\1\xba' * 4])
      del header.PixelSpacing  # the first reason counts

    self.write(tweak, syntax=uid.JPEGBaseline8Bit)
    for path in self.folder.iterdir():
      old = uid.JPEGBaseline8Bit.encode()
      new = syntax[: len(old)].encode().ljust(len(old), b'\0')
      path.write_bytes(path.read_bytes().replace(old, new))
    self.refuse('unsupported_transfer_syntax')

  def test_colour(self):
    def tweak(header, index):
      header.SamplesPerPixel = 3
      header.PhotometricInterpretation = 'RGB'

    self.write(tweak)
    self.refuse('unsupported_transfer_syntax')

  def test_unknown_repair(self):
    self.write()
    with self.assertRaisesRegex(ValueError, 'no repair'):
      dicom.read_series(self.folder, repair=['guess'])


class ResampleTest(_Folder):
  def setUp(self):
    super().setUp()
    y, x = np.mgrid[:8, :10]
    self.ramp = np.stack([1000 + 10 * y + x] * 6).astype(np.int16)

  def test_missing_slice(self):
    keep = [0, 1, 3, 4, 5]

    def tweak(header, index):
      header.ImagePositionPatient = [0, 0, 2.0 * keep[index]]

    self.write(tweak, stored=self.stored[keep])
    volume = dicom.read_series(self.folder, repair=['resampled'])
    self.assertEqual(volume.repairs, ('resampled',))
    self.assertEqual(volume.spacing[0], 2)
    np.testing.assert_array_equal(volume.voxels[keep], self.expected[keep])
    middle = (self.expected[1] + self.expected[3]) / 2
    np.testing.assert_allclose(volume.voxels[2], middle, atol=0.5)

  def test_uneven_spacing_keeps_a_ramp(self):
    heights = [0, 2, 4, 6, 9, 12]
    stored = np.stack(
      [plane + 7 * h for plane, h in zip(self.ramp, heights, strict=True)]
    )

    def tweak(header, index):
      header.ImagePositionPatient = [0, 0, heights[index]]

    self.write(tweak, stored=stored.astype(np.int16))
    volume = dicom.read_series(self.folder, repair=['resampled'])
    self.assertEqual(volume.voxels.shape, (7, 8, 10))
    expected = self.ramp[0] + 14 * np.arange(7).reshape(7, 1, 1) - 1024
    np.testing.assert_allclose(volume.voxels, expected, atol=0.5)

  @parameterized.parameters(12, -12)
  def test_tilt_keeps_the_world(self, degrees):
    """A ramp in the world stays that ramp wherever there are data."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    slope = np.array([3.0, 5.0, 4.0])
    y, x = np.mgrid[:8, :10]
    stored = []
    for index in range(6):
      world = np.stack([0.6 * x, 0.7 * c * y, 2.0 * index - 0.7 * s * y], -1)
      stored.append(1000 + world @ slope)

    def tweak(header, index):
      header.ImageOrientationPatient = [1, 0, 0, 0, c, -s]
      header.ImagePositionPatient = [0, 0, 2.0 * index]

    self.write(tweak, stored=np.rint(stored).astype(np.int16))
    self.refuse('gantry_tilt')
    volume = dicom.read_series(self.folder, repair=['resampled'])
    self.assertEqual(volume.repairs, ('resampled',))
    self.assertAlmostEqual(volume.spacing[0], 2 * c, places=6)
    index = np.stack(
      np.meshgrid(*map(np.arange, volume.voxels.shape), indexing='ij'), -1
    )
    expected = volume.index_to_world(index) @ slope + 1000 - 1024
    inside = volume.voxels != -1024
    self.assertGreater(inside.sum(), 6 * 7 * 10)
    np.testing.assert_allclose(
      volume.voxels[inside], expected[inside], atol=1.1
    )

  def test_too_wide_a_gap(self):
    heights = [0, 2, 4, 6, 14, 16]

    def tweak(header, index):
      header.ImagePositionPatient = [0, 0, heights[index]]

    self.write(tweak)
    self.refuse('missing_slices', repair=['resampled'])

  def test_not_needed(self):
    self.write()
    self.check(repair=['resampled'])

  def test_cannot_repair_what_conflicts(self):
    self.write()
    dicom_maker.series(self.folder / 'b', self.stored[::-1])
    self.refuse('conflicting_slices', repair=['resampled'])


class CommandTest(_Folder):
  def run_main(self, *arguments):
    command = [sys.executable, '-m', 'medzoo.io.dicom', str(self.folder)]
    done = subprocess.run(
      [*command, *arguments], capture_output=True, text=True, check=False
    )
    self.assertNotIn('Secret', done.stdout + done.stderr)
    self.assertNotIn('secret', done.stdout + done.stderr)
    self.assertNotIn('20011231', done.stdout + done.stderr)
    self.assertEmpty(done.stderr)
    return done.returncode, done.stdout

  def test_json(self):
    self.write()
    code, output = self.run_main('--json')
    self.assertEqual(code, 0)
    self.assertEqual(
      json.loads(output),
      {
        'shape': [6, 8, 10],
        'spacing': [2.0, 0.7, 0.6],
        'origin': [-10.0, -20.0, 0.0],
        'hu_min': int(self.expected.min()),
        'hu_max': int(self.expected.max()),
        'repairs': [],
      },
    )

  def test_json_of_a_refusal(self):
    self.write(stored=self.stored[:2])
    code, output = self.run_main('--json')
    self.assertEqual(code, 1)
    found = json.loads(output)
    self.assertEqual(list(found), ['refused', 'detail'])
    self.assertEqual(found['refused'], 'too_few_slices')

  def test_header(self):
    self.write()
    code, output = self.run_main('--header')
    self.assertEqual(code, 0)
    self.assertIn('Rows: 8\n', output)
    self.assertIn('PixelSpacing: [0.7, 0.6]\n', output)
    self.assertNotIn('UID', output)

  def test_words(self):
    self.write()
    (self.folder / 'notes.txt').write_text('hello')
    code, output = self.run_main()
    self.assertEqual(code, 0)
    self.assertIn('6 x 8 x 10', output)
    self.assertIn('notes.txt', output)

  def test_repair_and_series(self):
    self.write(stored=self.stored[:3])

    def tweak(header, index):
      header.SeriesInstanceUID = '8.8'
      header.ImagePositionPatient = [0, 0, [0, 2, 4, 8][index]]

    self.write(tweak, stored=self.stored[:4])
    options = ('--json', '--series', '8.8', '--repair', 'resampled')
    code, output = self.run_main(*options)
    self.assertEqual(code, 0)
    found = json.loads(output)
    self.assertEqual(found['shape'], [5, 8, 10])
    self.assertEqual(found['repairs'], ['resampled'])


if __name__ == '__main__':
  absltest.main()
