"""Which series lie under a path, and which of them is meant."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from medzoo.io import dicom_headers
from medzoo.io import dicom_pixels
from medzoo.io import dicom_types


@dataclasses.dataclass(frozen=True)
class Series:
  """The images of one series, found but not yet read.

  Attributes:
    uid: SeriesInstanceUID, '' where the files have none.
    modality: 'CT' or 'MR' say, '' where unknown.
    patient: pseudonym of the patient, the same for all of one patient's
      series; made from PatientID, which it does not reveal.
    slices: headers of the slices, in the order of the file names.
    skipped: path and kind ('SEG', 'not_dicom' ...) of the files beside it
      that are no DICOM images.
    single: whether the path was a file, so that one slice is an image.
    repairs: what was mended by choosing this series.
  """

  uid: str
  modality: str
  patient: str
  slices: tuple[dicom_types.Slice, ...]
  skipped: tuple[tuple[str, str], ...] = ()
  single: bool = False
  repairs: tuple[str, ...] = ()

  @property
  def paths(self) -> list[str]:
    """The files that hold the series."""
    return list(dict.fromkeys(plane.file.path for plane in self.slices))


@dataclasses.dataclass(frozen=True)
class Scan:
  """Everything found under a path.

  Attributes:
    series: slices by SeriesInstanceUID, in the order of the file names.
    skipped: path and kind of each file that is no DICOM image.
  """

  series: dict[str, list[dicom_types.Slice]]
  skipped: tuple[tuple[str, str], ...]


def scan(path: str | os.PathLike[str]) -> Scan:
  """Reads the headers of the file `path`, or of all files under a folder."""
  series: dict[str, list[dicom_types.Slice]] = collections.defaultdict(list)
  skipped = []
  with dicom_headers.quiet():
    for name in _files(os.fspath(path)):
      try:
        kind, slices = dicom_headers.read_header(name)
      except OSError:
        kind, slices = 'unreadable', []
      if slices:
        series[slices[0].file.series_uid].extend(slices)
      else:
        skipped.append((name, kind))
  return Scan(dict(series), tuple(skipped))


def find_series(path: str | os.PathLike[str]) -> list[Series]:
  """Finds every image series under a folder in one pass over the headers.

  Args:
    path: a folder, searched to any depth, or one file.

  Returns:
    the series, by SeriesInstanceUID; empty where there is no DICOM image.
  """
  return _found(path, scan(path))


def choose(
  path: str | os.PathLike[str], *, series: str | None = None
) -> Series:
  """Finds the one series under a path that is to be read.

  Args:
    path: a folder or a file.
    series: the SeriesInstanceUID wanted, or None for the only whole one.

  Returns:
    the series, with what was left out named in its `repairs`.

  Raises:
    Refused: 'not_dicom', 'unsupported_transfer_syntax' or 'several_series';
      'truncated_pixels' where a DICOM file cannot even be parsed, for nobody
      knows then what is missing.
  """
  everything = scan(path)
  found = _found(path, everything)
  broken = [name for name, kind in everything.skipped if kind == 'unreadable']
  if not found and (not broken or not pathlib.Path(path).exists()):
    raise dicom_types.Refused('not_dicom', _nothing(path, everything))
  if found and series is not None:
    found = [one for one in found if one.uid == series]
    if not found:
      raise dicom_types.Refused('not_dicom', f'no series {series} there')
  chosen = _only(found) if len(found) > 1 else None
  if broken:
    raise dicom_types.Refused(
      'truncated_pixels', f'{pathlib.Path(broken[0]).name} cannot be parsed'
    )
  return chosen or found[0]


def without_localizers(
  series: Series,
) -> tuple[list[dicom_types.Slice], set[str]]:
  """Returns the slices that are no scout views, and the repairs so far."""
  repairs = set(series.repairs)
  slices = [plane for plane in series.slices if not plane.file.localizer]
  if not slices:
    return list(series.slices), repairs  # then the scout is what is wanted
  if len(slices) < len(series.slices):
    repairs.add('localizer')
  return slices, repairs


def check_syntax(slices: Sequence[dicom_types.Slice]) -> None:
  """Refuses slices whose transfer syntax is not read."""
  for plane in slices:
    problem = dicom_pixels.unknown_syntax(plane.file)
    if problem:
      raise dicom_types.Refused('unsupported_transfer_syntax', problem)


def _found(path: str | os.PathLike[str], everything: Scan) -> list[Series]:
  single = pathlib.Path(path).is_file()
  return [
    Series(
      uid=uid,
      modality=slices[0].file.modality,
      patient=slices[0].file.patient,
      slices=tuple(slices),
      skipped=everything.skipped,
      single=single,
    )
    for uid, slices in sorted(everything.series.items())
  ]


def _nothing(path: str | os.PathLike[str], everything: Scan) -> str:
  name = pathlib.Path(path)
  if not name.exists():
    return f'{name} does not exist'
  kinds = sorted({kind for _, kind in everything.skipped})
  return f'{name}: no DICOM image (found: {", ".join(kinds) or "no files"})'


def _only(found: list[Series]) -> Series:
  """Sets localizers and strays aside and returns the one whole series."""
  images = [one for one in found if not _all_localizers(one)]
  repairs = set()
  if images and len(images) < len(found):
    repairs.add('localizer')
  else:
    images = found
  whole = [one for one in images if _count(one) >= 3]
  if whole and len(whole) < len(images):
    repairs.add('foreign_series')
    images = whole
  for one in images:
    check_syntax(one.slices)
  if len(images) > 1:
    listed = ', '.join(f'{one.uid} ({_count(one)} slices)' for one in images)
    raise dicom_types.Refused(
      'several_series', f'{len(images)} series: {listed}'
    )
  return dataclasses.replace(images[0], repairs=tuple(sorted(repairs)))


def _count(series: Series) -> int:
  return sum(plane.frames for plane in without_localizers(series)[0])


def _all_localizers(series: Series) -> bool:
  return all(plane.file.localizer for plane in series.slices)


def _files(path: str) -> Iterator[str]:
  if not os.path.isdir(path):  # noqa: PTH112
    yield path
    return
  for folder, folders, names in os.walk(path):
    folders.sort()
    for name in sorted(names):
      file = pathlib.Path(folder, name)
      if file.is_file():  # neither a pipe nor a broken link
        yield str(file)
