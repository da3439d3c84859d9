"""What a fit stage trains on: examples derived from the cases of its run.

A stage's `data` names its `feed`; the other keys are that feed's own.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from medzoo.data import labelled_store
from medzoo.data import labelled_transforms
from medzoo.data import patches
from medzoo.data import picture_store
from medzoo.data import picture_transforms
from medzoo.data import pipeline
from medzoo.data import slice_store
from medzoo.data import slice_transforms
from medzoo.data import transforms
from medzoo.data import views
from medzoo.train import build
from medzoo.train import mapping
from medzoo.train import pseudo

# Keys of a stage's data that say how its cubes are cut.
_CUBES = (
  'shape',
  'margin',
  'shifted',
  'shift_mm',
  'random_per_scan',
  'hard_per_scan',
  'exclusion_mm',
  'inside',
)


@dataclasses.dataclass(frozen=True)
class Feed:
  """The examples of a stage.

  Attributes:
    training: to train on.
    validation: to choose by.
    augment: what makes every training example another one.
    finish: what gives examples the form that the task expects.
  """

  training: pipeline.Store
  validation: pipeline.Store
  augment: Sequence[pipeline.Transform]
  finish: Sequence[pipeline.Transform]

  def batches(self, spec: Mapping[str, Any], seed: int) -> Any:
    """Returns an endless iterator of training batches of a stage."""
    return pipeline.train_batches(
      self.training,
      batch_size=spec['batch_size'],
      positive_share=spec['data']['positive_share'],
      transforms=[*self.augment, *self.finish],
      seed=seed,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      workers=spec['data']['workers'],
    )

  def eval_batches(self, spec: Mapping[str, Any]) -> Iterable[Any]:
    """Returns the validation examples once, in batches."""
    return pipeline.eval_batches(
      self.validation, batch_size=spec['batch_size'], transforms=self.finish
    )


def make(run: Any, name: str) -> Feed:
  """Derives the examples of a run's stage, unless they lie there already.

  Raises:
    build.ConfigError: the feed is unknown.
  """
  feed = run.config['stages'][name]['data']['feed']
  feeds = {
    'codes': _codes,
    'labelled': _labelled,
    'patches': _patches,
    'pictures': _pictures,
    'slices': _slices,
  }
  if feed not in feeds:
    raise build.ConfigError(
      f'stages.{name}.data.feed: found {feed!r}, expected one of '
      + ', '.join(feeds)
    )
  return feeds[feed](run, name)


def _patches(run: Any, name: str) -> Feed:
  """Cubes round lesions, at random places and round candidates."""
  data, preprocess = (
    run.config['stages'][name]['data'],
    run.config['preprocess'],
  )
  hard = None
  if data['hard']:
    stage, _, found = data['hard'].partition('/')
    outputs = mapping.read_all(run.folder / stage / 'outputs')
    hard = {key: out.marks(found) for key, out in outputs.items()}

  def derive(cases: Sequence[Any], folder: pathlib.Path) -> None:
    patches.derive(
      cases,
      folder,
      hard=hard,
      seed=run.config['seed'],
      **preprocess,
      **{key: data[key] for key in _CUBES},
    )

  training, validation = (
    patches.PatchStore(_derived(run, name, split, derive))
    for split in ('train', 'validation')
  )
  augment = [
    transforms.RandomAffine(
      shape=tuple(data['shape']),
      spacing=tuple(preprocess['spacing']),
      **data['affine'],
    ),
    transforms.RandomIntensity(**data['intensity']),
  ]
  finish = [transforms.ToPatch(tuple(data['shape']))]
  return Feed(training, validation, augment, finish)


def _slices(run: Any, name: str) -> Feed:
  """All slices of scans, with boxes.

  Raises:
    build.ConfigError: boxes are of a class that the model does not have.
  """
  data = run.config['stages'][name]['data']
  every = {'train': 1, 'validation': data['validate_every']}
  training, validation = (
    slice_store.SliceStore(
      _derived(
        run,
        name,
        split,
        lambda cases, folder: slice_store.derive(
          cases,
          folder,
          every=every[split],
          preprocess=run.config['preprocess'],
        ),
      )
    )
    for split in ('train', 'validation')
  )
  num_classes = run.config['stages'][name]['model']['num_classes']
  highest = max(store.highest_label for store in (training, validation))
  if highest >= num_classes:
    raise build.ConfigError(
      f'stages.{name}.model.num_classes: found {num_classes}, expected '
      f'{highest + 1}, for dataset.options.classes, or the lists where it is '
      f'empty, make {highest} classes beside the background'
    )
  most = [
    max(getattr(store, name) for store in (training, validation))
    for name in ('most_boxes', 'most_ignored')
  ]
  augment = [
    slice_transforms.RandomView(**data['view']),
    slice_transforms.ToFloat(),
    transforms.RandomIntensity(**data['intensity']),
  ]
  finish = [slice_transforms.ToFloat(), slice_transforms.PadBoxes(*most)]
  return Feed(training, validation, augment, finish)


def _pictures(run: Any, name: str) -> Feed:
  """Films with masks; the stages of a run share them.

  Where a stage labels films without masks, these are left out, but for the
  stages whose data names that one as `pseudo`: they train on what it labelled.
  """
  stages = run.config['stages']
  data = stages[name]['data']
  kinds = [stages[stage]['kind'] for stage in stages['order']]

  def derive(cases: Sequence[Any], folder: pathlib.Path) -> None:
    picture_store.derive(cases, folder, preprocess=run.config['preprocess'])

  def derive_labelled(cases: Any, folder: pathlib.Path) -> None:
    derive(pseudo.Labelled(cases, run.folder / data['pseudo']), folder)

  def derive_outlined(cases: Any, folder: pathlib.Path) -> None:
    derive(pseudo.split(cases)[0], folder)

  usual = derive_outlined if 'pseudo' in kinds else derive
  validation = _derived(run, '', 'validation', usual)
  if 'pseudo' in data:
    training = _derived(run, name, 'train', derive_labelled)
  else:
    training = _derived(run, '', 'train', usual)
  augment = [
    picture_transforms.RandomFilm(**data['film']),
    picture_transforms.RandomExposure(**data['exposure']),
    picture_transforms.RandomCover(**data['cover']),
  ]
  finish = [picture_transforms.ToExample()]
  stores = map(picture_store.PictureStore, (training, validation))
  return Feed(*stores, augment, finish)


def _labelled(run: Any, name: str) -> Feed:
  """Pictures that are of a class.

  The stages of a run share them, but for one that has a view, and thus a form
  of pictures, of its own.
  """
  data = run.config['stages'][name]['data']
  preprocess = data.get('preprocess') or run.config['preprocess']
  pictures, place = run.pictures, ''
  if 'view' in data:
    pictures, place = views.Viewed(run.cases, data['view']), name

  def derive(cases: Sequence[Any], folder: pathlib.Path) -> None:
    labelled_store.derive(cases, folder, preprocess=preprocess)

  viewed = dataclasses.replace(run, cases=pictures)
  training, validation = (
    labelled_store.LabelledStore(_derived(viewed, place, split, derive))
    for split in ('train', 'validation')
  )
  augment = [labelled_transforms.RandomPicture(**data['picture'])]
  if preprocess['colour']:
    augment.append(labelled_transforms.RandomColour(**data['tint']))
  else:
    augment.append(picture_transforms.RandomExposure(**data['exposure']))
  return Feed(training, validation, augment, [labelled_transforms.ToExample()])


def _codes(run: Any, name: str) -> Feed:
  """What a map stage made of pictures that are of a class."""
  stage = run.config['stages'][name]['data']['stage']
  outputs = mapping.read_all(run.folder / stage / 'outputs')

  def store(split: str) -> labelled_store.CodeStore:
    pictures = run.pictures[split]
    codes = [outputs[key].detections['codes'].values for key in pictures.keys]
    return labelled_store.CodeStore(np.stack(codes), pictures.labels)

  finish = [labelled_transforms.ToExample()]
  return Feed(store('train'), store('validation'), [], finish)


def _derived(run: Any, name: str, split: str, derive: Any) -> pathlib.Path:
  """Has the examples of a split derived once, by one process.

  They lie in the stage's folder, or in the run's where `name` is ''.
  """
  folder = run.folder / name / 'examples' / split
  if not folder.exists() and jax.process_index() == 0:
    run.writer.log(f'{run.name}{name}: deriving {split} examples')
    derive(run.cases[split], folder)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f'{name} {split} examples')
  return folder
