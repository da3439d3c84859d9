"""Polyp or mucosa in colonoscopy, and where, by small networks.

  python main.py --config=experiments/polyp_cnn.py
  python main.py --config=experiments/polyp_cnn.py:cvc_clinicdb --manual_dir=DIR
  python main.py --config=experiments/polyp_cnn.py:tiles --manual_dir=DIR

The networks of CNN4CRCPolyps: up to three convolutions, each with a rectifier
and a pool, and a dense layer. `classifier` judges crops: every polyp's, and for
each one of mucosa of the same size. `searcher` judges windows that slide over
whole frames, of which few fit anything.
`phantom` makes its own frames; `cvc_clinicdb` reads CVC-ClinicDB, starts from
runs/polyp_cnn and takes turns over five folds of sequences; `tiles` judges
candidates of LUNA16 in 2D.
Measured scores and times are in experiments/README.md.
"""

from typing import Any

import ml_collections

from experiments import _common
from experiments import _polyps


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `phantom` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """What real frames are trained with; a variant changes its own."""
  config = _polyps.base('polyp_cnn')
  config.real_variants = ('cvc_clinicdb', 'tiles', 'tiles_folds')
  config.stages = dict(
    order=('classifier', 'searcher'),
    classifier=_fit((32, 64, 128), _polyps.crops(), steps=1400),
    # It looks at some 300 windows a frame, so it is a quarter as large.
    searcher=_fit((16, 32, 64), _polyps.windows(), steps=1200),
  )
  config.evaluation.predictor.stage = 'classifier'
  config.evaluation.explainer.stage = 'classifier'
  return config


def _fit(filters: tuple[int, ...], data: dict, **stage: Any) -> dict:
  """A stage that trains a network from scratch."""
  return dict(
    kind='fit',
    task=dict(name='classification'),
    model=dict(
      name='small_cnn',
      filters=filters,
      kernel=3,
      units=(64,),
      dropout=0.5,
      norm='batch',
      standardize=True,
      num_classes=1,
    ),
    data=data,
    optimizer=_common.adamw(2e-3, 50),
    batch_size=32,
    eval_every=100,
    checkpoint_every=500,
    init_from=(),
    trainable=(),
    select=dict(metric='auc', mode='max', patience=None),
    **stage,
  )


def _phantom(config: ml_collections.ConfigDict) -> None:
  """Frames of phantoms."""
  _polyps.phantom(config)


def _cvc_clinicdb(config: ml_collections.ConfigDict) -> None:
  """CVC-ClinicDB, in five folds of sequences, from what phantoms taught."""
  _polyps.folds(config)
  for name in config.stages.order:
    stage = config.stages[name]
    stage.init_from = (dict(workdir='runs/polyp_cnn', stage=name, modules=()),)
    stage.optimizer.learning_rate = 1e-3


def _tiles(config: ml_collections.ConfigDict) -> None:
  """Tiles round candidates of LUNA16, in the split that they came with.

  It is by candidate, and neighbours of one lesion may stand on both sides.
  """
  config.grouped_by = 'blocks of candidates'
  config.dataset.name = 'luna16_tiles'
  config.view.name = ''
  config.preprocess.shape = (50, 50)
  config.evaluation.baselines = dict(
    majority=config.evaluation.baselines.majority,
    centre_brightness=dict(
      name='centre_brightness',
      tuning_cases=100_000,
      grid=dict(share=(0.1, 0.2, 0.4), sign=(1.0, -1.0)),
    ),
    hog_ridge=_common.hog(),
  )
  classifier = config.stages.classifier
  classifier.model.update(filters=(16, 32, 64), standardize=False)
  classifier.optimizer.learning_rate = 1e-3
  classifier.steps = 1500
  config.stages.order = ('classifier',)
  del config.stages.searcher
  del config.detection


def _tiles_folds(config: ml_collections.ConfigDict) -> None:
  """The same in five folds of blocks of neighbouring candidates."""
  _tiles(config)
  _polyps.folds(config)


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  _polyps.smoke(config)
  for stage in (config.stages.classifier, config.stages.searcher):
    stage.model.update(filters=(4, 8), units=(8,))


_MAKERS = dict(
  phantom=_phantom,
  cvc_clinicdb=_cvc_clinicdb,
  tiles=_tiles,
  tiles_folds=_tiles_folds,
  smoke=_smoke,
)
VARIANTS = tuple(_MAKERS)
