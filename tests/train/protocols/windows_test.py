"""Tests of how boxes in whole frames are scored and written."""

import contextlib
import dataclasses
import io
import json
import pathlib

import numpy as np
from absl.testing import absltest
from pycocotools import coco as pycoco
from pycocotools import cocoeval

from medzoo import types
from medzoo.data import drawing
from medzoo.metrics import average_precision
from medzoo.train import predict
from medzoo.train.protocols import windows
from tests.train import frame_cases
from tests.train import slice_cases

_OPTIONS = {'resamples': 50, 'seed': 0}


def _model(threshold=0.5):
  return predict.Model(
    pathlib.Path('run'),
    {'evaluation': {}, 'detection': {}},
    {'threshold': 0.2, 'detection_threshold': threshold},
    ('polyp',),
  )


class WindowsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.cases = frame_cases.cases()
    self.truth = windows.read_truth(self.cases)
    self.outputs = frame_cases.outputs()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def test_scores_by_hand(self):
    found = windows.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    self.assertEqual(
      {name: entry['value'] for name, entry in found.items()},
      {
        'detection_f1': 4 / (5 + 3),
        'detection_precision': 2 / 5,
        'detection_recall': 2 / 3,
        'detection_f1_centre': 6 / (5 + 3),
        'false_alarms_per_clean_frame': 1 / 2,
      },
    )
    # Intervals are over sequences.
    self.assertEqual({entry['n'] for entry in found.values()}, {2})

  def test_truth(self):
    self.assertEqual(self.truth.keys, list(frame_cases.POLYPS))
    self.assertEqual(self.truth.groups['b/3.png'], 'b')
    for key, frame in self.truth.frames.items():
      np.testing.assert_array_equal(
        frame.objects.corners,
        np.array(frame_cases.POLYPS[key], float).reshape(-1, 4),
      )
    parts = [
      windows.read_truth(self.cases.subset(part)) for part in ([2, 0], [1, 3])
    ]
    merged = windows.merge(parts)
    self.assertEqual(
      windows.score(self.outputs, merged, 0.5, **_OPTIONS)['detection_f1'][
        'value'
      ],
      0.5,
    )

  def test_an_empty_mask_is_no_polyp(self):
    case = frame_cases.case('a', [(0, 0, 0, 0), (1, 1, 5, 5)])
    truth = windows.read_truth(slice_cases.Cases([case]))
    self.assertLen(truth.frames['a'].objects.rles, 1)

  def test_what_it_cannot_score(self):
    bare = dataclasses.replace(self.cases[0], masks=None)
    with self.assertRaisesRegex(ValueError, 'a/1.png: found no masks'):
      windows.read_truth(slice_cases.Cases([bare]))
    masks = types.Masks(self.cases[0].masks.masks, np.array([1, 2], np.int32))
    other = dataclasses.replace(self.cases[0], masks=masks)
    with self.assertRaisesRegex(ValueError, r'classes \[1, 2\], expected 1'):
      windows.read_truth(slice_cases.Cases([other]))

  def test_threshold_and_objective(self):
    chosen = windows.choose_threshold(self.outputs, self.truth, {})
    self.assertEqual(chosen, 0.6)
    found = [o.detections['windows'] for o in self.outputs.values()]
    self.assertAlmostEqual(windows.objective(self.cases, found), 4 / (6 + 3))

  def test_differences(self):
    nothing = frame_cases.outputs({key: [] for key in self.truth.keys})
    metrics = windows.score(self.outputs, self.truth, 0.5, **_OPTIONS)
    found = windows.differences(
      self.outputs, nothing, self.truth, (0.5, 0.0), **_OPTIONS
    )
    self.assertEqual(set(found), {'detection_f1', 'detection_f1_centre'})
    for name, entry in found.items():
      self.assertEqual(entry['value'], metrics[name]['value'])
    self.assertEqual(windows.ablated(self.outputs), {})

  def test_predictions_are_cocos(self):
    windows.write_predictions(self.folder, self.outputs, self.truth, 0.5)
    with contextlib.redirect_stdout(io.StringIO()):
      truth = pycoco.COCO(str(self.folder / 'truth_coco.json'))
      found = truth.loadRes(str(self.folder / 'coco.json'))
      scored = cocoeval.COCOeval(truth, found, 'bbox')
      scored.evaluate()
      scored.accumulate()
      scored.summarize()
    names = [image['file_name'] for image in truth.imgs.values()]
    self.assertEqual(names, list(frame_cases.POLYPS))
    self.assertEqual([c['name'] for c in truth.cats.values()], ['polyp'])
    matches = windows.match(windows._windows(self.outputs), self.truth)
    # COCO's AP at an IoU of 0.5, by the independent program.
    self.assertAlmostEqual(
      average_precision.average_precision(matches['iou']), scored.stats[1]
    )
    masks = [truth.annToMask(row) for row in truth.anns.values()]
    there = np.concatenate([case.masks.masks for case in self.cases])
    np.testing.assert_array_equal(masks, there)

  def test_described(self):
    key = 'a/1.png'
    said = windows.describe(
      self.outputs[key], self.cases[0].volume, _model(0.8)
    )
    json.dumps(said)
    self.assertEqual(said['frame'], 'pixels')
    self.assertEqual(
      said['detections'],
      [
        {'x0': 4, 'y0': 4, 'x1': 15, 'y1': 14, 'score': 0.9, 'class': 'polyp'},
        {'x0': 5, 'y0': 5, 'x1': 15, 'y1': 15, 'score': 0.8, 'class': 'polyp'},
      ],
    )

  def test_drawn(self):
    volume = self.cases[0].volume
    output = self.outputs['a/1.png']
    ((number, pixels),) = windows.draw(output, volume, _model(0.85))
    # Eight times as large, so that the score can be read.
    self.assertEqual((number, pixels.shape), (0, (320, 480, 3)))
    green = (pixels == drawing.GREEN).all(-1)
    self.assertTrue(green[4 * 8, 4 * 8] and green[14 * 8 - 1, 15 * 8 - 1])
    self.assertFalse(green[:, 30 * 8 :].any())
    ((_, plain),) = windows.draw(output, volume, _model(1.1))
    np.testing.assert_array_equal(
      plain, volume.voxels[0].repeat(8, 0).repeat(8, 1)
    )

  def test_found(self):
    grids = {
      key: case.volume.grid
      for key, case in zip(self.cases.keys, self.cases, strict=True)
    }
    names = windows.write_found(self.folder, self.outputs, grids, _model())
    self.assertEqual(names, ['coco.json'])
    with contextlib.redirect_stdout(io.StringIO()):
      document = pycoco.COCO(str(self.folder / 'coco.json'))
    self.assertLen(document.imgs, 4)
    self.assertLen(document.anns, 5)
    self.assertEqual(document.anns[1]['bbox'], [4, 4, 11, 10])
    windows.write_found(self.folder, self.outputs, grids, _model(1.1))
    document = json.loads((self.folder / 'coco.json').read_text())
    self.assertEqual(document['annotations'], [])


if __name__ == '__main__':
  absltest.main()
