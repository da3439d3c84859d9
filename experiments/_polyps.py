"""What the experiments on colonoscopy have in common.

A network judges crops of frames, polyps and as much mucosa of the same sizes;
another, of the stage `searcher`, judges windows that slide over whole frames.
"""

import ml_collections

from experiments import _common


def base(experiment: str) -> ml_collections.ConfigDict:
  """Returns a config of real frames, without its stages and its classifier."""
  config = _common.base(experiment)
  config.main_metric = 'auc'
  config.grouped_by = 'sequences'
  config.dataset.name = 'cvc_clinicdb'
  config.view = dict(name='crops', margin=0.1, seed=0)
  config.preprocess = dict(shape=(64, 64), colour=True, equalize=False)
  config.evaluation = dict(
    protocol='pictures',
    predictor=dict(name='picture_classifier', saliency_steps=0),
    explainer=dict(name='picture_classifier', saliency_steps=16),
    resamples=1000,
    baselines=dict(
      majority=_tuned('majority', {}),
      crop_size=_tuned('crop_geometry', dict(position=(False,))),
      crop_place=_tuned('crop_geometry', dict(position=(True,))),
      hog_ridge=_common.hog(),
    ),
  )
  config.detection = dict(
    protocol='windows',
    predictor=dict(
      name='windows', stage='searcher', min_score=0.05, max_detections=10
    ),
    resamples=1000,
    baselines=dict(
      centre_box=_tuned('centre_box', dict(scale=(1.0, 1.25, 1.5, 2.0)))
    ),
  )
  config.expect = dict(params={})
  return config


def _tuned(name: str, grid: dict) -> dict:
  return dict(name=name, tuning_cases=100_000, grid=grid)


def crops() -> dict:
  """Returns what a stage trains on, augmented as published and more."""
  return dict(
    feed='labelled',
    positive_share=0.5,
    picture=dict(
      horizontal_flip=True,
      vertical_flip=True,
      quarter_turns=True,
      rotate_deg=15.0,
      shear=0.2,
      zoom=0.2,
      shift=0.05,
    ),
    tint=dict(
      brightness=0.1,
      contrast=0.2,
      saturation=0.2,
      hue_deg=10.0,
      blur=0.5,
      noise=0.02,
    ),
    workers=0,
  )


def windows() -> dict:
  """Returns the same of windows as the search meets them, not of crops."""
  view = dict(name='windows', margin=0.1, per_polyp=3, seed=0)
  return dict(crops(), view=view)


def phantom(config: ml_collections.ConfigDict) -> None:
  """Takes frames of phantoms."""
  config.dataset.name = 'cvc_clinicdb/phantom'
  config.dataset.synthetic = True


def folds(config: ml_collections.ConfigDict) -> None:
  """Takes turns over five folds of sequences."""
  config.folds.update(
    by='group', parts='train+validation+test', count=5, reuse=False
  )


def smoke(config: ml_collections.ConfigDict) -> None:
  """Makes all but the networks small."""
  config.dataset.name = 'cvc_clinicdb/phantom_smoke'
  config.dataset.synthetic = True
  config.preprocess.shape = (32, 32)
  for name in config.stages.order:
    stage = config.stages[name]
    if stage.kind == 'fit':
      stage.update(steps=4, batch_size=4, eval_every=2, checkpoint_every=2)
  config.evaluation.resamples = 100
  config.detection.resamples = 100
