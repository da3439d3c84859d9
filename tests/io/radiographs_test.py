import pathlib

import imagecodecs
import numpy as np
import pydicom
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from pydicom import pixels as dicom_pixels
from pydicom import uid

from medzoo.io import dicom
from medzoo.io import radiographs
from tests.io import dicom_maker

DX = '1.2.840.10008.5.1.4.1.1.1.1'
_STORED = np.random.default_rng(0).integers(0, 4096, (9, 7)).astype(np.uint16)


def film(stored=_STORED, **tags):
  """Makes a header as digital radiography writes it, without a place."""
  header = dicom_maker.image(stored, 0, SOPClassUID=DX, Modality='DX')
  for name in (
    *('ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing'),
    *('RescaleIntercept', 'RescaleSlope', 'ImageType'),
  ):
    delattr(header, name)
  if stored.dtype == np.uint16:
    header.BitsStored, header.HighBit = 12, 11
  for name, value in tags.items():
    setattr(header, name, value)
  return header


def table(entries, first, greys, bits=12):
  item = pydicom.Dataset()
  item.add_new(
    'LUTDescriptor', 'SS' if first < 0 else 'US', [entries, first, bits]
  )
  item.add_new('LUTData', 'US', [int(x) for x in greys])
  return [item]


class RadiographsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.folder / 'film.dcm'

  def read(self, header, syntax=uid.ExplicitVRLittleEndian):
    dicom_maker.save(header, self.path, syntax)
    return radiographs.read(self.path)

  def greys(self, header, syntax=uid.ExplicitVRLittleEndian):
    """Returns the film's greys from 0 to 1."""
    volume = self.read(header, syntax)
    self.assertEqual(volume.voxels.dtype, np.int16)
    self.assertEqual(volume.voxels.shape, (1, header.Rows, header.Columns))
    return volume.voxels[0] / radiographs.WHITE

  def test_values_fill_the_range_without_a_window(self):
    stored = _STORED % 1000 + 500
    expected = (stored - stored.min()) / np.ptp(stored)
    np.testing.assert_allclose(self.greys(film(stored)), expected, atol=2e-5)
    flat = self.greys(film(np.full((3, 4), 77, np.uint16)))
    np.testing.assert_array_equal(flat, 0)

  @parameterized.product(
    function=(None, 'LINEAR', 'LINEAR_EXACT', 'SIGMOID'),
    window=((1500, 1200), (2000.5, 1), (100, 9000)),
    syntax=(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian),
  )
  def test_windows_are_those_of_pydicom(self, function, window, syntax):
    header = film(WindowCenter=window[0], WindowWidth=window[1])
    if function:
      header.VOILUTFunction = function
    expected = dicom_pixels.apply_windowing(_STORED, header) / 4095
    np.testing.assert_allclose(self.greys(header, syntax), expected, atol=5e-5)

  def test_the_first_window_is_taken_and_a_table_before_it(self):
    header = film(WindowCenter=[1500, 9], WindowWidth=[1200, 9])
    first = film(WindowCenter=1500, WindowWidth=1200)
    np.testing.assert_array_equal(self.greys(header), self.greys(first))
    header.VOILUTSequence = table(3, 100, [0, 4095, 2048])
    expected = np.choose(np.clip(_STORED.astype(int) - 100, 0, 2), [0, 1, 0.5])
    np.testing.assert_allclose(self.greys(header), expected, atol=2e-4)

  @parameterized.product(
    first=(0, 700),
    syntax=(
      uid.ExplicitVRLittleEndian,
      uid.ImplicitVRLittleEndian,
      uid.ExplicitVRBigEndian,
    ),
  )
  def test_tables_are_those_of_pydicom(self, first, syntax):
    greys = np.sort(np.random.default_rng(1).integers(0, 1 << 14, 2000))
    header = film(VOILUTSequence=table(2000, first, greys, 14))
    expected = dicom_pixels.apply_voi(_STORED, header) / (2**14 - 1)
    np.testing.assert_allclose(self.greys(header, syntax), expected, atol=5e-5)

  @parameterized.parameters(
    uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian
  )
  def test_tables_of_signed_values_start_below_0(self, syntax):
    stored = np.array([[-5, -3, -2, 0, 9]], np.int16)
    header = film(stored, VOILUTSequence=table(3, -3, [0, 1, 255], 8))
    expected = np.array([[0, 0, 1 / 255, 1, 1]])
    np.testing.assert_allclose(self.greys(header, syntax), expected, atol=5e-5)

  @parameterized.parameters(0, 5)
  def test_a_broken_table_is_refused(self, entries):
    items = table(entries, 0, [1, 2])
    with self.assertRaisesRegex(dicom.Refused, 'broken_table: film.dcm: found'):
      self.read(film(VOILUTSequence=items))

  def test_bad_windows_count_as_none(self):
    plain = self.greys(film())
    for tags in ({'WindowWidth': 0}, {'WindowWidth': -4}, {}):
      header = film(WindowCenter=100, **tags)
      np.testing.assert_array_equal(self.greys(header), plain)

  def test_monochrome1_is_turned_so_that_air_is_dark(self):
    for tags in ({}, {'WindowCenter': 1500, 'WindowWidth': 1200}):
      plain = self.greys(film(**tags))
      turned = self.greys(film(PhotometricInterpretation='MONOCHROME1', **tags))
      np.testing.assert_allclose(turned, 1 - plain, atol=4e-5)
      self.assertEqual(turned.flat[_STORED.argmax()], turned.min())

  @parameterized.parameters('MONOCHROME1', 'MONOCHROME2')
  def test_padding_is_black_and_does_not_stretch_the_range(self, kind):
    stored = _STORED % 500 + 1000
    stored[:, :2] = 4000
    header = film(
      stored, PixelPaddingValue=4000, PhotometricInterpretation=kind
    )
    volume = self.read(header)
    self.assertEqual(volume.repairs, ('padding',))
    np.testing.assert_array_equal(volume.voxels[0, :, :2], 0)
    inner = volume.voxels[0, :, 2:]
    self.assertEqual((inner.min(), inner.max()), (0, radiographs.WHITE))
    np.testing.assert_array_equal(
      inner,
      self.read(film(stored[:, 2:], PhotometricInterpretation=kind)).voxels[0],
    )

  @parameterized.named_parameters(
    ('none', {}, (None, None, None)),
    ('detector', {'ImagerPixelSpacing': [0.2, 0.1]}, (None, 0.2, 0.1)),
    (
      'patient',
      {'ImagerPixelSpacing': [0.2, 0.1], 'PixelSpacing': [0.18, 0.09]},
      (None, 0.18, 0.09),
    ),
    ('nonsense', {'ImagerPixelSpacing': [0, 0.1]}, (None, None, None)),
  )
  def test_spacing_is_the_patients_else_the_detectors(self, tags, expected):
    volume = self.read(film(**tags))
    self.assertEqual(volume.spacing, expected)
    self.assertEqual(volume.modality, 'DX')
    self.assertEqual(volume.series_uid, '')

  def test_rescaled_and_8_bit_values_are_read(self):
    header = film(RescaleSlope=2, RescaleIntercept=-100)
    header.WindowCenter, header.WindowWidth = 2 * 1500 - 100.5, 2400 - 1
    near = self.greys(film(WindowCenter=1500, WindowWidth=1200))
    np.testing.assert_allclose(self.greys(header), near, atol=2e-3)
    shallow = (_STORED // 16).astype(np.uint8)
    shallow.flat[:2] = 0, 255
    padded = np.concatenate([shallow, shallow[:, :1]], axis=1)
    np.testing.assert_allclose(
      self.greys(film(padded)), padded / 255, atol=2e-5
    )

  def test_jpeg_within_dicom_is_read(self):
    data = imagecodecs.ljpeg_encode(_STORED, bitspersample=12)
    header = dicom_maker.encapsulated(film(), [data])
    np.testing.assert_array_equal(
      self.greys(header, uid.JPEGLosslessSV1), self.greys(film())
    )

  @parameterized.named_parameters(
    ('frames', {'NumberOfFrames': 2}, 'not_a_film: .* 2 frames, expected'),
    ('ct', {'Modality': 'CT'}, 'not_a_film: .*film.dcm: found a slice of CT'),
    (
      'in_a_scan',
      {
        'ImagePositionPatient': [0, 0, 0],
        'ImageOrientationPatient': [1, 0, 0, 0, 1, 0],
      },
      'not_a_film: .*lies in a scan',
    ),
    (
      'mirrored',
      {'PatientOrientation': ['R', 'F']},
      'orientation: film.dcm: found PatientOrientation R/F, expected L/F',
    ),
    ('lateral', {'PatientOrientation': ['A', 'F']}, 'orientation: film.dcm'),
    ('colour', {'SamplesPerPixel': 3}, 'unsupported.*film.dcm is no grey'),
    ('cut', {'PixelData': b'abcd'}, 'truncated_pixels: film.dcm holds 4'),
  )
  def test_what_is_no_film_is_refused_by_name(self, tags, message):
    with self.assertRaisesRegex(dicom.Refused, message):
      self.read(film(**tags))

  def test_the_usual_orientation_is_accepted(self):
    plain = self.greys(film())
    for orientation in (['L', 'F'], ['LH', 'FP'], None):
      header = film(PatientOrientation=orientation)
      np.testing.assert_array_equal(self.greys(header), plain)

  def test_any_view_is_read_as_it_is(self):
    plain = self.greys(film())
    for orientation in (['A', 'F'], ['R', 'F']):
      dicom_maker.save(film(PatientOrientation=orientation), self.path)
      found = radiographs.read(self.path, any_view=True)
      np.testing.assert_array_equal(found.voxels[0] / radiographs.WHITE, plain)

  def test_pictures_keep_their_greys(self):
    grey = np.random.default_rng(2).integers(0, 256, (5, 6), np.uint8)
    deep = grey.astype(np.uint16) * 200
    for pixels in (grey, deep):
      path = self.folder / 'film.png'
      Image.fromarray(pixels).save(path)
      volume = radiographs.read(path)
      self.assertEqual(volume.voxels.dtype, pixels.dtype)
      np.testing.assert_array_equal(volume.voxels, pixels[None])
      self.assertEqual(volume.spacing, (None, None, None))

  def test_colours_become_luminance_and_alpha_goes(self):
    colours = np.random.default_rng(3).integers(0, 256, (5, 6, 4), np.uint8)
    expected = colours[..., :3] @ [0.299, 0.587, 0.114]
    path = self.folder / 'film.png'
    Image.fromarray(colours).save(path)
    volume = radiographs.read(path)
    self.assertEqual(volume.voxels.shape, (1, 5, 6))
    np.testing.assert_allclose(volume.voxels[0], expected, atol=0.51)
    # A grey picture that was saved in colour is itself again.
    grey = colours[..., 0]
    Image.fromarray(np.stack([grey] * 3, -1)).save(path)
    np.testing.assert_array_equal(radiographs.read(path).voxels[0], grey)

  def test_large_films_are_read(self):
    row = np.linspace(0, 60000, 4000).astype(np.uint16)
    path = self.folder / 'film.png'
    Image.fromarray(np.tile(row, (4000, 1))).save(path, compress_level=1)
    np.testing.assert_array_equal(radiographs.read(path).voxels[0, -1], row)
    greys = self.greys(film(np.tile(row // 16, (4000, 1))))
    self.assertEqual(greys.shape, (4000, 4000))
    np.testing.assert_allclose(greys[7], row // 16 / 3750, atol=2e-5)

  def test_a_corrupt_jpeg_is_one_line(self):
    path = self.folder / 'film.jpg'
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (90, 1))).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with self.assertRaisesRegex(
      ValueError, r'^\S*film.jpg: found what cannot be read, expected .+$'
    ):
      radiographs.read(path)

  def test_damaged_dicom_is_an_error_of_one_line_or_none(self):
    header = film(WindowCenter=1500, WindowWidth=1000, PixelPaddingValue=3)
    header.PatientOrientation = ['L', 'F']
    header.VOILUTSequence = table(3, 100, [0, 4095, 2048])
    dicom_maker.save(header, self.path)
    whole = np.frombuffer(self.path.read_bytes(), np.uint8)
    random = np.random.default_rng(4)
    for _ in range(400):
      broken = whole.copy()
      at = random.integers(132, len(broken), 2)
      broken[at] = random.integers(0, 256, 2)
      self.path.write_bytes(broken.tobytes())
      try:
        read = radiographs.read(self.path)
      except ValueError as error:
        self.assertIn('film.dcm', str(error))
        self.assertNotIn('\n', str(error))
      else:
        self.assertEqual(read.voxels.dtype, np.int16)

  def test_other_files_are_named(self):
    with self.assertRaisesRegex(
      ValueError, 'film.dcm: found no such file, exp'
    ):
      radiographs.read(self.path)
    self.path.write_bytes(b'no film')
    with self.assertRaisesRegex(
      ValueError, 'film.dcm: found not_dicom, expected a picture or a DICOM'
    ):
      radiographs.read(self.path)

  def test_film_files_are_known_by_name_or_content(self):
    dicom_maker.save(film(), self.folder / '1.2.840.1')
    (self.folder / 'notes').write_text('x')
    found = {
      name: radiographs.is_film_file(self.folder / name)
      for name in ('a.PNG', 'a.dcm', '1.2.840.1', 'notes', 'gone')
    }
    self.assertEqual([x for x, yes in found.items() if yes], list(found)[:3])

  def test_patients_are_told_by_dicom_only(self):
    paths = [
      dicom_maker.save(film(PatientID=x), self.folder / f'{i}.dcm')
      for i, x in enumerate(('p', 'p', 'q'))
    ]
    first, second, third = map(radiographs.patient, paths)
    self.assertEqual(first, second)
    self.assertNotEqual(first, third)
    self.assertNotIn(first, ('', 'p'))
    self.assertEqual(radiographs.patient(self.folder / 'a.png'), '')


if __name__ == '__main__':
  absltest.main()
