"""Tests of the detector on slices, on whole scans."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.ops import cells
from medzoo.predictors import slice_lesions
from medzoo.train import build

_PREPROCESS = {
  'shape': (32, 48),
  'pixel_mm': 1.0,
  'window': {'name': 'window', 'low': 0.0, 'high': 1.0},
  'region': 'none',
}
# Slice and corners of what is to be found, in voxels of half a mm by one.
_TRUTH = np.array(
  [[3, 20, 18, 28, 22], [4, 16, 16, 32, 24], [5, 20, 18, 28, 22]]
)


class _Oracle(nn.Module):
  """Writes the box that bounds what is bright on a slice.

  The first cell does so at its second step, the next one, less sure, at its
  first. What they write before the second look is 2 pixels further down.

  Attributes:
    grow: pixels that the box is too large by, on each side.
    second_look: whether there is one.
  """

  grow: float = 0.0
  second_look: bool = True

  @nn.compact
  def __call__(self, x, *, train):
    bright = x[..., 1] > 0.5
    sides = [], []
    for axis in (2, 1):
      line = bright.any(axis)
      sides[0].append(line.argmax(-1) - self.grow)
      end = line.shape[-1] - line[:, ::-1].argmax(-1)
      sides[1].append(end + self.grow)
    box = jnp.stack([*sides[0], *sides[1]], -1).astype(jnp.float32)
    middle = cells.centers((2, 3), (16, 16))[:, :, None]
    relative = cells.encode(box[:, None, None, None], middle)
    relative = jnp.broadcast_to(relative, (len(x), 2, 3, 2, 4))
    odds = jnp.full((len(x), 2, 3, 2), 1e-6)
    found = bright.any((1, 2))
    odds = odds.at[:, 0, 0, 1].set(jnp.where(found, 0.9, 1e-6))
    odds = odds.at[:, 0, 1, 0].set(jnp.where(found, 0.85, 1e-6))
    logits = jnp.log(jnp.stack([1 - odds, odds], -1))
    if not self.second_look:
      return {'boxes': relative, 'logits': logits}
    deltas = jnp.zeros_like(relative).at[..., 0].set(-2)
    return {
      'boxes': relative - deltas,
      'logits': logits / 2,
      'deltas': deltas,
      'rezoom_logits': logits,
    }


def _predictor(model=None, **changes) -> slice_lesions.SliceLesions:
  spec = {
    'name': 'slice_lesions',
    'batch_size': 4,
    'stitch_iou': 0.25,
    'max_boxes': 8,
    'min_score': 0.1,
    'link': {'min_overlap': 0.5, 'reach_mm': 3.0, 'share': 1.0},
    **changes,
  }
  models = {'detector': model or _Oracle()}
  return build.build('predictors', spec, models, _PREPROCESS)


def _volume(truth: np.ndarray = _TRUTH) -> types.Volume:
  voxels = np.zeros((9, 60, 40), np.float32)
  for z, y0, x0, y1, x1 in truth:
    voxels[z, y0:y1, x0:x1] = 1
  # Turned round z and tipped over.
  turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
  tip = np.array([[1.0, 0.0, 0.0], [0.0, 0.28, 0.96], [0.0, -0.96, 0.28]])
  return types.Volume(
    voxels, (2.0, 0.5, 1.0), (5.0, -8.0, 100.0), tip @ turn, 'CT'
  )


def _table(boxes: types.BoxDetections) -> np.ndarray:
  return np.column_stack([boxes.slices, boxes.corners])


class SliceLesionsTest(parameterized.TestCase):
  def test_gives_a_written_box_back_in_voxels_and_in_the_world(self):
    volume = _volume()
    results = _predictor()({'detector': {}}, volume)
    self.assertEqual(
      list(results),
      ['boxes', 'detections', 'first_boxes', 'first_detections'],
    )
    boxes, lesions = results['boxes'], results['detections']
    np.testing.assert_allclose(
      _table(boxes), np.repeat(_TRUTH, 2, axis=0), atol=1e-4
    )
    np.testing.assert_allclose(boxes.scores, [0.9, 0.85] * 3, rtol=1e-5)
    self.assertEqual(boxes.labels.tolist(), [1] * 6)
    self.assertEqual(boxes.steps.tolist(), [1, 0] * 3)
    self.assertEqual(boxes.suppressed.tolist(), [False, True] * 3)
    self.assertEqual(boxes.links.tolist(), [0, -1] * 3)
    # Voxels 16 to 31 and 16 to 23 are it, so its middle is 23.5, 19.5.
    np.testing.assert_allclose(
      lesions.centers, [volume.index_to_world([4, 23.5, 19.5])], atol=1e-4
    )
    np.testing.assert_allclose(lesions.diameters, [8.0], rtol=1e-5)
    # Of the four slices that 8 mm promise it is on three.
    np.testing.assert_allclose(lesions.scores, [0.9 * 3 / 4], rtol=1e-5)
    self.assertEqual(lesions.labels.tolist(), [1])

  def test_first_look(self):
    volume = _volume()
    results = _predictor()({'detector': {}}, volume)
    # Two pixels are four voxels.
    moved = _TRUTH + [0, 4, 0, 4, 0]
    first = results['first_boxes']
    np.testing.assert_allclose(_table(first)[::2], moved, atol=1e-4)
    self.assertEqual(first.links.tolist(), [0, -1] * 3)
    np.testing.assert_allclose(
      results['first_detections'].centers,
      [volume.index_to_world([4, 27.5, 19.5])],
      atol=1e-4,
    )
    results = _predictor(_Oracle(second_look=False))({'detector': {}}, volume)
    self.assertEqual(list(results), ['boxes', 'detections'])
    np.testing.assert_allclose(_table(results['boxes'])[::2], _TRUTH, atol=1e-4)

  @parameterized.parameters(1, 9, 16)
  def test_batches_make_no_difference(self, size):
    volume = _volume()
    expected = _predictor()({'detector': {}}, volume)
    found = _predictor(batch_size=size)({'detector': {}}, volume)
    for name, part in expected.items():
      for field in dataclasses.fields(part):
        np.testing.assert_array_equal(
          getattr(found[name], field.name), getattr(part, field.name)
        )

  def test_clips_to_the_slice_and_leaves_out_what_is_unsure(self):
    # The pictures reach beyond the scan in x.
    volume = _volume(np.array([[0, 0, 0, 8, 6], [8, 52, 34, 60, 40]]))
    predictor = _predictor(_Oracle(grow=3.0), min_score=0.87)
    boxes = predictor({'detector': {}}, volume)['boxes']
    np.testing.assert_allclose(
      _table(boxes), [[0, 0, 0, 14, 9], [8, 46, 31, 60, 40]], atol=1e-4
    )
    self.assertEqual(boxes.suppressed.tolist(), [False, False])
    self.assertEqual(sorted(boxes.links), [0, 1])

  def test_nothing_there(self):
    results = _predictor()({'detector': {}}, _volume(_TRUTH[:0]))
    self.assertEmpty(results['boxes'])
    self.assertEqual(results['boxes'].corners.shape, (0, 4))
    self.assertEqual(results['detections'].centers.shape, (0, 3))

  @parameterized.parameters((), (3,))
  def test_a_picture_has_boxes_but_no_lesions(self, *colors):
    pixels = np.zeros((1, 64, 96, *colors), np.uint8)
    pixels[0, 20:40, 10:50] = 255
    picture = types.Volume(pixels, (None, 1.0, 1.0))
    results = _predictor()({'detector': {}}, picture)
    np.testing.assert_allclose(
      _table(results['boxes']), [[0, 20, 10, 40, 50]] * 2, atol=1e-4
    )
    self.assertEqual(results['boxes'].links.tolist(), [-1, -1])
    self.assertEmpty(results['detections'])


if __name__ == '__main__':
  absltest.main()
