"""Left and right lungs in chest X-rays by Mask R-CNN.

  python main.py --config=experiments/lung_maskrcnn.py
  python main.py --config=experiments/lung_maskrcnn.py:cxr --manual_dir=DIR
  python main.py --config=experiments/lung_maskrcnn.py:pseudo --manual_dir=DIR

He et al. 2017 (arXiv 1703.06870) with a feature pyramid, as assignment-
Segmented_Lung used it, beside a U-Net that learns the same. The phantom variant
makes its own films, trains a narrow ResNet-18 from scratch and needs no more
than 15 minutes on 2 CPU cores. `cxr` reads anyone's films with masks and takes
turns over five folds of patients: first the heads, then the deeper half of the
encoder with them, then all. It too has the narrow network, since no pretrained
weights come with medzoo, and starts from the phantoms' in runs/lung_maskrcnn.
`pseudo` trains on films without masks too, once U-Nets have outlined them.
Measured scores and times are in experiments/README.md.
"""

import ml_collections

from experiments import _common

# The modules that stages train, each more than the one before.
_HEADS = ('fpn', 'rpn', 'box_head', 'mask_head')
_DEEP = (*_HEADS, 'encoder/c4', 'encoder/c5')
_ALL = (*_HEADS, 'encoder')


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `phantom` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """What films of patients are trained with; a variant changes its own."""
  config = _common.base('lung_maskrcnn')
  config.main_metric = 'dice_left'
  config.real_variants = ('cxr', 'pseudo')
  config.dataset.name = 'lung_cxr'
  config.preprocess = dict(shape=(256, 256), equalize=True)
  config.stages = dict(
    order=('unet', 'heads', 'deep', 'all'),
    unet=_unet(),
    heads=_rcnn(_HEADS, dict(workdir='runs/lung_maskrcnn', stage='all')),
    deep=_rcnn(_DEEP, dict(stage='heads')),
    all=_rcnn(_ALL, dict(stage='deep')),
  )
  # Adam comes further in few steps.
  config.stages.all.optimizer = _adamw(1e-3)
  config.evaluation = dict(
    protocol='lung_masks',
    predictor=dict(
      name='rcnn_lungs',
      stage='all',
      proposals=100,
      min_score=0.05,
      max_detections=8,
      mirror=False,
    ),
    resamples=1000,
    baselines=dict(
      mean_mask=dict(
        name='mean_mask',
        tuning_cases=100_000,
        grid=dict(threshold=(0.3, 0.4, 0.5, 0.6)),
      ),
      unet=dict(name='unet_lungs', stage='unet', mirror=False),
    ),
  )
  config.expect = dict(params={})
  return config


def _unet() -> dict:
  return dict(
    kind='fit',
    task=dict(name='segmentation'),
    model=dict(name='unet', widths=(16, 32, 64, 96), num_classes=2, shrink=2),
    data=_films(),
    optimizer=_adamw(2e-3),
    steps=400,
    batch_size=8,
    eval_every=100,
    checkpoint_every=100,
    init_from=(),
    trainable=(),
    select=dict(metric='dice', mode='max', patience=None),
  )


def _rcnn(trainable: tuple[str, ...], start: dict) -> dict:
  """A stage of Mask R-CNN that trains some modules from where one ended."""
  return dict(
    kind='fit',
    task=dict(
      name='instance_segmentation',
      train_proposals=200,
      test_proposals=100,
      sampled_anchors=64,
      sampled_regions=32,
      min_score=0.05,
      max_detections=8,
    ),
    model=dict(
      name='mask_rcnn',
      encoder=dict(name='resnet', depth=18, width=16, norm='group', groups=8),
      fpn_channels=48,
      rpn_channels=48,
      box_units=128,
      mask_channels=(48, 48),
      num_classes=3,
      norm='group',
      groups=8,
      aligned=True,
    ),
    data=_films(),
    optimizer=dict(
      name='sgd',
      learning_rate=0.02,
      momentum=0.9,
      weight_decay=1e-4,
      clip_norm=5.0,
      schedule=dict(name='cosine', warmup_steps=50),
    ),
    steps=400,
    batch_size=8,
    eval_every=200,
    checkpoint_every=200,
    init_from=(dict(modules=(), **start),),
    trainable=trainable,
    select=dict(metric='dice', mode='max', patience=None),
  )


def _adamw(learning_rate: float) -> dict:
  return dict(
    name='adamw',
    learning_rate=learning_rate,
    weight_decay=1e-4,
    clip_norm=1.0,
    schedule=dict(name='cosine', warmup_steps=30),
  )


def _films() -> dict:
  return dict(
    feed='pictures',
    positive_share=1.0,
    film=dict(
      rotate_deg=10.0, shear=0.05, scale=0.15, shift=0.08, crop=0.1, flip=False
    ),
    exposure=dict(gamma=0.3, contrast=0.2, brightness=0.1, noise=0.03),
    cover=dict(most=3, side=0.2),
    workers=0,
  )


def _phantom(config: ml_collections.ConfigDict) -> None:
  """Films of phantoms, all modules trained from scratch at once.

  Heads alone would learn from an encoder that is random.
  """
  config.dataset.name = 'lung_cxr/phantom'
  config.dataset.synthetic = True
  config.stages.order = ('unet', 'all')
  config.stages.all.update(
    init_from=(), trainable=(), steps=900, eval_every=150, checkpoint_every=150
  )


def _cxr(config: ml_collections.ConfigDict) -> None:
  """Anyone's films with masks, in five folds of patients.

  Each fold trains on four parts of five for a fixed number of steps.
  """
  _few(config)
  config.folds.update(
    by='group', parts='train+validation+test', count=5, reuse=True
  )
  for name in config.stages.order:
    config.stages[name].select = None


def _pseudo(config: ml_collections.ConfigDict) -> None:
  """The same where some films have no masks: U-Nets that agree outline them.

  Their patients are in none but the training split.
  """
  _few(config)
  config.dataset.options.unlabelled = True
  stages = config.stages
  members = ['unet']
  for name, widths in (
    ('unet_shallow', (16, 32, 64)),
    ('unet_narrow', (8, 16, 32, 64)),
  ):
    stages[name] = stages.unet.copy_and_resolve_references()
    stages[name].model.widths = widths
    stages[name].init_from = ()
    members.append(name)
  stages.pseudo = dict(
    kind='pseudo',
    predictor=dict(name='unet_votes', members=tuple(members)),
    data=dict(split='train'),
    min_confidence=0.9,
  )
  for name in ('heads', 'deep', 'all'):
    stages[name].data.pseudo = 'pseudo'
  stages.order = (*members, 'pseudo', 'heads', 'deep', 'all')


def _few(config: ml_collections.ConfigDict) -> None:
  """Trains on a few dozen films, which being mirrored doubles.

  Networks that have seen mirrored films look at both views of one.
  """
  config.evaluation.predictor.mirror = True
  config.evaluation.baselines.unet.mirror = True
  stages = config.stages
  for name in stages.order:
    stages[name].data.film.flip = True
    stages[name].update(eval_every=100, checkpoint_every=100)
  stages.unet.init_from = (
    dict(workdir='runs/lung_maskrcnn', stage='unet', modules=()),
  )
  stages.unet.steps = 300
  stages.heads.steps = 100
  stages.deep.steps = 100
  stages.all.steps = 700


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  config.dataset.name = 'lung_cxr/phantom_smoke'
  config.dataset.synthetic = True
  _tiny(config)


def _smoke_cxr(config: ml_collections.ConfigDict) -> None:
  """The same in two folds of patients."""
  _cxr(config)
  _smoke(config)
  config.folds.count = 2


def _smoke_pseudo(config: ml_collections.ConfigDict) -> None:
  """The same on films of which some have no masks, in --manual_dir."""
  _pseudo(config)
  _tiny(config)
  stages = config.stages
  stages.unet_shallow = stages.unet.copy_and_resolve_references()
  stages.pseudo.update(
    predictor=dict(name='unet_votes', members=('unet', 'unet_shallow')),
    min_confidence=0.0,
  )
  stages.order = ('unet', 'unet_shallow', 'pseudo', 'all')


def _tiny(config: ml_collections.ConfigDict) -> None:
  """Next to no network and next to no training."""
  config.preprocess.shape = (64, 64)
  stages = config.stages
  # To compile a stage takes longer than all the rest.
  stages.order = ('unet', 'all')
  stages.unet.init_from = ()
  stages.all.init_from = ()
  stages.all.trainable = ()
  stages.unet.model.update(widths=(4, 8), groups=4)
  for name in ('heads', 'deep', 'all'):
    model = stages[name].model
    # Group normalisation is slow to compile.
    model.encoder.update(width=4, norm='frozen')
    model.update(
      fpn_channels=8,
      rpn_channels=8,
      box_units=8,
      mask_channels=(8,),
      norm='',
    )
    stages[name].task.update(
      train_proposals=20, test_proposals=20, sampled_regions=8
    )
  for name in stages.order:
    stages[name].steps = 4
    stages[name].batch_size = 4
    stages[name].eval_every = 2
    stages[name].checkpoint_every = 2
  config.evaluation.resamples = 100
  config.evaluation.baselines.mean_mask.tuning_cases = 4


_MAKERS = dict(
  phantom=_phantom,
  cxr=_cxr,
  pseudo=_pseudo,
  smoke=_smoke,
  smoke_cxr=_smoke_cxr,
  smoke_pseudo=_smoke_pseudo,
)
VARIANTS = tuple(_MAKERS)
