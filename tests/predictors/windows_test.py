"""Tests of windows that slide over a frame."""

import dataclasses
from unittest import mock

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo import types
from medzoo.ops import boxes as box_ops
from medzoo.predictors import windows
from medzoo.train import build

_WHOLE = (0, 0, 72, 96)
_SHAPE = (24, 32)
# By how much the disc is redder than green.
_RED = 160


class Redness(nn.Module):
  """Judges whether a red disc fills crops: red amid, but not in the corners."""

  @nn.compact
  def __call__(self, x, *, train):
    red = (x[..., 0] - x[..., 1]) * 255 / _RED
    corners = red[:, jnp.array([0, 1, -2, -1])][:, :, jnp.array([0, 1, -2, -1])]
    logit = 30 * (red[:, 4:-4, 5:-5].mean((1, 2)) - corners.mean((1, 2))) - 24
    # As log-odds of two classes.
    return {'logits': jnp.stack([jnp.zeros_like(logit), logit], -1)}


def frame(shape=(72, 96), middle=None, radius=0.0, seed=0):
  """Grey noise, with a red disc if it has a middle; and the disc's box."""
  rng = np.random.default_rng(seed)
  pixels = rng.integers(80, 120, (*shape, 1)).repeat(3, -1).astype(np.uint8)
  if middle is None:
    return pixels, None
  away = np.indices(shape) + 0.5 - np.reshape(middle, (2, 1, 1))
  pixels[(away**2).sum(0) < radius**2] = (60 + _RED, 60, 60)
  box = np.array([*np.subtract(middle, radius), *np.add(middle, radius)], float)
  return pixels, box


def predictor(**kwargs):
  spec = {'name': 'windows', 'stage': 'cnn', 'batch': 16, 'margin': 0.0,
          'sides': (0.19, 0.29, 0.43, 0.64), 'aspects': (1.0,),
          'stride': 0.25}  # fmt: skip
  models = {'cnn': Redness()}
  return build.build('predictors', spec | kwargs, models, {'shape': _SHAPE})


def look(pixels, **kwargs):
  volume = types.Volume(pixels[None], (None, None, None), series_uid='a')
  return predictor(**kwargs)({'cnn': {}}, volume)['windows']


class GridTest(parameterized.TestCase):
  @parameterized.parameters(
    (_WHOLE,), ((10, 20, 60, 50),), ((0, 0, 288, 384),), ((3, 5, 40, 90),)
  )
  def test_covers_the_field(self, field):
    grid = windows.make_grid(field, (0.25, 0.6, 1.0), (0.8, 1.25), 0.25)
    low, high = grid.corners[:, :2], grid.corners[:, 2:]
    self.assertTrue((low >= field[:2]).all() and (high <= field[2:]).all())
    np.testing.assert_array_equal(high - low, grid.sizes[grid.size])
    np.testing.assert_array_equal(low[:, 0], grid.rows[grid.row, 0])
    np.testing.assert_array_equal(grid.size, grid.rows[grid.row, 1])
    for i, size in enumerate(grid.sizes):
      mine = grid.corners[grid.size == i]
      self.assertEqual(mine[:, :2].min(0).tolist(), list(field[:2]))
      self.assertEqual(mine[:, 2:].max(0).tolist(), list(field[2:]))
      for axis in range(2):
        steps = np.diff(np.unique(mine[:, axis]))
        self.assertLessEqual(
          steps.max(initial=0), np.ceil(0.25 * size[axis]) + 1
        )

  def test_sizes(self):
    grid = windows.make_grid((0, 0, 288, 384), (0.25,), (1.0, 2.0), 0.5)
    # 72 pixels of 288, and as large an area twice as wide as high.
    self.assertEqual(grid.sizes.tolist(), [[72, 72], [51, 102]])
    self.assertEqual(grid.corners[0].tolist(), [0, 0, 72, 72])
    # Seven rows of ten windows half their side apart.
    self.assertEqual((grid.size == 0).sum(), 7 * 10)
    self.assertEqual(grid.corners[1].tolist(), [0, 35, 72, 107])


class CutTest(parameterized.TestCase):
  @parameterized.parameters((_WHOLE, _SHAPE), ((7, 9, 58, 90), (40, 40)))
  def test_as_pillow_does(self, field, shape):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (72, 96, 3), np.uint8)
    grid = windows.make_grid(field, (0.3, 0.7, 1.0), (0.7, 1.4), 0.5)
    batches = windows.cut(pixels, grid, shape, 16)
    self.assertEqual({batch.shape for batch in batches}, {(16, *shape, 3)})
    crops = np.concatenate(batches)
    self.assertLess(len(crops) - len(grid.corners), 16)
    for (y0, x0, y1, x1), crop in zip(grid.corners, crops, strict=False):
      image = Image.fromarray(pixels[y0:y1, x0:x1])
      image = image.resize(shape[::-1], Image.Resampling.BILINEAR)
      # Pillow rounds twice, after either axis.
      apart = np.abs(np.asarray(image, int) - crop)
      self.assertLessEqual(apart.max(), 1)
      self.assertLess(apart.mean(), 0.25)

  def test_frames_of_nearly_one_size_share_what_is_compiled(self):
    grid = windows.make_grid(_WHOLE, (0.5,), (1.0,), 0.5)
    counts = []
    for width in (96, 100, 110, 128):
      windows.cut(np.zeros((72, width, 3), np.uint8), grid, _SHAPE, 16)
      counts.append(windows._shrink_rows._cache_size())
    self.assertLen(set(counts), 1)


class FuseTest(absltest.TestCase):
  def test_by_hand(self):
    corners = np.array(
      [[0, 0, 10, 10], [0, 4, 10, 14], [50, 50, 60, 60], [0, 2, 10, 12]]
    )
    scores = np.array([0.4, 0.8, 0.5, 0.8])
    boxes, sure = windows.fuse(corners, scores, 0.4, 10)
    # Of the two surest the first: with it go the windows 2 and 4 aside.
    middle = (0.8 * 4 + 0.8 * 2 + 0.4 * 0) / 2
    np.testing.assert_allclose(
      boxes, [[0, middle, 10, middle + 10], [50, 50, 60, 60]]
    )
    self.assertEqual(sure.tolist(), [0.8, 0.5])
    boxes, sure = windows.fuse(corners, scores, 0.4, 1)
    self.assertEqual(sure.tolist(), [0.8])

  def test_what_fused_boxes_overlap_is_dropped(self):
    # The third overlaps the mean of the first two, but not the first.
    corners = np.array([[0, 0, 10, 10], [0, 4, 10, 14], [0, 6, 10, 16]])
    boxes, sure = windows.fuse(corners, np.array([1, 0.9, 0.8]), 0.3, 10)
    self.assertLen(boxes, 1)
    self.assertEqual(sure.tolist(), [1])

  def test_random(self):
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 80, (200, 2))
    corners = np.concatenate([low, low + rng.uniform(5, 40, (200, 2))], 1)
    boxes, sure = windows.fuse(corners, rng.random(200), 0.3, 1000)
    self.assertGreater(len(boxes), 5)
    self.assertTrue((np.diff(sure) <= 0).all())
    shares = box_ops.iou(boxes, boxes) - np.eye(len(boxes))
    self.assertLessEqual(shares.max(), 0.3)

  def test_nothing(self):
    boxes, sure = windows.fuse(np.zeros((0, 4)), np.zeros(0), 0.3, 10)
    self.assertEqual((boxes.shape, sure.shape), ((0, 4), (0,)))


class WindowsTest(parameterized.TestCase):
  @parameterized.parameters(((30, 40), 14.0), ((50, 70), 11.0))
  def test_finds_a_disc(self, middle, radius):
    pixels, box = frame(middle=middle, radius=radius)
    found = look(pixels)
    self.assertLen(found, 1)
    self.assertGreater(box_ops.iou(found.corners, box[None])[0, 0], 0.5)
    self.assertBetween(found.scores[0], 0.5, 1)
    for field in dataclasses.fields(found):
      self.assertLen(getattr(found, field.name), 1)
    self.assertEqual([*found.labels, *found.links, *found.slices], [1, -1, 0])

  def test_at_another_resolution(self):
    pixels, box = frame((73, 97), (30, 40), 14)
    large = pixels.repeat(3, 0).repeat(3, 1)
    small, found = look(pixels), look(large)
    np.testing.assert_allclose(found.corners[0], 3 * small.corners[0], atol=6)
    self.assertGreater(box_ops.iou(found.corners, 3 * box[None])[0, 0], 0.5)

  def test_large_frames_are_made_smaller_first(self):
    pixels, box = frame((301, 403), (120, 160), 56, seed=2)
    shapes = []
    cut = windows.cut

    def watched(shown, *arguments):
      shapes.append(shown.shape[:2])
      return cut(shown, *arguments)

    with mock.patch.object(windows, 'cut', watched):
      found = look(pixels, sides=(0.29, 0.43))
    # 0.29 of 301 pixels are 2.7 times the 32 of a crop.
    self.assertEqual(shapes, [(151, 202)])
    self.assertGreater(box_ops.iou(found.corners, box[None])[0, 0], 0.5)

  def test_in_the_lit_field(self):
    pixels, box = frame(middle=(30, 40), radius=14)
    dark = np.pad(pixels, ((8, 16), (30, 10), (0, 0)))
    found, moved = look(pixels), look(dark)
    np.testing.assert_allclose(
      moved.corners, found.corners + [8, 30, 8, 30], atol=1e-6
    )
    np.testing.assert_allclose(moved.scores, found.scores, atol=1e-6)

  def test_the_margin_is_taken_off(self):
    pixels, _ = frame(middle=(30, 40), radius=14)
    plain, found = look(pixels).corners, look(pixels, margin=0.25).corners
    middles, sizes = plain[:, :2] + plain[:, 2:], plain[:, 2:] - plain[:, :2]
    np.testing.assert_allclose(found[:, :2] + found[:, 2:], middles)
    np.testing.assert_allclose(found[:, 2:] - found[:, :2], sizes / 1.5)

  def test_nothing_in_a_clean_frame(self):
    found = look(frame()[0])
    self.assertEqual(found.corners.shape, (0, 4))
    grey = look(frame()[0][..., 0])
    self.assertEmpty(grey)

  def test_two_discs(self):
    pixels, first = frame(middle=(25, 22), radius=13)
    other, second = frame(middle=(45, 72), radius=13)
    red = other[..., 0] == 60 + _RED
    pixels[red] = other[red]
    found = look(pixels)
    shares = box_ops.iou(np.stack([first, second]), found.corners)
    self.assertTrue((shares.max(1) > 0.5).all(), shares)
    self.assertLen(look(pixels, max_detections=1), 1)

  def test_log_odds(self):
    pixels, box = frame(middle=(30, 40), radius=14)
    corners, log_odds = predictor().judge({'cnn': {}}, pixels)
    self.assertEqual(corners.shape, (len(log_odds), 4))
    for (y0, x0, y1, x1), logit in zip(corners, log_odds, strict=True):
      crop = pixels[y0:y1, x0:x1] / 255
      if logit > 0:
        centre = crop[len(crop) // 2, crop.shape[1] // 2]
        self.assertAlmostEqual(centre[0] - centre[1], _RED / 255)
    sure = corners[log_odds.argmax()]
    self.assertGreater(box_ops.iou(sure[None] * 1.0, box[None])[0, 0], 0.5)

  def test_what_it_takes(self):
    predict = predictor()
    for voxels in (np.zeros((2, 9, 9), np.uint8), np.zeros((1, 9, 9))):
      volume = types.Volume(voxels, (None,) * 3, series_uid='a')
      with self.assertRaisesRegex(ValueError, 'a: found .* one picture'):
        predict({'cnn': {}}, volume)


if __name__ == '__main__':
  absltest.main()
