"""Builder of tiles round candidates of LUNA16, nodules or not."""

import dataclasses
import functools
import pathlib
import zipfile

import numpy as np

from datasets import builders
from datasets import cases
from medzoo import types
from medzoo.io import tables

SPLITS = ('train', 'validation', 'test')
# Arrays of the file and how many axes they have.
_ARRAYS = {'image': 3, 'label': 1, 'split': 1, 'candidate_row': 1}


@dataclasses.dataclass(frozen=True)
class Source:
  """A tile to read.

  Attributes:
    path: the file with all tiles.
    index: its place among them.
    row: its row in LUNA16's list of candidates.
    block: the number of its group.
    label: 1 a nodule, 0 not.
  """

  path: pathlib.Path
  index: int
  row: int
  block: int
  label: int


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of tiles.

  Attributes:
    blocks: into how many groups the list of candidates is cut; neighbours in
      the list are often of one scan, or of one lesion.
  """

  blocks: int = 100


def read(source: Source) -> cases.Example:
  """Takes one tile."""
  tile = _load(source.path, 'image')[source.index]
  volume = types.Volume(
    tile[None], (None, None, None), series_uid=f'row_{source.row:06}'
  )
  nothing = tables.to_findings(np.zeros((0, 4)))
  group = f'block_{source.block:03}'
  return cases.encode(
    types.Case(volume, group, nothing, nothing, label=source.label)
  )


class Builder(builders.CaseBuilder):
  """Tiles of 50 x 50 pixels round candidates of LUNA16."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'The folder with tiles_50x50.npz.'
  BUILDER_CONFIGS = [Config(name='tiles')]
  read = staticmethod(read)

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Takes the published split, and blocks of neighbours as groups."""
    # The file may have changed since another build in this process.
    _load.cache_clear()
    path = _find(manual_dir)
    labels, splits, rows = (
      _load(path, name) for name in ('label', 'split', 'candidate_row')
    )
    _check(path, labels, splits)
    count = len(rows)
    blocks = np.empty(count, int)
    blocks[np.argsort(rows, kind='stable')] = (
      np.arange(count) * self.builder_config.blocks // max(count, 1)
    )
    listed = {name: [] for name in SPLITS}
    for i in range(count):
      listed[SPLITS[splits[i]]].append(
        Source(path, i, int(rows[i]), int(blocks[i]), int(labels[i]))
      )
    note = (
      'splits are by candidate, as published, so tiles of one scan and even of'
      f' one lesion stand in several; groups are {len(set(blocks.tolist()))}'
      ' blocks of neighbouring candidates, for folds and intervals'
    )
    return cases.Listing(
      listed, notes=(note,), classes=('nodule',), background='no nodule'
    )


def _find(root: pathlib.Path) -> pathlib.Path:
  paths = [x for x in builders.walk(root) if x.suffix == '.npz']
  if len(paths) != 1:
    raise ValueError(f'{root}: found {len(paths)} .npz files, expected one')
  return paths[0]


@functools.lru_cache(maxsize=len(_ARRAYS))
def _load(path: pathlib.Path, name: str) -> np.ndarray:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      array = arrays[name]
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{path}: found no array {name!r} that can be read, expected'
      f' {", ".join(_ARRAYS)}: {" ".join(str(error).split())}'
    ) from None
  if array.ndim != _ARRAYS[name] or array.dtype.kind not in 'iu':
    raise ValueError(
      f'{path}: found {name} {array.shape} of {array.dtype}, expected whole'
      f' numbers with {_ARRAYS[name]} axes'
    )
  return array


def _check(path: pathlib.Path, labels: np.ndarray, splits: np.ndarray) -> None:
  sizes = {name: len(_load(path, name)) for name in _ARRAYS}
  if len(set(sizes.values())) > 1:
    raise ValueError(f'{path}: found {sizes}, expected as many of each')
  if _load(path, 'image').dtype != np.uint8:
    raise ValueError(
      f'{path}: found image of {_load(path, "image").dtype}, expected uint8'
    )
  for name, values, most in (
    ('label', labels, 1),
    ('split', splits, len(SPLITS) - 1),
  ):
    if len(values) and not 0 <= values.min() <= values.max() <= most:
      raise ValueError(
        f'{path}: found {name} from {values.min()} to {values.max()}, expected'
        f' 0 to {most}'
      )
