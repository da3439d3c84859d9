"""What there is of LIDC-IDRI in a place: a row a scan.

Nothing that could identify a person is listed: no names, no dates, no free
text but the names of the scanner and its maker.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from medzoo.data import lidc_scans
from medzoo.io import dicom
from medzoo.io import dicom_headers
from medzoo.io import lidc_lesions
from medzoo.io import lidc_types

_AGREEING = (1, 2, 3, 4)

# Distances are in mm. `thickness` is what the header claims, `slice_step` what
# lies between slices. `readers` counts the sessions, the next three their
# marks by LIDC's kinds, `lesions_N` the lesions that N readers or more agree
# on. `refused` says in one word why a scan is not read.
COLUMNS = (
  'series',
  'modality',
  'vendor',
  'model',
  'slices',
  'rows',
  'columns',
  'slice_step',
  'row_step',
  'column_step',
  'thickness',
  'readers',
  'nodules',
  'small_nodules',
  'non_nodules',
  *(f'lesions_{n}' for n in _AGREEING),
  'refused',
)


def rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Lists the scans in a place from headers and XML, one at a time.

  Args:
    path: as of `lidc_scans.find`.

  Yields:
    By a name of `COLUMNS`, what is known of a scan; what is not, is missing.

  Raises:
    ValueError: as `lidc_scans.find` does.
  """
  for scan in lidc_scans.find(path):
    row: dict[str, Any] = {'series': scan.uid}
    if scan.document is not None:
      row |= _counts(scan.document)
    if scan.series is not None:
      row |= _header(scan.series)
      try:
        row |= _measured(scan)
      except lidc_scans.LeftOut as error:
        row['refused'] = error.code
    yield row


def _counts(document: lidc_types.Document) -> dict[str, int]:
  sessions = document.sessions
  return {
    'readers': len(sessions),
    'nodules': sum(len(x.nodules) for x in sessions),
    'small_nodules': sum(len(x.small_nodules) for x in sessions),
    'non_nodules': sum(len(x.non_nodules) for x in sessions),
  }


def _header(series: dicom.Series) -> dict[str, Any]:
  """What the first slice says, also of a series that is refused."""
  first = series.slices[0]
  tags = dicom_headers.read_scanner(first.file.path)
  row, column = first.spacing or ('', '')
  return {
    'modality': series.modality,
    'vendor': tags['Manufacturer'],
    'model': tags['ManufacturerModelName'],
    'thickness': tags['SliceThickness'],
    'slices': sum(plane.frames for plane in series.slices),
    'rows': first.file.rows,
    'columns': first.file.columns,
    'row_step': row,
    'column_step': column,
  }


def _measured(scan: lidc_scans.Scan) -> dict[str, Any]:
  """What the whole series says together.

  Raises:
    lidc_scans.LeftOut: it is no volume, or the marks do not fit it.
  """
  grid = lidc_scans.read(scan, dicom.grid)
  found = {'slices': len(grid.voxels)}
  if grid.spacing[0] is not None:
    found['slice_step'] = round(grid.spacing[0], 4)
  if scan.document is not None:
    lesions = lidc_lesions.cluster(lidc_scans.measure(scan, grid).marks)
    for n in _AGREEING:
      found[f'lesions_{n}'] = sum(x.readers >= n for x in lesions)
  return found
