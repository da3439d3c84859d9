import dataclasses

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo import types
from medzoo.predictors import laplacian_of_gaussian

_SHAPE = (60, 120, 150)
_SPACING = (1.5, 1.0, 1.0)


def _ball(center, radius):
  """Marks a ball, centre as index z, y, x, radius in mm, with a soft rim."""
  axes = np.ogrid[tuple(map(slice, _SHAPE))]
  square = sum(
    ((a - c) * s) ** 2 for a, c, s in zip(axes, center, _SPACING, strict=True)
  )
  return np.clip(radius - np.sqrt(square) + 0.5, 0, 1)


def _case(name='a', balls=(), tubes=(), seed=0):
  """Two lungs in a body, with balls (place, radius) and tubes along z."""
  axes = np.ogrid[tuple(map(slice, _SHAPE))]
  z, y, x = (a - n / 2 for a, n in zip(axes, _SHAPE, strict=True))
  body = (y / 55) ** 2 + (x / 72) ** 2 < 1
  lungs = sum(
    (z / 25) ** 2 + (y / 38) ** 2 + ((x - side) / 26) ** 2 < 1
    for side in (-36, 36)
  )
  voxels = np.where(body, 40.0, -1000.0) + 0 * z
  voxels[lungs > 0] = -860
  for place, radius in balls:
    voxels += _ball(place, radius) * (40 - voxels)
  for place, radius in tubes:
    disk = np.hypot(y + _SHAPE[1] / 2 - place[0], x + _SHAPE[2] / 2 - place[1])
    share = np.clip(radius - disk + 0.5, 0, 1) * (lungs > 0)
    voxels += share * (40 - voxels)
  rng = np.random.default_rng(seed)
  noise = ndimage.gaussian_filter(rng.standard_normal(_SHAPE), 0.7)
  volume = types.Volume(
    (voxels + 60 * noise).astype(np.int16),
    _SPACING,
    origin=(-70.0, 12.0, 33.0),
    direction=np.diag([-1.0, -1.0, 1.0]),
    modality='CT',
    series_uid=name,
  )
  index = np.array([place for place, _ in balls], float).reshape(-1, 3)
  empty = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int32))
  lesions = types.Findings(
    volume.index_to_world(index),
    np.array([2.0 * radius for _, radius in balls]),
    np.ones(len(balls), np.int32),
  )
  return types.Case(volume, 'g', lesions, empty)


class LaplacianOfGaussianTest(parameterized.TestCase):
  @parameterized.parameters(2.5, 4.0, 7.0, 11.0)
  def test_finds_place_and_size(self, radius):
    case = _case(balls=[((31, 66, 40), radius)])
    found = laplacian_of_gaussian.predict(
      case.volume, settings=laplacian_of_gaussian.Settings()
    )
    gap = np.linalg.norm(found.centers[0] - case.lesions.centers[0])
    self.assertLess(gap, 1.0 + 0.2 * radius)
    self.assertBetween(found.diameters[0] / (2 * radius), 0.7, 1.4)

  def test_detections_are_ordered_apart_and_typed(self):
    case = _case(balls=[((31, 66, 40), 5.0), ((25, 60, 120), 3.0)])
    found = laplacian_of_gaussian.predict(
      case.volume, settings=laplacian_of_gaussian.Settings()
    )
    self.assertTrue((np.diff(found.scores) <= 0).all())
    self.assertTrue((found.scores > 0).all())
    self.assertTrue((found.labels == 1).all())
    self.assertLessEqual(len(found), 300)
    gaps = np.linalg.norm(found.centers[:, None] - found.centers, axis=-1)
    gaps[np.diag_indices(len(found))] = np.inf
    self.assertGreater(gaps.min(), 3.0)

  def test_roundness_prefers_balls_to_vessels(self):
    case = _case(
      balls=[((31, 66, 40), 4.0)],
      tubes=[((50, 50), 4.0), ((66, 120), 5.0), ((80, 45), 3.0)],
    )
    ranks = []
    for roundness in (0.0, 1.0):
      settings = laplacian_of_gaussian.Settings(roundness=roundness)
      found = laplacian_of_gaussian.predict(case.volume, settings=settings)
      gaps = np.linalg.norm(found.centers - case.lesions.centers[0], axis=-1)
      ranks.append(np.flatnonzero(gaps < 4)[0])
    self.assertEqual(ranks[1], 0)
    self.assertLessEqual(ranks[1], ranks[0])

  def test_curvatures(self):
    z, y, x = np.ogrid[-5:6, -5:6, -5:6]
    center = np.array([[5, 5, 5]])
    for weights, expected in (
      ((1.0, 1.0, 1.0), 1.0),
      ((2.0, 1.0, 0.5), 0.25),
      ((1.0, 1.0, 0.0), 0.0),
      ((1.0, 1.0, -0.3), 0.0),
    ):
      image = -sum(w * a**2 for w, a in zip(weights, (z, y, x), strict=True))
      np.testing.assert_allclose(
        laplacian_of_gaussian._roundness(image, center), [expected]
      )

  def test_smallest_size_is_kept(self):
    case = _case(balls=[((31, 66, 40), 3.0)])
    settings = laplacian_of_gaussian.Settings(min_diameter_mm=5.3)
    found = laplacian_of_gaussian.predict(case.volume, settings=settings)
    self.assertGreaterEqual(found.diameters.min(), 5.3)

  def test_tune(self):
    cases = [
      _case('a', balls=[((31, 66, 40), 4.0)]),
      _case('b', balls=[((28, 60, 120), 3.0)], tubes=[((66, 40), 3.0)]),
    ]
    asked = []

    def score(given, detections):
      self.assertIs(given, cases)
      asked.append(detections)
      # Rewards few detections near the top: the number of surer false ones.
      gaps = [
        np.linalg.norm(found.centers - case.lesions.centers[0], axis=-1)
        for found, case in zip(detections, given, strict=True)
      ]
      return -sum(float(np.argmin(gap)) for gap in gaps)

    grid = {'ceiling_hu': (-300.0, 100.0), 'roundness': (0.0, 1.0)}
    settings = laplacian_of_gaussian.tune(cases, score, grid=grid)
    self.assertLen(asked, 4)
    again = [
      laplacian_of_gaussian.predict(case.volume, settings=settings)
      for case in cases
    ]
    best = max(score(cases, detections) for detections in asked[:4])
    self.assertEqual(score(cases, again), best)

  def test_lesion_free_scan_without_lungs(self):
    case = _case()
    body = dataclasses.replace(
      case.volume, voxels=np.maximum(case.volume.voxels, -1000)
    )
    body.voxels[20:40] = 40
    found = laplacian_of_gaussian.predict(
      body, settings=laplacian_of_gaussian.Settings()
    )
    self.assertEqual(found.centers.shape, (len(found), 3))


if __name__ == '__main__':
  absltest.main()
