import base64
import dataclasses
import functools
import io
import json
import pathlib
import re
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo import types
from medzoo.io import tables
from medzoo.report import box_plots
from medzoo.report import slice_boxes
from tests.report import pages

# A whole scan of 48 x 66 mm: pixels are as fine as they get, 0.7 mm or 1.4
# voxels, and voxel (48, 66) comes to the middle, at (96, 132).
_LESION, _LESION_PIXELS = (20, 38, 34, 52), (76, 112, 10, 10)
_OTHER, _OTHER_PIXELS = (62, 66, 76, 94), (106, 132, 10, 20)
_FAR = (0, 0, 14, 14)


class _Cases:
  """What a report asks of `sources.Cases`."""

  def __init__(self, cases):
    self._cases = cases
    self.keys = [case.volume.series_uid for case in cases]
    self.groups = [case.group for case in cases]
    self.boxes = [case.boxes for case in cases]
    self.grids = [case.volume.grid for case in cases]

  def __len__(self):
    return len(self._cases)

  def __getitem__(self, index):
    return self._cases[index]


def _boxes(*rows):
  """Boxes of (slice, corners, ignored, label)."""
  number, corners, ignored, labels = (
    zip(*rows, strict=True) if rows else [()] * 4
  )
  return types.Boxes(
    np.array(number, np.int32),
    np.array(corners, float).reshape(-1, 4),
    np.array(labels, np.int32),
    np.array(ignored, bool),
    np.zeros(len(number), np.int32),
  )


def _found(*rows):
  """Boxes of (slice, corners, score, step, suppressed, label)."""
  rows = [[*row, *(False, 1)[len(row) - 4 :]] for row in rows]
  columns = zip(*rows, strict=True) if rows else [()] * 6
  number, corners, scores, steps, suppressed, labels = map(np.array, columns)
  return types.BoxDetections(
    number.astype(np.int32),
    corners.reshape(-1, 4).astype(float),
    scores.astype(float),
    labels.astype(np.int32),
    steps.astype(np.int32),
    suppressed.astype(bool),
    np.full(len(rows), -1, np.int32),
  )


def _case(name, boxes, voxels=None):
  if voxels is None:
    voxels = np.full((5, 96, 132), -1000, np.int16)
    for number, (y0, x0, y1, x1) in zip(
      boxes.slices, boxes.corners.astype(int), strict=True
    ):
      voxels[number, y0:y1, x0:x1] = 400
  scan = np.ndim(voxels) == 3 and len(voxels) > 1
  volume = types.Volume(
    voxels, (2.0 if scan else None, 0.5, 0.5), series_uid=name
  )
  nothing = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int32))
  return types.Case(volume, f'patient {name}', nothing, nothing, boxes)


def _results():
  names = ('ap50', 'precision', 'recall', 'froc_mean', 'froc_mean_boxes')
  return pages.results() | {
    'experiment': 'lidc_lstm',
    'variant': 'lidc',
    'main_metric': 'ap50',
    'metrics': {name: pages.entry(0.62, 0.55, 0.7) for name in names},
    'baselines': {'nothing': {'ap50': pages.entry(0.0, 0.0, 0.0)}},
    'ablations': {'first_outputs': {'ap50': pages.entry(0.591, 0.5, 0.68)}},
    'paired_differences': {
      'ap50 - nothing': pages.entry(0.62, 0.55, 0.7),
      'ap50 - first_outputs': pages.entry(0.029, 0.011, 0.043),
    },
    'threshold': 0.5,
  }


def _three_scans():
  """The best, the worst and the median, of scans with lesions."""
  lesion, other = (2, _LESION, False, 1), (2, _OTHER, True, 1)
  cases = [
    _case('a', _boxes(lesion, other, (3, _LESION, False, 1))),
    _case('b', _boxes(lesion)),
    _case('c', _boxes(lesion, (3, _LESION, False, 1))),
    _case('d', _boxes()),
  ]
  found = {
    'a': _found(
      (2, _LESION, 0.9, 1),
      (2, _OTHER, 0.8, 0),
      (2, _LESION, 0.7, 2, True),
      (2, _LESION, 0.4, 2, True),
      (2, _FAR, 0.4, 0),
      (3, _LESION, 0.6, 0),
    ),
    'b': _found((0, _FAR, 0.8, 0), (2, _LESION, 0.49, 0)),
    'c': _found((3, _LESION, 0.5, 0), (3, _LESION, 0.51, 3)),
    'd': _found(),
  }
  return _Cases(cases), found


def _write_boxes(path, found):
  arrays = {
    'cases': np.array(list(found)),
    'boxes/case': np.repeat(
      np.arange(len(found)), list(map(len, found.values()))
    ),
  }
  for field in dataclasses.fields(types.BoxDetections):
    columns = [getattr(each, field.name) for each in found.values()]
    arrays[f'boxes/{field.name}'] = np.concatenate(columns)
  np.savez(path, **arrays)


def _write(cases, found, results=None, curve=None):
  """Returns the page of a run."""
  curve = curve or {
    'thresholds': [0.9, 0.5, 0.4],
    'precision': [1.0, 0.75, 0.6],
    'recall': [0.25, 0.5, 0.5],
    'false_positives_per_image': [0.0, 0.1, 0.2],
  }
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root)
    predictions = folder / 'predictions'
    (predictions / 'nothing').mkdir(parents=True)
    curves = {'coco': curve, 'bipartite': curve}
    (predictions / 'curves.json').write_text(json.dumps(curves))
    _write_boxes(predictions / 'boxes.npz', found)
    for name in ('luna16.csv', 'nothing/luna16.csv'):
      tables.write_marks(predictions / name, {}, 'probability')
    truth = {'a': np.array([[1.0, 2.0, 3.0, 8.0]])}
    for name, marks in (('annotations', truth), ('annotations_excluded', {})):
      tables.write_marks(predictions / f'{name}.csv', marks, 'diameter_mm')
    tables.write_seriesuids(predictions / 'seriesuids.csv', cases.keys)
    row = {'stage': 'boxes', 'step': 1, 'train/loss': 1.0}
    (folder / 'metrics.jsonl').write_text(json.dumps(row) + '\n')
    slice_boxes.write(folder, results or _results(), cases)
    return (folder / 'report.html').read_text(encoding='utf-8')


def _write_nothing(results=None):
  """The page of a scan without lesions in which nothing was found."""
  names = ('thresholds', 'precision', 'recall', 'false_positives_per_image')
  cases = _Cases([_case('a', _boxes())])
  return _write(cases, {'a': _found()}, results, {name: [] for name in names})


@functools.cache
def _page():
  return _write(*_three_scans())


class WriteTest(parameterized.TestCase):
  def test_tells_what_a_reader_needs(self):
    checked = pages.Checker(_page())
    self.assertEmpty(checked.stack)
    for wanted in (
      'lidc_lstm · lidc',
      'AP50',
      'Mean FROC of lesion boxes',
      'Share of the true boxes that were found',
      'First outputs',
      '0.591',
      'Precision and recall of boxes',
      'operating threshold 0.500',
      'Free-response ROC',
      'Training',
      'The order in which the LSTM wrote',
      'at most one slice of a case',
      'Detections by step',
      'Rezoom, the second look at each box, gained 0.029 of ap50 over the same'
      " model's first outputs (95 % interval 0.011 to 0.043 of the paired"
      ' difference): this shows a gain, as the interval lies above 0.',
    ):
      self.assertIn(wanted, checked.text)
    self.assertNotIn('diameter, at the threshold', checked.text)

  def test_needs_nothing_beside_it(self):
    text = _page()
    # Curves, order, steps, FROC, losses; five slices of three scans.
    links = pages.Checker(text).links
    self.assertLen([x for x in links if x.startswith('data:image/png;')], 5)
    self.assertLen([x for x in links if x.startswith('data:image/jpeg;')], 15)
    self.assertLen(links, 20)
    self.assertNotRegex(text, r'https?://|url\(|@import|<link')

  def test_shows_the_best_the_median_and_the_worst_scan(self):
    text = _page()
    self.assertEqual(
      re.findall('<h3>(.*with true boxes.*)</h3>', text),
      [
        'Best of 3 scans with true boxes, here 2: 2 hits, 0 false positives, '
        '1 on ignored findings',
        'Median of 3 scans with true boxes, here 2: 1 hit, 1 false positive',
        'Worst of 3 scans with true boxes, here 1: 0 hits, 1 false positive',
      ],
    )

  def test_draws_boxes_where_they_are(self):
    text = _page()
    frame = re.search(
      r'aria-label="Slice 3 of 5: (.*?)"><img.*?base64,(.*?)">(.*?)</svg>',
      text,
      re.DOTALL,
    )
    self.assertEqual(
      frame[1],
      '1 true box, 1 ignored finding, 2 detections (0.90 · step 2;'
      ' 0.80 · step 1), 1 suppressed double (0.70 · step 3)',
    )
    drawn = re.findall(
      r'<g class="box (\w+)"><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"'
      r' height="([\d.]+)"></rect>(?:<text[^>]*>(.*?)</text>)?</g>',
      frame[3],
    )
    lesion, other = (
      (str(x), str(y), str(w), str(h))
      for y, x, h, w in (_LESION_PIXELS, _OTHER_PIXELS)
    )
    self.assertEqual(
      drawn,
      [
        ('truth', *lesion, ''),
        ('ignored', *other, ''),
        ('detection', *lesion, '0.90 · step 2'),
        ('detection', *other, '0.80 · step 1'),
        ('suppressed', *lesion, '0.70 · step 3'),
      ],
    )
    with Image.open(io.BytesIO(base64.b64decode(frame[2]))) as image:
      pixels = np.asarray(image).astype(int)
    self.assertEqual(pixels.shape, (192, 264))
    for y, x, h, w in (_LESION_PIXELS, _OTHER_PIXELS):
      self.assertGreater(
        pixels[y + 2 : y + h - 2, x + 2 : x + w - 2].min(), 220
      )
      around = pixels[y - 4 : y + h + 4, x - 4 : x + w + 4]
      self.assertLess(around[:2].max(), 30)
      self.assertLess(around[:, -2:].max(), 30)

  def test_opens_at_a_slice_with_hits(self):
    text = _page()
    self.assertEqual(
      re.findall(r'aria-label="([^:"]*)[^"]*"><img', text),
      ['Slice 3 of 5', 'Slice 4 of 5', 'Slice 3 of 5'],
    )

  def test_counts_steps_of_hits_and_false_positives_apart(self):
    with mock.patch.object(box_plots, 'steps', wraps=box_plots.steps) as steps:
      _write(*_three_scans())
    (counts,) = steps.call_args.args
    self.assertEqual(
      {kind: number.tolist() for kind, number in counts.items()},
      {
        # Of the two on one lesion in c the surer is the hit.
        'hit': [1, 1, 0, 1],
        'false positive': [2, 0, 0, 0],
        'ignored': [1, 0, 0, 0],
      },
    )

  def test_order_shows_the_fullest_slices(self):
    with mock.patch.object(box_plots, 'order', wraps=box_plots.order) as order:
      _write(*_three_scans())
    panels, num_steps = order.call_args.args
    self.assertEqual(num_steps, 4)
    self.assertEqual(
      [panel.title for panel in panels],
      ['1 hit, 0 false positives, 1 on ignored findings',
       '1 hit, 1 false positive', '0 hits, 1 false positive'],
    )  # fmt: skip
    self.assertEqual(panels[0].steps.tolist(), [1, 0])
    y, x, h, w = _LESION_PIXELS
    np.testing.assert_allclose(panels[0].corners[0], [y, x, y + h, x + w])

  def test_long_scans_are_thinned_out_but_keep_their_boxes(self):
    cases, found = _three_scans()
    with mock.patch.object(slice_boxes, '_MOST_FRAMES', 3):
      text = _write(cases, found)
    best = text[text.index('Best of') : text.index('Median of')]
    self.assertIn('(3 of 5 slices are shown)', best)
    self.assertEqual(
      re.findall(r'aria-label="Slice (\d)', best), ['1', '3', '4']
    )

  def test_pictures_in_colour_of_several_classes(self):
    picture = np.zeros((1, 50, 100, 3), np.uint8)
    picture[0, 10:20, 30:50] = (255, 0, 0)
    truth = _boxes(
      (0, (10, 30, 20, 50), False, 2), (0, (30, 30, 40, 50), False, 1)
    )
    cases = _Cases(
      [_case('a', truth, picture), _case('b', _boxes(), picture[..., 0])]
    )
    found = {
      'a': _found((0, (10, 30, 20, 50), 0.8, 0, False, 2)),
      'b': _found(),
    }
    text = _write(cases, found)
    # 100 columns become 384; 50 rows 192, with 96 above and below.
    self.assertIn(
      '<g class="box truth"><rect x="115.2" y="134.4" width="76.8"'
      ' height="38.4"></rect>',
      text,
    )
    self.assertIn('class 2 · 0.80 · step 1</text>', text)
    self.assertIn('>class 1</text>', text)
    self.assertIn('Picture 2 of 2: no box', text)
    self.assertNotIn('Free-response ROC', text)
    source = re.search('data:image/jpeg;base64,([^"]*)', text)[1]
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
      self.assertEqual((image.mode, image.size), ('RGB', (384, 384)))
      red, green, _ = image.getpixel((150, 150))
    self.assertGreater(red - green, 200)

  def test_nothing_found_and_nothing_to_find(self):
    text = _write_nothing()
    self.assertIn('<h3>A scan without true boxes</h3>', text)
    self.assertNotIn('Precision and recall of boxes', text)
    self.assertNotIn('The order in which', text)

  @parameterized.parameters(
    (-0.02, -0.04, -0.01, 'lost 0.020', 'this shows a loss'),
    (-0.02, -0.04, 0.01, 'lost 0.020', 'neither gain nor loss'),
    (0.02, -0.04, 0.05, 'gained 0.020', 'neither gain nor loss'),
  )
  def test_says_what_rezoom_is_worth(self, value, low, high, *wanted):
    results = _results()
    entry = pages.entry(value, low, high)
    results['paired_differences']['ap50 - first_outputs'] = entry
    text = _write_nothing(results)
    for words in wanted:
      self.assertIn(words, text)

  def test_rezoom_may_be_undefined_or_absent(self):
    results = _results()
    differences = results['paired_differences']
    differences['ap50 - first_outputs'] |= {
      'value': None, 'low': None, 'high': None, 'why': 'no true box',
    }  # fmt: skip
    text = _write_nothing(results)
    self.assertIn('What rezoom is worth is not known: no true box.', text)
    del differences['ap50 - first_outputs']
    self.assertNotIn('ezoom', _write_nothing(results))


if __name__ == '__main__':
  absltest.main()
