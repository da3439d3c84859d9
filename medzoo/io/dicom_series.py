"""Which series lie under a path, and which of them is meant."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from medzoo.io import dicom_headers
from medzoo.io import dicom_pixels


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
  slices: tuple[dicom_headers.Slice, ...]
  skipped: tuple[tuple[str, str], ...] = ()
  single: bool = False
  repairs: tuple[str, ...] = ()

  @property
  def paths(self) -> list[str]:
    """The files that hold the series."""
    return list(dict.fromkeys(plane.file.path for plane in self.slices))


def find_series(path: str | os.PathLike[str]) -> list[Series]:
  """Finds every image series under a folder in one pass over the headers.

  Args:
    path: a folder, searched to any depth, or one file.

  Returns:
    the series, by SeriesInstanceUID; empty where there is no DICOM image.
  """
  scan = dicom_headers.scan(path)
  single = pathlib.Path(path).is_file()
  return [
    Series(
      uid=uid,
      modality=slices[0].file.modality,
      patient=slices[0].file.patient,
      slices=tuple(slices),
      skipped=scan.skipped,
      single=single,
    )
    for uid, slices in sorted(scan.series.items())
  ]


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
    Refused: 'not_dicom', 'unsupported_transfer_syntax' or 'several_series'.
  """
  found = find_series(path)
  if not found:
    raise dicom_headers.Refused('not_dicom', _nothing(pathlib.Path(path)))
  if series is not None:
    for one in found:
      if one.uid == series:
        return one
    raise dicom_headers.Refused(
      'not_dicom', f'none of the {len(found)} series there is {series}'
    )
  return _only(found)


def without_localizers(
  series: Series,
) -> tuple[list[dicom_headers.Slice], set[str]]:
  """Returns the slices that are no scout views, and the repairs so far."""
  repairs = set(series.repairs)
  slices = [plane for plane in series.slices if not plane.file.localizer]
  if not slices:
    return list(series.slices), repairs  # then the scout is what is wanted
  if len(slices) < len(series.slices):
    repairs.add('localizer')
  return slices, repairs


def check_syntax(slices: Sequence[dicom_headers.Slice]) -> None:
  """Refuses slices whose transfer syntax is not read."""
  for plane in slices:
    problem = dicom_pixels.unknown_syntax(plane.file)
    if problem:
      raise dicom_headers.Refused('unsupported_transfer_syntax', problem)


def _nothing(path: pathlib.Path) -> str:
  if not path.exists():
    return f'{path} does not exist'
  skipped = dicom_headers.scan(path).skipped
  kinds = sorted({kind for _, kind in skipped})
  return f'no DICOM image in {path.name}; {len(skipped)} other files' + (
    f' ({", ".join(kinds)})' if kinds else ''
  )


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
    raise dicom_headers.Refused(
      'several_series', f'{len(images)} series: {listed}'
    )
  return dataclasses.replace(images[0], repairs=tuple(sorted(repairs)))


def _count(series: Series) -> int:
  return sum(plane.frames for plane in series.slices)


def _all_localizers(series: Series) -> bool:
  return all(plane.file.localizer for plane in series.slices)
