import pathlib
import tempfile

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.io import volumes
from tests.io import dicom_maker


class VolumesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self._folder = tempfile.TemporaryDirectory()
    self.addCleanup(self._folder.cleanup)
    self.folder = pathlib.Path(self._folder.name)

  @parameterized.product(suffix=volumes.SUFFIXES, dtype=[np.int16, np.float32])
  def test_round_trip(self, suffix, dtype):
    rng = np.random.default_rng(0)
    c, s = np.cos(0.3), np.sin(0.3)
    volume = types.Volume(
      voxels=rng.integers(-1000, 1000, (3, 4, 5)).astype(dtype),
      spacing=(2.5, 0.7, 0.6),
      origin=(-10.0, 20.0, 30.0),
      direction=np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    )
    path = self.folder / f'1.2.3{suffix}'
    volumes.write(volume, path)
    for read in (volumes.read, volumes.read_any):
      again = read(path)
      np.testing.assert_array_equal(again.voxels, volume.voxels)
      self.assertEqual(again.voxels.dtype, dtype)
      np.testing.assert_allclose(again.spacing, volume.spacing, rtol=1e-6)
      np.testing.assert_allclose(again.origin, volume.origin, rtol=1e-6)
      np.testing.assert_allclose(again.direction, volume.direction, atol=1e-6)
      self.assertEqual(again.series_uid, '1.2.3')

  @parameterized.parameters(
    (np.uint8, np.int16),
    (np.uint16, np.int16),
    (np.int32, np.int16),
    (np.float64, np.float32),
  )
  def test_types(self, written, read):
    path = self.folder / 'a.mha'
    image = sitk.GetImageFromArray(np.ones((2, 3, 4), written))
    sitk.WriteImage(image, str(path))
    self.assertEqual(volumes.read(path).voxels.dtype, read)

  def test_large_integers(self):
    path = self.folder / 'a.mha'
    image = sitk.GetImageFromArray(np.full((2, 3, 4), 60000, np.uint16))
    sitk.WriteImage(image, str(path))
    voxels = volumes.read(path).voxels
    self.assertEqual(voxels.dtype, np.float32)
    self.assertEqual(voxels.max(), 60000)

  def test_errors_name_the_file(self):
    flat = self.folder / 'flat.mha'
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4))), str(flat))
    broken = self.folder / 'broken.nii'
    broken.write_bytes(b'nothing')
    for path in (flat, broken, self.folder / 'missing.mhd'):
      with self.assertRaisesRegex(ValueError, path.name):
        volumes.read(path)
    with self.assertRaisesRegex(ValueError, 'endings'):
      volumes.write(types.Volume(np.ones((1, 2, 2)), (1, 1, 1)), 'a.png')

  def test_single_image(self):
    path = self.folder / 'a.mha'
    image = np.ones((1, 2, 2), np.int16)
    volumes.write(types.Volume(image, (None, 0.5, 0.5)), path)
    self.assertEqual(volumes.read(path).spacing, (1, 0.5, 0.5))

  def test_read_any_takes_dicom(self):
    stored = dicom_maker.pixels(3)
    paths = dicom_maker.series(self.folder, stored)
    self.assertLen(volumes.read_any(self.folder).voxels, 3)
    self.assertLen(volumes.read_any(paths[0]).voxels, 1)


if __name__ == '__main__':
  absltest.main()
