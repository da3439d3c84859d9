"""Tests of the vote of several models, worked by hand."""

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.predictors import voting


def _found(*rows):
  """Instances from rows of label, score, columns of a 4 x 12 film."""
  masks = np.zeros((len(rows), 4, 12), bool)
  corners = np.zeros((len(rows), 4), np.float32)
  for mask, box, (_, _, (start, end)) in zip(masks, corners, rows, strict=True):
    mask[1:3, start:end] = True
    box[:] = 1, start, 3, end
  return types.MaskDetections(
    masks,
    corners,
    np.array([row[1] for row in rows], np.float32),
    np.array([row[0] for row in rows], np.int32),
  )


class _Told:
  """Finds what it is told, and is told by its variables."""

  def __call__(self, variables, volume):
    del volume
    return {'lungs': variables['found']}


class VotingTest(parameterized.TestCase):
  def test_by_hand(self):
    found = voting.vote(
      [
        _found((1, 0.9, (0, 4)), (2, 0.5, (7, 10))),
        _found((1, 0.6, (1, 5)), (2, 0.6, (8, 11))),
        _found((1, 0.6, (2, 6)), (2, 0.85, (8, 12))),
      ]
    )
    self.assertEqual(found.labels.tolist(), [1, 2])
    np.testing.assert_allclose(found.scores, [0.7, 0.65], rtol=1e-6)
    np.testing.assert_array_equal(found.corners, [[1, 0, 3, 6], [1, 7, 3, 12]])
    for mask, (start, end) in zip(found.masks, [(1, 5), (8, 11)], strict=True):
      expected = np.zeros((4, 12), bool)
      expected[1:3, start:end] = True
      np.testing.assert_array_equal(mask, expected)

  def test_a_lung_that_half_miss_is_not_found(self):
    one = _found((1, 0.9, (0, 4)))
    other = _found((2, 0.8, (8, 12)))
    self.assertEmpty(voting.vote([one, other]).labels)
    found = voting.vote([one, other, one])
    self.assertEqual(found.labels.tolist(), [1])
    # The model that missed it counts with a score of 0.
    self.assertAlmostEqual(found.scores[0], 0.6)
    self.assertEqual(found.masks.shape, (1, 4, 12))

  @parameterized.parameters(1, 2, 3, 4, 5)
  def test_so_many_votes_are_needed(self, number):
    most = number // 2 + 1
    wide, narrow = _found((1, 1.0, (0, 8))), _found((1, 1.0, (0, 2)))
    for votes in range(number + 1):
      found = voting.vote([wide] * votes + [narrow] * (number - votes))
      area = 16 if votes >= most else 4
      self.assertEqual(found.masks.sum(), area)

  def test_one_model_is_itself(self):
    one = _found((2, 0.9, (0, 4)), (1, 0.3, (7, 10)))
    found = voting.vote([one])
    for name in ('masks', 'corners', 'labels'):
      np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    np.testing.assert_allclose(found.scores, one.scores)

  def test_the_largest_part_is_kept(self):
    bars = [_found((1, 0.9, (0, 3))), _found((1, 0.9, (6, 11)))]
    both = _found((1, 0.9, (0, 11)))
    found = voting.vote([*bars, both])
    self.assertEqual(
      np.flatnonzero(found.masks[0, 1]).tolist(), [6, 7, 8, 9, 10]
    )

  def test_nothing(self):
    none = voting.vote([_found(), _found()])
    self.assertEqual(none.masks.shape, (0, 4, 12))
    self.assertEqual(none.corners.shape, (0, 4))
    self.assertEqual(none.labels.dtype, np.int32)

  def test_a_predictor_of_predictors(self):
    members = voting.Voting([_Told(), _Told()])
    one, other = _found((1, 0.8, (0, 4))), _found((1, 0.4, (2, 6)))
    found = members([{'found': one}, {'found': other}], None)
    self.assertEqual(list(found), ['lungs'])
    self.assertEqual(
      np.flatnonzero(found['lungs'].masks[0, 1]).tolist(), [2, 3]
    )
    with self.assertRaises(ValueError):
      members([{'found': one}], None)


if __name__ == '__main__':
  absltest.main()
