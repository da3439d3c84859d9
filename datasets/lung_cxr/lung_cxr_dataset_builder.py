"""Builder of chest X-rays with masks of the patient's right and left lung."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from datasets import builders
from datasets import cases
from datasets import owners
from datasets import splits
from datasets.lung_cxr import labels
from datasets.lung_cxr import layouts
from medzoo import types
from medzoo.io import dicom
from medzoo.io import lung_masks
from medzoo.io import radiographs
from medzoo.io import tables

# What right and left mean.
_SIDES = ('patient', 'image')


@dataclasses.dataclass(frozen=True)
class Source:
  """A film to read.

  Attributes:
    path: the file.
    key: its path from the raw root.
    group: pseudonym of its patient.
    label: how its lungs are given; None where they are not.
    by_image: whether right and left are meant as one sees the film.
    mirrored: whether the right lung may be on the right of the film.
  """

  path: pathlib.Path
  key: str
  group: str
  label: labels.Label | None
  by_image: bool
  mirrored: bool


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of films with masks.

  Attributes:
    images: folder of the films below the raw root; empty to find it.
    kind: how masks are given, where there are several kinds: 'sides',
      'labels', 'whole' or 'coco'.
    sides: what right and left mean in names and labels, the sides of the
      'patient' or those of the 'image', where the patient's right is left.
    mirrored: whether films that show the patient's right lung on their right
      are kept.
    right, left: COCO's categories of the patient's right and left lung; empty
      for those whose names contain 'right' and 'left'.
    group: regular expression that finds whose a film is in its key; with a
      pair of brackets, what they hold. Empty for the table of patients, else
      DICOM's patients and each picture by itself.
    unlabelled: whether films without masks are kept, as training cases without
      masks; never those of patients who are in another split.
    shares: of the splits, where the table of patients has none.
    split_seed: chooses among the divisions.
  """

  images: str = ''
  kind: str = ''
  sides: str = 'patient'
  mirrored: bool = False
  right: str = ''
  left: str = ''
  group: str = ''
  unlabelled: bool = False
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one film and the masks of its lungs."""
  try:
    film = radiographs.read(source.path)
    masks, repairs = None, list(film.repairs)
    if source.label:
      masks = _read_masks(source)
      shape = film.voxels.shape[1:3]
      if masks.masks.shape[1:] != shape:
        masks = lung_masks.fit(masks, shape)
        repairs.append('masks_resized')
  except (dicom.Refused, lung_masks.Refused) as error:
    raise cases.LeftOut(source.key, error.code, error.detail) from None
  except ValueError as error:
    raise cases.LeftOut(source.key, 'unreadable', str(error)) from None
  volume = dataclasses.replace(
    film, series_uid=source.key, repairs=tuple(repairs)
  )
  nothing = tables.to_findings(np.zeros((0, 4)))
  case = types.Case(volume, source.group, nothing, nothing, masks=masks)
  return cases.encode(case)


def _read_masks(source: Source) -> types.Masks:
  masks = labels.read(source.label)
  # Lungs that were told apart by their places have the right sides already.
  if source.by_image and source.label.has_sides:
    masks = lung_masks.exchange(masks)
  if not source.mirrored:
    lung_masks.check_standard(masks)
  return masks


class Builder(builders.CaseBuilder):
  """Chest X-rays with masks of the lungs."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with images/ and leftMask/ and rightMask/, or masks/, or a'
    ' JSON of COCO, and patients.csv with the columns file and patient.'
  )
  BUILDER_CONFIGS = [Config(name='films')]
  read = staticmethod(read)

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins films, masks and patients."""
    config = self.builder_config
    for name, known in (('kind', ('', *labels.KINDS)), ('sides', _SIDES)):
      if getattr(config, name) not in known:
        raise ValueError(
          f'found {name} {getattr(config, name)!r}, expected one of'
          f' {", ".join(filter(None, known))}'
        )
    layout = layouts.find(manual_dir, config.images, config.kind)
    labelled = labels.find(
      layout,
      manual_dir,
      kind=config.kind,
      right=config.right,
      left=config.left,
    )
    found = owners.find(
      layout.films,
      manual_dir,
      config.group,
      lambda name: layout.locate(name, [manual_dir]),
    )
    left_out = {x.series: x for x in (*labelled.left_out, *found.left_out)}
    sources = []
    for path in layout.films:
      key = path.relative_to(manual_dir).as_posix()
      label = labelled.films.get(path)
      if label is None and not config.unlabelled:
        problem = cases.LeftOut(key, 'no_mask', 'found none, expected one')
        left_out.setdefault(key, problem)
      if key not in left_out:
        sources.append(
          Source(
            path,
            key,
            found.groups[path],
            label,
            by_image=config.sides == 'image',
            mirrored=config.mirrored,
          )
        )
    divided, others = _divide(sources, found.splits, config)
    return cases.Listing(
      divided,
      (*left_out.values(), *others),
      (*labelled.notes, *found.notes),
      lung_masks.CLASSES,
    )


def _divide(
  sources: Sequence[Source],
  given: Mapping[pathlib.Path, str],
  config: Config,
) -> tuple[dict[str, list[Source]], list[cases.LeftOut]]:
  """Returns the films of each split, and those that fit in none.

  Films without masks are for training only, and so must their patients be.
  """
  labelled = [source for source in sources if source.label]
  if given:
    divided = {split: [] for split in ('train', 'validation', 'test')}
    for source in labelled:
      divided[given[source.path]].append(source)
  else:
    groups = [source.group for source in labelled]
    divided = splits.divide(labelled, groups, config.shares, config.split_seed)
  scored = {
    source.group
    for split in ('validation', 'test')
    for source in divided.get(split, ())
  }
  left_out = []
  for source in sources:
    if source.label:
      continue
    if source.group in scored or given.get(source.path, 'train') != 'train':
      left_out.append(
        cases.LeftOut(
          source.key,
          'no_mask',
          'found none, expected one outside the training split',
        )
      )
    else:
      divided.setdefault('train', []).append(source)
  return divided, left_out
