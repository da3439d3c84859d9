"""One quick pass over files: which are DICOM images, and what they declare.

Files are known by their content, so names and extensions do not matter. Only
the tags that reading needs are parsed, and the place of the pixel data is
remembered, so that no file is parsed twice. Values that identify a person are
never kept, except as a hash that says which scans belong together.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pydicom
from pydicom import config
from pydicom import datadict
from pydicom import uid

DEFLATED = '1.2.840.10008.1.2.1.99'

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
# The transfer syntax element of a deflated file, as it stands in the file.
_DEFLATED_MARK = b'\x02\x00\x10\x00UI\x16\x00' + DEFLATED.encode()
_MAX_INFLATED = 1 << 30

_TAGS = {
  name: datadict.tag_for_keyword(name)
  for name in (
    'BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel '
    'PhotometricInterpretation Rows Columns NumberOfFrames ImageType '
    'Modality SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID '
    'PatientID PixelSpacing ImagePositionPatient ImageOrientationPatient '
    'RescaleSlope RescaleIntercept PixelPaddingValue PixelPaddingRangeLimit '
    'GantryDetectorTilt ModalityLUTSequence PlanePositionSequence '
    'PlaneOrientationSequence PixelMeasuresSequence '
    'PixelValueTransformationSequence SharedFunctionalGroupsSequence '
    'PerFrameFunctionalGroupsSequence'
  ).split()
}
_MACROS = (
  'PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence '
  'PixelValueTransformationSequence'
).split()
_HEADER = [tag for name, tag in _TAGS.items() if name not in _MACROS]

# Objects that travel with scans, may even hold pixels, and are no pictures.
_NO_IMAGES = frozenset(
  'SEG SR PR KO RTSTRUCT RTPLAN RTDOSE RTRECORD RTIMAGE REG FID RWV DOC '
  'PLAN SMR TEXTUREMAP M3D AU ECG EPS HD'.split()
)


class Refused(ValueError):
  """A series that cannot be read without guessing.

  Attributes:
    code: the reason, one of the names in `medzoo.io.dicom`.
    detail: one line for a person: what was found, and where.
  """

  def __init__(self, code: str, detail: str):
    super().__init__(f'{code}: {detail}')
    self.code = code
    self.detail = detail


@dataclasses.dataclass(frozen=True, slots=True)
class File:
  """What one DICOM image file declares.

  Attributes:
    path: where it is.
    series_uid: SeriesInstanceUID, '' where missing.
    sop_uid: SOPInstanceUID, '' where missing.
    patient: hash of PatientID (of the study's or series' UID where empty).
    modality: 'CT' or 'MR' say, '' where unknown.
    syntax: transfer syntax UID, '' where the file does not say.
    big_endian: whether numbers are stored with the high byte first.
    rows: pixels down; 0 where missing, as for all counts here.
    columns: pixels across.
    frames: NumberOfFrames, 1 where missing.
    samples: values per pixel.
    photometric: PhotometricInterpretation.
    allocated: bits of a pixel's container.
    stored: bits of it that count.
    high: the highest of them.
    signed: whether stored values are two's complement.
    padding: lowest and highest stored value that mean "no data", or None.
    lookup: whether values pass through a table (ModalityLUTSequence).
    localizer: whether ImageType says LOCALIZER.
    tilt: GantryDetectorTilt in degrees, None where missing.
    offset: where the value of PixelData starts, None where there is none.
    length: its bytes; None if encapsulated.
    available: bytes from there to the end of the file.
  """

  path: str
  series_uid: str
  sop_uid: str
  patient: str
  modality: str
  syntax: str
  big_endian: bool
  rows: int
  columns: int
  frames: int
  samples: int
  photometric: str
  allocated: int
  stored: int
  high: int
  signed: bool
  padding: tuple[int, int] | None
  lookup: bool
  localizer: bool
  tilt: float | None
  offset: int | None
  length: int | None
  available: int

  @property
  def name(self) -> str:
    """The file's own name, for messages."""
    return pathlib.Path(self.path).name


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
  """One plane of an image file, and where it lies.

  Attributes:
    file: the file that holds it.
    frame: its number in that file, from 0.
    frames: 1, or how many planes this stands for where the file has several
      and does not say where each lies.
    position: world (x, y, z) of its first pixel in mm, None where unknown.
    orientation: world directions of a row, then of a column; None likewise.
    spacing: distance of rows, then of columns, mm; None likewise.
    slope: factor of the stored values, None where it is no single number.
    intercept: what is added then; None likewise.
  """

  file: File
  frame: int
  frames: int
  position: tuple[float, ...] | None
  orientation: tuple[float, ...] | None
  spacing: tuple[float, ...] | None
  slope: float | None
  intercept: float | None


@dataclasses.dataclass(frozen=True)
class Scan:
  """Everything found under a path.

  Attributes:
    series: slices by SeriesInstanceUID, in the order of the file names.
    skipped: path and kind of each file that is no DICOM image.
  """

  series: dict[str, list[Slice]]
  skipped: tuple[tuple[str, str], ...]


def scan(path: str | os.PathLike[str]) -> Scan:
  """Reads the headers of the file `path`, or of all files under a folder."""
  series: dict[str, list[Slice]] = collections.defaultdict(list)
  skipped = []
  with quiet():
    for name in _files(os.fspath(path)):
      try:
        kind, slices = _read_header(name)
      except OSError:
        kind, slices = 'unreadable', []
      if slices:
        series[slices[0].file.series_uid].extend(slices)
      else:
        skipped.append((name, kind))
  return Scan(dict(series), tuple(skipped))


def open_dataset(path: str) -> BinaryIO:
  """Opens a DICOM file; a deflated one is inflated and without its preamble.

  Args:
    path: the file.

  Returns:
    a stream in which `File.offset` holds.

  Raises:
    zlib.error: the deflated part is broken or larger than 1 GiB.
  """
  stream = pathlib.Path(path).open('rb')
  head = stream.read(1024)
  if head[128:132] != b'DICM' or _DEFLATED_MARK not in head:
    stream.seek(0)
    return stream
  with stream:
    # The group length, 12 bytes long, counts the rest of the file meta group.
    (size,) = struct.unpack('<I', head[140:144])
    stream.seek(144 + size)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(stream.read(), _MAX_INFLATED)
    if inflater.unconsumed_tail:
      raise zlib.error('more than 1 GiB')
  return io.BytesIO(data)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps pydicom from checking, and from logging, the values of tags."""
  logger = logging.getLogger('pydicom')
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    with warnings.catch_warnings(), config.disable_value_validation():
      warnings.simplefilter('ignore')
      yield
  finally:
    logger.setLevel(level)


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


def _read_header(path: str) -> tuple[str, list[Slice]]:
  """Returns the kind of a file, and its slices if it is an image."""
  with pathlib.Path(path).open('rb') as stream:
    head = stream.read(132)
  if not _may_be_dicom(head):
    return 'not_dicom', []
  try:
    with open_dataset(path) as stream:
      header = pydicom.dcmread(
        stream, stop_before_pixels=True, force=True, specific_tags=_HEADER
      )
      return _describe(path, header, stream, head[128:132] == b'DICM')
  except OSError:
    raise
  except Exception:  # noqa: BLE001 - a hostile file can break any parser
    return 'unreadable', []


def _may_be_dicom(head: bytes) -> bool:
  if head[128:132] == b'DICM':
    return True
  # Without the preamble a file starts with an element of group 2 or 8.
  return head[:2] in (b'\x02\x00', b'\x08\x00', b'\x00\x02', b'\x00\x08')


def _describe(
  path: str, header: pydicom.Dataset, stream: BinaryIO, prefixed: bool
) -> tuple[str, list[Slice]]:
  meta = header.file_meta
  stored_as = str(meta.get('MediaStorageSOPClassUID', ''))
  if stored_as == uid.MediaStorageDirectoryStorage:
    return 'DICOMDIR', []
  kind = uid.UID(_text(header, 'SOPClassUID') or stored_as).name
  modality = _text(header, 'Modality') or _modality(kind)
  if modality in _NO_IMAGES:
    return modality, []
  sized = bool(_number(header, 'Rows') and _number(header, 'Columns'))
  named = kind.endswith('Storage')
  if named and 'Image Storage' not in kind:
    return 'no_image', []
  if not named and not sized:
    return ('no_image' if prefixed else 'not_dicom'), []
  file = _file(path, header, stream, modality)
  return 'image', _slices(file, header)


def _modality(kind: str) -> str:
  for modality in ('CT', 'MR'):
    if f'{modality} Image' in kind:
      return modality
  return ''


def _file(
  path: str, header: pydicom.Dataset, stream: BinaryIO, modality: str
) -> File:
  implicit, little = header.original_encoding
  syntax = str(header.file_meta.get('TransferSyntaxUID', ''))
  if isinstance(stream, io.BytesIO):
    syntax = DEFLATED
  offset, length, available = _pixel_data(stream, implicit, little)
  allocated = _number(header, 'BitsAllocated')
  stored = _number(header, 'BitsStored') or allocated
  signed = _number(header, 'PixelRepresentation') == 1
  person = (
    _text(header, 'PatientID')
    or _text(header, 'StudyInstanceUID')
    or _text(header, 'SeriesInstanceUID')
  )
  types = _text(header, 'ImageType').upper().split('\\')
  return File(
    path=path,
    series_uid=_text(header, 'SeriesInstanceUID'),
    sop_uid=_text(header, 'SOPInstanceUID'),
    patient=hashlib.sha256(person.encode()).hexdigest()[:16],
    modality=modality,
    syntax=syntax,
    big_endian=not little,
    rows=_number(header, 'Rows'),
    columns=_number(header, 'Columns'),
    frames=_number(header, 'NumberOfFrames') or 1,
    samples=_number(header, 'SamplesPerPixel') or 1,
    photometric=_text(header, 'PhotometricInterpretation'),
    allocated=allocated,
    stored=stored,
    high=_number(header, 'HighBit') or stored - 1,
    signed=signed,
    padding=_padding(header, signed),
    lookup=_TAGS['ModalityLUTSequence'] in header,
    localizer='LOCALIZER' in [value.strip() for value in types],
    tilt=(_floats(header, 'GantryDetectorTilt', 1) or (None,))[0],
    offset=offset,
    length=length,
    available=available,
  )


def _pixel_data(
  stream: BinaryIO, implicit: bool, little: bool
) -> tuple[int | None, int | None, int]:
  """Returns offset, length and bytes left of PixelData, where parsing ended."""
  start = stream.tell()
  head = stream.read(12)
  end = stream.seek(0, io.SEEK_END)
  order = '<' if little else '>'
  if len(head) < 8 or struct.unpack(order + 'HH', head[:4]) != _PIXEL_DATA:
    return None, None, 0
  if implicit:
    size, (length,) = 8, struct.unpack(order + 'I', head[4:8])
  elif head[4:6] in (b'OB', b'OW', b'UN') and len(head) == 12:
    size, (length,) = 12, struct.unpack(order + 'I', head[8:])
  else:
    size, (length,) = 8, struct.unpack(order + 'H', head[6:8])
  left = max(end - start - size, 0)
  return start + size, None if length == _UNDEFINED else length, left


def _slices(file: File, header: pydicom.Dataset) -> list[Slice]:
  shared = _items(header, 'SharedFunctionalGroupsSequence')
  frames = _items(header, 'PerFrameFunctionalGroupsSequence')
  if not frames or len(frames) != file.frames:
    # NumberOfFrames may be a lie of any size, so it is not looped over.
    return [_slice(file, 0, file.frames, [header, *shared[:1]])]
  return [
    _slice(file, i, 1, [item, *shared[:1], header])
    for i, item in enumerate(frames)
  ]


def _slice(
  file: File, frame: int, frames: int, levels: list[pydicom.Dataset]
) -> Slice:
  """Looks each value up in the frame, then in what all frames share."""

  def find(macro: str, name: str, count: int) -> tuple[float, ...] | None:
    for level in levels:
      for item in [*_items(level, macro)[:1], level]:
        if _text(item, name):
          return _floats(item, name, count)
    return None

  def rescale(name: str, default: float) -> float | None:
    for level in levels:
      macro = _items(level, 'PixelValueTransformationSequence')
      for item in [*macro[:1], level]:
        if _text(item, name):
          return (_floats(item, name, 1) or (None,))[0]
    return default

  return Slice(
    file=file,
    frame=frame,
    frames=frames,
    position=find('PlanePositionSequence', 'ImagePositionPatient', 3),
    orientation=find('PlaneOrientationSequence', 'ImageOrientationPatient', 6),
    spacing=find('PixelMeasuresSequence', 'PixelSpacing', 2),
    slope=rescale('RescaleSlope', 1.0),
    intercept=rescale('RescaleIntercept', 0.0),
  )


def _padding(header: pydicom.Dataset, signed: bool) -> tuple[int, int] | None:
  """Returns the padding range, read in the image's own signedness.

  The two tags are written as signed or unsigned at their writer's whim, so
  their bytes are taken rather than their declared type.
  """
  order = 'little' if header.original_encoding[1] else 'big'
  limits = [
    int.from_bytes(raw[:2], order, signed=signed)
    for raw in (
      _raw(header, 'PixelPaddingValue'),
      _raw(header, 'PixelPaddingRangeLimit'),
    )
    if len(raw) >= 2
  ]
  if not _raw(header, 'PixelPaddingValue'):
    return None
  return min(limits), max(limits)


def _items(level: pydicom.Dataset, name: str) -> list[pydicom.Dataset]:
  element = level.get(_TAGS[name])
  if element is None or not isinstance(element.value, pydicom.Sequence):
    return []
  return list(element.value)


def _raw(level: pydicom.Dataset, name: str) -> bytes:
  """Returns the bytes of an element without padding, b'' where missing."""
  tag = _TAGS[name]
  if tag not in level:
    return b''
  value = level.get_item(tag).value
  return value if isinstance(value, bytes) else b''


def _text(level: pydicom.Dataset, name: str) -> str:
  return _raw(level, name).decode('latin-1').strip(' \0')


def _number(level: pydicom.Dataset, name: str) -> int:
  """Returns a binary or written whole number, 0 where there is none."""
  raw = _raw(level, name)
  if name == 'NumberOfFrames':
    text = raw.decode('latin-1').strip(' \0')
    return int(text) if text.isdecimal() else 0
  little = level.get_item(_TAGS[name]).is_little_endian if raw else True
  return int.from_bytes(raw[:2], 'little' if little else 'big')


def _floats(
  level: pydicom.Dataset, name: str, count: int
) -> tuple[float, ...] | None:
  """Returns exactly `count` numbers, or None."""
  try:
    numbers = tuple(float(part) for part in _text(level, name).split('\\'))
  except ValueError:
    return None
  return numbers if len(numbers) == count else None
