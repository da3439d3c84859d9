"""Tests of the augmentation of pictures with a class."""

import colorsys
import time

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo.data import labelled_transforms
from medzoo.data import picture_transforms

_STILL = dict(
  horizontal_flip=False,
  vertical_flip=False,
  quarter_turns=False,
  rotate_deg=0.0,
  shear=0.0,
  zoom=0.0,
  shift=0.0,
)
_SAME = dict(
  brightness=0.0, contrast=0.0, saturation=0.0, hue_deg=0.0, noise=0.0, blur=0.0
)


def _example(channels=3, shape=(40, 40), sizes=None):
  """Smooth noise of all levels in a frame of zeros."""
  rng = np.random.default_rng(3)
  sizes = sizes or shape
  noise = ndimage.gaussian_filter(
    rng.normal(size=(*sizes, channels)), (2, 2, 0), mode='reflect'
  )
  noise = (noise - noise.min()) / np.ptp(noise)
  image = np.zeros((*shape, channels), np.uint8)
  image[: sizes[0], : sizes[1]] = np.rint(5 + 250 * noise)
  return {
    'image': image,
    'label': np.int32(1),
    'sizes': np.array(sizes, np.int32),
  }


def _moved(seed, example, **changes):
  transform = labelled_transforms.RandomPicture(**{**_STILL, **changes})
  return transform.random_map(example, np.random.default_rng(seed))


def _coloured(seed, example, **changes):
  transform = labelled_transforms.RandomColour(**{**_SAME, **changes})
  return transform.random_map(example, np.random.default_rng(seed))


class RandomPictureTest(parameterized.TestCase):
  @parameterized.parameters(1, 3)
  def test_without_chance_nothing_changes(self, channels):
    example = _example(channels, sizes=(40, 31))
    found = _moved(0, example)
    self.assertEqual(found.keys(), example.keys())
    for name in example:
      self.assertEqual(found[name].dtype, example[name].dtype)
      np.testing.assert_array_equal(found[name], example[name])

  def test_flips_and_quarter_turns_are_the_eight_symmetries(self):
    """Each of them and nothing else, but for Pillow's rounding."""
    example = _example()
    symmetries = [
      np.rot90(mirrored, k).astype(int)
      for mirrored in (example['image'], example['image'][:, ::-1])
      for k in range(4)
    ]
    met = set()
    for seed in range(60):
      found = _moved(seed, example, horizontal_flip=True, quarter_turns=True)
      apart = [abs(one - found['image']).max() for one in symmetries]
      self.assertLessEqual(min(apart), 1)
      met.add(int(np.argmin(apart)))
    self.assertEqual(met, set(range(8)))

  @parameterized.parameters(('horizontal_flip', 1), ('vertical_flip', 0))
  def test_mirrors_every_second_picture(self, name, axis):
    example = _example(sizes=(40, 30))
    expected = example['image'].copy()
    expected[:, :30] = np.flip(expected[:, :30], axis)
    count = 0
    for seed in range(40):
      found = _moved(seed, example, **{name: True})['image']
      mirrored = (found != example['image']).any()
      np.testing.assert_array_equal(
        found, expected if mirrored else example['image']
      )
      count += bool(mirrored)
    self.assertBetween(count, 10, 30)

  @parameterized.named_parameters(
    ('square_colour', 3, (40, 40)), ('part_of_frame', 1, (36, 28))
  )
  def test_is_as_scipy_has_it(self, channels, sizes):
    """All at once, the edges reflected."""
    example = _example(channels, sizes=sizes)
    changes = dict(rotate_deg=90.0, shear=0.2, zoom=0.2, shift=0.3)
    transform = labelled_transforms.RandomPicture(
      **{**_STILL, **changes, 'vertical_flip': True}
    )
    rows, columns = sizes
    for seed in range(6):
      rng = np.random.default_rng(seed)
      found = transform.random_map(example, rng)['image']
      self.assertFalse(found[rows:].any() or found[:, columns:].any())
      rng = np.random.default_rng(seed)
      matrix = transform._draw(rng)
      middle = np.array(sizes) / 2 - 0.5
      shift = rng.uniform(-0.3, 0.3, 2) * sizes
      for channel in range(channels):
        expected = ndimage.affine_transform(
          example['image'][:rows, :columns, channel].astype(float),
          matrix,
          middle + shift - matrix @ middle,
          order=1,
          mode='reflect',
        )
        np.testing.assert_allclose(
          found[:rows, :columns, channel], expected, atol=1.01
        )

  def test_draws_what_was_asked_for(self):
    """The matrix comes apart into turn, shear and two scales again."""
    transform = labelled_transforms.RandomPicture(
      **{**_STILL, 'rotate_deg': 90.0, 'shear': 0.2, 'zoom': 0.2}
    )
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(500):
      turn, rest = np.linalg.qr(np.flip(transform._draw(rng)))
      rest = np.flip(rest * np.sign(np.diag(rest))[:, None])
      drawn.append([*np.diag(rest), rest[1, 0] / rest[0, 0]])
      self.assertAlmostEqual(abs(np.linalg.det(turn)), 1)
    drawn = np.array(drawn)
    for scales in 1 / drawn[:, :2].T:
      self.assertBetween(scales.min(), 0.8, 0.81)
      self.assertBetween(scales.max(), 1.19, 1.2)
    self.assertBetween(abs(drawn[:, 2]).max(), 0.19, 0.2)
    self.assertLess(abs(np.corrcoef(drawn.T) - np.eye(3)).max(), 0.2)

  def test_the_chance_is_the_generators(self):
    one, same, other = (
      _moved(seed, _example(), rotate_deg=20.0) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one['image'], same['image'])
    self.assertTrue((one['image'] != other['image']).any())

  def test_three_hundred_pictures_a_second(self):
    rng = np.random.default_rng(0)
    example = _example(shape=(96, 96))
    augment = [
      labelled_transforms.RandomPicture(True, True, False, 90.0, 0.2, 0.2, 0.1),
      labelled_transforms.RandomColour(0.1, 0.2, 0.2, 10.0, 0.03, 1.0),
      picture_transforms.RandomCover(2, 0.3),
    ]
    best = np.inf
    for _ in range(5):
      began = time.process_time()
      for _ in range(10):
        changed = example
        for transform in augment:
          changed = transform.random_map(changed, rng)
        labelled_transforms.ToExample().map(changed)
      best = min(best, (time.process_time() - began) / 10)
    self.assertLess(best, 3e-3)


class RandomColourTest(parameterized.TestCase):
  def test_without_chance_nothing_changes(self):
    example = _example(sizes=(40, 31))
    found = _coloured(0, example)
    self.assertEqual(found.keys(), example.keys())
    for name in example:
      np.testing.assert_array_equal(found[name], example[name])
    self.assertEqual(found['image'].dtype, np.uint8)

  def test_changes_and_leaves_zeros_round_the_picture(self):
    for name, most in dict(_SAME, hue_deg=20.0, blur=2.0).items():
      example = _example(sizes=(40, 31))
      found = _coloured(1, example, **{name: most or 0.2})['image']
      self.assertTrue((found != example['image']).any(), name)
      self.assertFalse(found[:, 31:].any(), name)

  @parameterized.parameters({'saturation': 0.9}, {'hue_deg': 90.0})
  def test_colours_change_and_luminance_does_not(self, **changes):
    """As colorsys tells them, whose weights are those of NTSC rounded."""
    image = np.full((1, 4, 3), 128, np.uint8)
    image[0, 1:] = [[140, 120, 100], [110, 130, 150], [150, 100, 140]]
    example = {'image': image, 'sizes': np.array([1, 4])}

    def tell(image):
      return np.array([colorsys.rgb_to_yiq(*rgb) for rgb in image[0] / 255])

    for seed in range(10):
      found = _coloured(seed, example, **changes)['image']
      np.testing.assert_array_equal(found[0, 0], [128] * 3)
      before, after = tell(image), tell(found)
      np.testing.assert_allclose(after[:, 0], before[:, 0], atol=0.02)
      one, other = (x[1:, 1] + 1j * x[1:, 2] for x in (before, after))
      ratio = other / one
      # All colours by the same factor, or the same angle.
      np.testing.assert_allclose(ratio, ratio.mean(), atol=0.2)
      if 'hue_deg' in changes:
        np.testing.assert_allclose(abs(ratio), 1, atol=0.2)
      else:
        np.testing.assert_allclose(np.angle(ratio), 0, atol=0.2)
        self.assertBetween(abs(ratio).min(), 0, 2.1)

  def test_levels_change_no_further_than_asked(self):
    levels = np.array([60, 127, 200])
    image = np.repeat(levels.astype(np.uint8), 3).reshape(1, 3, 3)
    example = {'image': image, 'sizes': np.array([1, 3])}
    for name, most in (
      ('brightness', np.full(3, 0.2 * 255)),
      ('contrast', 0.2 * abs(levels - 127.5)),
    ):
      found = np.array(
        [
          _coloured(seed, example, **{name: 0.2})['image'][0, :, 0]
          for seed in range(50)
        ]
      )
      moved = abs(found - levels).max(0)
      np.testing.assert_array_less(moved, most + 1)
      np.testing.assert_array_less(0.8 * most - 1, moved)

  def test_noise_has_the_deviation(self):
    image = np.full((30, 30, 3), 128, np.uint8)
    example = {'image': image, 'sizes': np.array([30, 30])}
    deviations = [
      _coloured(seed, example, noise=0.1)['image'].std() for seed in range(20)
    ]
    self.assertBetween(max(deviations), 15, 25.5 * 1.05)

  def test_blurs_as_scipy_does(self):
    """Pillow's filter is three boxes, nearly a Gaussian."""
    example = _example()
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0, 2.0)
    found = _coloured(0, example, blur=2.0)['image']
    expected = ndimage.gaussian_filter(
      example['image'].astype(float), (deviation, deviation, 0), mode='nearest'
    )
    self.assertLess(abs(found - expected).mean(), 2)
    self.assertGreater(abs(found - example['image'].astype(float)).mean(), 5)

  def test_refuses_grey(self):
    with self.assertRaisesRegex(ValueError, 'found an image of 1 channels'):
      _coloured(0, _example(1))


class GreyTest(absltest.TestCase):
  def test_the_transforms_of_films_take_pictures(self):
    for channels in (1, 3):
      example = _example(channels, sizes=(40, 31))
      exposure = picture_transforms.RandomExposure(0.3, 0.2, 0.1, 0.05)
      cover = picture_transforms.RandomCover(3, 0.5)
      rng = np.random.default_rng(0)
      found = cover.random_map(exposure.random_map(example, rng), rng)
      self.assertEqual(found['image'].shape, (40, 40, channels))
      self.assertTrue((found['image'] != example['image']).any())
      self.assertFalse(found['image'][:, 31:].any())


class ToExampleTest(absltest.TestCase):
  def test_is_what_tasks_expect(self):
    example = _example()
    found = labelled_transforms.ToExample().map(example)
    self.assertEqual(found.keys(), {'image', 'label'})
    self.assertEqual(found['image'].dtype, np.float32)
    np.testing.assert_allclose(found['image'], example['image'] / 255)
    self.assertEqual((found['label'], found['label'].dtype), (1, np.int32))

  def test_codes_stay(self):
    code = np.array([-3.0, 400.0], np.float32)
    found = labelled_transforms.ToExample().map({'image': code, 'label': 0})
    np.testing.assert_array_equal(found['image'], code)


if __name__ == '__main__':
  absltest.main()
