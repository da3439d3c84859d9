"""What one DICOM file declares about its image, parsed once and quickly.

Only the tags that reading needs are parsed, and the place of the pixel data is
remembered, so that the file need not be parsed again. Values that identify a
person are not kept, except as a hash that says which scans belong together.
"""

import contextlib
import hashlib
import io
import logging
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

from medzoo.io import dicom_types

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
# The transfer syntax element of a deflated file, as it stands in the file.
_DEFLATED_MARK = b'\x02\x00\x10\x00UI\x16\x00' + dicom_types.DEFLATED.encode()
_MAX_INFLATED = 1 << 30

_NAMES = """
  BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel
  PhotometricInterpretation Rows Columns NumberOfFrames ImageType Modality
  SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID PatientID
  PixelSpacing ImagePositionPatient ImageOrientationPatient RescaleSlope
  RescaleIntercept PixelPaddingValue PixelPaddingRangeLimit
  GantryDetectorTilt ModalityLUTSequence SharedFunctionalGroupsSequence
  PerFrameFunctionalGroupsSequence
"""
# These stand within functional groups only.
_MACROS = """
  PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence
  PixelValueTransformationSequence
"""
# What made the image; read by itself, as nothing else depends on it.
_SCANNER = ('Manufacturer', 'ManufacturerModelName', 'SliceThickness')
_HEADER = [datadict.tag_for_keyword(name) for name in _NAMES.split()]
_TAGS = {
  name: datadict.tag_for_keyword(name)
  for name in (*_NAMES.split(), *_MACROS.split(), *_SCANNER)
}

# Objects that travel with scans, may even hold pixels, and are no pictures.
_KINDS = """
  SEG SR PR KO RTSTRUCT RTPLAN RTDOSE RTRECORD RTIMAGE REG FID RWV DOC PLAN SMR
  TEXTUREMAP M3D AU ECG EPS HD
"""
_NO_IMAGES = frozenset(_KINDS.split())


def open_dataset(path: str) -> BinaryIO:
  """Opens a DICOM file; a deflated one is inflated and without its preamble.

  Args:
    path: the file.

  Returns:
    a stream in which `dicom_types.File.offset` holds.

  Raises:
    zlib.error: the deflated part is broken or larger than 1 GiB.
  """
  stream = pathlib.Path(path).open('rb')  # noqa: SIM115 - the caller closes it
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


def read_header(path: str) -> tuple[str, list[dicom_types.Slice]]:
  """Tells what a file is, by its content, and reads an image's header.

  Args:
    path: the file.

  Returns:
    its kind: 'image', or 'SEG', 'DICOMDIR', 'no_image', 'not_dicom',
    'unreadable' and so on; and the slices if it is an image.
  """
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
  except Exception:  # a hostile file can break any parser anyhow
    return 'unreadable' if head[128:132] == b'DICM' else 'not_dicom', []


def read_scanner(path: str) -> dict[str, str]:
  """Reads what an image's header says of the scanner, which names nobody.

  Args:
    path: a DICOM image that `read_header` has accepted.

  Returns:
    Manufacturer, ManufacturerModelName and SliceThickness (mm) as written,
    '' where missing.
  """
  tags = [_TAGS[name] for name in _SCANNER]
  with quiet(), open_dataset(path) as stream:
    header = pydicom.dcmread(
      stream, stop_before_pixels=True, force=True, specific_tags=tags
    )
    return {name: _text(header, name) for name in _SCANNER}


def _may_be_dicom(head: bytes) -> bool:
  if head[128:132] == b'DICM':
    return True
  # Without the preamble a file starts with an element of group 2 or 8.
  return head[:2] in (b'\x02\x00', b'\x08\x00', b'\x00\x02', b'\x00\x08')


def _describe(
  path: str, header: pydicom.Dataset, stream: BinaryIO, prefixed: bool
) -> tuple[str, list[dicom_types.Slice]]:
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
  if file.offset is None and not file.series_uid:
    return 'unreadable', []  # cut before it says what it belongs to
  return 'image', _slices(file, header)


def _modality(kind: str) -> str:
  for modality in ('CT', 'MR'):
    if f'{modality} Image' in kind:
      return modality
  return ''


def _file(
  path: str, header: pydicom.Dataset, stream: BinaryIO, modality: str
) -> dicom_types.File:
  implicit, little = header.original_encoding
  syntax = str(header.file_meta.get('TransferSyntaxUID', ''))
  if isinstance(stream, io.BytesIO):
    syntax = dicom_types.DEFLATED
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
  return dicom_types.File(
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


def _slices(
  file: dicom_types.File, header: pydicom.Dataset
) -> list[dicom_types.Slice]:
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
  file: dicom_types.File, frame: int, frames: int, levels: list[pydicom.Dataset]
) -> dicom_types.Slice:
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

  return dicom_types.Slice(
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
