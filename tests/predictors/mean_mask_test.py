"""Tests of the baseline that lays the mean training mask over a film."""

import dataclasses
import json

import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.predictors import mean_mask
from medzoo.train import build
from tests.data import film_cases


def _dice(a, b):
  return 2 * (a & b).sum() / (a.sum() + b.sum())


def _score(cases, detections):
  """Mean Dice over the lungs there are."""
  values = []
  for case, found in zip(cases, detections, strict=True):
    for label, truth in zip(case.masks.labels, case.masks.masks, strict=True):
      masks = found.masks[found.labels == label]
      values.append(_dice(masks[0], truth) if len(masks) else 0.0)
  return float(np.mean(values))


def _cases(shifts=(-0.05, 0.0, 0.05)):
  return film_cases.Cases(
    [
      film_cases.film(f'{i}', (100 + 20 * i, 90), shift=shift)
      for i, shift in enumerate(shifts)
    ]
  )


class MeanMaskTest(absltest.TestCase):
  def predict(self, settings, volume):
    """As a run does it, through a file and the config."""
    kept = json.loads(json.dumps(dataclasses.asdict(settings)))
    predictor = build.build(
      'predictors', {'name': 'mean_mask', **kept}, {}, {'shape': (64, 64)}
    )
    self.assertEqual(predictor.stages, ())
    return predictor({}, volume)['lungs']

  def test_one_film_is_its_own_mean(self):
    cases = _cases((0.0,))
    settings = mean_mask.tune(cases, _score, grid={'threshold': (0.5,)})
    for shape in ((100, 90), (400, 300), (70, 200)):
      case = film_cases.film(shape=shape)
      found = self.predict(settings, case.volume)
      self.assertCountEqual(found.labels.tolist(), (1, 2))
      for label, mask in zip(found.labels, found.masks, strict=True):
        self.assertGreater(_dice(mask, case.masks.masks[label - 1]), 0.95)

  def test_is_the_mean_and_looks_at_no_grey(self):
    # A film has the left lung in 2 of 3 cases, the right one in 1.
    cases = film_cases.Cases(
      [
        film_cases.film(str(i), labels=x)
        for i, x in enumerate([(1, 2), (2,), ()])
      ]
    )
    blank = types.Volume(np.zeros((1, 80, 80), np.uint8), (None,) * 3)
    for threshold, labels in ((0.3, (2, 1)), (0.5, (2,)), (0.7, ())):
      settings = mean_mask.tune(cases, _score, grid={'threshold': (threshold,)})
      found = self.predict(settings, blank)
      self.assertEqual(found.labels.tolist(), list(labels))
      self.assertEqual(found.masks.shape, (len(labels), 80, 80))
      # Blurred by the mean's coarse pixels at the edge.
      np.testing.assert_allclose(
        found.scores,
        {2: 2 / 3, 1: 1 / 3}[2] * np.array([1, 0.5])[: len(labels)],
        atol=0.04,
      )

  def test_chooses_the_best_threshold(self):
    cases = _cases((-0.2, 0.2))
    grid = {'threshold': (0.95, 0.3, 0.6)}
    scores = [
      _score(
        cases,
        [
          mean_mask.predict(
            case.volume.voxels.shape[1:],
            settings=mean_mask.tune(cases, _score, grid={'threshold': (t,)}),
          )
          for case in cases
        ],
      )
      for t in grid['threshold']
    ]
    self.assertGreater(scores[1], max(scores[0], scores[2]))
    self.assertEqual(mean_mask.tune(cases, _score, grid=grid).threshold, 0.3)
    # The first among equals.
    settings = mean_mask.tune(cases, lambda *_: 1.0, grid=grid)
    self.assertEqual(settings.threshold, 0.95)

  def test_a_film_without_masks_is_named(self):
    cases = _cases()
    cases[1] = dataclasses.replace(cases[1], masks=None)
    with self.assertRaisesRegex(ValueError, '^1: found no masks'):
      mean_mask.tune(cases, _score)


if __name__ == '__main__':
  absltest.main()
