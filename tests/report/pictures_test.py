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
from medzoo.metrics import multiclass
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


def save(folder, cases, saliency=True, classes=('polyp',)):
  """Writes what a run leaves beside its report; returns the results."""
  truth = protocol.read_truth(cases)
  several = len(classes) > 1
  said = picture_cases.told if several else picture_cases.said
  constant = types.PictureScore(np.log([0.5, 0.3, 0.2]) if several else 0.2)
  systems = {
    '': said(cases, saliency=saliency),
    'hog_ridge': said(cases, seed=1, apart=1.5),
    'majority': {key: {'picture': constant} for key in truth.keys},
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
  results['dataset'] |= {'classes': [*classes], 'background': 'mucosa'}
  if several:
    names = ['mucosa', *classes]
    for system in (results['metrics'], *metrics.values()):
      named = multiclass.name_classes(system, names)
      system.clear()
      system |= named
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
      'Brier score', 'Calibration error', 'Confusion matrix', 'HOG and colour',
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

  def test_the_page_of_several_classes(self):
    self.cases = picture_cases.shapes(30)
    results = save(self.folder, self.cases, classes=('polyp', 'bubble'))
    text = self.write(results)
    page = pages.Checker(text)
    self.assertEmpty(page.stack)
    for words in (
      'Sensitivity, bubble', 'AUC, mucosa', 'Mean over the classes',
      'Rows: mucosa, polyp, bubble', 'ROC and precision-recall of each class',
      'the share that is the class as called', 'Up to 4 of each class',
      'what spoke for the class that it was called', 'temperature',
      'there is no threshold', 'HOG and colour',
    ):  # fmt: skip
      self.assertIn(words, page.text)
    self.assertNotIn('class 1', page.text)
    self.assertLen(re.findall(r'data:image/png;base64', text), 6)
    (wrong, _), (right, _) = self.galleries(results)
    self.assertLen(right, 12)
    for i, panel in enumerate((*wrong, *right)):
      there, called, name, share = re.fullmatch(
        r'picture \d+ of 30: (\w+), called (\w+)\n'
        r'probability of (\w+) ([\d.]+)',
        panel.title,
      ).groups()
      self.assertEqual(name, called)
      self.assertGreater(float(share), 1 / 3)
      self.assertEqual(there == called, i >= len(wrong))

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
      class_curves=absltest.mock.DEFAULT,
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
