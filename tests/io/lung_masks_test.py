import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo.io import images
from medzoo.io import lung_masks

_SHAPE = (60, 64)


def ellipse(y, x, height, width, shape=_SHAPE):
  """Draws an ellipse by its centre and its half axes, in parts of the shape."""
  rows, columns = np.indices(shape)
  away = ((rows + 0.5) / shape[0] - y) / height
  aside = ((columns + 0.5) / shape[1] - x) / width
  return away**2 + aside**2 <= 1


# The patient's right lung is the higher and larger one, on the film's left.
_RIGHT = ellipse(0.45, 0.27, 0.35, 0.17)
_LEFT = ellipse(0.5, 0.73, 0.32, 0.15)


class LungMasksTest(parameterized.TestCase):
  def assert_sides(self, masks, right=_RIGHT, left=_LEFT):
    self.assertEqual(masks.labels.tolist(), [1, 2])
    self.assertEqual(masks.labels.dtype, np.int32)
    self.assertEqual(masks.masks.dtype, bool)
    np.testing.assert_array_equal(masks.masks, [right, left])

  def test_labels_and_sides_say_the_same(self):
    self.assert_sides(lung_masks.from_labels(_RIGHT + 2 * _LEFT))
    self.assert_sides(lung_masks.from_sides({2: _LEFT, 1: _RIGHT}))

  @parameterized.parameters(1, 2)
  def test_one_lung_is_fine(self, side):
    mask = _RIGHT if side == 1 else _LEFT
    for masks in (
      lung_masks.from_labels(mask * side),
      lung_masks.from_sides({side: mask, 3 - side: np.zeros_like(mask)}),
    ):
      self.assertEqual(masks.labels.tolist(), [side])
      np.testing.assert_array_equal(masks.masks, [mask])
      lung_masks.check_standard(masks)

  @parameterized.named_parameters(
    ('numbers', _RIGHT + 3 * _LEFT, 'bad_labels: found values 0, 1, 3, expec'),
    ('many', np.arange(9)[None], r'values 0, 1, 2, 3, 4, \.\.\., expected'),
    ('nothing', np.zeros(_SHAPE), 'empty_mask: found no pixel of a lung'),
    ('inverse', 1 - _RIGHT, r'implausible_size: found 8\d% of the picture in'),
  )
  def test_bad_labels_are_refused(self, values, message):
    with self.assertRaisesRegex(lung_masks.Refused, message):
      lung_masks.from_labels(values)

  def test_bad_sides_are_refused(self):
    with self.assertRaisesRegex(lung_masks.Refused, 'overlap: found 100% of a'):
      lung_masks.from_sides({1: _RIGHT, 2: _RIGHT})
    with self.assertRaisesRegex(
      lung_masks.Refused, 'mask_size: found masks of 30 x 32 and 60 x 64, exp'
    ):
      lung_masks.from_sides({1: _RIGHT, 2: _LEFT[::2, ::2]})

  def test_a_whole_mask_is_split_by_the_patients_sides(self):
    self.assert_sides(lung_masks.split(_RIGHT | _LEFT))
    self.assert_sides(lung_masks.pair(_RIGHT, _LEFT))
    self.assert_sides(lung_masks.pair(_LEFT, _RIGHT))

  def test_the_split_follows_a_flip_of_the_film(self):
    # What was drawn on the film's right is on its left now, where a film has
    # the patient's right: sides go by the place and not by the shape.
    flipped = lung_masks.split((_RIGHT | _LEFT)[:, ::-1])
    self.assert_sides(flipped, right=_LEFT[:, ::-1], left=_RIGHT[:, ::-1])
    # So do labels that are flipped with their film and exchanged.
    labels = lung_masks.from_labels((_RIGHT + 2 * _LEFT)[:, ::-1])
    with self.assertRaisesRegex(lung_masks.Refused, 'mirrored: found the pat'):
      lung_masks.check_standard(labels)
    exchanged = lung_masks.exchange(labels)
    lung_masks.check_standard(exchanged)
    self.assert_sides(exchanged, *flipped.masks)

  def test_one_lung_is_exchanged_too(self):
    masks = lung_masks.exchange(lung_masks.from_labels(1 * _RIGHT))
    self.assertEqual(masks.labels.tolist(), [2])
    np.testing.assert_array_equal(masks.masks, [_RIGHT])

  def test_holes_are_filled_and_specks_dropped(self):
    mask = _RIGHT | _LEFT
    mask[20:23, 14:19] = False
    mask[2, 2] = mask[58, 40] = True
    self.assert_sides(lung_masks.split(mask))

  @parameterized.named_parameters(
    (
      'touching',
      _RIGHT | _LEFT | ellipse(0.5, 0.5, 0.02, 0.3),
      'one_component',
    ),
    ('one_lung', _RIGHT, 'one_component: found one piece, so that the lungs'),
    ('nothing', np.zeros(_SHAPE, bool), 'empty_mask'),
    (
      'three',
      _RIGHT | _LEFT | ellipse(0.9, 0.5, 0.05, 0.2),
      'several_components: found 3 large pieces',
    ),
    (
      'small',
      _RIGHT | ellipse(0.5, 0.73, 0.1, 0.07),
      'implausible_size: found pieces of ',
    ),
    (
      'both_small',
      ellipse(0.5, 0.3, 0.04, 0.04) | ellipse(0.5, 0.7, 0.04, 0.04),
      'implausible_size',
    ),
    (
      'above_each_other',
      ellipse(0.25, 0.48, 0.2, 0.2) | ellipse(0.75, 0.52, 0.2, 0.2),
      'crosses_midline: found pieces over columns',
    ),
    (
      'across',
      ellipse(0.25, 0.4, 0.2, 0.35) | ellipse(0.75, 0.72, 0.2, 0.2),
      'crosses_midline',
    ),
    ('inverse', ~(_RIGHT | _LEFT), 'one_component'),
  )
  def test_an_unsound_split_is_refused(self, mask, message):
    with self.assertRaisesRegex(lung_masks.Refused, f'^{message}'):
      lung_masks.split(mask)

  def test_a_tilted_patient_is_split(self):
    rows = np.arange(_SHAPE[0])[:, None]
    tilt = np.clip(np.arange(_SHAPE[1]) + (rows - 30) // 5, 0, _SHAPE[1] - 1)
    right, left = (mask[rows, tilt] for mask in (_RIGHT, _LEFT))
    self.assert_sides(lung_masks.split(right | left), right, left)

  @parameterized.parameters(1, 7, 255, 65535)
  def test_two_values_are_a_mask(self, value):
    found = lung_masks.binarize(_RIGHT * np.uint16(value))
    np.testing.assert_array_equal(found, _RIGHT)

  def test_no_value_is_an_empty_mask(self):
    self.assertFalse(lung_masks.binarize(np.zeros((3, 4), np.uint8)).any())

  def test_jpegs_fringes_are_cut_at_half(self):
    mask = ellipse(0.45, 0.3, 0.35, 0.17, (256, 256))
    path = pathlib.Path(self.create_tempdir().full_path) / 'mask.jpg'
    Image.fromarray(mask * np.uint8(255)).save(path, quality=85)
    values = images.read_labels(path)
    self.assertGreater(len(np.unique(values)), 10)
    self.assertLess((lung_masks.binarize(values) != mask).mean(), 1e-3)

  @parameterized.named_parameters(
    ('film', np.tile(np.arange(64, dtype=np.uint8) * 4, (60, 1))),
    ('labels', _RIGHT + 2 * _LEFT),
    ('light_ground', 255 - 100 * _RIGHT.astype(np.uint8)),
    ('dim', np.where(_RIGHT, 90, 3) + np.eye(*_SHAPE, dtype=int)),
  )
  def test_what_is_not_black_and_white_is_refused(self, values):
    with self.assertRaisesRegex(lung_masks.Refused, 'not_binary: found [0-9]+'):
      lung_masks.binarize(values)

  @parameterized.parameters(
    ((120, 128),), ((30, 32),), ((59, 64),), ((62, 66),)
  )
  def test_masks_of_equal_proportions_are_resized(self, shape):
    masks = lung_masks.from_labels(_RIGHT + 2 * _LEFT)
    found = lung_masks.fit(masks, shape)
    self.assertEqual(found.labels.tolist(), [1, 2])
    for mask, original in zip(found.masks, (_RIGHT, _LEFT), strict=True):
      # Pillow's nearest neighbour is another program's.
      expected = Image.fromarray(original).resize(shape[::-1], 0)
      np.testing.assert_array_equal(mask, expected)

  def test_a_size_rounded_by_its_maker_is_accepted(self):
    # 2000 x 1373 pixels, scaled so that the longer side has 512.
    masks = lung_masks.from_labels(np.eye(512, 351, dtype=int))
    self.assertEqual(lung_masks.fit(masks, (2000, 1373)).masks.shape[1], 2000)

  @parameterized.parameters(((64, 60),), ((60, 70),), ((120, 124),))
  def test_masks_of_other_proportions_are_refused(self, shape):
    masks = lung_masks.from_labels(_RIGHT + 2 * _LEFT)
    with self.assertRaisesRegex(
      lung_masks.Refused, f'mask_size: .*60 x 64 .*{shape[0]} x {shape[1]} as'
    ):
      lung_masks.fit(masks, shape)


if __name__ == '__main__':
  absltest.main()
