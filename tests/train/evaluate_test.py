"""Tests of scoring finished runs, with predictors that say what they are told.

Numbers are those of `slice_cases`.
"""

import dataclasses
import json
import pathlib
from unittest import mock

from absl.testing import absltest

from medzoo.predictors import laplacian_of_gaussian
from medzoo.predictors import nothing
from medzoo.train import build
from medzoo.train import evaluate
from medzoo.train import stages
from tests.train import slice_cases


class _Told:
  """Finds what `slice_cases` says, first outputs only in scan a."""

  stages = ()

  def __call__(self, variables, volume):
    del variables
    found = slice_cases.predictions()[volume.series_uid]
    if volume.series_uid == 'a':
      first = found
    else:
      first = {
        'boxes': slice_cases.found(),
        'detections': slice_cases.lesions(),
      }
    return found | {f'first_{name}': x for name, x in first.items()}


def _build(kind, spec, *args):
  if kind == 'predictors' and spec['name'] == 'nothing':
    return nothing.Predictor(*args)
  return _Told()


def _config(protocol, baselines):
  return {
    'seed': 0,
    'main_metric': 'ap50',
    'preprocess': {},
    'view': {'name': ''},
    'stages': {'order': ()},
    'evaluation': {
      'protocol': protocol,
      'predictor': {'name': 'told'},
      'max_fps_per_scan': 1.0,
      'resamples': 50,
      'baselines': baselines,
    },
  }


class EvaluateTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.enter_context(mock.patch.object(build, 'build', _build))

  def run_of(self, config, *, name='', test='abc'):
    scans = slice_cases.scans()
    chosen = ['abc'.index(key) for key in test]
    return stages.Run(
      config=config,
      folder=self.folder / name,
      name=name,
      cases={
        'train': scans,
        'validation': scans,
        'test': scans.subset(chosen),
        'all': scans,
      },
      inputs='',
      writer=mock.Mock(),
    )

  def test_boxes_on_slices(self):
    config = _config('slice_boxes', {'nothing': {'name': 'nothing'}})
    results = evaluate.evaluate([self.run_of(config)], self.folder)
    self.assertEqual(results['threshold'], 0.5)
    self.assertEqual(results['metrics']['recall']['value'], 3 / 4)
    self.assertEqual(results['baselines']['nothing']['recall']['value'], 0)
    # Half of the boxes are found first, at .8 or more.
    first = results['ablations']['first_outputs']
    self.assertAlmostEqual(first['ap50']['value'], 51 / 101)
    self.assertEqual(first['recall']['value'], 1 / 2)
    self.assertEqual(first['precision']['value'], 1)
    self.assertEqual(
      results['other_thresholds'], {'nothing': 0, 'first_outputs': 0.8}
    )
    differences = results['paired_differences']
    self.assertEqual(
      list(differences),
      [
        f'{metric} - {name}'
        for name in ('nothing', 'first_outputs')
        for metric in ('ap50', 'froc_mean')
      ],
    )
    self.assertAlmostEqual(
      differences['ap50 - first_outputs']['value'],
      results['metrics']['ap50']['value'] - 51 / 101,
    )
    for name in ('', 'nothing', 'first_outputs'):
      path = self.folder / 'predictions' / name / 'coco.json'
      self.assertTrue(path.exists(), name)
    json.dumps(results, allow_nan=False)

  def test_two_sections_score_other_things_of_the_same_cases(self):
    config = _config('slice_boxes', {'nothing': {'name': 'nothing'}})
    spec = config['evaluation']
    config['detection'] = {**spec, 'protocol': 'nodules', 'baselines': {}}
    results = evaluate.evaluate([self.run_of(config)], self.folder)
    alone = [
      evaluate.evaluate(
        [self.run_of({**config, 'evaluation': spec, 'detection': spec})],
        self.folder / spec['protocol'],
      )
      for spec in (config['evaluation'], config['detection'])
    ]
    self.assertEqual(
      results['metrics'], alone[0]['metrics'] | alone[1]['metrics']
    )
    self.assertEqual(results['baselines'], alone[0]['baselines'])
    self.assertEqual(results['threshold'], 0.5)
    self.assertIn('detection_threshold', results)
    for place in ('test', 'detection/test'):
      self.assertLen(list((self.folder / place / 'outputs').glob('*.npz')), 3)
    scored = evaluate.evaluate_all(
      self.run_of(config),
      self.folder / 'again',
      {'threshold': 0.8, 'detection_threshold': 0.5},
    )
    self.assertEqual(scored['metrics'].keys(), results['metrics'].keys())
    self.assertEqual(scored['detection_threshold'], 0.5)

  def test_nodules_have_no_ablations(self):
    config = _config('nodules', {'nothing': {'name': 'nothing'}})
    results = evaluate.evaluate([self.run_of(config)], self.folder)
    self.assertEqual(results['ablations'], {})
    self.assertEqual(results['other_thresholds'], {})
    self.assertAlmostEqual(results['metrics']['cpm']['value'], 4 / 7)
    self.assertNotIn('recall', results['baselines']['nothing'])
    self.assertEqual(list(results['paired_differences']), ['cpm - nothing'])

  def test_folds_are_pooled(self):
    config = _config('slice_boxes', {})
    whole = evaluate.evaluate([self.run_of(config)], self.folder)
    folds = [
      self.run_of(config, name=f'fold_{k}', test=test)
      for k, test in enumerate(('a', 'bc'))
    ]
    pooled = evaluate.evaluate(folds, self.folder / 'pooled')
    for part in ('metrics', 'ablations', 'paired_differences'):
      self.assertEqual(pooled[part], whole[part])

  def test_a_baseline_with_a_grid_is_tuned_once_on_training_cases(self):
    calls = []

    def tune(cases, objective, grid):
      found = [slice_cases.predictions()[key]['boxes'] for key in cases.keys]
      calls.append((cases.keys, objective(cases, found), grid))
      return _Settings(0.5)

    config = _config(
      'slice_boxes',
      {
        'blobs': {
          'name': 'laplacian_of_gaussian',
          'tuning_cases': 2,
          'grid': {'x': (0.5, 1.0)},
        }
      },
    )
    with mock.patch.object(laplacian_of_gaussian, 'tune', tune):
      for _ in range(2):
        results = evaluate.evaluate([self.run_of(config)], self.folder)
    ((keys, value, grid),) = calls
    self.assertEqual(keys, ['a', 'b'])
    self.assertAlmostEqual(value, results['metrics']['ap50']['value'])
    self.assertEqual(grid, {'x': (0.5, 1.0)})
    tuned = json.loads((self.folder / 'blobs' / 'tuned.json').read_text())
    self.assertEqual(tuned, {'x': 0.5})

  def test_at_a_threshold_chosen_before(self):
    config = _config('slice_boxes', {})
    results = evaluate.evaluate_all(
      self.run_of(config), self.folder, {'threshold': 0.8}
    )
    self.assertEqual(results['threshold'], 0.8)
    self.assertEqual(results['metrics']['recall']['value'], 1 / 2)

  def test_an_unknown_protocol_names_the_known_ones(self):
    with self.assertRaisesRegex(build.ConfigError, "'luna'.*nodules.*slice"):
      evaluate.protocol(_config('luna', {}))


@dataclasses.dataclass(frozen=True)
class _Settings:
  x: float


if __name__ == '__main__':
  absltest.main()
