"""Tests of how films of the lungs are scored and written."""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib

import numpy as np
from absl.testing import absltest
from PIL import Image
from pycocotools import coco as pycoco
from pycocotools import cocoeval

from medzoo.data import outlines
from medzoo.train import mapping
from medzoo.train import predict
from medzoo.train.protocols import lung_masks
from tests.train import lung_cases
from tests.train import slice_cases

_OPTIONS = {'resamples': 50, 'seed': 0}
_METRICS = (
  *(f'{name}_{side}' for name in ('dice', 'iou', 'hd95')
    for side in ('right', 'left')),
  'hd95_right_mm', 'hd95_left_mm',
  'both_lungs_found', 'one_lung_found', 'no_lung_found', 'false_lung_rate',
  'box_ap', 'mask_ap',
)  # fmt: skip


def _outputs(predictions):
  return {
    key: mapping.Output(key, detections, 0.1)
    for key, detections in predictions.items()
  }


def _average_precision(folder, kind):
  """COCO's AP of the files, by the independent program."""
  with contextlib.redirect_stdout(io.StringIO()):
    truth = pycoco.COCO(str(folder / 'truth_coco.json'))
    found = truth.loadRes(str(folder / 'coco.json'))
    scored = cocoeval.COCOeval(truth, found, kind)
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
  return scored.stats[0]


def _model(threshold=0.5):
  return predict.Model(
    pathlib.Path('nowhere'),
    {'evaluation': {}},
    {'threshold': threshold},
    ('right lung', 'left lung'),
  )


class ScoreTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.cases, found = lung_cases.films()
    self.truth = lung_masks.read_truth(self.cases)
    self.outputs = _outputs(found)

  def test_equals_arrays_and_pycocotools(self):
    metrics = lung_masks.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    self.assertEqual(set(metrics), set(_METRICS))
    dice = {1: [], 2: []}
    for case in self.cases:
      found = self.outputs[case.volume.series_uid].detections['lungs']
      for mask, label in zip(case.masks.masks, case.masks.labels, strict=True):
        mine = found.masks[found.labels == label].any(axis=0)
        dice[label].append(2 * (mine & mask).sum() / (mine.sum() + mask.sum()))
    self.assertAlmostEqual(metrics['dice_right']['value'], np.mean(dice[1]))
    self.assertAlmostEqual(metrics['dice_left']['value'], np.mean(dice[2]))
    self.assertLen(dice[1], 8)
    self.assertLen(dice[2], 7)
    self.assertEqual(metrics['false_lung_rate']['value'], 1)
    self.assertAlmostEqual(metrics['no_lung_found']['value'], 1 / 7)
    for entry in metrics.values():
      self.assertEqual(entry['n'], 4)
    folder = pathlib.Path(self.create_tempdir().full_path)
    lung_masks.write_predictions(folder, self.outputs, self.truth, 0.5)
    for kind, name in (('bbox', 'box_ap'), ('segm', 'mask_ap')):
      self.assertAlmostEqual(
        metrics[name]['value'], _average_precision(folder, kind), places=12
      )
      self.assertBetween(metrics[name]['value'], 0.1, 0.9)

  def test_label_images(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    lung_masks.write_predictions(folder, self.outputs, self.truth, 0.5)
    for case in self.cases:
      key = case.volume.series_uid
      path = folder / 'masks' / f'{predict.file_name(key)}.png'
      image = np.array(Image.open(path))
      self.assertEqual(image.shape, case.volume.grid.shape[1:])
      found = self.outputs[key].detections['lungs']
      for mask, label in zip(found.masks, found.labels, strict=True):
        np.testing.assert_array_equal(image == label, mask)
      if not len(found):
        self.assertFalse(image.any())

  def test_the_surer_lung_lies_above(self):
    masks = lung_cases.lungs((48, 64))
    masks[1] |= masks[0]
    case = lung_cases.case('a', 'p', masks, [1, 2])
    truth = lung_masks.read_truth(slice_cases.Cases([case]))
    folder = pathlib.Path(self.create_tempdir().full_path)
    for scores, label in (((0.9, 0.3), 1), ((0.3, 0.9), 2)):
      found = lung_cases.found(masks, [1, 2], scores)
      outputs = _outputs({'a': {'lungs': found}})
      lung_masks.write_predictions(folder, outputs, truth, 0.5)
      image = np.array(Image.open(folder / 'masks' / 'a.png'))
      self.assertEqual(image[masks[0]].tolist(), [label] * masks[0].sum())

  def test_the_threshold_leaves_average_precision_alone(self):
    low, high = (
      lung_masks.score(self.outputs, self.truth, threshold, **_OPTIONS)
      for threshold in (0.0, 1.1)
    )
    self.assertEqual(low['mask_ap'], high['mask_ap'])
    self.assertEqual(low['box_ap'], high['box_ap'])
    self.assertEqual(high['dice_left']['value'], 0)
    self.assertEqual(high['hd95_left']['value'], 1)
    self.assertEqual(high['false_lung_rate']['value'], 0)

  def test_truth_is_kept_small(self):
    masks = lung_cases.lungs((2000, 2000))
    cases = slice_cases.Cases([lung_cases.case('a', 'p', masks, [1, 2])])
    (film,) = lung_masks.read_truth(cases).films.values()
    self.assertLess(sum(len(r['counts']) for r in film.objects.rles), 1e5)
    np.testing.assert_array_equal(film.masks.masks, masks)
    self.assertEqual(film.objects.corners.shape, (2, 4))

  def test_the_threshold(self):
    # One false lung, which the scores of the others let it drop or not.
    chosen = lung_masks.choose_threshold(self.outputs, self.truth, {})
    best = lung_masks.objective(
      self.cases, [self.outputs[key].detections['lungs']
                   for key in self.cases.keys],
    )  # fmt: skip
    self.assertBetween(chosen, 0, 1)
    metrics = lung_masks.score(self.outputs, self.truth, chosen, **_OPTIONS)
    total = (
      8 * metrics['dice_right']['value'] + 7 * metrics['dice_left']['value']
    )
    total += 1 - metrics['false_lung_rate']['value']
    self.assertGreaterEqual(total / 16, best)

  def test_the_objective_by_hand(self):
    case = self.cases.subset([6])
    exact = lung_cases.found(case[0].masks.masks, [1], [0.1])
    self.assertEqual(lung_masks.objective(case, [exact]), 1)
    nothing = lung_cases.found(case[0].masks.masks[:0], [], [])
    self.assertEqual(lung_masks.objective(case, [nothing]), 0.5)

  def test_differences(self):
    nothing = {
      key: dataclasses.replace(
        output,
        detections={
          'lungs': lung_cases.found(
            output.detections['lungs'].masks[:0], [], []
          )
        },
      )
      for key, output in self.outputs.items()
    }
    metrics = lung_masks.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    found = lung_masks.differences(
      self.outputs, nothing, self.truth, (0.5, 0.0), **_OPTIONS
    )
    for name, entry in found.items():
      self.assertEqual(entry, metrics[name])
    self.assertEqual(
      set(found), {'dice_right', 'dice_left', 'both_lungs_found'}
    )

  def test_folds_are_joined(self):
    parts = [lung_masks.read_truth(self.cases.subset([i])) for i in range(8)]
    merged = lung_masks.merge(parts)
    self.assertEqual(merged.keys, self.truth.keys)
    self.assertEqual(merged.groups, self.truth.groups)
    self.assertEqual(
      lung_masks.score(self.outputs, merged, 0.5, **_OPTIONS),
      lung_masks.score(self.outputs, self.truth, 0.5, **_OPTIONS),
    )

  def test_what_it_cannot_score(self):
    bare = dataclasses.replace(self.cases[0], masks=None)
    with self.assertRaisesRegex(ValueError, 'film 0.png: found no masks'):
      lung_masks.read_truth(slice_cases.Cases([bare]))
    masks = lung_cases.lungs((48, 64))
    for labels in ([1, 3], [2, 2]):
      case = lung_cases.case('a', 'p', masks, labels)
      with self.assertRaisesRegex(ValueError, 'at most once each'):
        lung_masks.read_truth(slice_cases.Cases([case]))


class FoundTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    cases, found = lung_cases.films()
    self.cases = dict(zip(cases.keys, cases, strict=True))
    self.outputs = _outputs(found)
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def test_described(self):
    key = 'folder/film 1.png'
    output, volume = self.outputs[key], self.cases[key].volume
    said = lung_masks.describe(output, volume, _model())
    json.dumps(said)
    self.assertEqual(said['frame'], 'pixels')
    found = output.detections['lungs']
    self.assertLen(said['detections'], 2)
    for i, row in enumerate(said['detections']):
      side = {1: 'right', 2: 'left'}[int(found.labels[i])]
      self.assertEqual(row['class'], f'{side} lung')
      self.assertEqual(row['score'], found.scores[i])
      self.assertEqual(row['area_px'], found.masks[i].sum())
      self.assertEqual(row['area_mm2'], found.masks[i].sum() / 4)
      self.assertEqual(
        [row[name] for name in ('y0', 'x0', 'y1', 'x1')],
        found.corners[i].tolist(),
      )
    volume = dataclasses.replace(volume, spacing=(None, None, None))
    said = lung_masks.describe(output, volume, _model(float(found.scores[0])))
    (row,) = said['detections']
    self.assertIsNone(row['area_mm2'])

  def test_drawn(self):
    key = 'folder/film 1.png'
    output, case = self.outputs[key], self.cases[key]
    ((number, pixels),) = lung_masks.draw(output, case.volume, _model())
    self.assertEqual((number, pixels.shape), (0, (723, 1024, 3)))
    found = output.detections['lungs']
    for label, color in outlines.LUNG_COLORS.items():
      (mask,) = found.masks[found.labels == label]
      drawn = np.argwhere((pixels == color).all(-1))[:, 1]
      columns = np.nonzero(mask)[1] * 1024 / 68
      self.assertBetween(np.median(drawn), columns.min(), columns.max())
    # The right lung is on the film's left.
    ((_, plain),) = lung_masks.draw(output, case.volume, _model(1.1))
    self.assertTrue((plain == plain[..., :1]).all())

  def test_files(self):
    grids = {key: case.volume.grid for key, case in self.cases.items()}
    model = _model(0.0)
    names = lung_masks.write_found(self.folder, self.outputs, grids, model)
    self.assertEqual(names, ['coco.json', 'lungs.csv', 'masks'])
    with contextlib.redirect_stdout(io.StringIO()):
      document = pycoco.COCO(str(self.folder / 'coco.json'))
    self.assertLen(document.imgs, 8)
    self.assertLen(document.anns, 14)
    with (self.folder / 'lungs.csv').open(newline='') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([row['case'] for row in rows], list(self.cases))
    found = self.outputs[rows[0]['case']].detections['lungs']
    areas = {
      label: found.masks[found.labels == label].sum() for label in (1, 2)
    }
    self.assertEqual(int(rows[0]['right_area_px']), areas[1])
    self.assertAlmostEqual(
      float(rows[0]['left_area_mm2']), areas[2] / 4, delta=0.05
    )
    self.assertAlmostEqual(
      float(rows[0]['left_right_ratio']), areas[2] / areas[1], delta=1e-4
    )
    self.assertEqual(set(list(rows[-1].values())[1:]), {''})
    for row in document.anns.values():
      key = document.imgs[row['image_id']]['file_name']
      found = self.outputs[key].detections['lungs']
      at = found.labels.tolist().index(row['category_id'])
      np.testing.assert_array_equal(document.annToMask(row), found.masks[at])
      path = self.folder / 'masks' / f'{predict.file_name(key)}.png'
      image = np.array(Image.open(path))
      np.testing.assert_array_equal(
        image == row['category_id'], found.masks[at]
      )

  def test_below_the_threshold_nothing_is_written(self):
    grids = {key: case.volume.grid for key, case in self.cases.items()}
    lung_masks.write_found(self.folder, self.outputs, grids, _model(1.1))
    document = json.loads((self.folder / 'coco.json').read_text())
    self.assertEqual(document['annotations'], [])
    self.assertLen(document['categories'], 2)
    paths = list((self.folder / 'masks').iterdir())
    self.assertLen(paths, 8)
    self.assertFalse(any(np.array(Image.open(path)).any() for path in paths))


if __name__ == '__main__':
  absltest.main()
