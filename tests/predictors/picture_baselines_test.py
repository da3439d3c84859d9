"""Tests of the baselines that judge pictures without a network."""

import dataclasses
import json

import numpy as np
import sklearn.kernel_ridge
import sklearn.linear_model
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.predictors import crop_geometry
from medzoo.predictors import hog_ridge
from medzoo.predictors import majority
from medzoo.train import build
from tests.train import picture_cases


def _auc(cases, found):
  return sklearn.metrics.roc_auc_score(
    cases.labels, [one.logit for one in found]
  )


def _judge(name, settings, cases):
  """Log-odds of cases, as a run gets them: through a file and the config."""
  kept = json.loads(json.dumps(dataclasses.asdict(settings)))
  predictor = build.build('predictors', {'name': name, **kept}, {}, {})
  assert predictor.stages == ()
  return [predictor({}, case.volume)['picture'] for case in cases]


def _sized(sizes, places=None):
  """Black crops of these sizes, every other of class 1, with places."""
  cases = picture_cases.Cases()
  for i, size in enumerate(sizes):
    voxels = np.full((1, *size, 3), 90, np.uint8)
    x, y = (0, 0) if places is None else places[i]
    cases.append(
      picture_cases.case(str(i), f'g{i}', i % 2, voxels, (x, y, 0.0))
    )
  return cases


class MajorityTest(absltest.TestCase):
  def test_says_how_frequent_class_1_is(self):
    cases = _sized([(4, 4)] * 7)
    settings = majority.tune(cases, _auc, grid={})
    found = _judge('majority', settings, cases)
    # 3 of 7, and one of each more.
    for one in found:
      self.assertAlmostEqual(1 / (1 + np.exp(-one.logit)), 4 / 9)
    self.assertEqual(_auc(cases, found), 0.5)

  def test_says_how_frequent_each_of_several_classes_is(self):
    cases = picture_cases.shapes(7)
    found = _judge('majority', majority.tune(cases, _auc, grid={}), cases)
    for one in found:
      np.testing.assert_allclose(np.exp(one.logit), [0.4, 0.3, 0.3])

  def test_is_finite_with_one_class(self):
    cases = _sized([(4, 4)] * 3).subset([0, 2])
    self.assertAlmostEqual(
      majority.tune(cases, _auc, grid={}).logit, np.log(1 / 3)
    )


class CropGeometryTest(absltest.TestCase):
  def test_features(self):
    voxels = np.full((1, 10, 20, 3), 19, np.uint8)
    voxels[:, :, 5:] = (0, 0, 200)
    volume = types.Volume(voxels, (None,) * 3, (100.0, 40.0, 0.0))
    np.testing.assert_allclose(
      crop_geometry.features(volume, False), [np.log(200), np.log(0.5)]
    )
    np.testing.assert_allclose(
      crop_geometry.features(volume, True)[2:], [110, 45, 0.25]
    )

  def test_tells_strips_from_boxes(self):
    rng = np.random.default_rng(0)
    sizes = []
    for i in range(80):
      side = int(rng.integers(20, 60))
      strip = ((side, 120), (120, side))[i // 2 % 2]
      sizes.append((side, side + int(rng.integers(9))) if i % 2 else strip)
    cases = _sized(sizes)
    settings = crop_geometry.tune(cases.subset(range(40)), _auc)
    self.assertFalse(settings.position)
    rest = cases.subset(range(40, 80))
    self.assertGreater(
      _auc(rest, _judge('crop_geometry', settings, rest)), 0.98
    )

  def test_place_is_looked_at_only_where_it_is_asked_for(self):
    # Class 1 lies in the middle of the frame, all crops are of one size.
    rng = np.random.default_rng(0)
    places = [
      rng.normal(0, 20, 2) if i % 2 else 80 * np.array([np.cos(i), np.sin(i)])
      for i in range(60)
    ]
    cases = _sized([(30, 40)] * 60, places)
    blind = crop_geometry.tune(cases, _auc)
    found = _judge('crop_geometry', blind, cases)
    self.assertEqual(_auc(cases, found), 0.5)
    seeing = crop_geometry.tune(cases, _auc, grid={'position': (True,)})
    found = _judge('crop_geometry', seeing, cases)
    self.assertGreater(_auc(cases, found), 0.95)
    both = crop_geometry.tune(cases, _auc, grid={'position': (False, True)})
    self.assertEqual(both, seeing)

  def test_is_scikit_learns_logistic_regression(self):
    rng = np.random.default_rng(0)
    cases = _sized(rng.integers(20, 90, (50, 2)).tolist())
    settings = crop_geometry.tune(cases, _auc)
    rows = np.array(
      [crop_geometry.features(case.volume, False) for case in cases]
    )
    steps = (rows - rows.mean(0)) / rows.std(0)
    terms = np.concatenate([steps, steps**2], axis=1)
    # Scikit-learn weighs the sum of losses by C and half the squares by 1.
    model = sklearn.linear_model.LogisticRegression(
      C=1 / (2 * 0.01 * len(rows)), tol=1e-10, max_iter=1000
    ).fit(terms, cases.labels)
    found = _judge('crop_geometry', settings, cases)
    np.testing.assert_allclose(
      [one.logit for one in found], model.decision_function(terms), atol=1e-3
    )


class HogRidgeTest(parameterized.TestCase):
  def test_greys(self):
    rng = np.random.default_rng(0)
    grey = rng.integers(1, 200, (1, 50, 80)).astype(np.uint8)
    found = hog_ridge.features(types.Volume(grey, (None,) * 3))
    # 7 x 7 blocks of 2 x 2 cells of 9 directions, a thumbnail, 512 colours.
    size = 1764 + 3 * 64 + 512
    self.assertEqual((found.shape, found.dtype), ((size,), np.float16))
    parts = np.split(found.astype(float), [1764, size - 512])
    for part, length in zip(parts, (1, 1, 0.5), strict=True):
      self.assertAlmostEqual(np.linalg.norm(part), length, places=3)
    colours = np.stack([grey] * 3, axis=-1)
    again = hog_ridge.features(types.Volume(colours, (None,) * 3))
    np.testing.assert_array_equal(again, found)
    # What is darker has the same edges and the same thumbnail, and other greys.
    darker = hog_ridge.features(types.Volume(grey // 2, (None,) * 3))
    np.testing.assert_allclose(darker[:-512], found[:-512], atol=0.02)
    self.assertGreater(np.abs(darker[-512:] - found[-512:]).max(), 0.1)

  @parameterized.parameters(np.int16, np.uint16, np.float32)
  def test_greys_of_more_than_8_bits_are_shares_of_the_brightest(self, kind):
    rng = np.random.default_rng(0)
    grey = rng.integers(1, 256, (1, 50, 80))
    grey[0, 0, 0] = 255
    eight = types.Volume(grey.astype(np.uint8), (None,) * 3)
    deep = types.Volume((16 * grey).astype(kind), (None,) * 3)
    np.testing.assert_allclose(
      hog_ridge.features(deep), hog_ridge.features(eight), atol=1e-3
    )

  def test_colours(self):
    voxels = np.zeros((1, 64, 64, 3), np.uint8)
    voxels[0, :16] = (255, 130, 60)
    found = hog_ridge.features(types.Volume(voxels, (None,) * 3))
    self.assertLen(found, 1764 + 3 * 64 + 512)
    thumbnail = found[1764:-512].reshape(3, 8, 8)
    self.assertGreater(thumbnail[0, 0, 0], 2 * thumbnail[2, 0, 0])
    self.assertFalse(thumbnail[:, 4:].any())
    colours = found[-512:].reshape(8, 8, 8).astype(float) ** 2
    self.assertAlmostEqual(colours[7, 4, 1], 0.25 / 4, places=3)
    self.assertAlmostEqual(colours[0, 0, 0], 0.75 / 4, places=3)

  def test_a_black_picture(self):
    volume = types.Volume(np.zeros((1, 30, 30), np.uint8), (None,) * 3)
    found = hog_ridge.features(volume)
    self.assertFalse(found[:-512].any())
    self.assertEqual(found[-512:].tolist(), [0.5] + [0] * 511)

  def test_tells_discs_from_none(self):
    cases = picture_cases.coloured(90)
    trained, rest = cases.subset(range(60)), cases.subset(range(60, 90))
    grid = {'width': (1.0,), 'ridge': (0.1, 1000.0)}
    settings = hog_ridge.tune(trained, _auc, grid=grid)
    found = _judge('hog_ridge', settings, rest)
    self.assertGreater(_auc(rest, found), 0.95)
    self.assertGreater(settings.scale, 0)
    # What it gives are the log-odds of scikit-learn's regression.
    examples = [
      np.stack([hog_ridge.features(case.volume) for case in each]).astype(float)
      for each in (trained, rest)
    ]
    expected = [
      sklearn.kernel_ridge.KernelRidge(
        alpha=ridge, kernel='rbf', gamma=settings.gamma
      )
      .fit(examples[0], 2 * np.array(trained.labels) - 1)
      .predict(examples[1])
      for ridge in grid['ridge']
    ]
    values = [(one.logit - settings.shift) / settings.scale for one in found]
    nearest = min(np.abs(values - each).max() for each in expected)
    self.assertLess(nearest, 1e-4)

  def test_several_classes_are_each_told_from_all_others(self):
    cases = picture_cases.shapes(75)
    trained, rest = cases.subset(range(45)), cases.subset(range(45, 75))

    def accuracy(cases, found):
      called = np.argmax([one.logit for one in found], axis=1)
      return sklearn.metrics.accuracy_score(cases.labels, called)

    grid = {'width': (1.0,), 'ridge': (0.1,)}
    settings = hog_ridge.tune(trained, accuracy, grid=grid)
    found = _judge('hog_ridge', settings, rest)
    self.assertGreater(accuracy(rest, found), 0.9)
    examples = [
      np.stack([hog_ridge.features(case.volume) for case in each]).astype(float)
      for each in (trained, rest)
    ]
    model = sklearn.kernel_ridge.KernelRidge(
      alpha=0.1, kernel='rbf', gamma=settings.gamma
    ).fit(examples[0], 2 * np.eye(3)[trained.labels] - 1)
    np.testing.assert_allclose(
      [one.logit for one in found],
      np.array(settings.scale) * model.predict(examples[1]) + settings.shift,
      atol=1e-2,
    )

  def test_folds_share_no_group(self):
    # Pictures of a group are the same but for their class: only who has seen
    # the group could tell them apart, the wrong way round.
    rng = np.random.default_rng(0)
    cases = picture_cases.Cases()
    for i in range(20):
      pixels = rng.integers(0, 255, (1, 40, 40)).astype(np.uint8)
      for label in (0, 1):
        cases.append(
          picture_cases.case(f'{i}{label}', f'g{i}', label, pixels.copy())
        )
    areas = []

    def score(cases, found):
      areas.append(_auc(cases, found))
      return areas[-1]

    hog_ridge.tune(cases, score, grid={'width': (1.0,), 'ridge': (0.1,)})
    self.assertEqual(areas, [0.5])

  def test_one_group(self):
    cases = picture_cases.coloured(3)
    with self.assertRaisesRegex(ValueError, 'found 1 groups'):
      hog_ridge.tune(cases, _auc)


if __name__ == '__main__':
  absltest.main()
