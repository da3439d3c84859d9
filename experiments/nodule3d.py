"""Lung nodules in CT by two 3D networks (Dou et al. 2017, arXiv 1708.03867).

  python main.py --config=experiments/nodule3d.py
  python main.py --config=experiments/nodule3d.py:luna16 --manual_dir=DIR

The phantom variant makes its own data, trains narrower networks and needs no
more than 15 minutes on 2 CPU cores. The real variants have the published
sizes: screening costs 4.7 MFLOP a cell, so 50 to 100 s a scan on 2 CPU cores,
and reduction 9.4 GFLOP a candidate; train them on a GPU. Measured scores and
times are in experiments/README.md.
"""

import ml_collections

from experiments import _common

# Intensity windows in HU: the lungs with all that is denser, and convnet3d's
# own, an angiography window.
_LUNG = dict(name='window', low=-1000.0, high=400.0)
_CONVNET3D = dict(name='level', level=80.0, width=600.0)
# main.py asks for the keys that have this value.
_REQUIRED = '<required>'


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `phantom` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """The published sizes; a variant changes what is its own."""
  config = _common.base('nodule3d')
  config.main_metric = 'cpm'
  config.real_variants = ('lidc', 'luna16', 'series_csv', 'node21')
  config.preprocess = dict(spacing=(1.0, 1.0, 1.0), window=_LUNG, region='lung')
  config.stages = dict(
    order=('blobs', 'screening', 'mining', 'reduction'),
    # What looks like a nodule to a filter teaches screening more than random
    # places do, few of which hold anything.
    blobs=dict(
      kind='map',
      predictor=dict(
        name='laplacian_of_gaussian',
        ceiling_hu=-100.0,
        exponent=2.5,
        roundness=0.5,
        min_diameter_mm=3.0,
      ),
      data=dict(split='train+validation'),
    ),
    screening=_screening(),
    mining=dict(
      kind='map',
      predictor=dict(name='candidates', **_candidates()),
      data=dict(split='train+validation'),
    ),
    reduction=_reduction(),
  )
  config.evaluation = dict(
    protocol='nodules',
    predictor=dict(
      name='nodules',
      screening=_candidates(),
      shape=(25, 60, 60),
      batch_size=8,
      passes=1,
      radius_mm=5.0,
    ),
    max_fps_per_scan=1.0,
    resamples=1000,
    baselines=dict(
      laplacian_of_gaussian=_blobs(roundness=(0.0,)),
      hessian_blobs=_blobs(roundness=(0.5, 1.0, 2.0)),
    ),
  )
  config.expect = dict(params=dict(screening=2_364_000, reduction=42_600_006))
  return config


def _screening() -> dict:
  return dict(
    kind='fit',
    task=dict(
      name='patch_detection',
      extent=(15.0, 30.0, 30.0),
      hard=0.5,
      easy_kept=0.5,
      regression_weight=0.0,
    ),
    model=dict(
      name='candidate_screening', num_classes=2, widths=(32, 32, 64, 250)
    ),
    data=dict(
      feed='patches',
      shape=(15, 30, 30),
      margin=(4, 10, 10),
      shifted=4,
      # A wider plateau of the score map would place candidates worse.
      shift_mm=1.0,
      random_per_scan=60,
      hard='blobs/detections',
      hard_per_scan=60,
      exclusion_mm=5.0,
      inside=False,
      positive_share=0.25,
      affine=dict(
        flip=(True, True, True),
        rotate_rad=3.14,
        scale=0.2,
        shift_vox=(0.5, 1.0, 1.0),
      ),
      intensity=dict(gain=0.15, bias=0.05, noise=0.01),
      workers=0,
    ),
    optimizer=dict(
      name='adamw',
      learning_rate=1e-3,
      weight_decay=1e-4,
      schedule=dict(name='cosine', warmup_steps=50),
    ),
    steps=6000,
    batch_size=64,
    eval_every=500,
    checkpoint_every=500,
    init_from=(),
    trainable=(),
    select=dict(metric='auc', mode='max', patience=None),
  )


def _reduction() -> dict:
  return dict(
    kind='fit',
    task=dict(
      name='patch_detection',
      extent=(25.0, 60.0, 60.0),
      hard=1.0,
      easy_kept=1.0,
      regression_weight=0.5,
    ),
    model=dict(
      name='false_positive_reduction',
      num_classes=2,
      widths=(32, 32, 64, 64, 128),
      hidden=128,
      regression=True,
      regression_hidden=128,
      regression_pool=(1, 1, 1),
    ),
    data=dict(
      feed='patches',
      shape=(25, 60, 60),
      margin=(4, 16, 16),
      shifted=4,
      shift_mm=2.0,
      random_per_scan=0,
      hard='mining/candidates',
      hard_per_scan=100,
      exclusion_mm=5.0,
      inside=False,
      positive_share=0.33,
      affine=dict(
        flip=(True, True, True),
        rotate_rad=3.14,
        scale=0.2,
        shift_vox=(1.0, 2.0, 2.0),
      ),
      intensity=dict(gain=0.15, bias=0.05, noise=0.01),
      workers=0,
    ),
    optimizer=dict(
      name='adamw',
      learning_rate=1e-3,
      weight_decay=1e-4,
      schedule=dict(name='cosine', warmup_steps=50),
    ),
    steps=6000,
    batch_size=32,
    eval_every=500,
    checkpoint_every=500,
    init_from=(dict(stage='screening', modules=('c1', 'c2', 'c3')),),
    trainable=(),
    select=dict(metric='auc', mode='max', patience=None),
  )


def _blobs(roundness: tuple[float, ...]) -> dict:
  """Bright blobs of all sizes; with roundness, tubes and sheets held down."""
  return dict(
    name='laplacian_of_gaussian',
    tuning_cases=8,
    grid=dict(
      ceiling_hu=(-400.0, -100.0, 200.0),
      exponent=(1.5, 2.0, 2.5),
      roundness=roundness,
      min_diameter_mm=(3.0, 4.0, 5.3),
    ),
  )


def _candidates() -> dict:
  return dict(
    tile=(16, 32, 32),
    threshold=0.1,
    radius_mm=6.0,
    max_candidates=200,
  )


def _phantom(config: ml_collections.ConfigDict) -> None:
  """Phantom chest CTs; minutes on a CPU."""
  config.dataset.name = 'lidc_idri/phantom'
  config.dataset.synthetic = True
  _narrow(config)


def _narrow(config: ml_collections.ConfigDict) -> None:
  """Narrow networks on a coarse grid."""
  # A coarser grid than the published 1 mm has half the voxels.
  config.preprocess.spacing = (1.25, 1.25, 1.25)
  stages = config.stages
  stages.screening.task.extent = (18.75, 37.5, 37.5)
  stages.screening.model.widths = (12, 12, 24, 48)
  stages.screening.data.hard_per_scan = 40
  stages.screening.optimizer.learning_rate = 3e-3
  stages.screening.steps = 1100
  stages.screening.batch_size = 32
  stages.screening.eval_every = 275
  stages.screening.checkpoint_every = 200
  stages.reduction.task.extent = (26.25, 50.0, 50.0)
  stages.reduction.model.update(
    widths=(12, 12, 24, 24, 48),
    hidden=48,
    regression_hidden=32,
    regression_pool=(2, 2, 2),
  )
  stages.reduction.data.update(
    shape=(21, 40, 40), margin=(3, 11, 11), hard_per_scan=40
  )
  stages.reduction.optimizer.learning_rate = 2e-3
  stages.reduction.steps = 480
  stages.reduction.batch_size = 16
  stages.reduction.eval_every = 160
  stages.reduction.checkpoint_every = 100
  config.evaluation.predictor.shape = (21, 40, 40)
  for predictor in (
    config.evaluation.predictor.screening,
    stages.mining.predictor,
  ):
    predictor.tile = (16, 12, 12)
    predictor.max_candidates = 60


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  config.dataset.name = 'lidc_idri/phantom_smoke'
  config.dataset.synthetic = True
  _tiny(config)


def _smoke_luna16(config: ml_collections.ConfigDict) -> None:
  """The same on scans in LUNA16's layout, in two folds of a subset each."""
  _luna16(config)
  _tiny(config)
  config.folds.update(parts='subset0+subset1', reuse=True)
  # The final model then trains as long as the folds', by the same programs.
  for stage in (config.stages.screening, config.stages.reduction):
    stage.eval_every = stage.steps


def _smoke_series_csv(config: ml_collections.ConfigDict) -> None:
  """The same on scans with convnet3d's CSV."""
  _series_csv(config)
  _tiny(config)


def _tiny(config: ml_collections.ConfigDict) -> None:
  """Next to no network and next to no training."""
  _narrow(config)
  # Few voxels are soon searched.
  config.preprocess.spacing = (2.0, 2.0, 2.0)
  stages = config.stages
  stages.screening.task.extent = (30.0, 60.0, 60.0)
  stages.screening.model.widths = (4, 4, 4, 8)
  stages.reduction.task.extent = (42.0, 80.0, 80.0)
  stages.reduction.model.update(
    widths=(4, 4, 4, 4, 8), hidden=8, regression_hidden=8
  )
  for stage in (stages.screening, stages.reduction):
    stage.steps = 6
    stage.batch_size = 8
    stage.eval_every = 3
    stage.checkpoint_every = 2
    stage.data.shifted = 1
    stage.data.random_per_scan = min(stage.data.random_per_scan, 8)
  for predictor in (
    config.evaluation.predictor.screening,
    stages.mining.predictor,
  ):
    predictor.max_candidates = 10
    predictor.tile = (8, 16, 16)
  config.evaluation.resamples = 100
  for baseline in config.evaluation.baselines.values():
    baseline.tuning_cases = 1
    baseline.grid.update({k: v[:2] for k, v in baseline.grid.items()})


def _lidc(config: ml_collections.ConfigDict) -> None:
  """LIDC-IDRI as TCIA publishes it."""
  del config


def _luna16(config: ml_collections.ConfigDict) -> None:
  """LUNA16 with its ten official folds."""
  config.dataset.name = 'luna16'
  config.folds.by = 'subset'
  config.folds.parts = '+'.join(f'subset{k}' for k in range(10))


def _series_csv(config: ml_collections.ConfigDict) -> None:
  """Anyone's series with convnet3d's CSV; aneurysms, say."""
  config.dataset.name = 'series_csv'
  config.preprocess.window = _CONVNET3D
  config.preprocess.region = 'body'
  # The filter knows lungs only.
  config.stages.order = ('screening', 'mining', 'reduction')
  config.stages.screening.data.hard = ''
  config.evaluation.baselines = {}


def _node21(config: ml_collections.ConfigDict) -> None:
  """Cubes round real nodules, then whole scans of LIDC-IDRI one by one.

  `--manual_dir` holds the cubes, `--config.more_datasets.scans.manual_dir` the
  LIDC-IDRI tree, and `--config.dataset.options.patient_map` the table of
  patients and series by which the patients of the scans are kept out of the
  cubes. A fold trains on the cubes and on every scan but the patient it is
  tested on, and chooses its threshold on scans it was trained on: there are
  too few to set some aside. Networks and grid are those of the phantoms.
  """
  config.dataset.name = 'node21_patches'
  config.dataset.options = dict(patient_map=_REQUIRED)
  config.more_datasets = dict(
    scans=dict(
      name='lidc_idri',
      manual_dir=_REQUIRED,
      options={},
    )
  )
  config.folds.update(
    by='group',
    parts='scans:all',
    count=2,
    always='train+validation',
    reuse=True,
  )
  _narrow(config)
  stages = config.stages
  stages.blobs.data.split = 'train'
  stages.mining.data.split = 'train'
  stages.mining.predictor.max_candidates = 400
  stages.screening.data.update(
    shifted=2, random_per_scan=12, hard_per_scan=20, inside=True
  )
  stages.reduction.data.update(
    shape=(21, 36, 36),
    margin=(3, 2, 2),
    shifted=2,
    random_per_scan=4,
    hard_per_scan=400,
    inside=True,
  )
  stages.reduction.task.extent = (26.25, 45.0, 45.0)
  config.evaluation.predictor.shape = (21, 36, 36)
  config.evaluation.predictor.screening.max_candidates = 200
  for stage, steps in ((stages.screening, 1600), (stages.reduction, 1000)):
    # Corners of a cube of 50 mm would turn out of it.
    stage.data.affine.rotate_rad = 0.3
    stage.steps = steps
    stage.eval_every = steps // 4
    stage.checkpoint_every = steps // 4
    stage.select = None


_MAKERS = {
  'phantom': _phantom,
  'lidc': _lidc,
  'luna16': _luna16,
  'series_csv': _series_csv,
  'node21': _node21,
  'smoke': _smoke,
  'smoke_luna16': _smoke_luna16,
  'smoke_series_csv': _smoke_series_csv,
}
VARIANTS = tuple(_MAKERS)
