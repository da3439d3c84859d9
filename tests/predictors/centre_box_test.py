"""Tests of the box that never looks."""

import dataclasses
import json

import numpy as np
from absl.testing import absltest

from medzoo.predictors import centre_box
from medzoo.train import build
from medzoo.train.protocols import windows as protocol
from tests.train import frame_cases
from tests.train import slice_cases


class CentreBoxTest(absltest.TestCase):
  def test_the_median(self):
    cases = frame_cases.cases()
    settings = centre_box.tune(cases, lambda *_: 0.0)
    self.assertEqual(settings.scale, centre_box.GRID['scale'][0])
    # Middles (9, 9), (26, 38) and (15, 15) in frames of 40 x 60.
    np.testing.assert_allclose(settings.middle, (15 / 40, 15 / 60))
    np.testing.assert_allclose(settings.size, (10 / 40, 10 / 60))
    found = centre_box.predict((80, 120), settings=settings)
    np.testing.assert_allclose(found.corners, [[20, 20, 40, 40]])

  def test_tuned_for_the_score(self):
    cases = frame_cases.cases()
    settings = centre_box.tune(
      cases, protocol.objective, grid={'scale': (3.0, 1.0)}
    )
    self.assertEqual(settings.scale, 1.0)
    # What was chosen comes back from a file.
    spec = json.loads(json.dumps(dataclasses.asdict(settings)))
    predict = build.build('predictors', {'name': 'centre_box', **spec}, {}, {})
    self.assertEqual(predict.stages, ())
    found = predict({}, cases[0].volume)['windows']
    np.testing.assert_allclose(found.corners, [[10, 10, 20, 20]])
    self.assertEqual(found.scores.tolist(), [1])

  def test_it_stays_in_the_frame(self):
    settings = centre_box.Settings((0.1, 0.9), (0.4, 0.4), 2.0)
    found = centre_box.predict((100, 100), settings=settings)
    np.testing.assert_allclose(found.corners, [[0, 50, 50, 100]])

  def test_what_it_cannot_learn_from(self):
    bare = dataclasses.replace(frame_cases.cases()[0], masks=None)
    with self.assertRaisesRegex(ValueError, 'a/1.png: found no masks'):
      centre_box.tune(slice_cases.Cases([bare]), lambda *_: 0.0)
    clean = frame_cases.cases().subset([2, 3])
    with self.assertRaisesRegex(ValueError, 'found nothing outlined in 2'):
      centre_box.tune(clean, lambda *_: 0.0)


if __name__ == '__main__':
  absltest.main()
