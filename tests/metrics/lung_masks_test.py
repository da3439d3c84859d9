"""Tests of the scores of lungs, worked by hand."""

import dataclasses

import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.metrics import bootstrap
from medzoo.metrics import lung_masks

_SHAPE = (30, 40)
# A Dice of 2/3 and an IoU of 1/2 with one another; the distance is 4.
_RIGHT, _NEAR = (slice(5, 25), slice(2, 14)), (slice(5, 25), slice(6, 18))
_LEFT = (slice(5, 25), slice(24, 36))
_KNOWN = (None, 0.5, 0.5)


def _masks(*places):
  masks = np.zeros((len(places), *_SHAPE), bool)
  for mask, place in zip(masks, places, strict=True):
    if place is not None:
      mask[place] = True
  return masks


def _truth(**sides):
  labels = [lung_masks.SIDES[side] for side in sides]
  return types.Masks(_masks(*sides.values()), np.array(labels, np.int32))


def _found(*rows):
  """Instances from rows of label, place, score."""
  return types.MaskDetections(
    _masks(*(row[1] for row in rows)),
    np.zeros((len(rows), 4)),
    np.array([row[2] for row in rows], float),
    np.array([row[0] for row in rows], np.int32),
  )


def _four(spacing=_KNOWN):
  both = _truth(right=_RIGHT, left=_LEFT)
  pairs = [
    (both, _found((1, _RIGHT, 0.9), (2, _LEFT, 0.8))),
    (both, _found((1, _NEAR, 0.7))),
    (both, _found((2, _RIGHT, 0.65), (1, _RIGHT, 0.3))),
    (_truth(right=_RIGHT), _found((1, _RIGHT, 0.85), (2, _LEFT, 0.6))),
  ]
  return lung_masks.stack(
    [lung_masks.compare(*pair, spacing) for pair in pairs]
  )


def _options(groups):
  index, number = bootstrap.group_index(groups)
  return index, bootstrap.draw(number, resamples=100, seed=0)


class LungMasksTest(absltest.TestCase):
  def test_by_hand(self):
    lungs = _four()
    found = lung_masks.metrics(lungs, 0.5, *_options('abcd'))
    swapped = 22 / np.hypot(*_SHAPE)
    expected = {
      'dice_right': (1 + 2 / 3 + 0 + 1) / 4,
      'dice_left': (1 + 0 + 0) / 3,
      'iou_right': (1 + 1 / 2 + 0 + 1) / 4,
      'iou_left': (1 + 0 + 0) / 3,
      'hd95_right': (0 + 4 / 50 + 1 + 0) / 4,
      'hd95_left': (0 + 1 + swapped) / 3,
      'hd95_right_mm': (0 + 4 / 2 + 25 + 0) / 4,
      'hd95_left_mm': (0 + 25 + 11) / 3,
      'both_lungs_found': 1 / 3,
      'one_lung_found': 1 / 3,
      'no_lung_found': 1 / 3,
      'false_lung_rate': 1,
    }
    self.assertEqual(list(found), list(expected))
    for name, value in expected.items():
      self.assertAlmostEqual(found[name]['value'], value, msg=name)
      self.assertEqual(found[name]['n'], 4)
      self.assertLessEqual(found[name]['low'], value)
      self.assertLessEqual(value, found[name]['high'])

  def test_the_threshold_counts(self):
    lungs = _four()
    everything = lung_masks.metrics(lungs, 0.0, *_options('abcd'))
    self.assertAlmostEqual(
      everything['dice_right']['value'], (1 + 2 / 3 + 1 + 1) / 4
    )
    self.assertEqual(everything['no_lung_found']['value'], 0)
    included = lung_masks.metrics(lungs, 0.6, *_options('abcd'))
    self.assertEqual(included['false_lung_rate']['value'], 1)
    above = lung_masks.metrics(lungs, 0.61, *_options('abcd'))
    self.assertEqual(above['false_lung_rate']['value'], 0)
    nothing = lung_masks.metrics(lungs, 2.0, *_options('abcd'))
    self.assertEqual(nothing['dice_right']['value'], 0)
    self.assertEqual(nothing['hd95_right']['value'], 1)
    self.assertEqual(nothing['hd95_right_mm']['value'], 25)
    self.assertEqual(nothing['no_lung_found']['value'], 1)

  def test_agreement(self):
    np.testing.assert_allclose(
      lung_masks.agreement(_four(), 0.62),
      [[1, 1], [2 / 3, 0], [0, 0], [1, 1]],
    )

  def test_the_threshold_of_the_best_agreement(self):
    # Sums of Dice, from the highest score down: 2, 3, 4, 4 2/3, 4 2/3 (the
    # left lung lies on the right), 3 2/3 (found, but absent), 4 2/3.
    chosen = lung_masks.choose_threshold(_four())
    self.assertAlmostEqual(chosen, (0.7 + 0.65) / 2)
    both = _truth(right=_RIGHT, left=_LEFT)
    image = lung_masks.compare(both, _found((1, _RIGHT, 0.9)), _KNOWN)
    one = lung_masks.stack([image])
    self.assertAlmostEqual(lung_masks.choose_threshold(one), 0.45)
    image = lung_masks.compare(both, _found(), _KNOWN)
    none = lung_masks.stack([image])
    self.assertEqual(lung_masks.choose_threshold(none), 0)

  def test_an_unknown_spacing_leaves_millimetres_out(self):
    for spacing in ((None, None, None), (None, 0.5, None)):
      found = lung_masks.metrics(_four(spacing), 0.5, *_options('abcd'))
      self.assertNotIn('hd95_left_mm', found)
      self.assertIsNotNone(found['hd95_left']['value'])

  def test_pixels_that_are_not_square(self):
    truth = _truth(right=_RIGHT)
    found = _found((1, _NEAR, 0.9))
    image = lung_masks.compare(truth, found, (None, 3.0, 0.5))
    self.assertAlmostEqual(image.hd95_mm[0], 2)
    self.assertAlmostEqual(image.hd95[0], 4 / 50)
    self.assertAlmostEqual(image.diagonal_mm, np.hypot(90, 20))

  def test_undefined(self):
    image = lung_masks.compare(
      _truth(left=_LEFT), _found((2, _LEFT, 0.9)), _KNOWN
    )
    options = _options('a')
    found = lung_masks.metrics(lung_masks.stack([image]), 0.5, *options)
    self.assertIn('no image of these has a right', found['dice_right']['why'])
    self.assertIn('has both lungs', found['both_lungs_found']['why'])
    self.assertEqual(found['dice_left']['value'], 1)
    self.assertEqual(found['false_lung_rate']['value'], 0)
    image = lung_masks.compare(
      _truth(right=_RIGHT, left=_LEFT), _found(), _KNOWN
    )
    found = lung_masks.metrics(lung_masks.stack([image]), 0.5, *options)
    self.assertIn('every image', found['false_lung_rate']['why'])

  def test_the_surest_instance_with_a_pixel_counts(self):
    truth = _truth(right=_RIGHT)
    found = _found((1, _NEAR, 0.4), (1, None, 0.9), (1, _RIGHT, 0.6))
    image = lung_masks.compare(truth, found, _KNOWN)
    self.assertEqual(image.scores.tolist(), [0.6, -np.inf])
    self.assertEqual(image.dice.tolist(), [1, 0])
    # A true mask without a pixel is no lung.
    image = lung_masks.compare(_truth(left=None), _found(), _KNOWN)
    self.assertFalse(image.present.any())

  def test_differences(self):
    lungs, options = _four(), _options('abcc')
    nothing = dataclasses.replace(lungs, scores=np.full((4, 2), -np.inf))
    found = lung_masks.differences(lungs, 0.5, nothing, 0.5, *options)
    metrics = lung_masks.metrics(lungs, 0.5, *options)
    self.assertEqual(
      list(found), ['dice_right', 'dice_left', 'both_lungs_found']
    )
    for name, entry in found.items():
      self.assertEqual(entry, metrics[name])
    # Each system has its own threshold; they share their resamples.
    found = lung_masks.differences(lungs, 0.5, lungs, 0.5, *options)
    for entry in found.values():
      self.assertEqual([entry['low'], entry['high']], [0, 0])
    found = lung_masks.differences(lungs, 0.5, lungs, 0.2, *options)
    self.assertAlmostEqual(found['dice_right']['value'], -1 / 4)

  def test_groups_are_drawn_whole(self):
    lungs = _four()
    entry = lung_masks.metrics(lungs, 0.5, *_options('aaaa'))['dice_right']
    self.assertEqual(entry['n'], 1)
    self.assertAlmostEqual(entry['low'], entry['high'])

  def test_shapes_must_agree(self):
    other = dataclasses.replace(
      _found((1, _RIGHT, 0.9)), masks=np.ones((1, 5, 5), bool)
    )
    with self.assertRaisesRegex(ValueError, r'\(30, 40\) and \(5, 5\)'):
      lung_masks.compare(_truth(right=_RIGHT), other, _KNOWN)


if __name__ == '__main__':
  absltest.main()
