"""Normal or nodular chest X-rays, by VGG16's codes and a small network.

  python main.py --config=experiments/xray_nodule.py
  python main.py --config=experiments/xray_nodule.py:openi --manual_dir=DIR
  python main.py --config=experiments/xray_nodule.py:folder --manual_dir=DIR

As Xvision had it: VGG16's last pooling gives 25,088 codes of a film of 224
pixels, and two layers of 512 units judge them. Studies, not films, are divided,
so frontal and lateral film of a study never part. No pretrained weights come
with medzoo: the phantom variant trains a narrow encoder first, and the others
start from that of runs/xray_nodule. `folder` takes a folder of pictures for
each class, of which there may be any number from two on. Measured scores and
times are in experiments/README.md.
"""

import ml_collections

from experiments import _common
from experiments import _vgg16

_ENCODER = _vgg16.encoder(12, 'plain')
_SHAPE = (224, 224)
_HEAD = dict(
  units=(512, 512), pool='max', norm='batch', dropout=0.5, num_classes=2
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `phantom` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """What real films are trained with; a variant changes its own."""
  config = _common.base('xray_nodule')
  config.main_metric = 'auc'
  config.grouped_by = 'studies'
  config.real_variants = ('openi', 'folder')
  config.dataset.name = 'openi_cxr'
  config.preprocess = dict(shape=_SHAPE, colour=False, equalize=True)
  config.stages = dict(
    order=('encoder', 'codes', 'head'),
    encoder=_vgg16.load(_ENCODER, _SHAPE, 'runs/xray_nodule'),
    codes=_vgg16.codes(),
    head=_vgg16.head(
      _HEAD,
      optimizer=_common.adamw(1e-3, 30),
      steps=600,
      batch_size=32,
      eval_every=50,
      checkpoint_every=300,
      select=dict(metric='auc', mode='max', patience=6),
    ),
  )
  judge = dict(
    name='picture_classifier', encoder='encoder', tap='pool5', head='head'
  )
  config.evaluation = dict(
    protocol='pictures',
    predictor=dict(saliency_steps=0, **judge),
    explainer=dict(saliency_steps=16, **judge),
    resamples=1000,
    baselines=dict(
      majority=dict(name='majority', tuning_cases=100_000, grid={}),
      hog_ridge=_common.hog(),
    ),
  )
  config.expect = dict(params={})
  return config


def _patches() -> dict:
  """Returns what an encoder learns from: patches with and without nodules."""
  return dict(
    feed='labelled',
    view=dict(
      name='film_patches',
      side=64,
      per_nodule=4,
      seed=0,
      shape=_SHAPE,
      equalize=True,
    ),
    preprocess=dict(shape=(64, 64), colour=True, equalize=False),
    positive_share=0.5,
    picture=dict(
      horizontal_flip=True,
      vertical_flip=True,
      quarter_turns=False,
      rotate_deg=20.0,
      shear=0.05,
      zoom=0.15,
      shift=0.05,
    ),
    tint=dict(
      brightness=0.05,
      contrast=0.15,
      saturation=0.0,
      hue_deg=0.0,
      blur=0.4,
      noise=0.02,
    ),
    workers=0,
  )


def _phantom(config: ml_collections.ConfigDict) -> None:
  """Films of phantoms, from patches of which the encoder learns first."""
  config.dataset.name = 'openi_cxr/phantom'
  config.dataset.synthetic = True
  config.stages.pretrain = _vgg16.scratch(
    _ENCODER,
    _HEAD,
    data=_patches(),
    optimizer=_common.adamw(1e-3, 30),
    steps=700,
    batch_size=32,
    eval_every=100,
    checkpoint_every=100,
  )
  config.stages.encoder.init_from = _vgg16.PRETRAINED
  config.stages.order = ('pretrain', *config.stages.order)


def _openi(config: ml_collections.ConfigDict) -> None:
  """Open-i's chest X-rays, as the bulk archive or the scraper lays them out."""
  del config


def _folder(config: ml_collections.ConfigDict) -> None:
  """Any folders of pictures, one a class; two classes or more."""
  config.dataset.name = 'image_folder'
  # As many as there are folders.
  config.stages.head.model.num_classes = None


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  _phantom(config)
  _shrink(config)
  config.dataset.name = 'openi_cxr/phantom_smoke'
  pretrain = config.stages.pretrain
  pretrain.data.view.update(side=32, shape=(64, 64))
  pretrain.data.preprocess.shape = (32, 32)
  pretrain.model.encoder.update(width=2, norm='')
  pretrain.model.head.units = (8, 8)
  pretrain.update(steps=4, batch_size=4, eval_every=2, checkpoint_every=2)


def _smoke_folder(config: ml_collections.ConfigDict) -> None:
  """The same with any folders, and an encoder that has learned nothing."""
  _folder(config)
  _shrink(config)
  config.stages.encoder.init_from = ()


def _shrink(config: ml_collections.ConfigDict) -> None:
  config.preprocess.shape = (64, 64)
  stages = config.stages
  stages.encoder.model.update(width=2, norm='')
  stages.head.model.units = (8, 8)
  stages.head.update(steps=4, batch_size=4, eval_every=2, checkpoint_every=2)
  config.evaluation.resamples = 100


_MAKERS = dict(
  phantom=_phantom,
  openi=_openi,
  folder=_folder,
  smoke=_smoke,
  smoke_folder=_smoke_folder,
)
VARIANTS = tuple(_MAKERS)
