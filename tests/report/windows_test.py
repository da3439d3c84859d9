"""Tests of the report of boxes in whole frames."""

import base64
import io
import json
import pathlib
import re

from absl.testing import absltest
from PIL import Image

from medzoo.data import drawing
from medzoo.report import lung_plots
from medzoo.report import windows
from medzoo.train.protocols import windows as protocol
from tests.report import pages
from tests.train import frame_cases
from tests.train import slice_cases


class ReportTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.cases = frame_cases.cases()
    outputs = frame_cases.outputs()
    truth = protocol.read_truth(self.cases)
    options = {'resamples': 20, 'seed': 0}
    metrics = protocol.score(outputs, truth, 0.5, **options)
    for name in ('', 'centre_box'):
      protocol.write_predictions(
        self.folder / 'predictions' / name, outputs, truth, 0.5
      )
    row = {'stage': 'cnn', 'step': 1, 'train/loss': 0.5}
    (self.folder / 'metrics.jsonl').write_text(json.dumps(row))
    self.results = pages.results() | {
      'experiment': 'polyp_cnn',
      'main_metric': 'detection_f1',
      'metrics': metrics,
      'baselines': {'centre_box': metrics},
      'paired_differences': {},
      'threshold': 0.5,
      'other_thresholds': {'centre_box': 0.7},
    }

  def test_the_page(self):
    windows.write(self.folder, self.results, self.cases)
    text = (self.folder / 'report.html').read_text()
    page = pages.Checker(text)
    self.assertEmpty(page.stack)
    for words in (
      'F1 of boxes', 'F1 of box centres', 'False alarms per clean frame',
      'Centre box', 'Boxes at every threshold', 'The surest finds',
      'The surest false alarms', 'What was missed', 'Training',
      '0.5000 was chosen', '1 of 4 frames have such',
    ):  # fmt: skip
      self.assertIn(words, page.text)
    sources = re.findall(r'data:image/png;base64,([^"]+)', text)
    self.assertLen(sources, 5)
    for source in sources:
      Image.open(io.BytesIO(base64.b64decode(source))).verify()

  def shown(self):
    """Returns the panels of each figure of frames."""
    seen = []
    with absltest.mock.patch.object(lung_plots, 'films', seen.append):
      windows.figures(self.folder, self.cases, 0.5, {'centre_box': 0.7})
    return seen

  def test_the_frames(self):
    finds, false, missed = self.shown()
    self.assertEqual(
      [panel.title for panel in finds],
      ['frame 1 of 4\n2 to find, 2 found, 1 false'],
    )
    # The double, the large box, the clean frame: by falling score.
    self.assertEqual(
      [panel.title.split()[1] for panel in false], ['1', '2', '3']
    )
    self.assertEqual(
      [panel.title for panel in missed],
      ['frame 2 of 4\n1 to find, 0 found, 1 false'],
    )
    for panel, colours in (
      (finds[0], (drawing.GREEN, drawing.BLUE, drawing.RED)),
      (false[2], (drawing.RED,)),
      (missed[0], (drawing.GREEN, drawing.RED)),
    ):
      for colour in (drawing.GREEN, drawing.BLUE, drawing.RED):
        drawn = (panel.image == colour).all(-1).any()
        self.assertEqual(drawn, colour in colours)

  def test_nothing_found(self):
    outputs = frame_cases.outputs({key: [] for key in frame_cases.POLYPS})
    truth = protocol.read_truth(self.cases)
    protocol.write_predictions(self.folder / 'predictions', outputs, truth, 0.5)
    found = windows.figures(self.folder, self.cases, 0.5, {})
    self.assertEqual([f.png is None for f in found], [True, True, True, False])

  def test_predictions_of_other_frames(self):
    other = slice_cases.Cases([frame_cases.case('new', [])])
    with self.assertRaisesRegex(ValueError, 'found no frame new'):
      windows.write(self.folder, self.results, other)


if __name__ == '__main__':
  absltest.main()
