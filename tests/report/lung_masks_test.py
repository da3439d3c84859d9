import base64
import io
import json
import pathlib
import re

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo.report import lung_masks
from medzoo.report import lung_plots
from medzoo.train import mapping
from medzoo.train.protocols import lung_masks as protocol
from tests.report import pages
from tests.train import lung_cases
from tests.train import slice_cases


def _results(cases, outputs, threshold=0.5):
  truth = protocol.read_truth(cases)
  metrics = protocol.score(outputs, truth, threshold, resamples=20, seed=0)
  differences = protocol.differences(
    outputs, outputs, truth, (threshold, 0.2), resamples=20, seed=0
  )
  return pages.results() | {
    'experiment': 'lung_maskrcnn',
    'variant': 'phantom',
    'main_metric': 'dice_left',
    'metrics': metrics,
    'baselines': {'mean_mask': metrics},
    'paired_differences': {
      f'{name} - mean_mask': entry for name, entry in differences.items()
    },
    'threshold': threshold,
    'other_thresholds': {'mean_mask': 0.2},
  }


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.cases, found = lung_cases.films(14)
    self.outputs = {
      key: mapping.Output(key, each, 0.1) for key, each in found.items()
    }
    self.save(self.cases, self.outputs)

  def save(self, cases, outputs):
    truth = protocol.read_truth(cases)
    for name in ('', 'mean_mask'):
      protocol.write_predictions(
        self.folder / 'predictions' / name, outputs, truth, 0.5
      )
    row = {'stage': 'all', 'train/box': 0.5, 'validation/dice': 0.9}
    lines = [json.dumps({**row, 'step': step}) for step in (1, 2)]
    (self.folder / 'metrics.jsonl').write_text('\n'.join(lines))

  def write(self, cases=None, threshold=0.5):
    cases = self.cases if cases is None else cases
    results = _results(cases, self.outputs, threshold)
    lung_masks.write(self.folder, results, cases)
    return (self.folder / 'report.html').read_text()

  def test_the_page(self):
    text = self.write()
    page = pages.Checker(text)
    self.assertEmpty(page.stack)
    for words in (
      'Dice, left lung', 'HD95, right lung, mm', 'Both lungs found',
      'False lungs', 'Mask AP', 'Mean mask', 'The 10 worst films',
      'Dice of every lung', 'Training', '0.5000 was chosen',
    ):  # fmt: skip
      self.assertIn(words, page.text)
    sources = re.findall(r'data:image/png;base64,([^"]+)', text)
    self.assertLen(sources, 3)
    sizes = [Image.open(io.BytesIO(base64.b64decode(s))).size for s in sources]
    # Five films of up to 320 pixels in each of two rows.
    self.assertBetween(sizes[1][0], 1500, 1700)
    self.assertTrue(all(link.startswith('data:') for link in page.links))

  def test_the_worst_films(self):
    shown = self.films(0.5)
    self.assertLen(shown, 10)
    # In the last nothing was found, in the one before a lung that is none.
    self.assertIn('film 14 of 14\nright: not found\nleft: not found', shown)
    (false,) = [title for title in shown if title.startswith('film 13 of 14')]
    self.assertIn('left: absent, but found', false)
    self.assertEqual({title.split()[1] for title in shown[:2]}, {'13', '14'})
    worse = [
      min(map(float, re.findall(r'Dice ([\d.]+)', title)))
      for title in shown[2:]
    ]
    self.assertEqual(worse, sorted(worse))

  def films(self, threshold):
    """Returns the titles of the worst films; each picture is looked at."""
    seen = []

    def films(panels):
      for panel in panels:
        self.assertEqual(max(panel.image.shape), 320)
        self.assertTrue((panel.image == (0, 230, 64)).all(-1).any())
      seen.extend(panels)
      return b'PNG'

    with absltest.mock.patch.object(lung_plots, 'films', films):
      self.write(threshold=threshold)
    return [panel.title for panel in seen]

  def test_below_the_threshold_lungs_are_not_found(self):
    for title in self.films(1.1):
      self.assertNotIn('Dice', title)

  def test_an_evaluation_without_baselines(self):
    results = _results(self.cases, self.outputs)
    for name in ('baselines', 'other_thresholds', 'paired_differences'):
      del results[name]
    (self.folder / 'metrics.jsonl').unlink()
    lung_masks.write(self.folder, results, self.cases)
    text = (self.folder / 'report.html').read_text()
    self.assertLen(re.findall('data:image/png', text), 2)
    self.assertNotIn('ean mask', text)

  def test_predictions_of_other_films(self):
    masks = lung_cases.lungs((48, 64))
    other = slice_cases.Cases([lung_cases.case('new', 'p', masks, [1, 2])])
    results = _results(self.cases, self.outputs)
    with self.assertRaisesRegex(ValueError, 'found no film new'):
      lung_masks.write(self.folder, results, other)

  def test_large_films_of_any_kind_keep_the_page_small(self):
    rng = np.random.default_rng(0)
    shape, kinds = (400, 500), (np.uint8, np.int16, np.float32)
    cases, outputs = slice_cases.Cases(), {}
    for i in range(11):
      masks = lung_cases.lungs(shape)
      size = (1, *shape, 3) if i % 4 == 3 else (1, *shape)
      voxels = rng.integers(0, 255, size).astype((*kinds, np.uint8)[i % 4])
      case = lung_cases.case(str(i), str(i), masks, [1, 2], voxels=voxels)
      cases.append(case)
      found = lung_cases.found(masks, [1, 2], [0.9, 0.8])
      outputs[str(i)] = mapping.Output(str(i), {'lungs': found}, 0.1)
    self.outputs = outputs
    self.save(cases, outputs)
    self.assertLess(len(self.write(cases)), 6e6)


class PlotsTest(absltest.TestCase):
  def test_dice(self):
    rng = np.random.default_rng(0)
    systems = {
      'This model': {'right': rng.random(30), 'left': rng.random(20)},
      'Mean mask': {'right': rng.random(30), 'left': np.zeros(0)},
    }
    image = Image.open(io.BytesIO(lung_plots.dice(systems)))
    self.assertGreater(np.array(image).std(), 5)
    self.assertEqual(lung_plots.dice(systems), lung_plots.dice(systems))
    nothing = {'This model': {'right': np.zeros(0), 'left': np.zeros(0)}}
    self.assertIsNone(lung_plots.dice(nothing))

  def test_no_films(self):
    self.assertIsNone(lung_plots.films([]))


if __name__ == '__main__':
  absltest.main()
