import grain
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo.data import transforms

_SHAPE = (15, 30, 30)


def _example(offset_vox, spacing=(1.0, 1.0, 1.0), size=(27, 44, 44)):
  """A soft bright spot off the centre of a cube."""
  middle = (np.array(size) - 1) / 2 + offset_vox
  gaps = np.indices(size) - middle[:, None, None, None]
  return {
    'image': np.exp(-(gaps**2).sum(0) / 8).astype(np.float16),
    'label': np.int32(1),
    'offset': (np.array(offset_vox) * spacing).astype(np.float32),
    'diameter': np.float32(10),
  }


def _affine(**changes):
  values = {
    'shape': _SHAPE,
    'flip': (True, True, True),
    'rotate_rad': 0.3,
    'scale': 0.1,
    'shift_vox': (1.0, 3.0, 3.0),
  }
  return transforms.RandomAffine(**(values | changes))


class RandomAffineTest(parameterized.TestCase):
  @parameterized.parameters(range(12))
  def test_offset_follows_the_lesion(self, seed):
    rng = np.random.default_rng(seed)
    spacing = (2.0, 0.8, 0.8)
    example = _example(rng.uniform(-2, 2, 3), spacing)
    result = _affine(spacing=spacing).random_map(example, rng)
    self.assertEqual(result['image'].shape, _SHAPE)
    found = np.array(ndimage.center_of_mass(result['image']))
    found -= (np.array(_SHAPE) - 1) / 2
    np.testing.assert_allclose(result['offset'] / spacing, found, atol=0.1)

  def test_scale_changes_the_diameter(self):
    example = _example((0, 0, 0), size=(41, 60, 60))
    before = example['image'].astype(float).sum()
    affine = _affine(
      shape=(35, 50, 50), scale=0.3, shift_vox=(0, 0, 0), flip=(False,) * 3
    )
    for seed in range(5):
      result = affine.random_map(example, np.random.default_rng(seed))
      growth = (result['image'].sum() / before) ** (1 / 3)
      np.testing.assert_allclose(result['diameter'] / 10, growth, rtol=0.01)

  def test_equals_scipy(self):
    cube = np.random.default_rng(0).random((20, 31, 33), np.float32)
    matrix = np.diag([-1.1, 1.0, 1.0])
    matrix[1:, 1:] = [[0.9, -0.3], [0.25, 1.2]]
    shift = np.array([0.4, -1.3, 2.2])
    for shape in ((15, 30, 30), (24, 40, 41)):
      offset = (np.array(cube.shape) - 1) / 2 + shift
      offset -= matrix @ ((np.array(shape) - 1) / 2)
      expected = ndimage.affine_transform(
        cube, matrix, offset, shape, order=1, mode='nearest', prefilter=False
      )
      np.testing.assert_allclose(
        transforms._sample(cube, matrix, shift, shape), expected, atol=1e-5
      )

  def test_nothing_drawn_is_the_middle(self):
    example = _example((1, 2, 3), size=(19, 34, 34))
    still = _affine(
      flip=(False,) * 3, rotate_rad=0.0, scale=0.0, shift_vox=(0, 0, 0)
    )
    result = still.random_map(example, np.random.default_rng(0))
    np.testing.assert_allclose(
      result['image'], example['image'][2:-2, 2:-2, 2:-2], atol=1e-6
    )
    np.testing.assert_allclose(result['offset'], [1, 2, 3])

  def test_flips_are_exact_and_all_happen(self):
    example = _example((1, 2, 3), size=_SHAPE)
    flips = _affine(rotate_rad=0.0, scale=0.0, shift_vox=(0, 0, 0))
    seen = set()
    for seed in range(60):
      result = flips.random_map(example, np.random.default_rng(seed))
      sign = np.sign(result['offset']).astype(int)
      expected = example['image'][tuple(slice(None, None, s) for s in sign)]
      np.testing.assert_allclose(result['image'], expected, atol=1e-6)
      seen.add(tuple(sign.tolist()))
    self.assertLen(seen, 8)

  def test_negatives_have_no_offset(self):
    example = _example((0, 0, 0)) | {
      'label': np.int32(0),
      'diameter': np.float32(0),
    }
    result = _affine().random_map(example, np.random.default_rng(1))
    np.testing.assert_array_equal(result['offset'], 0)
    self.assertEqual(result['diameter'], 0)

  def test_unknown_diameter_stays_unknown(self):
    example = _example((0, 0, 0)) | {'diameter': np.float32(np.nan)}
    result = _affine().random_map(example, np.random.default_rng(1))
    self.assertTrue(np.isnan(result['diameter']))

  def test_same_generator_same_result(self):
    example = _example((0, 1, 0))
    first, second = (
      _affine().random_map(example, np.random.default_rng(5)) for _ in '12'
    )
    np.testing.assert_array_equal(first['image'], second['image'])


class OtherTransformsTest(parameterized.TestCase):
  def test_intensity(self):
    example = {'image': np.full((20, 20, 20), 0.5, np.float16), 'label': 1}
    jitter = transforms.RandomIntensity(gain=0.1, bias=0.1, noise=0.05)
    results = [
      jitter.random_map(example, np.random.default_rng(seed))['image']
      for seed in range(30)
    ]
    means = np.array([r.mean() for r in results])
    deviations = np.array([r.std() for r in results])
    self.assertBetween(means.std(), 0.03, 0.12)
    self.assertLess(deviations.max(), 0.051)
    self.assertGreater(deviations.max(), 0.04)
    self.assertEqual(results[0].dtype, np.float32)
    strong = transforms.RandomIntensity(gain=0.0, bias=3.0, noise=0.0)
    image = strong.random_map(example, np.random.default_rng(0))['image']
    self.assertTrue(np.isin(image, (0, 1)).all())

  def test_crop(self):
    image = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    result = transforms.ToPatch((3, 2, 3)).map(
      {'image': image, 'label': 1, 'offset': np.zeros(3), 'diameter': 4.0}
    )
    np.testing.assert_array_equal(result['image'][..., 0], image[1:4, 1:3])
    self.assertEqual(result['label'], 1)

  @parameterized.parameters(((6, 4, 3),), ((4, 4, 3),))
  def test_crop_refuses(self, shape):
    with self.assertRaisesRegex(ValueError, 'cannot be cropped'):
      transforms.ToPatch(shape).map({'image': np.zeros((5, 4, 3))})

  def test_are_grains(self):
    self.assertIsInstance(_affine(), grain.transforms.RandomMap)
    self.assertIsInstance(transforms.ToPatch(_SHAPE), grain.transforms.Map)


if __name__ == '__main__':
  absltest.main()
