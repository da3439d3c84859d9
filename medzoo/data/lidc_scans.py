"""Scans of LIDC-IDRI joined with what readers marked on them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from medzoo import types
from medzoo.data import volumes
from medzoo.io import dicom
from medzoo.io import lidc_lesions
from medzoo.io import lidc_types
from medzoo.io import lidc_xml

_EXPECTED = 'DICOM images, or XML of LIDC-IDRI on CT'
_LUNG_WINDOW = {'name': 'window', 'low': -1200.0, 'high': 400.0}


class LeftOut(ValueError):
  """A scan that cannot be used.

  Attributes:
    code: why, in one word: a reason of `medzoo.io.dicom`, or 'no_images',
      'no_ct', 'no_xml', 'bad_marks', 'no_lungs'.
  """

  def __init__(self, code: str, detail: str):
    super().__init__(f'{code}: {detail}')
    self.code = code


@dataclasses.dataclass(frozen=True)
class Scan:
  """The images of a series, the message on it, or both.

  Attributes:
    uid: SeriesInstanceUID.
    series: None where the images are not at hand.
    document: None where no reader's message is.
  """

  uid: str
  series: dicom.Series | None
  document: lidc_types.Document | None


@dataclasses.dataclass(frozen=True)
class Point:
  """A mark that encloses nothing.

  Attributes:
    kind: 'small' for a nodule below 3 mm, or 'non_nodule'.
    session: index of the reading session in its message.
    index: (3,) index coordinates (z, y, x) in the scan.
  """

  kind: str
  session: int
  index: np.ndarray


@dataclasses.dataclass(frozen=True)
class Reading:
  """A scan with its readers' marks.

  As in LUNA16 the contours decide, not the ratings: a nodule whose contours
  enclose pixels is one of 3 mm and more, any other is a small one.

  Attributes:
    volume: the scan as it was acquired.
    group: pseudonym of the patient.
    slices: index of the slice of every SOPInstanceUID.
    sessions: number of reading sessions.
    marks: the nodules of 3 mm and more.
    points: the small nodules and the non-nodules.
  """

  volume: types.Volume
  group: str
  slices: Mapping[str, int]
  sessions: int
  marks: tuple[lidc_lesions.Mark, ...]
  points: tuple[Point, ...]


def find(path: pathlib.Path) -> Iterator[Scan]:
  """Joins the image series in a place with the messages on CT there.

  All images' headers are read first, then one message after the other.

  Args:
    path: a folder with DICOM files, XML files and tar archives of XML at any
      depth, or one such file.

  Yields:
    What has a message in the order of the files, then what has none.

  Raises:
    ValueError: nothing of the kind is there, or as `lidc_xml.read_each`.
  """
  if not path.exists():
    raise ValueError(f'{path}: found no such path, expected {_EXPECTED}')
  series = {one.uid: one for one in dicom.find_series(path)}
  found = bool(series)
  is_image = path.is_file() and found
  for document in () if is_image else lidc_xml.read_each(path):
    if document.kind == 'ct':
      found = True
      uid = document.series_uid
      yield Scan(uid, series.pop(uid, None), document)
  if not found:
    raise ValueError(f'{path}: found nothing to read, expected {_EXPECTED}')
  for one in series.values():
    yield Scan(one.uid, one, None)


def read(
  scan: Scan, reader: Callable[[dicom.Series], types.Volume] = dicom.read
) -> types.Volume:
  """Reads the images of a scan.

  Args:
    scan: one of `find`'s.
    reader: `dicom.read`, or `dicom.grid` where intensities are not needed.

  Returns:
    The volume.

  Raises:
    LeftOut: there are none, they are no CT, or the reader refuses them.
  """
  if scan.series is None:
    raise LeftOut('no_images', 'only the XML is here')
  if scan.series.modality != 'CT':
    raise LeftOut('no_ct', f'modality {scan.series.modality or "unknown"}')
  try:
    return reader(scan.series)
  except dicom.Refused as error:
    raise LeftOut(error.code, error.detail) from None


def measure(scan: Scan, volume: types.Volume) -> Reading:
  """Measures and places the marks of a scan.

  Args:
    scan: one of `find`'s, with images.
    volume: what `read` returned for it.

  Returns:
    The scan with its marks.

  Raises:
    LeftOut: no reader marked it, or a mark does not fit it.
  """
  document = scan.document
  if document is None:
    raise LeftOut('no_xml', 'no XML on it is here')
  slices = dicom.slice_index(scan.series)
  try:
    marks, places = lidc_lesions.measure(document, slices, volume)
  except ValueError as error:
    raise LeftOut('bad_marks', str(error)) from None
  outlined = {id(mark.nodule) for mark in marks}
  # In the order in which `measure` gives the places.
  kinds = []
  for session, marked in enumerate(document.sessions):
    nodules = (*marked.nodules, *marked.small_nodules)
    small = [x for x in nodules if id(x) not in outlined]
    kinds += [('small', session)] * len(small)
    kinds += [('non_nodule', session)] * len(marked.non_nodules)
  return Reading(
    volume,
    scan.series.patient,
    slices,
    len(document.sessions),
    tuple(marks),
    tuple(
      Point(kind, session, index)
      for (kind, session), index in zip(
        kinds, volume.world_to_index(places), strict=True
      )
    ),
  )


def gray(voxels: np.ndarray) -> np.ndarray:
  """Shows Hounsfield units through the lung window, -1200 to 400, as uint8."""
  return np.rint(255 * volumes.window(voxels, _LUNG_WINDOW)).astype(np.uint8)
