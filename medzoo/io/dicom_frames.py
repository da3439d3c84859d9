"""Encapsulated pixel data: fragments put together and decompressed.

imagecodecs does the decoding. Of a cut stream its JPEG decoder fills in what
is missing without a word, its JPEG-LS decoder thinks for seconds, and every
decoder believes the size that a frame claims; so these are checked before.
"""

import struct
from typing import BinaryIO

import imagecodecs
import numpy as np

from medzoo.io import dicom_types

JPEG = frozenset(
  f'1.2.840.10008.1.2.4.{number}' for number in (50, 51, 53, 55, 57, 70)
)
JPEG_LS = frozenset(['1.2.840.10008.1.2.4.80', '1.2.840.10008.1.2.4.81'])
JPEG_2000 = frozenset(['1.2.840.10008.1.2.4.90', '1.2.840.10008.1.2.4.91'])
RLE = '1.2.840.10008.1.2.5'

_ITEM = 0xE000FFFE
_END = 0xE0DDFFFE
_STARTS = (b'\xff\xd8', b'\xff\x4f\xff\x51')  # of JPEG, JPEG-LS and JPEG 2000
_TABLES = (0xC4, 0xC8, 0xCC)  # JPEG markers between those of frames
# An image this small is decoded whatever its compressed size says.
_SMALL = 1 << 24


def fragments(stream: BinaryIO) -> tuple[list[int], list[bytes], list[int]]:
  """Reads an encapsulated value to its end.

  Args:
    stream: stands at the first item, the offset table.

  Returns:
    the offset table; the fragments; where each starts, counted as in it.

  Raises:
    ValueError: the file ends too soon.
  """
  items, starts = [], []
  position = 0
  while True:
    head = stream.read(8)
    if len(head) < 8:
      raise ValueError('the file ends inside its pixel data')
    tag, length = struct.unpack('<II', head)
    if tag == _END:
      break
    data = stream.read(length) if tag == _ITEM else b''
    if tag != _ITEM or len(data) < length:
      raise ValueError('the file ends, or is broken, inside its pixel data')
    items.append(data)
    starts.append(position)
    position += 8 + length
  if len(items) < 2:
    raise ValueError('the pixel data are empty')
  table = list(struct.unpack(f'<{len(items[0]) // 4}I', items[0]))
  return table, items[1:], [start - starts[1] for start in starts[1:]]


def frames(
  table: list[int],
  pieces: list[bytes],
  starts: list[int],
  file: dicom_types.File,
) -> list[bytes]:
  """Puts the fragments of each frame together."""
  if file.frames == 1:
    return [b''.join(pieces)]
  if len(pieces) == file.frames:
    return pieces
  if len(table) == file.frames and set(table) <= set(starts):
    first = [starts.index(offset) for offset in table]
  else:
    first = [i for i, data in enumerate(pieces) if data.startswith(_STARTS)]
  if len(first) != file.frames or first[0] or first != sorted(set(first)):
    raise ValueError(
      f'{len(pieces)} fragments do not make {file.frames} frames'
    )
  ends = [*first[1:], len(pieces)]
  return [b''.join(pieces[a:b]) for a, b in zip(first, ends, strict=True)]


def decompress(data: bytes, file: dicom_types.File) -> np.ndarray:
  """Decodes one frame into the container type of its file."""
  shape = (file.rows, file.columns)
  claimed = _claimed_shape(data, file)
  if claimed != shape:
    raise ValueError(f'a frame of {claimed} pixels, {shape} declared')
  if file.rows * file.columns > max(_SMALL, 1000 * len(data)):
    raise ValueError(f'{len(data)} bytes cannot be {shape} pixels')
  if file.syntax == RLE:
    container = np.dtype(f'<u{file.allocated // 8}')
    raw = imagecodecs.dicomrle_decode(data, container)
    if len(raw) < file.rows * file.columns * container.itemsize:
      raise ValueError(f'{len(raw)} decoded bytes cannot be {shape} pixels')
    pixels = np.frombuffer(raw, container, file.rows * file.columns)
  elif file.syntax in JPEG_2000:
    pixels = imagecodecs.jpeg2k_decode(data)
  elif not data.rstrip(b'\0\xff').endswith(b'\xff\xd9'):
    raise ValueError('a JPEG frame that has no end')
  elif file.syntax in JPEG_LS:
    pixels = imagecodecs.jpegls_decode(data)
  else:
    pixels = imagecodecs.jpeg8_decode(data)
  if pixels.size != file.rows * file.columns:
    raise ValueError(f'a frame of {pixels.shape} values, {shape} declared')
  return _contain(pixels.reshape(shape), file)


def _contain(pixels: np.ndarray, file: dicom_types.File) -> np.ndarray:
  """Widens what a codec returned to the file's container, keeping bits."""
  if 8 * pixels.dtype.itemsize > file.allocated:
    raise ValueError(f'{pixels.dtype} pixels in {file.allocated} bits')
  return pixels.astype(f'{pixels.dtype.kind}{file.allocated // 8}', copy=False)


def _claimed_shape(
  data: bytes, file: dicom_types.File
) -> tuple[int, int] | None:
  """Reads rows and columns in a frame's own header, before any decoding."""
  if file.syntax == RLE:
    return file.rows, file.columns  # RLE has none
  if file.syntax in JPEG_2000:
    start = data.find(b'\xff\x4f\xff\x51')
    if start < 0 or len(data) < start + 24:
      return None
    right, bottom, left, top = struct.unpack_from('>4I', data, start + 8)
    return bottom - top, right - left
  position = 2
  while position + 9 <= len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    # C4, C8 and CC of the frame range are tables; F7 is JPEG-LS's frame.
    if marker == 0xF7 or 0xC0 <= marker <= 0xCF and marker not in _TABLES:
      return struct.unpack_from('>HH', data, position + 5)
    if marker == 0xFF:
      position += 1  # a fill byte
      continue
    position += 2 + struct.unpack_from('>H', data, position + 2)[0]
  return None
