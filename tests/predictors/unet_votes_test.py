"""Tests of U-Nets that vote, with members whose lungs are known."""

from unittest import mock

import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.predictors import unet_lungs
from medzoo.predictors import unet_votes

_VOLUME = types.Volume(np.zeros((1, 50, 60), np.uint8), (None,) * 3)


def _found(*rows):
  """Lungs from (label, score, corners) whose masks are boxes."""
  masks = np.zeros((len(rows), 50, 60), bool)
  for mask, (_, _, (y0, x0, y1, x1)) in zip(masks, rows, strict=True):
    mask[y0:y1, x0:x1] = True
  return types.MaskDetections(
    masks,
    lung_shapes.boxes_of(masks),
    np.array([row[1] for row in rows], float),
    np.array([row[0] for row in rows], np.int32),
  )


class UnetVotesTest(absltest.TestCase):
  def vote(self, *found):
    names = tuple('abcde'[: len(found)])
    predictor = unet_votes.UnetVotes(
      dict.fromkeys(names), {'shape': (8, 8)}, members=names
    )
    self.assertEqual(predictor.stages, names)
    answers = iter(found)
    with mock.patch.object(
      unet_lungs.UnetLungs, '__call__', lambda *_: {'lungs': next(answers)}
    ):
      return predictor({}, _VOLUME)['lungs']

  def test_members_that_agree_are_as_sure_as_each(self):
    one = _found((1, 0.9, (5, 5, 45, 25)), (2, 0.8, (5, 35, 45, 55)))
    voted = self.vote(one, one, one)
    np.testing.assert_array_equal(voted.masks, one.masks)
    np.testing.assert_allclose(voted.scores, [0.9, 0.8])
    self.assertEqual(voted.corners.tolist(), one.corners.tolist())
    self.assertAlmostEqual(unet_votes.confidence(voted), 0.8)

  def test_disagreement_costs_confidence(self):
    """Two of three see the upper half only."""
    half, whole = (2, 0.9, (0, 30, 20, 50)), (2, 0.9, (0, 30, 40, 50))
    voted = self.vote(_found(half), _found(half), _found(whole))
    np.testing.assert_array_equal(voted.masks, _found(half).masks)
    # Dice of the third with the voted: 2 * 1 / (1 + 2).
    np.testing.assert_allclose(voted.scores, [0.9 * (1 + 1 + 2 / 3) / 3])
    self.assertEqual(unet_votes.confidence(voted), 0)

  def test_order_is_by_what_is_left_of_the_scores(self):
    right, left = (1, 0.95, (0, 0, 40, 20)), (2, 0.9, (0, 30, 40, 50))
    voted = self.vote(_found(right, left), _found(left), _found(right, left))
    self.assertEqual(voted.labels.tolist(), [2, 1])
    np.testing.assert_allclose(voted.scores, [0.9, 0.95 * (2 / 3) ** 2])

  def test_nothing_found(self):
    voted = self.vote(_found(), _found())
    self.assertEqual(voted.masks.shape, (0, 50, 60))
    self.assertEqual(unet_votes.confidence(voted), 0)


if __name__ == '__main__':
  absltest.main()
