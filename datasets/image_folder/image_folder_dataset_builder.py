"""Builder of pictures in a folder per class."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from datasets import builders
from datasets import cases
from datasets import owners
from datasets import splits
from datasets import strata
from datasets.image_folder import layouts
from medzoo import types
from medzoo.io import dicom
from medzoo.io import images
from medzoo.io import radiographs
from medzoo.io import tables

# What folders are called that hold what is not looked for.
_NEGATIVE = re.compile(
  r'(no|non|not|without)([ _-].*)?'
  r'|normals?|healthy|negatives?|none|background|clean|controls?',
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Source:
  """A picture to read.

  Attributes:
    path: the file.
    key: its path from the raw root.
    group: pseudonym of its patient.
    label: its class, from 0.
  """

  path: pathlib.Path
  key: str
  group: str
  label: int


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of pictures in folders.

  Attributes:
    positive: of two folders the one of class 1; empty for the one that is not
      called `normal`, `negative` or the like, else the last one by the
      alphabet. Three folders and more are always by the alphabet.
    group: regular expression that finds whose a picture is in its key; with a
      pair of brackets, what they hold. Empty for the table of patients, else
      DICOM's patients and each picture by itself.
    shares: of the splits, where neither folders nor the table have them.
    split_seed: chooses among the divisions.
  """

  positive: str = ''
  group: str = ''
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one picture."""
  try:
    if images.is_picture_file(source.path):
      pixels = images.read(source.path, deep=True)
      volume = types.Volume(pixels[None], (None, None, None))
    else:
      volume = radiographs.read(source.path, any_view=True)
  except dicom.Refused as error:
    raise cases.LeftOut(source.key, error.code, error.detail) from None
  except ValueError as error:
    raise cases.LeftOut(source.key, 'unreadable', str(error)) from None
  nothing = tables.to_findings(np.zeros((0, 4)))
  return cases.encode(
    types.Case(
      dataclasses.replace(volume, series_uid=source.key),
      source.group,
      nothing,
      nothing,
      label=source.label,
    )
  )


class Builder(builders.CaseBuilder):
  """Pictures of two classes or more."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with a folder for each class, or with train, validation and'
    ' test, which have all of them.'
  )
  BUILDER_CONFIGS = [Config(name='pictures')]
  read = staticmethod(read)

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Tells classes, patients and splits by folders and the table."""
    config = self.builder_config
    layout = layouts.find(manual_dir)
    classes, notes = _order(layout.classes, config.positive, manual_dir)
    keys = {picture.key: picture.path for picture in layout.pictures}
    found = owners.find(list(keys.values()), manual_dir, config.group, keys.get)
    left_out = (*layout.left_out, *found.left_out)
    kept = [x for x in layout.pictures if x.path in found.groups]
    given = _given_splits(kept, found, manual_dir)
    sources = [
      Source(x.path, x.key, found.groups[x.path], classes.index(x.folder))
      for x in kept
    ]
    return cases.Listing(
      _divide(sources, given, config),
      left_out,
      (*notes, *found.notes),
      classes[1:],
      classes[0],
    )


def _order(
  folders: tuple[str, ...], positive: str, root: pathlib.Path
) -> tuple[tuple[str, ...], list[str]]:
  """Returns the classes from 0 on, and what to say of their order.

  Raises:
    ValueError: `positive` is none of two folders, or there are more.
  """
  listed = ', '.join(folders)
  if len(folders) > 2:
    if positive:
      raise ValueError(
        f'{root}: found positive {positive!r} and the classes {listed},'
        ' expected it with two classes only; leave it out'
      )
    return folders, [f'classes from 0 on, by the alphabet: {listed}']
  if positive and positive not in folders:
    raise ValueError(
      f'{root}: found positive {positive!r}, expected one of {listed}'
    )
  if positive:
    return (*(x for x in folders if x != positive), positive), []
  # Stable, so that the alphabet decides where names do not.
  negative, positive = sorted(folders, key=lambda x: not _NEGATIVE.fullmatch(x))
  return (negative, positive), [
    f'class 1, which is looked for, is {positive}, and not {negative}; the'
    ' option positive chooses'
  ]


def _given_splits(
  pictures: Sequence[layouts.Picture],
  found: owners.Owners,
  root: pathlib.Path,
) -> dict[pathlib.Path, str]:
  """Returns the splits that folders or the table give, of all or none.

  Raises:
    ValueError: both give them, or folders put a patient into two.
  """
  by_folder = {x.path: x.split for x in pictures if x.split}
  if not by_folder:
    return dict(found.splits)
  if found.splits:
    raise ValueError(
      f'{root}: found splits by folders and by a table, expected one of them'
    )
  first: dict[str, layouts.Picture] = {}
  for picture in pictures:
    other = first.setdefault(found.groups[picture.path], picture)
    if other.split != picture.split:
      raise ValueError(
        f'{picture.path}: found it in {picture.split}, expected'
        f' {other.split}, where {other.key} of the same patient is'
      )
  return by_folder


def _divide(
  sources: Sequence[Source], given: Mapping[pathlib.Path, str], config: Config
) -> dict[str, list[Source]]:
  if given:
    divided = {split: [] for split in ('train', 'validation', 'test')}
    for source in sources:
      divided[given[source.path]].append(source)
    return divided
  groups = [source.group for source in sources]
  labels = [source.label for source in sources]
  return strata.divide(
    sources, groups, labels, config.shares, config.split_seed
  )
