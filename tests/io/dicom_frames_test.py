import pathlib
import tempfile

import imagecodecs
import numpy as np
import pydicom
from absl.testing import absltest
from absl.testing import parameterized
from pydicom import encaps
from pydicom import uid

from medzoo.io import dicom
from tests.io import dicom_maker

_EIGHT = '1.2.840.10008.1.2.4.50'
_TWELVE = '1.2.840.10008.1.2.4.51'
_LOSSLESS = '1.2.840.10008.1.2.4.57'
_FIRST_ORDER = '1.2.840.10008.1.2.4.70'
_LS = '1.2.840.10008.1.2.4.80'
_LS_NEAR = '1.2.840.10008.1.2.4.81'
_J2K = '1.2.840.10008.1.2.4.90'
_J2K_LOSSY = '1.2.840.10008.1.2.4.91'


def _encode(stored: np.ndarray, syntax: str) -> bytes:
  """Compresses one frame of integers."""
  unsigned = stored.view(f'u{stored.dtype.itemsize}')
  if syntax == _EIGHT:
    return imagecodecs.jpeg8_encode(unsigned, level=100)
  if syntax == _TWELVE:
    return imagecodecs.jpeg8_encode(unsigned, level=100, bitspersample=12)
  if syntax in (_LOSSLESS, _FIRST_ORDER):
    predictor = 1 if syntax == _FIRST_ORDER else 4
    return imagecodecs.jpeg8_encode(
      unsigned, lossless=True, predictor=predictor, bitspersample=16
    )
  if syntax in (_LS, _LS_NEAR):
    return imagecodecs.jpegls_encode(unsigned, level=int(syntax == _LS_NEAR))
  return imagecodecs.jpeg2k_encode(stored, level=0, codecformat='j2k')


class _Folder(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self._folder = tempfile.TemporaryDirectory()
    self.addCleanup(self._folder.cleanup)
    self.folder = pathlib.Path(self._folder.name)
    # Smooth enough that the lossy codecs stay close.
    z, y, x = np.mgrid[:4, :16, :24]
    self.stored = (3 * (x + y + z)).astype(np.int16)

  def write(self, stored, syntax, pieces=1):
    def tweak(header, index):
      dicom_maker.encapsulated(
        header, [_encode(stored[index], syntax)], pieces, table=False
      )

    return dicom_maker.series(self.folder, stored, tweak, syntax)

  def multi(self, syntax, pieces=1, table=True):
    header = dicom_maker.enhanced(self.stored, [1, 3, 0, 2])
    frames = [_encode(self.stored[i], syntax) for i in (1, 3, 0, 2)]
    dicom_maker.encapsulated(header, frames, pieces, table)
    return dicom_maker.save(header, self.folder / 'all', syntax)

  def refuse(self, code):
    with self.assertRaises(dicom.Refused) as caught:
      dicom.read_series(self.folder)
    self.assertEqual(caught.exception.code, code, caught.exception.detail)
    self.assertNotIn('\n', str(caught.exception))


class SyntaxTest(_Folder):
  @parameterized.product(
    syntax=[
      uid.ImplicitVRLittleEndian,
      uid.ExplicitVRLittleEndian,
      uid.ExplicitVRBigEndian,
      uid.DeflatedExplicitVRLittleEndian,
    ],
    dtype=[np.int16, np.uint16],
  )
  def test_native(self, syntax, dtype):
    stored = (self.stored + (0 if dtype == np.uint16 else -500)).astype(dtype)
    stored[:, 0, 0] = -2000 if dtype == np.int16 else 63536

    def tweak(header, index):
      header.PixelPaddingValue = int(stored[0, 0, 0])

    dicom_maker.series(self.folder, stored, tweak, syntax)
    volume = dicom.read_series(self.folder)
    expected = stored.astype(int) - 1024
    expected[:, 0, 0] = -1024
    np.testing.assert_array_equal(volume.voxels, expected)
    self.assertEqual(volume.repairs, ('padding',))

  @parameterized.product(
    syntax=[_LOSSLESS, _FIRST_ORDER, _LS, _J2K], shift=[0, -300], pieces=[1, 3]
  )
  def test_lossless(self, syntax, shift, pieces):
    stored = self.stored + np.int16(shift)
    self.write(stored, syntax, pieces)
    volume = dicom.read_series(self.folder)
    np.testing.assert_array_equal(volume.voxels, stored.astype(int) - 1024)

  def test_rle(self):
    stored = self.stored - np.int16(300)
    for path in dicom_maker.series(self.folder, stored):
      header = pydicom.dcmread(path)
      header.compress(uid.RLELossless, generate_instance_uid=False)
      header.save_as(path)
    volume = dicom.read_series(self.folder)
    np.testing.assert_array_equal(volume.voxels, stored.astype(int) - 1024)

  @parameterized.parameters(
    (_EIGHT, np.uint8, 3),
    (_TWELVE, np.uint16, 3),
    (_LS_NEAR, np.uint16, 1),
    (_J2K_LOSSY, np.uint16, 1),
  )
  def test_lossy(self, syntax, dtype, error):
    stored = self.stored.astype(dtype)
    self.write(stored, syntax)
    volume = dicom.read_series(self.folder)
    np.testing.assert_allclose(
      volume.voxels, stored.astype(int) - 1024, atol=error
    )

  def test_twelve_signed_bits(self):
    stored = self.stored - np.int16(300)

    def tweak(header, index):
      header.BitsStored, header.HighBit = 12, 11
      bits = stored[index].view(np.uint16) & 0xFFF
      dicom_maker.encapsulated(header, [_encode(bits, _LS)])

    dicom_maker.series(self.folder, stored, tweak, _LS)
    volume = dicom.read_series(self.folder)
    np.testing.assert_array_equal(volume.voxels, stored.astype(int) - 1024)

  @parameterized.product(
    syntax=[_LOSSLESS, _LS, _J2K], pieces=[1, 2], table=[False, True]
  )
  def test_multi_frame(self, syntax, pieces, table):
    self.multi(syntax, pieces, table)
    scale = (1 + np.arange(4) % 2).reshape(4, 1, 1)
    np.testing.assert_array_equal(
      dicom.read_series(self.folder).voxels,
      self.stored.astype(int) * scale - 1000,
    )

  def test_duplicates_in_another_syntax(self):
    self.write(self.stored, _J2K)
    dicom_maker.series(self.folder / 'raw', self.stored)
    volume = dicom.read_series(self.folder)
    self.assertEqual(volume.repairs, ('duplicate_slices',))


class HostileTest(_Folder):
  @parameterized.product(
    syntax=[_EIGHT, _LOSSLESS, _LS, _J2K], cut=[0.02, 0.5, 0.97]
  )
  def test_cut_frame(self, syntax, cut):
    stored = self.stored
    if syntax == _EIGHT:
      stored = stored.astype(np.uint8)

    def tweak(header, index):
      data = _encode(stored[index], syntax)
      if index == 2:
        data = data[: int(cut * len(data))]
      dicom_maker.encapsulated(header, [data])

    dicom_maker.series(self.folder, stored, tweak, syntax)
    self.refuse('truncated_pixels')

  def test_cut_run_lengths(self):
    for path in dicom_maker.series(self.folder, dicom_maker.pixels(4)):
      header = pydicom.dcmread(path)
      header.compress(uid.RLELossless, generate_instance_uid=False)
      frames = encaps.generate_frames(header.PixelData, number_of_frames=1)
      data = next(frames)
      dicom_maker.encapsulated(header, [data[: len(data) * 2 // 3]])
      header.save_as(path)
    self.refuse('truncated_pixels')

  def test_cut_file(self):
    path = self.write(self.stored, _LS)[1]
    data = path.read_bytes()
    for size in (1, 8, 9, 40, 200):
      path.write_bytes(data[:-size])
      self.refuse('truncated_pixels')

  def test_size_of_the_frame(self):
    def tweak(header, index):
      header.Rows, header.Columns = 24, 16
      dicom_maker.encapsulated(header, [_encode(self.stored[index], _J2K)])

    dicom_maker.series(self.folder, self.stored, tweak, _J2K)
    self.refuse('truncated_pixels')

  @parameterized.parameters(_LOSSLESS, _LS, _J2K)
  def test_a_small_file_that_claims_gigabytes(self, syntax):
    huge = (65000).to_bytes(2, 'big')

    def tweak(header, index):
      header.Rows = header.Columns = 65000
      data = _encode(self.stored[index], syntax)
      small = [n.to_bytes(2, 'big') for n in (16, 24)]
      if syntax == _J2K:
        small = [b'\0\0' + n for n in small[::-1]]
        data = data.replace(b''.join(small), b'\0\0' + huge + b'\0\0' + huge)
      else:
        data = data.replace(b''.join(small), huge + huge)
      dicom_maker.encapsulated(header, [data])

    dicom_maker.series(self.folder, self.stored, tweak, syntax)
    self.refuse('truncated_pixels')

  def test_a_fragment_too_few(self):
    header = dicom_maker.enhanced(self.stored, [0, 1, 2, 3])
    frames = [_encode(self.stored[i], _LS) for i in range(3)]
    dicom_maker.encapsulated(header, frames)
    dicom_maker.save(header, self.folder / 'all', _LS)
    self.refuse('truncated_pixels')

  def test_noise_instead_of_a_frame(self):
    def tweak(header, index):
      dicom_maker.encapsulated(header, [bytes(range(256))])

    dicom_maker.series(self.folder, self.stored, tweak, _J2K)
    self.refuse('truncated_pixels')

  def test_a_broken_deflated_file(self):
    syntax = uid.DeflatedExplicitVRLittleEndian
    path = dicom_maker.series(self.folder, self.stored, None, syntax)[2]
    path.write_bytes(path.read_bytes()[:-60])
    self.refuse('truncated_pixels')


if __name__ == '__main__':
  absltest.main()
