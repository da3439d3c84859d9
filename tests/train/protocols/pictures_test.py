"""Tests of how the classes of pictures are scored and written."""

import csv
import dataclasses
import json
import pathlib
from unittest import mock

import numpy as np
import sklearn.metrics
from absl.testing import absltest
from absl.testing import parameterized
from scipy import special

from medzoo import types
from medzoo.train import build
from medzoo.train import evaluate
from medzoo.train import mapping
from medzoo.train import predict
from medzoo.train import stages
from medzoo.train.protocols import pictures
from tests.train import picture_cases

_OPTIONS = {'resamples': 50, 'seed': 0}
_POINT = {'threshold': 0.6, 'scale': 2.0, 'shift': -1.0}


def _outputs(predictions):
  return {
    key: mapping.Output(key, detections, 0.1)
    for key, detections in predictions.items()
  }


def _said(*logits):
  return _outputs(
    {
      str(i): {'picture': types.PictureScore(np.float32(logit))}
      for i, logit in enumerate(logits)
    }
  )


def _truth(*labels):
  return pictures.read_truth(
    picture_cases.Cases(
      picture_cases.case(str(i), f'g{i}', label)
      for i, label in enumerate(labels)
    )
  )


def _rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def _model(classes=('polyp',), background='mucosa'):
  return predict.Model(
    pathlib.Path('nowhere'),
    {'evaluation': {}},
    {'threshold': _POINT},
    classes,
    background,
  )


class TruthTest(parameterized.TestCase):
  def test_a_picture_of_no_class_is_named(self):
    with self.assertRaisesRegex(ValueError, '^1: found no class, expected'):
      _truth(0, None)

  def test_log_odds_are_of_two_classes(self):
    with self.assertRaisesRegex(ValueError, '^1: found class 2, expected'):
      pictures.score(_said(1, 2), _truth(0, 2), _POINT, **_OPTIONS)

  def test_folds_are_joined(self):
    cases = picture_cases.coloured(9)
    parts = [pictures.read_truth(cases.subset([i])) for i in range(9)]
    merged = pictures.merge(parts)
    self.assertEqual(merged, pictures.read_truth(cases))
    self.assertEqual(merged.keys, cases.keys)
    self.assertEqual(list(merged.groups.values()), cases.groups)


class ScoreTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.cases = picture_cases.coloured(60)
    self.truth = pictures.read_truth(self.cases)
    self.outputs = _outputs(picture_cases.said(self.cases))
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'p'

  def test_the_point_by_hand(self):
    # Between -1 and 3 in probability; calibration is Platt's.
    point = pictures.choose_threshold(
      _said(-4, -1, 3, 6), _truth(0, 0, 1, 1), {}
    )
    self.assertEqual(json.loads(json.dumps(point)), point)
    self.assertEqual(list(point), ['threshold', 'scale', 'shift'])
    low, high = (
      1 / (1 + np.exp(-point['scale'] * logit - point['shift']))
      for logit in (-1, 3)
    )
    self.assertAlmostEqual(point['threshold'], (low + high) / 2)
    self.assertAlmostEqual(point['shift'] / point['scale'], -1, delta=0.3)

  def test_without_calibration_it_says_why(self):
    point = pictures.choose_threshold(_said(2, 3), _truth(1, 1), {})
    self.assertEqual(
      point,
      {
        'threshold': 0.5,
        'scale': 1.0,
        'shift': 0.0,
        'why': 'validation has one class only',
      },
    )

  def test_the_files_say_what_was_scored(self):
    point = pictures.choose_threshold(self.outputs, self.truth, {})
    metrics = pictures.score(self.outputs, self.truth, point, **_OPTIONS)
    json.dumps(metrics, allow_nan=False)
    pictures.write_predictions(self.folder, self.outputs, self.truth, point)
    rows = _rows(self.folder / 'predictions.csv')
    self.assertEqual(list(rows[0]), ['case', 'group', 'label', 'probability'])
    self.assertEqual([row['case'] for row in rows], self.cases.keys)
    self.assertEqual([row['group'] for row in rows], self.cases.groups)
    labels = [int(row['label']) for row in rows]
    self.assertEqual(labels, self.cases.labels)
    probability = np.array([float(row['probability']) for row in rows])
    called = probability >= point['threshold']
    self.assertAlmostEqual(
      metrics['auc']['value'],
      sklearn.metrics.roc_auc_score(labels, probability),
    )
    self.assertAlmostEqual(
      metrics['accuracy']['value'],
      sklearn.metrics.accuracy_score(labels, called),
    )
    self.assertAlmostEqual(
      metrics['brier']['value'],
      sklearn.metrics.brier_score_loss(labels, probability),
    )
    self.assertBetween(metrics['auc']['value'], 0.7, 0.95)
    for name, entry in metrics.items():
      if name != 'confusion_matrix':
        self.assertEqual(entry['n'], 20)
    self.assertFalse((self.folder / 'saliency').exists())

  def test_differences(self):
    constant = _outputs(
      {key: {'picture': types.PictureScore(0.3)} for key in self.cases.keys}
    )
    points = [
      pictures.choose_threshold(outputs, self.truth, {})
      for outputs in (self.outputs, constant)
    ]
    self.assertIn('the same', points[1]['why'])
    found = pictures.differences(
      self.outputs, constant, self.truth, points, **_OPTIONS
    )
    metrics = pictures.score(self.outputs, self.truth, points[0], **_OPTIONS)
    self.assertEqual(set(found), {'auc', 'accuracy', 'f1'})
    self.assertAlmostEqual(found['auc']['value'], metrics['auc']['value'] - 0.5)
    # All is called class 1, which half of the pictures are.
    self.assertAlmostEqual(
      found['accuracy']['value'], metrics['accuracy']['value'] - 0.5
    )
    self.assertGreater(found['auc']['low'], 0)

  def test_saliency_of_the_surest(self):
    outputs = _outputs(picture_cases.said(self.cases, saliency=True))
    old = self.folder / 'saliency' / 'old.npz'
    old.parent.mkdir(parents=True)
    old.write_bytes(b'')
    pictures.write_predictions(self.folder, outputs, self.truth, _POINT)
    probability = {
      row['case']: float(row['probability'])
      for row in _rows(self.folder / 'predictions.csv')
    }
    names = {path.stem for path in (self.folder / 'saliency').iterdir()}
    wrong = {
      key for key, p in probability.items()
      if (p >= 0.6) != self.truth.labels[key]
    }  # fmt: skip
    right = set(probability) - wrong
    self.assertGreater(len(wrong), 3)
    key_of = {predict.file_name(key): key for key in self.cases.keys}
    shown = {key_of[name] for name in names}
    self.assertLen(shown & wrong, min(len(wrong), 12))
    for label in (0, 1):
      hits = {key for key in right if self.truth.labels[key] == label}
      certain = sorted(hits, key=probability.get, reverse=label == 1)[:6]
      self.assertEqual(shown & hits, set(certain))
    with np.load(self.folder / 'saliency' / f'{min(names)}.npz') as arrays:
      saliency = outputs[key_of[min(names)]].detections['saliency']
      np.testing.assert_array_equal(arrays['grad_cam'], saliency.grad_cam)
      np.testing.assert_array_equal(arrays['gradients'], saliency.gradients)

  def test_the_objective(self):
    found = [self.outputs[key].detections['picture'] for key in self.cases.keys]
    self.assertAlmostEqual(
      pictures.objective(self.cases, found),
      sklearn.metrics.roc_auc_score(
        self.cases.labels, [one.logit for one in found]
      ),
    )
    self.assertEqual(
      pictures.objective(self.cases.subset([1, 3]), found[:2]), 0.5
    )

  def test_training_that_diverged(self):
    with self.assertRaisesRegex(ValueError, '^1: found log-odds nan'):
      pictures.score(_said(1, np.nan), _truth(0, 1), _POINT, **_OPTIONS)

  def test_nothing_is_ablated(self):
    self.assertEqual(pictures.ablated(self.outputs), {})


class SeveralClassesTest(absltest.TestCase):
  """Three classes: their logits, a temperature and no threshold."""

  def setUp(self):
    super().setUp()
    self.cases = picture_cases.shapes(60)
    self.truth = pictures.read_truth(self.cases)
    self.outputs = _outputs(picture_cases.told(self.cases, saliency=True))
    self.point = pictures.choose_threshold(self.outputs, self.truth, {})
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'p'

  def test_the_files_say_what_was_scored(self):
    self.assertEqual(list(self.point), ['temperature'])
    metrics = pictures.score(self.outputs, self.truth, self.point, **_OPTIONS)
    json.dumps([metrics, self.point], allow_nan=False)
    pictures.write_predictions(
      self.folder, self.outputs, self.truth, self.point
    )
    rows = _rows(self.folder / 'predictions.csv')
    self.assertEqual(
      list(rows[0]),
      ['case', 'group', 'label', 'called',
       'probability_0', 'probability_1', 'probability_2'],
    )  # fmt: skip
    self.assertEqual([row['case'] for row in rows], self.cases.keys)
    labels, called = (
      [int(row[name]) for row in rows] for name in ('label', 'called')
    )
    self.assertEqual(labels, self.cases.labels)
    shares = [
      [float(row[f'probability_{k}']) for k in range(3)] for row in rows
    ]
    np.testing.assert_array_equal(np.argmax(shares, axis=1), called)
    for name, value in (
      ('accuracy', sklearn.metrics.accuracy_score(labels, called)),
      ('f1', sklearn.metrics.f1_score(labels, called, average='macro')),
      ('auc', sklearn.metrics.roc_auc_score(labels, shares, multi_class='ovr')),
    ):
      self.assertAlmostEqual(metrics[name]['value'], value)
      self.assertEqual(metrics[name]['n'], 60)
    shown = {path.stem for path in (self.folder / 'saliency').iterdir()}
    chosen = pictures.choose_shown(self.outputs, self.truth, self.point)
    self.assertEqual(shown, {predict.file_name(key) for key in chosen})

  def test_without_calibration_it_says_why(self):
    outputs = {key: self.outputs[key] for key in ('shape 0', 'shape 3')}
    truth = pictures.read_truth(self.cases.subset([0, 3]))
    point = pictures.choose_threshold(outputs, truth, {})
    self.assertEqual(
      point, {'temperature': 1.0, 'why': 'validation has one class only'}
    )

  def test_differences_and_the_objective(self):
    constant = np.log([0.5, 0.3, 0.2])
    others = _outputs(
      {k: {'picture': types.PictureScore(constant)} for k in self.cases.keys}
    )
    point = pictures.choose_threshold(others, self.truth, {})
    self.assertIn('the same', point['why'])
    found = pictures.differences(
      self.outputs, others, self.truth, (self.point, point), **_OPTIONS
    )
    metrics = pictures.score(self.outputs, self.truth, self.point, **_OPTIONS)
    self.assertEqual(set(found), {'auc', 'accuracy', 'f1'})
    self.assertAlmostEqual(found['auc']['value'], metrics['auc']['value'] - 0.5)
    said = [self.outputs[key].detections['picture'] for key in self.cases.keys]
    self.assertAlmostEqual(
      pictures.objective(self.cases, said),
      sklearn.metrics.roc_auc_score(
        self.cases.labels,
        special.softmax([one.logit for one in said], axis=1),
        multi_class='ovr',
      ),
    )

  def test_training_that_diverged(self):
    outputs = _outputs({'0': {'picture': types.PictureScore([1, np.nan, 2])}})
    with self.assertRaisesRegex(ValueError, '^0: found log-odds .*nan'):
      pictures.score(outputs, _truth(0), self.point, **_OPTIONS)

  def test_what_is_found(self):
    outputs = _outputs(
      {'x': {'picture': types.PictureScore(2 * np.log([0.2, 0.7, 0.1]))}}
    )
    model = dataclasses.replace(
      _model(('nodule', 'small'), 'none'),
      thresholds={'threshold': {'temperature': 2.0}},
    )
    volume = self.cases[0].volume
    said = pictures.describe(outputs['x'], volume, model)
    self.assertEqual(json.loads(json.dumps(said)), said)
    probabilities = said.pop('probabilities')
    self.assertEqual(list(probabilities), ['none', 'nodule', 'small'])
    np.testing.assert_allclose(list(probabilities.values()), [0.2, 0.7, 0.1])
    self.assertAlmostEqual(said.pop('probability'), 0.7)
    self.assertEqual(
      said,
      {
        'frame': 'picture',
        'detections': [],
        'class': 'nodule',
        'probability_of': 'nodule',
        'threshold': None,
      },
    )
    self.folder.mkdir()
    pictures.write_found(self.folder, outputs, {'x': volume.grid}, model)
    (row,) = _rows(self.folder / 'predictions.csv')
    self.assertEqual(
      list(row),
      ['case', 'class', 'probability_none', 'probability_nodule',
       'probability_small'],
    )  # fmt: skip
    self.assertEqual(row['class'], 'nodule')
    self.assertAlmostEqual(float(row['probability_small']), 0.1)


class _Told:
  """Says what `picture_cases` says of each case."""

  stages = ()

  def __init__(self, found):
    self.found = found

  def __call__(self, variables, volume):
    del variables
    return self.found[volume.series_uid]


class EvaluateTest(absltest.TestCase):
  def test_beside_its_baselines(self):
    cases = picture_cases.coloured(60)
    told = _Told(picture_cases.said(cases, apart=8.0, saliency=True))
    real = build.build

    def fake(kind, spec, *args):
      return told if spec['name'] == 'told' else real(kind, spec, *args)

    self.enter_context(mock.patch.object(build, 'build', fake))
    folder = pathlib.Path(self.create_tempdir().full_path)
    tuned = {'tuning_cases': 24}
    small = {'width': (1.0,), 'ridge': (0.1,)}
    run = stages.Run(
      config={
        'seed': 0,
        'main_metric': 'auc',
        'preprocess': {},
        'view': {'name': ''},
        'stages': {'order': ()},
        'evaluation': {
          'protocol': 'pictures',
          'predictor': {'name': 'told'},
          'resamples': 50,
          'baselines': {
            'majority': {'name': 'majority', 'grid': {}, **tuned},
            'crop_size': {
              'name': 'crop_geometry',
              'grid': {'position': (False,)},
              **tuned,
            },
            'hog_ridge': {'name': 'hog_ridge', 'grid': small, **tuned},
          },
        },
      },
      folder=folder,
      name='',
      cases={
        'train': cases.subset(range(24)),
        'validation': cases.subset(range(24, 42)),
        'test': cases.subset(range(42, 60)),
      },
      inputs='',
      writer=mock.Mock(),
    )
    results = evaluate.evaluate([run], folder)
    json.dumps(results, allow_nan=False)
    self.assertEqual(
      list(results['threshold']), ['threshold', 'scale', 'shift']
    )
    self.assertGreater(results['metrics']['auc']['value'], 0.9)
    self.assertEqual(results['baselines']['majority']['auc']['value'], 0.5)
    self.assertIn('why', results['other_thresholds']['majority'])
    # A red disc is no riddle to colours.
    self.assertGreater(results['baselines']['hog_ridge']['auc']['value'], 0.9)
    self.assertGreater(
      results['paired_differences']['auc - majority']['low'], 0
    )
    for name in ('', 'majority', 'crop_size', 'hog_ridge'):
      path = folder / 'predictions' / name / 'predictions.csv'
      self.assertLen(_rows(path), 18)
    self.assertTrue(any((folder / 'predictions' / 'saliency').iterdir()))


class FoundTest(parameterized.TestCase):
  @parameterized.parameters(
    # The sigmoid of 2 logit - 1 is 0.6 at a logit of 0.703.
    (0.71, 'polyp', 0.60348),
    (0.69, 'mucosa', 0.59389),
  )
  def test_described(self, logit, name, probability):
    (output,) = _said(logit).values()
    volume = picture_cases.case('0', 'g', None).volume
    said = pictures.describe(output, volume, _model())
    json.dumps(said)
    self.assertAlmostEqual(said.pop('probability'), probability, places=4)
    self.assertEqual(
      said,
      {
        'frame': 'picture',
        'detections': [],
        'class': name,
        'probability_of': 'polyp',
        'threshold': 0.6,
      },
    )
    said = pictures.describe(output, volume, _model((), ''))
    self.assertEqual(said['class'], f'class {int(name == "polyp")}')

  def test_drawn(self):
    case = picture_cases.coloured(1)[0]
    (plain,) = _said(1).values()
    ((number, pixels),) = pictures.draw(plain, case.volume, _model())
    self.assertEqual(number, 0)
    self.assertEqual((max(pixels.shape), pixels.dtype), (512, np.uint8))
    found = picture_cases.said([case], saliency=True)
    ((_, row),) = pictures.draw(
      next(iter(_outputs(found).values())), case.volume, _model()
    )
    self.assertEqual(row.shape[1], 3 * pixels.shape[1] + 8)
    np.testing.assert_array_equal(row[:, : pixels.shape[1]], pixels)
    self.assertFalse((row[:, -pixels.shape[1] :] == pixels).all())

  def test_files(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    outputs = _said(5, -5)
    grids = {key: types.Grid((1, 4, 4), (None,) * 3) for key in outputs}
    names = pictures.write_found(folder, outputs, grids, _model())
    self.assertEqual(names, ['predictions.csv'])
    rows = _rows(folder / 'predictions.csv')
    self.assertEqual([row['case'] for row in rows], ['0', '1'])
    self.assertEqual([row['class'] for row in rows], ['polyp', 'mucosa'])
    for row, logit in zip(rows, (9, -11), strict=True):
      self.assertAlmostEqual(
        float(row['probability']), 1 / (1 + np.exp(-logit))
      )


if __name__ == '__main__':
  absltest.main()
