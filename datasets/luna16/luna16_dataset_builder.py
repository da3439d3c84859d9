"""Builder of LUNA16, and of DICOM series annotated in its form."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from datasets import builders
from datasets import cases
from datasets import splits
from medzoo import types
from medzoo.io import dicom
from medzoo.io import tables

_SUBSET = re.compile(r'subset[0-9]')
_NONE = np.zeros((0, 4))


@dataclasses.dataclass(frozen=True)
class Source:
  """A scan to read.

  Attributes:
    scan: an .mhd file or a DICOM series.
    series: its SeriesInstanceUID.
    group: pseudonym of its patient.
    lesions: (n, 4) world x, y, z and diameter in mm.
    excluded: (n, 4) the same of what does not count, -1 without diameter.
  """

  scan: pathlib.Path | dicom.Series
  series: str
  group: str
  lesions: np.ndarray
  excluded: np.ndarray


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of LUNA16.

  Attributes:
    shares: of the splits of a DICOM tree; .mhd files keep their subsets.
    split_seed: chooses among the divisions of a DICOM tree.
    patient_map: file that says whose every series is, as TCIA publishes it;
      '' where there is none, then .mhd files are grouped by series.
  """

  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0
  patient_map: str = ''


def read(source: Source) -> cases.Example:
  """Reads one scan."""
  if isinstance(source.scan, dicom.Series):
    volume = cases.read_dicom(source.scan)
  else:
    volume = cases.read_file(source.scan, source.series)
    volume = dataclasses.replace(
      volume, modality='CT', series_uid=source.series
    )
  lesions, excluded = map(tables.to_findings, (source.lesions, source.excluded))
  return cases.encode(types.Case(volume, source.group, lesions, excluded))


class Builder(builders.CaseBuilder):
  """LUNA16 as ten subsets, or any DICOM series with an annotations.csv."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with subset0 to subset9 and annotations.csv, or with DICOM'
    ' series and annotations.csv.'
  )
  BUILDER_CONFIGS = [Config(name='official')]
  read = staticmethod(read)

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: Config
  ) -> list[pathlib.Path]:
    """Adds the map of patients, which may lie elsewhere."""
    return builders.walk(manual_dir) + cases.optional_file(config.patient_map)

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins scans with the rows of the tables."""
    files = builders.walk(manual_dir)
    lesions = _read_table(manual_dir, files, 'annotations.csv')
    if lesions is None:
      raise ValueError(f'{manual_dir}: found no annotations.csv')
    notes = []
    excluded = _read_table(manual_dir, files, 'annotations_excluded.csv')
    if excluded is None:
      notes.append('no annotations_excluded.csv: nothing is excluded')
    make = _Maker(lesions, excluded or {}, self._patients())
    subsets = _list_subsets(manual_dir, files)
    if subsets:
      missing = sorted({f'subset{i}' for i in range(10)} - set(subsets))
      if missing:
        notes.append(f'no scans in {", ".join(missing)}')
      found = {
        name: [make(path, path.stem, path.stem) for path in paths]
        for name, paths in subsets.items()
      }
      left_out: Sequence[cases.LeftOut] = ()
    else:
      found, left_out = self._divide_dicom(manual_dir, files, make)
      if not found and not left_out:
        raise ValueError(
          f'{manual_dir}: found neither subset0 to subset9 with .mhd files nor'
          ' DICOM series'
        )
    notes.extend(_check_names(manual_dir, found, lesions))
    return cases.Listing(found, tuple(left_out), tuple(notes))

  def _patients(self) -> dict[str, str]:
    name = self.builder_config.patient_map
    return cases.read_patients(pathlib.Path(name)) if name else {}

  def _divide_dicom(
    self,
    root: pathlib.Path,
    files: Sequence[pathlib.Path],
    make: '_Maker',
  ) -> tuple[dict[str, list[Source]], list[cases.LeftOut]]:
    listed = _find(root, files, 'seriesuids.csv')
    wanted = set(tables.read_seriesuids(listed)) if listed else None
    sources, left_out = [], []
    for series in dicom.find_series(root):
      if series.modality != 'CT':
        left_out.append(
          cases.LeftOut(series.uid, 'no_ct', f'modality {series.modality}')
        )
      elif wanted is not None and series.uid not in wanted:
        left_out.append(
          cases.LeftOut(series.uid, 'not_listed', 'not in seriesuids.csv')
        )
      else:
        sources.append(make(series, series.uid, series.patient))
    config = self.builder_config
    return splits.divide(
      sources, [x.group for x in sources], config.shares, config.split_seed
    ), left_out


@dataclasses.dataclass(frozen=True)
class _Maker:
  """Joins a scan with what the tables say of it."""

  lesions: Mapping[str, np.ndarray]
  excluded: Mapping[str, np.ndarray]
  patients: Mapping[str, str]

  def __call__(
    self, scan: pathlib.Path | dicom.Series, series: str, owner: str
  ) -> Source:
    if series in self.patients:
      owner = self.patients[series]
    # A DICOM header's patient comes as a pseudonym already.
    is_name = series in self.patients or isinstance(scan, pathlib.Path)
    return Source(
      scan,
      series,
      cases.pseudonym(owner) if is_name else owner,
      self.lesions.get(series, _NONE),
      self.excluded.get(series, _NONE),
    )


def _list_subsets(
  root: pathlib.Path, files: Sequence[pathlib.Path]
) -> dict[str, list[pathlib.Path]]:
  """Finds the .mhd files of every subset folder, however deep it lies."""
  found: dict[str, list[pathlib.Path]] = {}
  for path in files:
    if path.suffix == '.mhd':
      for part in path.relative_to(root).parts[:-1]:
        if _SUBSET.fullmatch(part):
          found.setdefault(part, []).append(path)
          break
  return dict(sorted(found.items()))


def _find(
  root: pathlib.Path, files: Sequence[pathlib.Path], name: str
) -> pathlib.Path | None:
  found = [path for path in files if path.name == name]
  if len(found) > 1:
    raise ValueError(f'{root}: found {len(found)} files {name}, expected one')
  return found[0] if found else None


def _read_table(
  root: pathlib.Path, files: Sequence[pathlib.Path], name: str
) -> dict[str, np.ndarray] | None:
  path = _find(root, files, name)
  return tables.read_marks(path, 'diameter_mm') if path else None


def _check_names(
  root: pathlib.Path,
  found: Mapping[str, Sequence[Source]],
  lesions: Mapping[str, np.ndarray],
) -> list[str]:
  """Tells of annotated series without scan; refuses if there are no others."""
  names = {source.series for sources in found.values() for source in sources}
  lost = set(lesions) - names
  if names and lesions and len(lost) == len(lesions):
    raise ValueError(
      f'{root}: found {len(names)} scans, none of which is one of the'
      f' {len(lesions)} series of annotations.csv'
    )
  return [f'{len(lost)} annotated series have no scan here'] if lost else []
