"""Tests of the augmentation of films with masks."""

import time

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo.data import picture_transforms

_STILL = dict(rotate_deg=0.0, shear=0.0, scale=0.0, shift=0.0, crop=0.0)
_RIGHT, _LEFT = 60, 120


def _example(sizes=(64, 48), shape=(64, 64)):
  """A film in a frame: lungs are told by their grey, as by their masks."""
  image, masks = np.zeros(shape, np.uint8), np.zeros((2, *shape), np.uint8)
  image[: sizes[0], : sizes[1]] = 220
  masks[0, 12:50, 6:20] = 1
  masks[1, 14:44, 28:40] = 1
  image[masks[0] > 0], image[masks[1] > 0] = _RIGHT, _LEFT
  return {'image': image, 'masks': masks, 'sizes': np.array(sizes, np.int32)}


def _moved(seed=0, example=None, **changes):
  film = picture_transforms.RandomFilm(**{**_STILL, **changes})
  return film.random_map(example or _example(), np.random.default_rng(seed))


def _shown(example):
  """The masks as the image's greys tell them, but for blurred edges."""
  image = example['image'].astype(int)
  return np.stack([abs(image - grey) < 20 for grey in (_RIGHT, _LEFT)])


def _dice(a, b):
  return 2 * (a & b).sum() / (a.sum() + b.sum())


class RandomFilmTest(parameterized.TestCase):
  def test_without_chance_nothing_changes(self):
    example = _example()
    found = _moved()
    self.assertEqual(found.keys(), example.keys())
    for name in example:
      self.assertEqual(found[name].dtype, example[name].dtype)
      np.testing.assert_array_equal(found[name], example[name])

  @parameterized.parameters(
    {'rotate_deg': 25.0},
    {'shear': 0.3},
    {'scale': 0.3},
    {'shift': 0.15},
    {'crop': 0.2},
    {'flip': True},
    {
      'rotate_deg': 10.0,
      'shear': 0.1,
      'scale': 0.1,
      'shift': 0.05,
      'crop': 0.1,
      'flip': True,
    },
  )
  def test_masks_move_with_the_image(self, **changes):
    is_other = []
    for seed in range(20):
      found = _moved(seed, **changes)
      rows, columns = found['sizes']
      self.assertFalse(found['image'][rows:].any())
      self.assertFalse(found['image'][:, columns:].any())
      self.assertFalse(found['masks'][:, rows:].any())
      self.assertFalse(found['masks'][:, :, columns:].any())
      shown = _shown(found)
      if (
        ndimage.center_of_mass(found['masks'][0])[1]
        > ndimage.center_of_mass(found['masks'][1])[1]
      ):
        self.fail('the right lung is right of the left one')
      # A mirrored film shows each lung in the other's grey.
      mirrored = _dice(shown[0], found['masks'][0] > 0) < 0.5
      if mirrored:
        self.assertIn('flip', changes)
        shown = shown[::-1]
      for grey, mask in zip(shown, found['masks'] > 0, strict=True):
        self.assertGreater(_dice(grey, mask), 0.85)
      is_other.append((found['masks'] != _example()['masks']).any())
    self.assertGreaterEqual(sum(is_other), 5)

  def test_the_turn_is_about_the_films_middle(self):
    """As scipy does it."""
    example = _example((64, 64))
    film = picture_transforms.RandomFilm(**{**_STILL, 'rotate_deg': 30.0})
    found = film.random_map(example, np.random.default_rng(5))
    best = max(
      (
        _dice(
          ndimage.rotate(
            example['masks'][0], angle, reshape=False, order=1
          ).astype(bool),
          found['masks'][0] > 0,
        ),
        angle,
      )
      for angle in np.arange(-30, 30.5, 0.5)
    )
    self.assertGreater(best[0], 0.97)
    self.assertGreater(abs(best[1]), 3)

  def test_a_cropped_film_fills_the_frame(self):
    """As preparing a film of that size would have it."""
    cropped = 0
    for seed in range(20):
      found = _moved(seed, crop=0.3)
      self.assertEqual((found['sizes'] == 64).any(), True)
      self.assertLessEqual(found['sizes'].max(), 64)
      cropped += bool((found['sizes'] != (64, 48)).any())
    self.assertBetween(cropped, 4, 16)

  def test_a_lung_that_is_hardly_left_becomes_absent(self):
    example = _example()
    gone = kept = 0
    for seed in range(60):
      found = _moved(seed, example, shift=0.9)
      for before, mask in zip(example['masks'], found['masks'], strict=True):
        left = mask.sum() / before.sum()
        gone += left == 0
        kept += left > 0
        self.assertTrue(left == 0 or left >= 0.1)
    self.assertGreater(gone, 10)
    self.assertGreater(kept, 10)

  def test_the_chance_is_the_generators(self):
    one, same, other = (_moved(seed, rotate_deg=20.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one['image'], same['image'])
    self.assertTrue((one['image'] != other['image']).any())

  def test_a_hundred_films_a_second(self):
    rng = np.random.default_rng(0)
    example = {
      'image': rng.integers(0, 256, (256, 256)).astype(np.uint8),
      'masks': np.ones((2, 256, 256), np.uint8),
      'sizes': np.array([256, 256], np.int32),
    }
    augment = [
      picture_transforms.RandomFilm(10.0, 0.05, 0.1, 0.05, 0.1),
      picture_transforms.RandomExposure(0.3, 0.2, 0.1, 0.05),
      picture_transforms.RandomCover(3, 0.3),
    ]
    best = np.inf
    for _ in range(3):
      began = time.process_time()
      for _ in range(10):
        changed = example
        for transform in augment:
          changed = transform.random_map(changed, rng)
        picture_transforms.ToExample().map(changed)
      best = min(best, (time.process_time() - began) / 10)
    self.assertLess(best, 1 / 100)


class MirroredTest(absltest.TestCase):
  def test_left_stays_the_patients_left(self):
    """A mirrored film shows its right lung where the left one belongs."""
    example = _example()
    found = picture_transforms.mirrored(example)
    right, left = found['masks']
    np.testing.assert_array_equal(right[:, :48], example['masks'][1, :, 47::-1])
    np.testing.assert_array_equal(left[:, :48], example['masks'][0, :, 47::-1])
    np.testing.assert_array_equal(
      found['image'][:, :48], example['image'][:, 47::-1]
    )
    self.assertFalse(found['image'][:, 48:].any())
    for name, mask in (('boxes', example), ('mirrored', found)):
      with self.subTest(name):
        boxes = picture_transforms.ToExample().map(mask)['boxes']
        self.assertLess(boxes[0, 3], boxes[1, 1])
    again = picture_transforms.mirrored(found)
    for name in example:
      np.testing.assert_array_equal(again[name], example[name])

  def test_one_lung_changes_its_label(self):
    example = _example()
    example['masks'][0] = 0
    finish = picture_transforms.ToExample()
    self.assertEqual(finish.map(example)['labels'].tolist(), [0, 2])
    found = finish.map(picture_transforms.mirrored(example))
    self.assertEqual(found['labels'].tolist(), [1, 0])


class RandomExposureTest(parameterized.TestCase):
  def change(self, seed, **changes):
    still = dict(gamma=0.0, contrast=0.0, brightness=0.0, noise=0.0)
    exposure = picture_transforms.RandomExposure(**{**still, **changes})
    return exposure.random_map(_example(), np.random.default_rng(seed))

  def test_without_chance_nothing_changes(self):
    np.testing.assert_array_equal(self.change(0)['image'], _example()['image'])

  @parameterized.parameters('gamma', 'contrast', 'brightness')
  def test_order_of_greys_is_kept(self, name):
    greys = []
    for seed in range(20):
      image = self.change(seed, **{name: 0.3})['image']
      self.assertEqual(image.dtype, np.uint8)
      greys.append([image[20, 10], image[20, 30], image[2, 2]])
      self.assertFalse(image[:, 48:].any())
    greys = np.array(greys, int)
    self.assertTrue((np.diff(greys) > 0).all())
    expected = np.array([_RIGHT, _LEFT, 220])
    self.assertTrue((greys > expected).any() and (greys < expected).any())
    # No further than asked: the middle grey by 0.3 of the range at most.
    self.assertLessEqual(abs(greys - expected).max(), 0.3 * 255 + 1)

  def test_noise_has_the_deviation(self):
    deviations = [
      self.change(seed, noise=0.1)['image'][14:42, 29:39].std()
      for seed in range(20)
    ]
    self.assertBetween(max(deviations), 12, 0.1 * 255 * 1.1)


class RandomCoverTest(absltest.TestCase):
  def test_covers_parts_of_the_film_and_leaves_masks(self):
    covered = []
    for seed in range(30):
      example = _example()
      cover = picture_transforms.RandomCover(2, 0.5)
      found = cover.random_map(example, np.random.default_rng(seed))
      np.testing.assert_array_equal(found['masks'], example['masks'])
      np.testing.assert_array_equal(example['image'], _example()['image'])
      self.assertFalse(found['image'][:, 48:].any())
      covered.append((found['image'] != example['image']).mean())
    self.assertEqual(min(covered), 0)
    self.assertBetween(max(covered), 0.05, 2 * 0.25 * 48 / 64)


class ToExampleTest(absltest.TestCase):
  def test_is_what_tasks_expect(self):
    found = picture_transforms.ToExample().map(_example())
    self.assertEqual(
      {name: (x.shape, x.dtype) for name, x in found.items()},
      {
        'image': ((64, 64, 1), np.float32),
        'masks': ((2, 64, 64), np.uint8),
        'boxes': ((2, 4), np.float32),
        'labels': ((2,), np.int32),
        'sizes': ((2,), np.int32),
      },
    )
    self.assertEqual(
      found['boxes'].tolist(), [[12, 6, 50, 20], [14, 28, 44, 40]]
    )
    self.assertEqual(found['labels'].tolist(), [1, 2])
    np.testing.assert_allclose(
      found['image'][20, [10, 30], 0], np.array([_RIGHT, _LEFT]) / 255
    )

  def test_absent_lungs_have_no_box_and_no_label(self):
    example = _example()
    example['masks'][0] = 0
    found = picture_transforms.ToExample().map(example)
    self.assertEqual(found['boxes'].tolist(), [[0] * 4, [14, 28, 44, 40]])
    self.assertEqual(found['labels'].tolist(), [0, 2])


if __name__ == '__main__':
  absltest.main()
