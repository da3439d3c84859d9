import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo import types
from medzoo.data import volumes

_WINDOW = {'name': 'window', 'low': -1000.0, 'high': 400.0}


def _volume(shape, spacing, seed=0, dtype=np.int16):
  rng = np.random.default_rng(seed)
  # A turned frame: two axes swapped and one mirrored.
  angle = rng.uniform(-3, 3)
  direction = np.array(
    [
      [np.cos(angle), 0, np.sin(angle)],
      [np.sin(angle), 0, -np.cos(angle)],
      [0, 1, 0],
    ]
  )
  return types.Volume(
    voxels=rng.integers(-1024, 1500, shape).astype(dtype),
    spacing=spacing,
    origin=tuple(rng.uniform(-300, 300, 3).tolist()),
    direction=direction,
    series_uid='1.2.3',
  )


class ResampleTest(parameterized.TestCase):
  @parameterized.parameters(
    ((12, 30, 25), (2.5, 0.7, 0.8), (1.0, 1.0, 1.0)),
    ((30, 20, 20), (0.5, 1.0, 1.3), (1.0, 1.0, 1.0)),
    ((9, 10, 11), (2.0, 0.5, 0.5), (1.0, 1.0, 1.0)),
    ((9, 16, 11), (3.0, 2.0, 0.25), (1.5, 1.0, 2.0)),
  )
  def test_equals_simpleitk(self, shape, old, new):
    volume = _volume(shape, old)
    result = volumes.resample(volume, new)
    size = [
      int((n - 1) * a / b + 1) for n, a, b in zip(shape, old, new, strict=True)
    ]
    self.assertSequenceEqual(result.voxels.shape, size)
    image = sitk.GetImageFromArray(volume.voxels.astype(np.float64))
    image.SetSpacing(old[::-1])
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.ravel().tolist())
    expected = sitk.Resample(
      image,
      size[::-1],
      sitk.Transform(),
      sitk.sitkLinear,
      volume.origin,
      new[::-1],
      volume.direction.ravel().tolist(),
      np.nan,
      sitk.sitkFloat64,
    )
    np.testing.assert_allclose(
      result.voxels, sitk.GetArrayFromImage(expected), atol=2e-3
    )
    self.assertEqual(result.voxels.dtype, np.float32)

  @parameterized.parameters(np.uint8, np.int16, np.uint16, np.float32, '>i2')
  def test_equals_scipy_for_every_type(self, dtype):
    voxels = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    result = volumes.resample(types.Volume(voxels, (1.5, 0.6, 2.0)))
    places = np.indices(result.voxels.shape).astype(float)
    places /= np.array([1.5, 0.6, 2.0])[:, None, None, None]
    expected = ndimage.map_coordinates(voxels.astype(float), places, order=1)
    np.testing.assert_allclose(result.voxels, expected, atol=1e-4)

  def test_hand_worked(self):
    volume = types.Volume(np.array([[[0, 10, 40]]]), (5.0, 5.0, 2.0))
    result = volumes.resample(volume)
    self.assertSequenceEqual(
      result.voxels.ravel().tolist(), [0.0, 5.0, 10.0, 25.0, 40.0]
    )

  def test_same_spacing_changes_nothing(self):
    volume = _volume((5, 6, 7), (1.0, 1.0, 1.0))
    result = volumes.resample(volume)
    np.testing.assert_array_equal(result.voxels, volume.voxels)
    self.assertEqual(result.origin, volume.origin)
    self.assertEqual(result.series_uid, '1.2.3')

  @parameterized.parameters(0, 1, 2)
  def test_single_slices(self, axis):
    shape = [6, 6, 6]
    shape[axis] = 1
    volume = _volume(shape, (2.5, 0.7, 0.7))
    self.assertEqual(volumes.resample(volume).voxels.shape[axis], 1)

  @parameterized.parameters(range(8))
  def test_index_survives_the_round_trip(self, seed):
    """A bright spot at an index of the file is found at that index again."""
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.uniform((0.8, 0.5, 0.5), (2.5, 1.2, 1.2)).tolist())
    volume = _volume((24, 60, 60), spacing, seed)
    index = np.array([24, 60, 60]) / 2 + rng.uniform(-2, 2, 3)
    gaps = np.indices((24, 60, 60)) - index[:, None, None, None]
    gaps *= np.array(spacing)[:, None, None, None]
    spot = 1000 * np.exp(-(gaps**2).sum(0) / (2 * 4.0**2))
    native = types.Volume(spot, spacing, volume.origin, volume.direction)
    resampled = volumes.resample(native)
    found = np.array(ndimage.center_of_mass(resampled.voxels))
    world = resampled.index_to_world(found)
    np.testing.assert_allclose(native.world_to_index(world), index, atol=0.1)
    # Through the grids alone, without the voxels, nothing at all is lost.
    there = resampled.world_to_index(native.index_to_world(index))
    back = native.world_to_index(resampled.index_to_world(there))
    np.testing.assert_allclose(back, index, atol=1e-9)

  @parameterized.parameters(
    ((None, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((0.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((1.0, 1.0, 1.0), (1.0, -1.0, 1.0)),
  )
  def test_refuses_bad_spacing(self, old, new):
    volume = types.Volume(np.zeros((1, 4, 4)), old, series_uid='1.2.3')
    with self.assertRaisesRegex(ValueError, '1.2.3: cannot resample'):
      volumes.resample(volume, new)


class WindowTest(parameterized.TestCase):
  def test_limits(self):
    result = volumes.window(np.array([-2000, -1000, -300, 400, 3000]), _WINDOW)
    np.testing.assert_allclose(result, [0, 0, 0.5, 1, 1])
    self.assertEqual(result.dtype, np.float32)

  def test_level_is_dicoms(self):
    spec = {'name': 'level', 'level': 80.0, 'width': 600.0}
    values = np.array([-400.0, -220.0, 79.5, 379.0, 400.0])
    # PS3.3 C.11.2.1.2.1 for an output range of 0 to 1.
    expected = np.clip((values - 79.5) / 599 + 0.5, 0, 1)
    np.testing.assert_allclose(
      volumes.window(values, spec), expected, atol=1e-6
    )

  def test_percentile(self):
    spec = {'name': 'percentile', 'low': 10.0, 'high': 90.0}
    result = volumes.window(np.arange(101), spec)
    np.testing.assert_allclose(result[[5, 10, 50, 90, 99]], [0, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(volumes.window(np.full(9, 7), spec), 0)

  @parameterized.parameters(
    ({'name': 'lung'},),
    ({'name': 'window', 'low': 0.0},),
    ({'name': 'window', 'low': 0.0, 'high': 1.0, 'width': 2.0},),
    ({'name': 'window', 'low': 1.0, 'high': 1.0},),
    ({'low': 0.0, 'high': 1.0},),
  )
  def test_refuses(self, spec):
    with self.assertRaisesRegex(ValueError, 'intensity window'):
      volumes.window(np.zeros(3), spec)

  def test_prepare_is_both(self):
    volume = _volume((6, 12, 12), (2.0, 0.7, 0.7))
    prepared = volumes.prepare(volume, _WINDOW, (1.0, 1.0, 1.0))
    resampled = volumes.resample(volume)
    np.testing.assert_array_equal(
      prepared.voxels, volumes.window(resampled.voxels, _WINDOW)
    )
    self.assertEqual(prepared.spacing, (1.0, 1.0, 1.0))


if __name__ == '__main__':
  absltest.main()
