"""Polyp or mucosa in colonoscopy, and where, by VGG16.

  python main.py --config=experiments/polyp_vgg16.py
  python main.py --config=experiments/polyp_vgg16.py:transfer
  python main.py --config=experiments/polyp_vgg16.py:finetune_cvc_clinicdb \
    --manual_dir=DIR

As CNN4CRCPolyps had it: a head is trained on what VGG16's last pooling makes
of crops (`transfer`), and from there the last two blocks are trained further
with the head (`finetune`). A narrower one judges windows that slide over whole
frames (`searcher`). No pretrained weights come with medzoo, so
`finetune` and `transfer` first train a narrow encoder on phantoms, and the
variants of CVC-ClinicDB start from that of runs/polyp_vgg16. Measured scores
and times are in experiments/README.md.
"""

import ml_collections

from experiments import _common
from experiments import _polyps
from experiments import _vgg16

_ENCODER = _vgg16.encoder(12, 'standard')
_SHAPE = (64, 64)
_HEAD = dict(units=(256,), norm='', dropout=0.5, num_classes=1)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `finetune` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """What real frames are trained with; a variant changes its own."""
  config = _polyps.base('polyp_vgg16')
  config.real_variants = ('finetune_cvc_clinicdb', 'transfer_cvc_clinicdb')
  best = dict(metric='auc', mode='max', patience=10)
  config.stages = dict(
    order=('encoder', 'codes', 'head', 'finetune', 'searcher'),
    encoder=_vgg16.load(_ENCODER, _SHAPE, 'runs/polyp_vgg16'),
    codes=_vgg16.codes(),
    head=_vgg16.head(
      _HEAD,
      optimizer=_common.adamw(1e-3, 50),
      steps=1000,
      batch_size=32,
      eval_every=50,
      checkpoint_every=500,
      select=best,
    ),
    finetune=_vgg16.finetune(
      _ENCODER,
      _HEAD,
      ('block4', 'block5'),
      data=_polyps.crops(),
      optimizer=dict(
        name='sgd',
        learning_rate=5e-3,
        momentum=0.9,
        weight_decay=1e-4,
        clip_norm=5.0,
        schedule=dict(name='constant', warmup_steps=20),
      ),
      steps=300,
      batch_size=32,
      eval_every=50,
      checkpoint_every=100,
      select=best,
    ),
    # It looks at some 300 windows a frame, so it is narrower still.
    searcher=_scratch(_vgg16.encoder(6, 'standard'), _polyps.windows()),
  )
  config.evaluation.predictor.stage = 'finetune'
  config.evaluation.explainer.stage = 'finetune'
  return config


def _scratch(network: dict, data: dict) -> dict:
  """A stage that trains an encoder from scratch, with a head."""
  return _vgg16.scratch(
    network,
    dict(units=(64,), norm='batch', dropout=0.5, num_classes=1),
    data=data,
    optimizer=_common.adamw(1e-3, 50),
    steps=800,
    batch_size=32,
    eval_every=100,
    checkpoint_every=100,
  )


def _transfer(config: ml_collections.ConfigDict) -> None:
  """Phantoms, judged by the head on codes that stay as they are."""
  _finetune(config)
  _stay(config)


def _stay(config: ml_collections.ConfigDict) -> None:
  """Leaves the fine-tuning out."""
  order = config.stages.order
  config.stages.order = tuple(name for name in order if name != 'finetune')
  for predictor in (config.evaluation.predictor, config.evaluation.explainer):
    del predictor.stage
    predictor.update(encoder='encoder', tap='pool5', head='head')


def _finetune(config: ml_collections.ConfigDict) -> None:
  """Phantoms, of which the encoder learns first."""
  _polyps.phantom(config)
  stages = config.stages
  stages.pretrain = _scratch(_ENCODER, _polyps.crops())
  stages.encoder.init_from = _vgg16.PRETRAINED
  stages.order = ('pretrain', *stages.order)


def _transfer_cvc_clinicdb(config: ml_collections.ConfigDict) -> None:
  """CVC-ClinicDB in five folds of sequences, on codes that stay as they are."""
  _finetune_cvc_clinicdb(config)
  _stay(config)


def _finetune_cvc_clinicdb(config: ml_collections.ConfigDict) -> None:
  """CVC-ClinicDB in five folds of sequences."""
  _polyps.folds(config)
  config.stages.searcher.init_from = (
    dict(workdir='runs/polyp_vgg16', stage='searcher', modules=()),
  )


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  _finetune(config)
  stages = config.stages
  _polyps.smoke(config)
  networks = [
    stages[name].model for name in ('pretrain', 'finetune', 'searcher')
  ]
  for model in (stages.encoder.model, *(x.encoder for x in networks)):
    model.update(width=2, norm='')
  for model in (stages.head.model, *(x.head for x in networks)):
    model.units = (8,)


_MAKERS = dict(
  finetune=_finetune,
  transfer=_transfer,
  finetune_cvc_clinicdb=_finetune_cvc_clinicdb,
  transfer_cvc_clinicdb=_transfer_cvc_clinicdb,
  smoke=_smoke,
)
VARIANTS = tuple(_MAKERS)
