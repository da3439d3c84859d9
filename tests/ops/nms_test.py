import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.ops import nms


def _reference(centers, scores, radius, max_keep):
  """Every pair compared, one after the other."""
  kept = []
  for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
    near = [np.linalg.norm(centers[i] - centers[j]) <= radius for j in kept]
    if not any(near) and len(kept) < max_keep:
      kept.append(i)
  return kept


class NmsSpheresTest(parameterized.TestCase):
  def test_worked_by_hand(self):
    centers = np.array([[0, 0, 0], [0, 0, 4], [0, 0, 8], [0, 0, 20.0]])
    scores = np.array([0.9, 0.8, 0.7, 0.95])
    # 0 drops 1; 2 lies 8 from 0, and 1, being dropped, drops nothing.
    kept = nms.nms_spheres(centers, scores, 5.0)
    self.assertSequenceEqual(kept.tolist(), [3, 0, 2])

  def test_a_centre_on_the_radius_is_dropped(self):
    centers = np.array([[0.0, 0, 0], [0, 3, 4]])
    kept = nms.nms_spheres(centers, np.array([0.5, 0.6]), 5.0)
    self.assertSequenceEqual(kept.tolist(), [1])

  def test_of_equal_scores_the_first_wins(self):
    kept = nms.nms_spheres(np.zeros((3, 3)), np.full(3, 0.5), 1.0)
    self.assertSequenceEqual(kept.tolist(), [0])

  def test_nothing_in_nothing_out(self):
    self.assertEmpty(nms.nms_spheres(np.zeros((0, 3)), np.zeros(0), 1.0))

  @parameterized.parameters(0, 1, 2)
  def test_equals_the_reference(self, seed):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 30, (200, 3))
    scores = rng.integers(0, 20, 200) / 20
    for max_keep in (7, 200):
      self.assertSequenceEqual(
        nms.nms_spheres(centers, scores, 6.0, max_keep).tolist(),
        _reference(centers, scores, 6.0, max_keep),
      )

  def test_rejects_unequal_numbers(self):
    with self.assertRaisesRegex(ValueError, '2 centres but 3 scores'):
      nms.nms_spheres(np.zeros((2, 3)), np.zeros(3), 1.0)


if __name__ == '__main__':
  absltest.main()
