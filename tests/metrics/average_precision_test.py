import contextlib
import io
import time

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from pycocotools import coco
from pycocotools import cocoeval
from pycocotools import mask as pycoco_mask

from medzoo.metrics import average_precision
from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches
from tests.metrics import random_boxes


def _sides(box):
  y0, x0, y1, x1 = map(float, box)
  return [x0, y0, x1 - x0, y1 - y0]


def _pycocotools(detections, truths, max_detections):
  """(10, 101, classes) precision by the independent program."""
  annotations, results = [], []
  for i, (found, there) in enumerate(zip(detections, truths, strict=True)):
    for j, box in enumerate(there.boxes):
      # pycocotools overwrites `ignore` by `iscrowd`; what it ignores without
      # that is a truth whose area is out of range.
      area = 1e12 if there.ignored[j] else _sides(box)[2] * _sides(box)[3]
      annotations.append({
        'id': len(annotations) + 1, 'image_id': i, 'bbox': _sides(box),
        'category_id': int(there.labels[j]), 'area': area,
        'iscrowd': int(there.crowd[j]),
      })  # fmt: skip
    for j, box in enumerate(found.boxes):
      results.append({
        'image_id': i, 'bbox': _sides(box), 'score': float(found.scores[j]),
        'category_id': int(found.labels[j]),
      })  # fmt: skip
  with contextlib.redirect_stdout(io.StringIO()):
    truth = coco.COCO()
    truth.dataset = {
      'info': {},
      'images': [{'id': i} for i in range(len(truths))],
      'categories': [{'id': c} for c in (1, 2, 3)],
      'annotations': annotations,
    }
    truth.createIndex()
    scored = cocoeval.COCOeval(truth, truth.loadRes(results), 'bbox')
    scored.params.maxDets = [max_detections]
    scored.evaluate()
    scored.accumulate()
  return scored.eval['precision'][:, :, :, 0, 0]


def _masks(seed, num_images=8, classes=2):
  """Detections, truths and run lengths of both, with ties and empty masks."""
  rng = np.random.default_rng(seed)
  images = []
  for _ in range(num_images):
    m, n = rng.integers(0, 5, 2)
    true = np.zeros((m, 16, 20), np.uint8)
    for mask in true:
      y, x = rng.integers(0, 10, 2)
      mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = 1
    found = np.zeros((n, 16, 20), np.uint8)
    for mask in found:
      if m and rng.random() < 0.9:
        mask[:] = np.roll(true[rng.integers(m)], rng.integers(-1, 2), 1)
        mask &= rng.random(mask.shape) < rng.choice([0.8, 0.97, 1])
    rles = [
      [pycoco_mask.encode(np.asfortranarray(mask)) for mask in masks]
      for masks in (found, true)
    ]
    corners = np.zeros((n, 4)), np.zeros((m, 4))
    kinds = [rng.integers(1, classes + 1, k) for k in (n, m)]
    none = np.zeros(m, bool)
    images.append(
      (
        box_matches.Detections(corners[0], rng.random(n).round(1), kinds[0]),
        box_matches.Truths(corners[1], kinds[1], none, none),
        *rles,
      )
    )
  return [list(column) for column in zip(*images, strict=True)]


def _pycocotools_of_masks(detections, truths, found, there):
  """(10, 101, classes) precision by the independent program."""
  annotations, results = [], []
  for i, (one, other) in enumerate(zip(detections, truths, strict=True)):
    for j, rle in enumerate(there[i]):
      annotations.append({
        'id': len(annotations) + 1, 'image_id': i, 'segmentation': rle,
        'category_id': int(other.labels[j]), 'iscrowd': 0,
        'area': int(pycoco_mask.area(rle)),
      })  # fmt: skip
    for j, rle in enumerate(found[i]):
      results.append({
        'image_id': i, 'segmentation': rle, 'score': float(one.scores[j]),
        'category_id': int(one.labels[j]),
      })  # fmt: skip
  with contextlib.redirect_stdout(io.StringIO()):
    truth = coco.COCO()
    truth.dataset = {
      'info': {},
      'images': [
        {'id': i, 'height': 16, 'width': 20} for i in range(len(truths))
      ],
      'categories': [{'id': c} for c in (1, 2)],
      'annotations': annotations,
    }
    truth.createIndex()
    scored = cocoeval.COCOeval(truth, truth.loadRes(results), 'segm')
    scored.evaluate()
    scored.accumulate()
  return scored.eval['precision'][:, :, :, 0, 2]


def _mean(precision):
  return precision[precision > -1].mean()


class AveragePrecisionTest(parameterized.TestCase):
  @parameterized.product(seed=tuple(range(12)), special=(False, True))
  def test_equals_pycocotools(self, seed, special):
    detections, truths = random_boxes.images(seed, special=special)
    for most in (100, 2):
      expected = _pycocotools(detections, truths, most)
      found = [
        average_precision.average_precision(
          box_matches.match(detections, truths, iou=iou, max_detections=most)
        )
        for iou in average_precision.IOUS
      ]
      np.testing.assert_allclose(found[0], _mean(expected[0]), atol=1e-12)
      np.testing.assert_allclose(np.mean(found), _mean(expected), atol=1e-12)

  @parameterized.parameters(*range(12))
  def test_of_masks_equals_pycocotools(self, seed):
    detections, truths, found, there = _masks(seed)
    overlaps = [
      np.reshape(pycoco_mask.iou(f, t, [0] * len(t)), (len(f), len(t)))
      for f, t in zip(found, there, strict=True)
    ]
    matches = average_precision.match_at_all(detections, truths, overlaps)
    expected = _pycocotools_of_masks(detections, truths, found, there)
    for one, precision in zip(matches, expected, strict=True):
      self.assertAlmostEqual(
        average_precision.average_precision(one), _mean(precision), places=12
      )
    index, draws = np.arange(8), bootstrap.draw(8, resamples=5)
    entry = average_precision.entry(matches, index, draws)
    self.assertAlmostEqual(entry['value'], _mean(expected), places=12)

  def test_equals_pycocotools_where_truths_overlap_equally(self):
    box, rng = np.array([0.0, 0, 10, 10]), np.random.default_rng(0)
    for _ in range(50):
      there, found = (rng.integers(0, 6, (n, 1)) * (0, 2, 0, 2) for n in (3, 4))
      ones, none = np.ones(4, int), np.zeros(3, bool)
      truths = [box_matches.Truths(box + there, ones[:3], none, none)]
      detections = [box_matches.Detections(box + found, rng.random(4), ones)]
      self.assertAlmostEqual(
        average_precision.average_precision(
          box_matches.match(detections, truths)
        ),
        _mean(_pycocotools(detections, truths, 100)[0]),
      )

  def test_resamples_equal_pycocotools_on_repeated_images(self):
    detections, truths = random_boxes.images(5)
    # Distinct scores: how copies of tied detections interleave is a choice.
    detections = [
      box_matches.Detections(
        d.boxes, i + np.arange(len(d.scores)) * 1e-3 - d.scores, d.labels
      )
      for i, d in enumerate(detections)
    ]
    weights = bootstrap.draw(len(truths), resamples=10, seed=1)
    found = average_precision.resampled(
      box_matches.match(detections, truths), weights
    )
    for row, value in zip(weights, found, strict=True):
      again = np.repeat(np.arange(len(truths)), row)
      expected = _pycocotools(
        [detections[i] for i in again], [truths[i] for i in again], 100
      )
      self.assertAlmostEqual(value, _mean(expected[0]), places=12)

  def test_by_hand(self):
    # Falling: hit, false, hit; one truth of four is ignored, one missed.
    box = np.array([[0.0, 0, 4, 4]])
    places = box + 10 * np.arange(5)[:, None]
    none = np.zeros(4, bool)
    found = box_matches.Detections(
      places[[0, 4, 1, 2]], np.array([0.9, 0.8, 0.7, 0.95]), np.ones(4, int)
    )
    there = box_matches.Truths(
      places[:4], np.ones(4, int), np.arange(4) == 2, none
    )
    matches = box_matches.match([found], [there])
    self.assertAlmostEqual(
      average_precision.average_precision(matches),
      (34 * 1 + 33 * 2 / 3) / 101,
    )
    points = average_precision.curve(matches)
    np.testing.assert_allclose(points.thresholds, [0.95, 0.9, 0.8, 0.7])
    np.testing.assert_allclose(points.precision, [np.nan, 1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(points.recall, [0, 1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(points.false_positives, [0, 0, 1, 1])
    self.assertAlmostEqual(
      average_precision.exact_area(points), 1 / 3 * 1 + 1 / 3 * 2 / 3
    )
    counts = average_precision.count(matches, 0.8)
    self.assertEqual(counts.tolist(), [[1, 1, 3]])
    self.assertEqual(average_precision.choose_threshold(matches), 0.7)

  def test_undefined_without_truths_and_zero_without_detections(self):
    detections, truths = random_boxes.images(0)
    nothing = np.zeros(0, int)
    no_detections = box_matches.Detections(
      np.zeros((0, 4)), np.zeros(0), nothing
    )
    no_truths = box_matches.Truths(
      np.zeros((0, 4)), *[nothing.astype(bool)] * 3
    )
    matches = box_matches.match(detections, [no_truths] * 12)
    self.assertTrue(np.isnan(average_precision.average_precision(matches)))
    matches = box_matches.match([no_detections] * 12, truths)
    self.assertEqual(average_precision.average_precision(matches), 0)
    self.assertEqual(average_precision.choose_threshold(matches), 0)
    points = average_precision.curve(matches)
    self.assertEqual(average_precision.exact_area(points), 0)
    matches = box_matches.match([no_detections], [no_truths])
    self.assertEqual(average_precision.count(matches, 0).tolist(), [[0, 0, 0]])
    self.assertEqual(len(average_precision.curve(matches).thresholds), 0)


class CurveTest(parameterized.TestCase):
  @parameterized.parameters(*range(6))
  def test_agrees_with_counts_at_every_threshold(self, seed):
    matches = box_matches.match(*random_boxes.images(seed))
    points = average_precision.curve(matches)
    np.testing.assert_array_equal(
      points.thresholds, np.unique(matches.scores)[::-1]
    )
    f1 = []
    for i, threshold in enumerate(points.thresholds):
      hits, false, truths = average_precision.count(matches, threshold).sum(0)
      self.assertAlmostEqual(points.recall[i], hits / truths)
      self.assertAlmostEqual(points.false_positives[i], false / 12)
      self.assertAlmostEqual(points.precision[i], hits / (hits + false))
      f1.append(2 * hits / (hits + false + truths))
    self.assertEqual(
      average_precision.choose_threshold(matches),
      points.thresholds[np.argmax(f1)],
    )

  def test_thinned(self):
    points = average_precision.curve(
      box_matches.match(*random_boxes.images(0, num_images=300))
    )
    spread = average_precision.Curve(
      *(np.arange(3000) / 3000 * x for x in (1, -1, 1, 2))
    )
    bent = average_precision.Curve(
      np.arange(1000)[::-1],
      np.where(np.arange(1000) < 900, 1, np.nan),
      np.minimum(np.arange(1000) / 100, 1),
      np.arange(1000),
    )
    self.assertIs(average_precision.thinned(points, 500), points)
    thin = average_precision.thinned(spread, 500)
    self.assertBetween(len(thin.thresholds), 495, 500)
    np.testing.assert_allclose(np.diff(thin.recall), 6 / 3000, atol=1 / 2999)
    self.assertEqual(thin.thresholds[0], spread.thresholds[0])
    self.assertEqual(thin.thresholds[-1], spread.thresholds[-1])
    # Half of the way is covered by the first 100 points, half by one step.
    thin = average_precision.thinned(bent, 41)
    self.assertEqual(thin.false_positives.tolist()[-2:], [900, 999])
    np.testing.assert_array_less(np.diff(thin.recall), 0.07)


class MetricsTest(absltest.TestCase):
  def test_entries(self):
    detections, truths = random_boxes.images(3, num_images=30, classes=1)
    groups = [f'patient {i // 3}' for i in range(30)]
    entries = average_precision.metrics(detections, truths, groups, 0.5)
    matches = box_matches.match(detections, truths)
    hits, false, there = average_precision.count(matches, 0.5).sum(axis=0)
    self.assertEqual(
      entries['ap50']['value'], average_precision.average_precision(matches)
    )
    self.assertAlmostEqual(entries['precision']['value'], hits / (hits + false))
    self.assertAlmostEqual(entries['recall']['value'], hits / there)
    for entry in entries.values():
      self.assertEqual(entry['n'], 10)
      self.assertLess(entry['low'], entry['value'])
      self.assertLess(entry['value'], entry['high'])

  def test_like_patients_have_no_spread(self):
    detections, truths = random_boxes.images(3, num_images=2, classes=1)
    groups = [f'patient {i // 2}' for i in range(20)]
    entries = average_precision.metrics(
      detections * 10, truths * 10, groups, 0.5, resamples=50
    )
    for entry in entries.values():
      self.assertAlmostEqual(entry['low'], entry['high'])

  def test_nothing_above_the_threshold(self):
    detections, truths = random_boxes.images(3, classes=1)
    entries = average_precision.metrics(
      detections, truths, [str(i) for i in range(12)], 2.0
    )
    self.assertIsNone(entries['precision']['value'])
    self.assertEqual(entries['precision']['why'], 'nothing scores 2 or higher')
    self.assertEqual(entries['recall']['value'], 0)

  def test_groups_are_one_an_image(self):
    with self.assertRaisesRegex(ValueError, '1 groups for 12 images'):
      average_precision.metrics(*random_boxes.images(3), ['a'], 0.5)

  def test_a_thousand_resamples_are_quick(self):
    detections, truths = random_boxes.images(3, num_images=3000, classes=1)
    start = time.process_time()
    average_precision.metrics(
      detections, truths, [str(i // 20) for i in range(3000)], 0.5
    )
    self.assertLess(time.process_time() - start, 20)


if __name__ == '__main__':
  absltest.main()
