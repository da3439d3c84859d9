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


def _look(case, scores):
  """Runs the predictor on a film of which the network sees all."""
  picture = pictures.prepare(case.volume, **_PREPROCESS)
  maps = np.zeros((2, 64, 64), np.float32)
  for label, mask in zip(case.masks.labels, case.masks.masks, strict=True):
    maps[label - 1] = picture.place(mask[None])[0]
  found = {
    'maps': maps,
    'boxes': lung_shapes.boxes_of(maps > 0.5),
    'scores': np.array(scores, np.float32),
  }
  predictor = build.build(
    'predictors',
    {
      'name': 'rcnn_lungs',
      'stage': 'all',
      'proposals': 8,
      'min_score': 0.05,
      'max_detections': 4,
    },
    {'all': mask_rcnn.MaskRCNN(num_classes=3)},
    _PREPROCESS,
  )
  with mock.patch.object(rcnn_lungs, '_find', return_value=found) as find:
    lungs = predictor({'all': {}}, case.volume)['lungs']
  np.testing.assert_array_equal(find.call_args.args[3], picture.pixels[None])
  np.testing.assert_array_equal(find.call_args.args[4], [picture.inner])
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


if __name__ == '__main__':
  absltest.main()
