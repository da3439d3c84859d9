"""Builder of CT or MR series that convnet3d's CSV describes."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datasets import builders
from datasets import cases
from datasets import splits
from medzoo import types
from medzoo.io import tables


@dataclasses.dataclass(frozen=True)
class Source:
  """A scan to read.

  Attributes:
    table: the CSV, for messages.
    path: a DICOM folder or a volume file.
    rows: all rows of the CSV that name it.
    group: pseudonym of the rows' group.
  """

  table: pathlib.Path
  path: pathlib.Path
  rows: tuple[tables.SeriesRow, ...]
  group: str


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of convnet3d's layout.

  Attributes:
    annotations: the CSV of series, below the raw root.
    classes: the class map, below the raw root.
    shares: of the splits.
    split_seed: chooses among the divisions.
  """

  annotations: str = 'annotations.csv'
  classes: str = 'mapping.csv'
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one scan and places its rows' voxels in the world."""
  name = source.rows[0].path
  volume = cases.read_file(source.path, name)
  if not volume.series_uid or not source.path.is_dir():
    volume = dataclasses.replace(volume, series_uid=name)
  if volume.spacing[0] is None:
    raise cases.LeftOut(name, 'single_image', 'one slice has no thickness')
  placed = [row for row in source.rows if row.label and row.x is not None]
  index = np.array([(x.z, x.y, x.x) for x in placed]).reshape(-1, 3)
  inside = (index >= -0.5) & (index <= np.array(volume.voxels.shape) - 0.5)
  for row, good in zip(placed, inside.all(axis=1), strict=True):
    if not good:
      raise ValueError(
        f'{source.table}:{row.line}: found x, y, z {row.x:g}, {row.y:g},'
        f' {row.z:g}, expected a voxel of the image of'
        f' {" x ".join(map(str, volume.voxels.shape[::-1]))}'
      )
  lesions = types.Findings(
    volume.index_to_world(index),
    np.array([np.nan if x.d is None else x.d for x in placed], float),
    np.array([row.label for row in placed], np.int32),
  )
  nothing = tables.to_findings(np.zeros((0, 4)))
  return cases.encode(types.Case(volume, source.group, lesions, nothing))


class Builder(builders.CaseBuilder):
  """Scans listed in a CSV, one row a finding."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with annotations.csv (path,class,x,y,z,d,group) and'
    ' mapping.csv (name,id); paths are relative to it.'
  )
  BUILDER_CONFIGS = [Config(name='csv')]
  read = staticmethod(read)

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: Config
  ) -> list[pathlib.Path]:
    """Adds the files that the CSV names and that lie elsewhere."""
    files = builders.walk(manual_dir)
    outside = {
      path
      for path in (x.path for x in _list_sources(manual_dir, config))
      if not path.is_relative_to(manual_dir)
    }
    for path in sorted(outside):
      files.extend(builders.walk(path) if path.is_dir() else [path])
    return files

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Gathers the rows of every scan and divides scans by group."""
    config = self.builder_config
    sources = _list_sources(manual_dir, config)
    found = splits.divide(
      sources, [x.group for x in sources], config.shares, config.split_seed
    )
    return cases.Listing(found, notes=tuple(_notes(sources)))


def _list_sources(root: pathlib.Path, config: Config) -> list[Source]:
  """Gathers the rows of every scan, in the order of the CSV."""
  for option in (config.annotations, config.classes):
    if not (root / option).is_file():
      raise ValueError(f'{root}: found no {option}')
  table = root / config.annotations
  rows = tables.read_series_rows(
    table, tables.read_class_map(root / config.classes)
  )
  by_path: dict[str, list[tables.SeriesRow]] = {}
  for row in rows:
    same = by_path.setdefault(row.path, [])
    same.append(row)
    if row.group != same[0].group:
      raise ValueError(
        f'{table}:{row.line}: found group {row.group!r}, expected'
        f' {same[0].group!r} as in line {same[0].line} of the same image'
      )
  return [_source(table, name, same) for name, same in by_path.items()]


def _source(
  table: pathlib.Path, name: str, rows: Sequence[tables.SeriesRow]
) -> Source:
  path = table.parent / name
  if not path.exists():
    raise ValueError(f'{table}:{rows[0].line}: found no file or folder {path}')
  group = cases.pseudonym(rows[0].group or name)
  return Source(table, path, tuple(rows), group)


def _notes(sources: Iterable[Source]) -> list[str]:
  """Tells of rows from which no lesion comes."""
  rows = [row for source in sources for row in source.rows]
  whole = sum(bool(row.label) and row.x is None for row in rows)
  background = sum(row.label == 0 and row.x is not None for row in rows)
  notes = []
  if whole:
    notes.append(f'{whole} rows class a whole image: it is kept, no lesion')
  if background:
    notes.append(f'{background} rows place background: they are no lesions')
  return notes
