"""Tests of what becomes of Mask R-CNN's maps."""

from unittest import mock

import numpy as np
from absl.testing import absltest

from medzoo.data import lung_shapes
from medzoo.data import pictures
from medzoo.models import mask_rcnn
from medzoo.predictors import rcnn_lungs
from medzoo.train import build
from tests.data import film_cases

_PREPROCESS = {'shape': (64, 64), 'equalize': True}


def _look(case, scores, mirror=()):
  """Runs the predictor on a film of which the network sees all.

  With `mirror` it sees the mirrored film too, and scores there so.
  """
  picture = pictures.prepare(case.volume, **_PREPROCESS)
  maps = np.zeros((2, 64, 64), np.float32)
  for label, mask in zip(case.masks.labels, case.masks.masks, strict=True):
    maps[label - 1] = picture.place(mask[None])[0]
  found = {
    'maps': maps[None],
    'boxes': lung_shapes.boxes_of(maps > 0.5)[None].astype(np.float32),
    'scores': np.array(scores, np.float32)[None],
  }
  if mirror:
    # What a network that treats both sides alike finds in the mirrored view.
    turned = pictures.mirror(maps[::-1], picture.inner[1])
    boxes = lung_shapes.boxes_of(turned > 0.5)[None].astype(np.float32)
    second = {
      'maps': turned[None],
      'boxes': boxes,
      'scores': np.array(mirror, np.float32)[None, ::-1],
    }
    found = {key: np.concatenate([found[key], second[key]]) for key in found}
  predictor = build.build(
    'predictors',
    {
      'name': 'rcnn_lungs',
      'stage': 'all',
      'proposals': 8,
      'min_score': 0.05,
      'max_detections': 4,
      'mirror': bool(mirror),
    },
    {'all': mask_rcnn.MaskRCNN(num_classes=3)},
    _PREPROCESS,
  )
  with mock.patch.object(rcnn_lungs, '_find', return_value=found) as find:
    lungs = predictor({'all': {}}, case.volume)['lungs']
  views, sizes = find.call_args.args[3:]
  np.testing.assert_array_equal(views[0], picture.pixels)
  seen = 2 if mirror else 1
  np.testing.assert_array_equal(sizes, [picture.inner] * seen)
  if mirror:
    width = picture.inner[1]
    np.testing.assert_array_equal(
      views[1][:, :width], np.fliplr(picture.pixels[:, :width])
    )
  return lungs


class RcnnLungsTest(absltest.TestCase):
  def test_finds_them_at_the_films_own_size(self):
    case = film_cases.film(shape=(300, 420), labels=(1, 2))
    lungs = _look(case, [0.6, 0.9])
    self.assertEqual(lungs.labels.tolist(), [2, 1])
    np.testing.assert_allclose(lungs.scores, [0.9, 0.6], rtol=1e-6)
    for mask, label in zip(lungs.masks, lungs.labels, strict=True):
      (truth,) = case.masks.masks[case.masks.labels == label]
      self.assertGreater(
        2 * (mask & truth).sum() / (mask.sum() + truth.sum()), 0.95
      )
    # A pixel that the network sees is 6.6 of the film's.
    np.testing.assert_allclose(
      lungs.corners, lung_shapes.boxes_of(lungs.masks), atol=7
    )

  def test_a_class_without_score_or_pixels_is_left_out(self):
    both = film_cases.film(shape=(100, 100), labels=(1, 2))
    self.assertEqual(_look(both, [0, 0.9]).labels.tolist(), [2])
    right = film_cases.film(shape=(100, 100), labels=(1,))
    lungs = _look(right, [0.6, 0.9])
    self.assertEqual(lungs.labels.tolist(), [1])
    self.assertEqual(lungs.masks.shape, (1, 100, 100))
    nothing = _look(right, [0, 0])
    self.assertEqual(nothing.masks.shape, (0, 100, 100))
    self.assertEqual(nothing.corners.shape, (0, 4))

  def test_the_mirrored_view_agrees_where_both_sides_are_alike(self):
    # Padded at the right, so that the film's own width counts.
    case = film_cases.film(shape=(400, 300), labels=(1, 2))
    one = _look(case, [0.6, 0.9])
    both = _look(case, [0.6, 0.9], mirror=[0.8, 0.5])
    self.assertEqual(both.labels.tolist(), [1, 2])
    np.testing.assert_allclose(both.scores, [0.7, 0.7], rtol=1e-6)
    np.testing.assert_array_equal(both.masks, one.masks[::-1])
    np.testing.assert_allclose(both.corners, one.corners[::-1], atol=1e-3)

  def test_boxes_come_from_the_view_that_has_the_lung(self):
    case = film_cases.film(shape=(400, 300), labels=(1, 2))
    one = _look(case, [0.6, 0.9])
    both = _look(case, [0, 0.9], mirror=[0.8, 0])
    self.assertEqual(both.labels.tolist(), [2, 1])
    np.testing.assert_allclose(both.scores, [0.45, 0.4], rtol=1e-6)
    np.testing.assert_allclose(both.corners, one.corners, atol=1e-3)


if __name__ == '__main__':
  absltest.main()
