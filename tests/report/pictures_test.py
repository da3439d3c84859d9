import base64
import io
import json
import pathlib
import re

import numpy as np
from absl.testing import absltest
from PIL import Image

from medzoo import types
from medzoo.data import heat_maps
from medzoo.report import classification_plots
from medzoo.report import pictures
from medzoo.train import mapping
from medzoo.train.protocols import pictures as protocol
from tests.report import pages
from tests.train import picture_cases


def _outputs(predictions):
  return {
    key: mapping.Output(key, detections, 0.1)
    for key, detections in predictions.items()
  }


def save(folder, cases, saliency=True):
  """Writes what a run leaves beside its report; returns the results."""
  truth = protocol.read_truth(cases)
  prior = {key: {'picture': types.PictureScore(0.2)} for key in truth.keys}
  systems = {
    '': picture_cases.said(cases, saliency=saliency),
    'hog_ridge': picture_cases.said(cases, seed=1, apart=1.5),
    'majority': prior,
  }
  points, metrics, outputs = {}, {}, {}
  for name, found in systems.items():
    outputs[name] = _outputs(found)
    points[name] = protocol.choose_threshold(outputs[name], truth, {})
    metrics[name] = protocol.score(
      outputs[name], truth, points[name], resamples=50, seed=0
    )
    protocol.write_predictions(
      folder / 'predictions' / name, outputs[name], truth, points[name]
    )
  differences = {
    f'{metric} - {name}': entry
    for name in ('hog_ridge', 'majority')
    for metric, entry in protocol.differences(
      outputs[''], outputs[name], truth, (points[''], points[name]),
      resamples=50, seed=0,
    ).items()
  }  # fmt: skip
  row = {'stage': 'head', 'train/loss': 0.5, 'validation/auc': 0.9}
  lines = [json.dumps({**row, 'step': step}) for step in (1, 2)]
  (folder / 'metrics.jsonl').write_text('\n'.join(lines))
  results = pages.results() | {
    'experiment': 'polyp_cnn',
    'variant': 'phantom',
    'main_metric': 'auc',
    'threshold': points.pop(''),
    'metrics': metrics.pop(''),
    'baselines': metrics,
    'other_thresholds': points,
    'paired_differences': differences,
  }
  results['dataset'] |= {'classes': ['polyp'], 'background': 'mucosa'}
  return results


class ReportTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.cases = picture_cases.coloured(60)

  def write(self, results):
    pictures.write(self.folder, results, self.cases)
    return (self.folder / 'report.html').read_text()

  def test_the_page(self):
    self.cases = picture_cases.coloured(24)
    text = self.write(save(self.folder, self.cases))
    page = pages.Checker(text)
    self.assertEmpty(page.stack)
    for words in (
      'AUC', 'Sensitivity', 'Recall of polyp', 'Precision of mucosa',
      'Brier score', 'Calibration error', 'Confusion matrix', 'HOG, colours',
      'ROC and precision-recall', 'The surest mistakes', 'The surest hits',
      'Training', 'calibrated on validation', 'is called polyp',
    ):  # fmt: skip
      self.assertIn(words, page.text)
    self.assertTrue(all(link.startswith('data:') for link in page.links))
    sources = re.findall(r'data:image/png;base64,([^"]+)', text)
    self.assertLen(sources, 6)
    for source in sources:
      image = Image.open(io.BytesIO(base64.b64decode(source)))
      self.assertGreater(np.array(image.convert('L')).std(), 5)
    self.assertLess(len(text), 6e6)

  def galleries(self, results):
    """Returns the panels of mistakes and of hits."""
    seen = []

    def gallery(panels, columns):
      seen.append((panels, columns))
      return b'PNG'

    with absltest.mock.patch.multiple(
      classification_plots,
      gallery=gallery,
      curves=absltest.mock.DEFAULT,
      confusion=absltest.mock.DEFAULT,
      reliability=absltest.mock.DEFAULT,
    ):
      pictures.figures(self.folder, results, self.cases)
    return seen

  def test_mistakes_and_hits(self):
    results = save(self.folder, self.cases)
    (wrong, columns), (right, _) = self.galleries(results)
    self.assertEqual(columns, 2)
    self.assertLen(right, 12)
    self.assertBetween(len(wrong), 4, 12)
    certain = []
    for panel in wrong:
      number, truth, called, probability = re.fullmatch(
        r'picture (\d+) of 60: (\w+), called (\w+)\n'
        r'probability of polyp ([\d.]+)',
        panel.title,
      ).groups()
      self.assertNotEqual(truth, called)
      label = self.cases[int(number) - 1].label
      self.assertEqual(truth, ('mucosa', 'polyp')[label])
      share = float(probability)
      certain.append(share if called == 'polyp' else 1 - share)
      # The picture, Grad-CAM and integrated gradients.
      alone = heat_maps.row(self.cases[int(number) - 1].volume, None, 180)
      self.assertEqual(panel.image.shape[1], 3 * alone.shape[1] + 8)
    self.assertEqual(certain, sorted(certain, reverse=True))

  def test_without_saliency(self):
    results = save(self.folder, self.cases, saliency=False)
    (wrong, columns), _ = self.galleries(results)
    self.assertEqual(columns, 6)
    self.assertEqual(max(wrong[0].image.shape), 180)

  def test_an_evaluation_of_one_class_without_names(self):
    self.cases = self.cases.subset(range(1, 12, 2))
    results = save(self.folder, self.cases)
    for name in ('baselines', 'other_thresholds', 'paired_differences'):
      del results[name]
    del results['dataset']['classes'], results['dataset']['background']
    results['main_metric'] = 'sensitivity'
    (self.folder / 'metrics.jsonl').unlink()
    text = self.write(results)
    self.assertIn('validation has one class only', text)
    self.assertIn('is called class 1', text)
    self.assertNotIn('ROC and precision-recall', pages.Checker(text).text)

  def test_predictions_of_other_pictures(self):
    results = save(self.folder, self.cases)
    self.cases.append(picture_cases.case('new', 'g', 1))
    with self.assertRaisesRegex(ValueError, 'found no picture new'):
      self.write(results)


if __name__ == '__main__':
  absltest.main()
