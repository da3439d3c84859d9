"""Nodules on CT slices by a CNN that reads and an LSTM that writes boxes.

  python main.py --config=experiments/lidc_lstm.py
  python main.py --config=experiments/lidc_lstm.py:lidc --manual_dir=DIR

ReInspect (Stewart et al. 2015, arXiv 1506.04878) as lidc_nodule_detection used
it, from DICOM and XML on, scored by patient. The phantom variant makes its own
data, trains a small encoder from scratch and needs no more than 15 minutes on
2 CPU cores. The real variants have the published sizes: Inception-V1 and two
LSTM layers of 500 units cost about 16 GFLOP an image in training; train them
on a GPU. Batches of 16 and AdamW stand for the published single images and
RMSProp. Measured scores and times are in experiments/README.md.
"""

import ml_collections

from experiments import _common

_LUNG = dict(name='window', low=-1000.0, high=400.0)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant, `phantom` where none is named."""
  return _common.choose(_published(), _MAKERS, variant)


def _published() -> ml_collections.ConfigDict:
  """The published sizes; a variant changes what is its own."""
  config = _common.base('lidc_lstm')
  config.main_metric = 'ap50'
  config.real_variants = ('lidc', 'boxes_json')
  config.preprocess = dict(
    shape=(256, 352), pixel_mm=0.9, apart_mm=0.0, window=_LUNG, region='lung'
  )
  config.stages = dict(order=('detector',), detector=_detector())
  config.evaluation = dict(
    protocol='slice_boxes',
    predictor=dict(
      name='slice_lesions',
      batch_size=16,
      stitch_iou=0.25,
      max_boxes=64,
      min_score=0.01,
      link=dict(min_overlap=0.5, reach_mm=3.0, share=0.5),
    ),
    resamples=1000,
    baselines=dict(
      laplacian_of_gaussian=dict(
        name='blob_boxes',
        tuning_cases=8,
        grid=dict(
          ceiling_hu=(-400.0, -100.0, 200.0),
          exponent=(1.5, 2.0, 2.5),
          roundness=(0.0,),
          min_diameter_mm=(3.0, 4.0, 5.3),
        ),
      ),
      nothing=dict(name='nothing'),
    ),
  )
  config.expect = dict(params=dict(detector=11_276_664))
  return config


def _detector() -> dict:
  return dict(
    kind='fit',
    task=dict(
      name='sequence_detection',
      weights=(1.0, 0.1, 0.1, 0.003),
      focus_size=1.8,
      match_iou=0.25,
      center_tolerance=0.2,
      stitch_iou=0.25,
      max_boxes=64,
    ),
    model=dict(
      name='cnn_lstm',
      encoder=dict(name='inception_v1'),
      coarse_channels=832,
      fine_channels=256,
      context_from=700,
      feature_scale=0.01,
      units=500,
      layers=2,
      steps=5,
      num_classes=2,
      dropout=0.5,
      box_scale=50.0,
      rezoom=True,
      rezoom_units=128,
      rezoom_scale=0.001,
    ),
    data=dict(
      feed='slices',
      positive_share=0.5,
      validate_every=1,
      view=dict(shape=(256, 352), flip=True, scale=0.1, shift_px=(16.0, 16.0)),
      intensity=dict(gain=0.1, bias=0.05, noise=0.01),
      workers=0,
    ),
    optimizer=dict(
      name='adamw',
      learning_rate=1e-3,
      weight_decay=1e-4,
      clip_norm=1.0,
      schedule=dict(name='cosine', warmup_steps=200),
    ),
    steps=60_000,
    batch_size=16,
    eval_every=2000,
    checkpoint_every=2000,
    init_from=(),
    trainable=(),
    select=dict(metric='ap50', mode='max', patience=None),
  )


def _phantom(config: ml_collections.ConfigDict) -> None:
  """Phantom chest CTs and a small encoder; minutes on a CPU."""
  config.dataset.name = 'lidc_idri/phantom'
  config.dataset.synthetic = True
  _narrow(config)


def _narrow(config: ml_collections.ConfigDict) -> None:
  """A small encoder on small slices, trained on parts of them.

  Most of a slice is far from any lesion, so a part round one, or of a slice
  without, teaches in two fifths of the time what the whole slice would.
  """
  config.preprocess.update(shape=(160, 224), apart_mm=2.5)
  detector = config.stages.detector
  detector.model.update(
    encoder=dict(
      name='small_encoder',
      widths=(16, 32, 64, 128),
      coarse_stride=16,
      fine_stride=4,
    ),
    coarse_channels=128,
    fine_channels=32,
    context_from=96,
    feature_scale=1.0,
    units=128,
    steps=3,
    box_scale=16.0,
    dropout=0.2,
    rezoom_units=64,
    rezoom_scale=0.1,
  )
  detector.data.view.update(shape=(96, 128), shift_px=(8.0, 8.0))
  detector.data.validate_every = 3
  detector.optimizer.learning_rate = 3e-3
  detector.optimizer.schedule.warmup_steps = 50
  detector.steps = 3000
  detector.eval_every = 500
  detector.checkpoint_every = 500


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds on a CPU; its numbers mean nothing."""
  config.dataset.name = 'lidc_idri/phantom_smoke'
  config.dataset.synthetic = True
  _tiny(config)


def _smoke_boxes_json(config: ml_collections.ConfigDict) -> None:
  """The same on pictures with two classes of boxes."""
  _boxes_json(config)
  config.dataset.name = 'boxes_json/phantom_smoke'
  config.dataset.options = {}
  config.dataset.synthetic = True
  _tiny(config)
  config.stages.detector.model.num_classes = 3


def _tiny(config: ml_collections.ConfigDict) -> None:
  """Next to no network and next to no training."""
  _narrow(config)
  config.preprocess.shape = (64, 96)
  detector = config.stages.detector
  detector.data.view.shape = (48, 64)
  detector.model.encoder.widths = (4, 4, 8, 8)
  detector.model.update(
    coarse_channels=8, fine_channels=4, context_from=6, units=8, rezoom_units=8
  )
  detector.steps = 6
  detector.batch_size = 8
  detector.eval_every = 3
  detector.checkpoint_every = 2
  config.evaluation.resamples = 100
  if 'laplacian_of_gaussian' in config.evaluation.baselines:
    blobs = config.evaluation.baselines.laplacian_of_gaussian
    blobs.tuning_cases = 1
    blobs.grid.exponent = (2.0,)


def _lidc(config: ml_collections.ConfigDict) -> None:
  """LIDC-IDRI as TCIA publishes it."""
  del config


def _boxes_json(config: ml_collections.ConfigDict) -> None:
  """Anyone's folder of pictures with boxes, of several classes even.

  `--config.dataset.options.classes` names them in the order of their ids, and
  `--config.stages.detector.model.num_classes` counts them and the background.
  """
  config.dataset.name = 'boxes_json'
  config.dataset.options = dict(classes=())
  config.preprocess.region = 'none'
  # The filter knows lungs only.
  config.evaluation.baselines = dict(nothing=dict(name='nothing'))


_MAKERS = dict(
  phantom=_phantom,
  lidc=_lidc,
  boxes_json=_boxes_json,
  smoke=_smoke,
  smoke_boxes_json=_smoke_boxes_json,
)
VARIANTS = tuple(_MAKERS)
