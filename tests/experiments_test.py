"""Tests of every experiment's every variant, found by looking."""

import importlib
import pathlib

import flax.traverse_util
import jax
import jax.numpy as jnp
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.train import build
from medzoo.train import classes
from medzoo.train import evaluate
from medzoo.train import optim
from medzoo.train import stages

_ROOT = pathlib.Path(__file__).parents[1]
_VARIANTS = [
  (path.stem, variant)
  for path in sorted((_ROOT / 'experiments').glob('*.py'))
  if '\nVARIANTS = ' in path.read_text()
  for variant in importlib.import_module(f'experiments.{path.stem}').VARIANTS
]


def _config(name: str, variant: str) -> dict:
  module = importlib.import_module(f'experiments.{name}')
  return module.get_config(variant).to_dict()


def _fits(config: dict) -> dict[str, dict]:
  stages = config['stages']
  return {n: stages[n] for n in stages['order'] if stages[n]['kind'] == 'fit'}


def _shapes(config: dict, stage: str) -> dict:
  """Returns the variables of a stage's model, without computing any."""
  spec, preprocess = config['stages'][stage], config['preprocess']
  model = build.build('models', spec['model'])
  shape = {
    'nodule3d': (1, *spec['data'].get('shape', ()), 1),
    'lidc_lstm': (1, *preprocess.get('shape', ()), 3),
    'lung_maskrcnn': (1, *preprocess.get('shape', ()), 1),
  }[config['experiment']]
  return jax.eval_shape(
    lambda key: model.lazy_init(
      key, jax.ShapeDtypeStruct(shape, jnp.float32), train=False
    ),
    jax.random.key(0),
  )


class ExperimentsTest(parameterized.TestCase):
  @parameterized.parameters(*_VARIANTS)
  def test_everything_named_can_be_built(self, name, variant):
    config = classes.fill(_config(name, variant), ['no', 'yes'])
    models = stages.models(config)
    for stage, spec in _fits(config).items():
      build.build('tasks', spec['task'], models[stage])
    specs = [
      spec['predictor']
      for spec in config['stages'].values()
      if isinstance(spec, dict) and spec['kind'] == 'map'
    ]
    specs += [config[x]['predictor'] for x in evaluate.sections(config)]
    for spec in specs:
      build.build('predictors', spec, models, config['preprocess'])

  @parameterized.parameters(*(v for n, v in _VARIANTS if n == 'nodule3d'))
  def test_the_regression_counts_in_the_size_of_the_patch(self, variant):
    config = _config('nodule3d', variant)
    for spec in _fits(config).values():
      size = [
        n * step
        for n, step in zip(
          spec['data']['shape'], config['preprocess']['spacing'], strict=True
        )
      ]
      self.assertEqual(list(spec['task']['extent']), size)
    predictor = config['evaluation']['predictor']
    self.assertEqual(
      predictor['shape'], config['stages']['reduction']['data']['shape']
    )

  @parameterized.parameters(('nodule3d', 'luna16'), ('lidc_lstm', 'lidc'))
  def test_published_parameter_counts(self, name, variant):
    config = _config(name, variant)
    for stage, count in config['expect']['params'].items():
      found = sum(x.size for x in jax.tree.leaves(_shapes(config, stage)))
      self.assertEqual(found, count, stage)

  def test_the_stages_of_lung_maskrcnn_train_more_and_more(self):
    config, before = _config('lung_maskrcnn', 'cxr'), set()
    for stage in ('heads', 'deep', 'all'):
      params = _shapes(config, stage)['params']
      trainable = config['stages'][stage]['trainable']
      optim.check_trainable(params, trainable)
      chosen, frozen = optim.partition(params, trainable)
      paths = flax.traverse_util.flatten_dict(chosen).keys()
      self.assertGreater(paths, before)
      before = paths
    self.assertEmpty(frozen)

  def test_an_unknown_variant_names_the_known_ones(self):
    with self.assertRaisesRegex(ValueError, "'nix'.*luna16"):
      _config('nodule3d', 'nix')


if __name__ == '__main__':
  absltest.main()
