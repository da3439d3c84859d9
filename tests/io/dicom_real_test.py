import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.io import dicom
from medzoo.io import dicom_pixels
from medzoo.io import volumes
from tests import real_data


def _itk(folder):
  reader = sitk.ImageSeriesReader()
  reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
  return reader.Execute()


class LidcTest(parameterized.TestCase):
  @parameterized.parameters(
    ('LIDC-IDRI-0001', (133, 512, 512), (-166, -171.7, -340), 3071),
    ('LIDC-IDRI-0003', (140, 512, 512), (-228.8, -210, -379), 5892),
  )
  def test_equals_simpleitk(self, patient, shape, origin, top):
    folder = real_data.folder('lidc_idri') / patient
    series = dicom.choose(folder)
    volume = dicom.read(series)
    self.assertEqual(volume.voxels.shape, shape)
    self.assertEqual(volume.voxels.dtype, np.int16)
    self.assertEqual(volume.repairs, ())
    self.assertEqual((volume.voxels.min(), volume.voxels.max()), (-2048, top))
    image = _itk(next(folder.glob('*/*')))
    voxels = sitk.GetArrayViewFromImage(image)
    self.assertTrue((volume.voxels == voxels).all())
    np.testing.assert_allclose(volume.origin, origin, atol=1e-5)
    np.testing.assert_allclose(volume.origin, image.GetOrigin())
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1])
    self.assertLen(dicom.slice_index(series), shape[0])

  def test_two_patients(self):
    found = dicom.find_series(real_data.folder('lidc_idri'))
    self.assertLen(found, 2)
    self.assertLen({series.patient for series in found}, 2)


class OddSeriesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('ge_gantry_tilt', 'gantry_tilt', '18.50 degrees'),
    ('dicom2nifti-failing/gantrytilting', 'gantry_tilt', '14.00 degrees'),
    ('dicom2nifti-failing/notavolume', 'conflicting_slices', ''),
    ('dicom2nifti-failing/slicecount', 'too_few_slices', ''),
    ('dicom2nifti-failing/sliceincrement', 'missing_slices', '10.000 mm'),
    ('dicom2nifti-failing/sliceorientation', 'mixed_orientation', ''),
    ('lungmask-2slices', 'too_few_slices', ''),
  )
  def test_refused(self, name, code, detail):
    with self.assertRaises(dicom.Refused) as caught:
      dicom.read_series(real_data.folder('dicom_odd_series') / name)
    self.assertEqual(caught.exception.code, code)
    self.assertIn(detail, caught.exception.detail)

  def test_padding_and_segmentations(self):
    folder = real_data.folder('dicom_odd_series') / 'dcmqi-ct-3slice-with-SEG'
    series = dicom.choose(folder)
    self.assertEqual([kind for _, kind in series.skipped], ['SEG', 'SEG'])
    volume = dicom.read(series)
    self.assertEqual(volume.repairs, ('padding',))
    paths = sorted(folder.glob('0?.dcm'), reverse=True)
    raw = np.concatenate(
      [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths]
    )
    padded = raw == -3024
    self.assertEqual(padded.sum(), 167316)
    self.assertTrue((volume.voxels[padded] == -1024).all())
    self.assertTrue((volume.voxels[~padded] == raw[~padded]).all())

  def test_tilt_resampled(self):
    folder = real_data.folder('dicom_odd_series') / 'ge_gantry_tilt'
    volume = dicom.read_series(folder, repair=['resampled'])
    self.assertEqual(volume.repairs, ('padding', 'resampled'))
    self.assertEqual(volume.voxels.shape[2], 512)
    self.assertGreater(volume.voxels.shape[1], 512)
    self.assertEqual(volume.voxels.min(), -1024)


class TransferSyntaxTest(parameterized.TestCase):
  @parameterized.parameters(
    ('BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2', 0),
    ('DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99', 0),
    ('JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90', 0),
    ('JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91', 5),
    ('JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80', 0),
    ('JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81', 1),
    ('JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55', 36),
    ('JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70', 0),
    ('JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57', 0),
    ('JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50', 65),
    ('JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51', 36),
    ('JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53', 36),
    ('LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1', 0),
    ('LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2', 0),
    ('RLELosslessTransferSyntax_1.2.840.10008.1.2.5', 0),
  )
  def test_one_slice(self, name, error):
    folder = real_data.folder('dicom_transfer_syntaxes') / 'ct'
    plain = dicom.read_series(folder / 'CTImage.dcm')
    self.assertEqual(plain.voxels.min(), -3024)  # no padding, whatever it is
    coded = dicom.read_series(folder / f'CTImage.dcm_{name}.dcm')
    self.assertEqual(coded.voxels.shape, (1, 512, 512))
    self.assertIsNone(coded.spacing[0])
    away = np.abs(coded.voxels.astype(float) - plain.voxels)
    self.assertLessEqual(away.max(), error)

  @parameterized.parameters('CT1_J2KR', 'CT2_J2KR')
  def test_equals_simpleitk(self, name):
    path = real_data.folder('dicom_transfer_syntaxes') / 'ct' / name
    volume = dicom.read_series(path)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    voxels[voxels == -3024] = -1024
    np.testing.assert_array_equal(volume.voxels, voxels)

  @parameterized.parameters(
    ('no-pixel-spacing.dcm', 'missing_geometry'),
    ('CTImageEvenAligned.dat', 'not_dicom'),
    ('CTImageOddAligned.dat', 'not_dicom'),
    # Its functional groups say where its two frames lie.
    ('CT0012.fragmented_no_bot_jpeg_baseline.51.dcm', 'too_few_slices'),
  )
  def test_refused(self, name, code):
    path = real_data.folder('dicom_transfer_syntaxes') / 'ct' / name
    with self.assertRaises(dicom.Refused) as caught:
      dicom.read_series(path)
    self.assertEqual(caught.exception.code, code)

  def test_fragments_without_table(self):
    name = 'CT0012.fragmented_no_bot_jpeg_baseline.51.dcm'
    path = real_data.folder('dicom_transfer_syntaxes') / 'ct' / name
    file = dicom.find_series(path)[0].slices[0].file
    frames = dict(dicom_pixels.decode(file, [0, 1]))
    self.assertEqual((frames[0].min(), frames[0].max()), (1011, 2223))

  def test_one_mr_series_in_five_syntaxes(self):
    folder = real_data.folder('dicom_transfer_syntaxes')
    folder = folder / 'mr-same-series-5-syntaxes'
    plain = dicom.read_series(folder / 'compressed')
    self.assertEqual(plain.voxels.shape, (4, 256, 256))
    voxels = sitk.GetArrayFromImage(_itk(folder / 'compressed' / '001'))
    np.testing.assert_array_equal(plain.voxels, voxels)
    for name in ('_j2k', '_jpeg', '_jpegls', '_rle'):
      coded = dicom.read_series(folder / f'compressed{name}')
      np.testing.assert_array_equal(coded.voxels, plain.voxels)
    with self.assertRaises(dicom.Refused) as caught:
      dicom.read_series(folder)
    self.assertEqual(caught.exception.code, 'several_series')
    again = dicom.read_series(folder, series=plain.series_uid)
    self.assertEqual(again.repairs, ('duplicate_slices',))
    np.testing.assert_array_equal(again.voxels, plain.voxels)

  def test_slopes_of_each_slice(self):
    folder = real_data.folder('dicom_transfer_syntaxes')
    folder = folder / 'mr-same-series-5-syntaxes/anatomical/002_non_isotropic'
    volume = dicom.read_series(folder)
    self.assertEqual(volume.voxels.dtype, np.float32)
    voxels = sitk.GetArrayFromImage(_itk(folder))
    np.testing.assert_allclose(volume.voxels, voxels, rtol=1e-6)


class VolumeFileTest(absltest.TestCase):
  def test_patch(self):
    folder = real_data.folder('luna16_nodule_patches') / 'patches'
    path = min(folder.glob('*_dcm_*.mha'))
    volume = volumes.read(path)
    self.assertEqual(volume.voxels.dtype, np.int16)
    self.assertEqual(volume.spacing, (1, 1, 1))


if __name__ == '__main__':
  absltest.main()
