import copy
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from medzoo.report import labels
from medzoo.report import page
from tests.report import pages

_PNG = b'\x89PNG\r\n\x1a\nnot really'


class PageTest(parameterized.TestCase):
  def render(self, results=None, figures=(), notes=()):
    checked = pages.Checker(
      page.render(results or pages.results(), figures, notes)
    )
    self.assertEmpty(checked.stack)
    return checked

  def test_tells_what_a_reader_needs(self):
    text = self.render(notes=['Trained on nine folds.']).text
    for wanted in (
      'nodule3d · luna16',
      'Research use only, not a medical device',
      '0.839',
      '95 % interval 0.780 to 0.890',
      'Laplacian of Gaussian',
      '0.250',
      'higher than Laplacian of Gaussian: the interval lies above 0',
      'Sensitivity at 1/8 FP per scan',
      '57.2',
      'subset9',
      '2,364,000',
      '1 min 15 s',
      '2 h 5 min',
      'Per case 3.20 s',
      '2,301 MB',
      'cpu x1',
      'JAX 0.10.1',
      'Operating threshold 0.413',
      'Duplicate slices 3',
      'gantry_tilt 2',
      'Trained on nine folds.',
    ):
      self.assertIn(wanted, text)
    self.assertNotIn('Synthetic data', text)
    self.assertNotIn('mean nothing', text)

  def test_headline_is_the_main_metric_or_the_first(self):
    results = pages.results()
    self.assertIn('<div class="big">0.839</div>', page.render(results))
    del results['main_metric']
    self.assertIn('<div class="big">0.600</div>', page.render(results))
    results['main_metric'] = 'dice'
    with self.assertRaisesRegex(ValueError, "'dice' is not among"):
      page.render(results)
    with self.assertRaisesRegex(ValueError, 'no metric'):
      page.render({**pages.results(), 'metrics': {}})

  def test_banners(self):
    results = pages.results()
    results['dataset']['synthetic'] = True
    self.assertIn('Synthetic data', self.render(results).text)
    results['variant'] = 'smoke'
    self.assertIn('These numbers mean nothing', self.render(results).text)
    results['finished'] = False
    self.assertIn('not finished', self.render(results).text)

  @parameterized.parameters(
    (-0.2, 0.1, 'the interval holds 0'),
    (-0.2, -0.1, 'lower than Laplacian of Gaussian'),
    (0.1, 0.2, 'higher than Laplacian of Gaussian'),
  )
  def test_verdict(self, low, high, words):
    results = pages.results()
    entry = pages.entry((low + high) / 2, low, high)
    results['paired_differences']['cpm - laplacian_of_gaussian'] = entry
    self.assertIn(words, self.render(results).text)

  def test_undefined_metrics_say_why(self):
    results = pages.results()
    undefined = pages.entry(None, None, None) | {'why': 'no nodule among them'}
    results['metrics']['cpm'] = undefined
    results['paired_differences'] = {'cpm - laplacian_of_gaussian': undefined}
    text = self.render(results).text
    self.assertIn('undefined no nodule among them', text)
    self.assertNotIn('95 % interval no nodule', text)

  def test_parts_that_a_run_lacks_are_left_out(self):
    results = pages.results()
    for name in (
      'baselines', 'paired_differences', 'ablations', 'folds', 'threshold',
      'repairs', 'skipped', 'main_metric',
    ):  # fmt: skip
      del results[name]
    text = self.render({**results, 'stages': []}).text
    self.assertNotIn('Model against baseline', text)
    self.assertNotIn('Left out', text)

  def test_other_kinds_of_metric(self):
    results = pages.results()
    results['metrics']['confusion_matrix'] = {
      'value': [[50, 3], [4, 20]], 'labels': ['normal', 'nodule'],
    }  # fmt: skip
    results['folds'] = [{'fold': 0, 'cpm': pages.entry(0.8, 0.7, 0.9)}]
    text = self.render(results).text
    self.assertIn('Confusion matrix [[50, 3], [4, 20]]', text)
    self.assertIn('0.800 (0.700 to 0.900)', text)

  def test_everything_is_escaped(self):
    evil = '<script>alert("x")</script>'
    results = copy.deepcopy(pages.results())
    results['experiment'] = results['device'] = evil
    results['dataset'][evil] = results['versions'][evil] = evil
    results['metrics'][evil] = pages.entry(0.1, 0.0, 0.2)
    results['baselines'] = {evil: {'cpm': pages.entry(0.1, 0.0, 0.2)}}
    results['paired_differences'] = {f'cpm - {evil}': pages.entry(1, 0, 2)}
    results['skipped'] = [{'series': evil, 'reason': evil}]
    text = page.render(results, [page.Figure(evil, _PNG, evil)], [evil])
    self.assertNotIn('<script', text)
    self.assertIn('&lt;script&gt;', text)

  def test_needs_nothing_beside_it(self):
    figures = [page.Figure('FROC', _PNG, 'A curve.'), page.Figure('B', _PNG)]
    checked = self.render(figures=figures)
    self.assertLen(checked.links, 2)
    for link in checked.links:
      self.assertStartsWith(link, 'data:image/png;base64,')
    text = page.render(pages.results(), figures)
    self.assertNotRegex(text, r'https?://|url\(|@import|<script|<link')

  def test_figures_of_nothing_are_left_out(self):
    figures = [page.Figure('Empty', None), page.Figure('FROC', _PNG)]
    self.assertEqual(
      page.render(pages.results(), figures),
      page.render(pages.results(), figures[1:]),
    )

  def test_own_names_go_first(self):
    own = {'cpm': labels.Label('Mean sensitivity', 'Of this experiment.')}
    text = page.render(pages.results(), names=own)
    self.assertIn('Mean sensitivity', text)
    self.assertIn('Of this experiment.', text)
    self.assertNotIn('CPM', text)
    self.assertIn('Candidates per scan', text)

  def test_write(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'report.html'
    page.write(path, pages.results(), [page.Figure('A · B', _PNG)], ['µ'])
    self.assertEqual(
      path.read_text(encoding='utf-8'),
      page.render(pages.results(), [page.Figure('A · B', _PNG)], ['µ']),
    )


class LabelsTest(parameterized.TestCase):
  @parameterized.parameters(
    (None, '–'), (True, 'yes'), (0, '0'), (1500, '1,500'), (0.0, '0.000'),
    (0.8391, '0.839'), (57.25, '57.2'), (1234.5, '1,234'), (2e-5, '2e-05'),
    (-0.25, '-0.250'), ('text', 'text'),
  )  # fmt: skip
  def test_number(self, value, expected):
    self.assertEqual(labels.number(value), expected)

  @parameterized.parameters(
    (3.214, '3.21 s'), (59.4, '59 s'), (59.6, '1 min 0 s'),
    (3599.6, '1 h 0 min'), (7500, '2 h 5 min'),
  )  # fmt: skip
  def test_duration(self, seconds, expected):
    self.assertEqual(labels.duration(seconds), expected)

  def test_unknown_metrics_are_shown_by_name(self):
    self.assertEqual(labels.of('both_lungs_found').name, 'Both lungs found')


if __name__ == '__main__':
  absltest.main()
