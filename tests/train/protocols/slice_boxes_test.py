"""Tests of the scores of boxes on slices, worked by hand."""

import contextlib
import dataclasses
import io
import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from pycocotools import coco
from pycocotools import cocoeval

from medzoo.io import tables
from medzoo.metrics import luna16
from medzoo.train import mapping
from medzoo.train.protocols import slice_boxes
from tests.metrics import random_boxes
from tests.train import slice_cases

_OPTIONS = {'resamples': 200, 'seed': 0}
# Precision 1 up to recall .5, then .75 up to recall .75.
_AP50 = (51 + 25 * 0.75) / 101


def _outputs(predictions):
  return {
    key: mapping.Output(key, detections, 0.1)
    for key, detections in predictions.items()
  }


def _values(metrics):
  return {name: entry['value'] for name, entry in metrics.items()}


def _ap50_by_pycocotools(folder):
  with contextlib.redirect_stdout(io.StringIO()):
    truth = coco.COCO(str(folder / 'truth_coco.json'))
    found = truth.loadRes(str(folder / 'coco.json'))
    scored = cocoeval.COCOeval(truth, found, 'bbox')
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
  return scored.stats[1]


class ScoreTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.truth = slice_boxes.read_truth(slice_cases.scans())
    self.outputs = _outputs(slice_cases.predictions())
    self.nothing = _outputs(
      {
        key: {'boxes': slice_cases.found(), 'detections': slice_cases.lesions()}
        for key in 'abc'
      }
    )

  def score(self, outputs, threshold):
    return slice_boxes.score(outputs, self.truth, threshold, **_OPTIONS)

  def test_by_hand(self):
    metrics = self.score(self.outputs, 0.5)
    expected = {
      'ap50': _AP50,
      'precision': 3 / 4,
      'recall': 3 / 4,
      # Of 25 slices one holds an ignored box only; wrong are one called in
      # vain and one with the missed box.
      'accuracy': 22 / 24,
      # Of three lesions one is found before, one after the first of the false
      # positives, which stands at 1/3 a scan.
      'froc_mean': (2 * 1 / 3 + 5 * 2 / 3) / 7,
      # Here the box on the ignored finding is another false positive.
      'froc_mean_boxes': (3 * 1 / 3 + 4 * 2 / 3) / 7,
    }
    self.assertEqual(list(metrics), list(expected))
    for name, value in expected.items():
      self.assertAlmostEqual(metrics[name]['value'], value, msg=name)
      self.assertLessEqual(metrics[name]['low'], value, name)
      self.assertLessEqual(value, metrics[name]['high'], name)
      self.assertEqual(metrics[name]['n'], 3)

  def test_the_threshold_is_that_of_the_best_f1(self):
    self.assertEqual(
      slice_boxes.choose_threshold(self.outputs, self.truth, {}), 0.5
    )

  def test_what_accuracy_is_worth(self):
    threshold = slice_boxes.choose_threshold(self.nothing, self.truth, {})
    self.assertEqual(threshold, 0)
    metrics = self.score(self.nothing, threshold)
    values = _values(metrics)
    self.assertIsNone(values.pop('precision'))
    self.assertAlmostEqual(values.pop('accuracy'), 20 / 24)
    self.assertEqual(set(values.values()), {0})

  def test_suppressed_boxes_take_no_part(self):
    without = {
      key: dataclasses.replace(
        output,
        detections=output.detections
        | {
          'boxes': slice_cases.found(
            *(row for row in _rows(output) if not row[-1])
          )
        },
      )
      for key, output in self.outputs.items()
    }
    self.assertEqual(self.score(self.outputs, 0.5), self.score(without, 0.5))

  def test_patients_are_what_is_resampled(self):
    one = dataclasses.replace(
      self.truth,
      lesions=dataclasses.replace(
        self.truth.lesions, groups=dict.fromkeys('abc', 'p')
      ),
    )
    metrics = slice_boxes.score(self.outputs, one, 0.5, **_OPTIONS)
    for name, entry in metrics.items():
      self.assertEqual(entry['n'], 1)
      self.assertAlmostEqual(entry['low'], entry['high'], msg=name)

  def test_differences(self):
    found = slice_boxes.differences(
      self.outputs, self.nothing, self.truth, (0.5, 0.5), **_OPTIONS
    )
    metrics = self.score(self.outputs, 0.5)
    # Nothing is never found in any resample, so the intervals are those of
    # the scores themselves.
    for name, entry in found.items():
      for key in ('value', 'low', 'high'):
        self.assertAlmostEqual(entry[key], metrics[name][key])
    self.assertEqual(list(found), ['ap50', 'froc_mean'])

  def test_a_difference_from_itself_is_nothing(self):
    found = slice_boxes.differences(
      self.outputs, self.outputs, self.truth, (0.5, 0.5), **_OPTIONS
    )
    for entry in found.values():
      values = [entry[key] for key in ('value', 'low', 'high')]
      self.assertEqual(values, [0, 0, 0])

  def test_without_lesions_in_the_world(self):
    cases, outputs = slice_cases.pictures(random_boxes.images(1))
    truth, outputs = slice_boxes.read_truth(cases), _outputs(outputs)
    metrics = slice_boxes.score(outputs, truth, 0.5, **_OPTIONS)
    self.assertEqual(metrics['ap50']['n'], 6)
    self.assertIsNotNone(metrics['ap50']['value'])
    for name in ('froc_mean', 'froc_mean_boxes'):
      self.assertIsNone(metrics[name]['value'])
      self.assertIn('place in the world', metrics[name]['why'])
    found = slice_boxes.differences(
      outputs, outputs, truth, (0.5, 0.5), **_OPTIONS
    )
    self.assertEqual(found['ap50']['value'], 0)
    self.assertIn('place in the world', found['froc_mean']['why'])

  def test_folds_are_joined(self):
    scans = slice_cases.scans()
    merged = slice_boxes.merge(
      [slice_boxes.read_truth(scans.subset([i])) for i in range(3)]
    )
    self.assertEqual(merged.keys, self.truth.keys)
    self.assertEqual(merged.groups, self.truth.groups)
    metrics = slice_boxes.score(self.outputs, merged, 0.5, **_OPTIONS)
    self.assertEqual(metrics, self.score(self.outputs, 0.5))

  def test_first_outputs(self):
    self.assertEqual(slice_boxes.ablated(self.outputs), {})
    both = {
      key: dataclasses.replace(
        output,
        detections=self.nothing[key].detections
        | {f'first_{name}': x for name, x in output.detections.items()},
      )
      for key, output in self.outputs.items()
    }
    found = slice_boxes.ablated(both)
    self.assertEqual(list(found), ['first_outputs'])
    self.assertEqual(
      self.score(found['first_outputs'], 0.5), self.score(self.outputs, 0.5)
    )

  def test_the_objective_of_tuning(self):
    boxes = [x['boxes'] for x in slice_cases.predictions().values()]
    self.assertAlmostEqual(
      slice_boxes.objective(slice_cases.scans(), boxes), _AP50
    )

  def test_cases_without_outlines_are_refused(self):
    cases = slice_cases.scans()
    cases[1] = dataclasses.replace(cases[1], boxes=None)
    with self.assertRaisesRegex(ValueError, '1 of 3 cases .* first is b'):
      slice_boxes.read_truth(cases)


class PredictionsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def write(self, cases, predictions):
    self.outputs = _outputs(predictions)
    self.truth = slice_boxes.read_truth(cases)
    slice_boxes.write_predictions(self.folder, self.outputs, self.truth, 0.5)

  def read(self, name):
    return json.loads((self.folder / name).read_text())

  def test_pycocotools_finds_the_same(self):
    self.write(slice_cases.scans(), slice_cases.predictions())
    self.assertAlmostEqual(_ap50_by_pycocotools(self.folder), _AP50, places=12)

  @parameterized.parameters(*range(4))
  def test_pycocotools_finds_the_same_in_pictures(self, seed):
    self.write(*slice_cases.pictures(random_boxes.images(seed)))
    metrics = slice_boxes.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    self.assertAlmostEqual(
      _ap50_by_pycocotools(self.folder), metrics['ap50']['value'], places=12
    )

  def test_coco_by_hand(self):
    self.write(slice_cases.scans(), slice_cases.predictions())
    truth = self.read('truth_coco.json')
    self.assertLen(truth['images'], 25)
    names = {image['id']: image['file_name'] for image in truth['images']}
    places = [
      (names[row['image_id']], row['bbox'], row['iscrowd'])
      for row in truth['annotations']
    ]
    self.assertCountEqual(
      places,
      [
        ('a/3', [10, 10, 10, 10], 0),
        ('a/4', [10, 10, 10, 10], 0),
        ('a/7', [30, 30, 10, 10], 1),
        ('b/5', [50, 50, 10, 10], 0),
        ('b/6', [0, 0, 8, 8], 0),
      ],
    )
    rows = [
      (names[row['image_id']], row['score']) for row in self.read('coco.json')
    ]
    self.assertCountEqual(
      rows,
      [
        *[('a/3', 0.9), ('a/4', 0.8), ('a/7', 0.7), ('a/1', 0.6)],
        *[('b/5', 0.5), ('b/2', 0.4)],
      ],
    )

  def test_lesions_can_be_scored_again(self):
    self.write(slice_cases.scans(), slice_cases.predictions())
    marks = tables.read_marks(self.folder / 'luna16.csv', 'probability')
    truth = [
      tables.read_marks(self.folder / name, 'diameter_mm')
      for name in ('annotations.csv', 'annotations_excluded.csv')
    ]
    uids = tables.read_seriesuids(self.folder / 'seriesuids.csv')
    metrics = luna16.metrics(marks, None, *truth, uids, **_OPTIONS)
    expected = slice_boxes.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    self.assertEqual(metrics['cpm'], expected['froc_mean'])

  def test_curves(self):
    self.write(slice_cases.scans(), slice_cases.predictions())
    curves = self.read('curves.json')
    # Five boxes count, the one on the ignored finding adds a point.
    expected = {
      'thresholds': [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
      'precision': [1, 1, 1, 2 / 3, 3 / 4, 3 / 5],
      'recall': [1 / 4, 1 / 2, 1 / 2, 1 / 2, 3 / 4, 3 / 4],
      'false_positives_per_image': [0, 0, 0, 1 / 25, 1 / 25, 2 / 25],
    }
    self.assertEqual(list(curves), ['coco', 'bipartite'])
    for curve in curves.values():
      self.assertEqual(list(curve), list(expected))
      for name, values in expected.items():
        np.testing.assert_allclose(curve[name], values)

  def test_all_that_was_found(self):
    self.write(slice_cases.scans(), slice_cases.predictions())
    with np.load(self.folder / 'boxes.npz') as arrays:
      self.assertEqual(arrays['cases'].tolist(), ['a', 'b', 'c'])
      self.assertEqual(arrays['boxes/case'].tolist(), [0] * 5 + [1] * 2)
      self.assertEqual(arrays['lesions/case'].tolist(), [0] * 3 + [1] * 2)
      for name, title in (('boxes', 'boxes'), ('detections', 'lesions')):
        for key, output in self.outputs.items():
          found = output.detections[name]
          mine = arrays['cases'][arrays[f'{title}/case']] == key
          for field in dataclasses.fields(found):
            np.testing.assert_array_equal(
              arrays[f'{title}/{field.name}'][mine], getattr(found, field.name)
            )

  def test_nothing_at_all(self):
    cases, found = slice_cases.scans(), slice_cases.found()
    nothing = {'boxes': found, 'detections': slice_cases.lesions()}
    self.write(cases, dict.fromkeys('abc', nothing))
    self.assertEqual(self.read('coco.json'), [])
    self.assertEqual(self.read('curves.json')['coco']['precision'], [])


def _rows(output):
  boxes = output.detections['boxes']
  return zip(
    boxes.slices,
    boxes.corners,
    boxes.scores,
    boxes.links,
    boxes.suppressed,
    strict=True,
  )


if __name__ == '__main__':
  absltest.main()
