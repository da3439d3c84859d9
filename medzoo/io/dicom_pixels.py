"""Pixel data of DICOM images: from bytes to stored values to intensities.

Native data are read at the place the header pass noted. Encapsulated frames
are put together here and decoded by imagecodecs, whose decoders fill what a
cut stream lacks with anything, so whether a stream is whole is checked first.
Everything that is wrong with the pixels of a file is `truncated_pixels`;
everything this module cannot decode is `unsupported_transfer_syntax`.
"""

import struct
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import BinaryIO

import imagecodecs
import numpy as np
from pydicom import uid

from medzoo.io import dicom_headers

AIR = -1024

_NATIVE = frozenset(
  [
    '',  # no file meta information; the parser found out how numbers are kept
    '1.2.840.10008.1.2',  # implicit little endian
    '1.2.840.10008.1.2.1',  # explicit little endian
    '1.2.840.10008.1.2.2',  # explicit big endian
    dicom_headers.DEFLATED,
  ]
)
_JPEG = frozenset(
  f'1.2.840.10008.1.2.4.{number}' for number in (50, 51, 53, 55, 57, 70)
)
_JPEG_LS = frozenset(['1.2.840.10008.1.2.4.80', '1.2.840.10008.1.2.4.81'])
_JPEG_2000 = frozenset(['1.2.840.10008.1.2.4.90', '1.2.840.10008.1.2.4.91'])
_RLE = '1.2.840.10008.1.2.5'
_SYNTAXES = _NATIVE | _JPEG | _JPEG_LS | _JPEG_2000 | {_RLE}

_ITEM = 0xE000FFFE
_END = 0xE0DDFFFE
_STARTS = (b'\xff\xd8', b'\xff\x4f\xff\x51')  # of JPEG, JPEG-LS and JPEG 2000
# An image this small is decoded whatever its compressed size says.
_SMALL = 1 << 24


def unknown_syntax(file: dicom_headers.File) -> str | None:
  """Says why a file's transfer syntax is not read, or None if it is."""
  if file.syntax not in _SYNTAXES:
    return f'{file.name} is in {uid.UID(file.syntax).name}'
  if file.syntax in _NATIVE and file.offset and file.length is None:
    return f'{file.name} is compressed but does not say how'
  return None


def unknown_format(file: dicom_headers.File) -> str | None:
  """Says why pixels of this kind are not read, or None if they are."""
  grey = file.photometric in ('MONOCHROME1', 'MONOCHROME2', '')
  if file.samples != 1 or not grey:
    return f'{file.name} is no grey image'
  if file.allocated not in (8, 16, 32):
    return f'{file.allocated} bits a pixel in {file.name}; 8, 16 or 32 are read'
  if not 0 < file.stored <= file.high + 1 <= file.allocated:
    return f'{file.name} keeps {file.stored} bits up to bit {file.high}'
  if file.lookup:
    return f'{file.name} passes its values through a ModalityLUTSequence'
  return None


def short(file: dicom_headers.File) -> str | None:
  """Says how the pixel data fall short of what the header claims, or None."""
  if file.offset is None:
    return f'{file.name} has no pixel data'
  if not file.rows or not file.columns:
    return f'{file.name} gives no rows or no columns'
  if file.length is None:
    return None
  if file.syntax not in _NATIVE:
    return f'{file.name} says it is compressed but is not encapsulated'
  row = file.columns * file.allocated // 8
  need = row * file.rows * file.frames
  have = min(file.length, file.available)
  # A few bytes more are a writer's padding; a row more is another image size.
  if need <= have and file.length < need + max(row, 2):
    return None
  return (
    f'{file.name} holds {have} bytes of pixels, but {file.rows} rows x '
    f'{file.columns} columns x {file.frames} frames are {need}'
  )


def decode(
  file: dicom_headers.File, frames: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
  """Decodes frames of one file.

  Args:
    file: the file.
    frames: numbers of the frames wanted, from 0.

  Yields:
    number of the frame and its container values, (rows, columns), before any
    unused bits are taken off.

  Raises:
    dicom_headers.Refused: 'truncated_pixels'.
  """
  problem = short(file)
  if problem:
    raise dicom_headers.Refused('truncated_pixels', problem)
  try:
    with dicom_headers.open_dataset(file.path) as stream:
      stream.seek(file.offset)
      if file.length is not None:
        yield from _native(stream, file, frames)
        return
      pieces = _frames(*_fragments(stream), file)
    for frame in frames:
      yield frame, _decompress(pieces[frame], file)
  except (ValueError, RuntimeError, zlib.error, struct.error) as error:
    if isinstance(error, dicom_headers.Refused):
      raise
    raise dicom_headers.Refused(
      'truncated_pixels', f'{file.name}: {_first_line(error)}'
    ) from error


def intensities(
  pixels: np.ndarray, plane: dicom_headers.Slice
) -> tuple[np.ndarray, bool]:
  """Turns container values into intensities, Hounsfield units in CT.

  Args:
    pixels: (rows, columns) as `decode` gives them.
    plane: the slice they belong to.

  Returns:
    (rows, columns) int32 (int64 for 32-bit pixels) where slope and intercept
    are whole, else float64; and whether padding was turned into air.
  """
  file = plane.file
  stored, container = _stored(pixels, file)
  if plane.slope.is_integer() and plane.intercept.is_integer():
    wide = file.allocated > 16 or abs(plane.slope) > 1 << 14
    values = stored.astype(np.int64 if wide else np.int32)
    slope, intercept = int(plane.slope), int(plane.intercept)
  else:
    values = stored.astype(np.float64)
    slope, intercept = plane.slope, plane.intercept
  if slope != 1:
    values *= slope
  if intercept:
    values += intercept
  if file.padding is None or file.modality != 'CT':
    return values, False
  low, high = file.padding
  empty = (stored >= low) & (stored <= high)
  if container is not stored:  # padding may use bits that pixels do not
    empty |= (container >= low) & (container <= high)
  changed = bool((values[empty] != AIR).any())
  values[empty] = AIR
  return values, changed


def _stored(
  pixels: np.ndarray, file: dicom_headers.File
) -> tuple[np.ndarray, np.ndarray]:
  """Returns stored values without unused bits, and with them."""
  bits = 8 * pixels.dtype.itemsize
  whole = pixels.view(f'{"i" if file.signed else "u"}{bits // 8}')
  low = file.high + 1 - file.stored
  if file.stored >= bits and not low:
    return whole, whole
  raw = pixels.view(f'u{bits // 8}')
  if low and file.length is not None:  # codecs give the value, not its bits
    raw = raw >> low
  raw = raw & ((1 << file.stored) - 1)
  if not file.signed:
    return raw, whole
  sign = 1 << (file.stored - 1)
  return (raw ^ sign).view(whole.dtype) - whole.dtype.type(sign), whole


def _native(
  stream: BinaryIO, file: dicom_headers.File, frames: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
  size = file.rows * file.columns * file.allocated // 8
  order = '>' if file.big_endian else '<'
  for frame in frames:
    stream.seek(file.offset + frame * size)
    values = np.frombuffer(stream.read(size), f'{order}u{file.allocated // 8}')
    values = values.astype(values.dtype.newbyteorder('='), copy=False)
    yield frame, values.reshape(file.rows, file.columns)


def _fragments(stream: BinaryIO) -> tuple[list[int], list[bytes], list[int]]:
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


def _frames(
  table: list[int],
  fragments: list[bytes],
  starts: list[int],
  file: dicom_headers.File,
) -> list[bytes]:
  """Puts the fragments of each frame together."""
  if file.frames == 1:
    return [b''.join(fragments)]
  if len(fragments) == file.frames:
    return fragments
  if len(table) == file.frames and set(table) <= set(starts):
    first = [starts.index(offset) for offset in table]
  else:
    first = [i for i, data in enumerate(fragments) if data.startswith(_STARTS)]
  if len(first) != file.frames or first[0] or first != sorted(set(first)):
    raise ValueError(
      f'{len(fragments)} fragments do not make {file.frames} frames'
    )
  ends = [*first[1:], len(fragments)]
  return [b''.join(fragments[a:b]) for a, b in zip(first, ends, strict=True)]


def _decompress(data: bytes, file: dicom_headers.File) -> np.ndarray:
  """Decodes one frame into the container type of its file."""
  shape = (file.rows, file.columns)
  claimed = _claimed_shape(data, file)
  if claimed != shape:
    raise ValueError(f'a frame of {claimed} pixels, {shape} declared')
  if file.rows * file.columns > max(_SMALL, 1000 * len(data)):
    raise ValueError(f'{len(data)} bytes cannot be {shape} pixels')
  if file.syntax == _RLE:
    container = np.dtype(f'<u{file.allocated // 8}')
    raw = imagecodecs.dicomrle_decode(data, container)
    if len(raw) < file.rows * file.columns * container.itemsize:
      raise ValueError(f'{len(raw)} decoded bytes cannot be {shape} pixels')
    pixels = np.frombuffer(raw, container, file.rows * file.columns)
  elif file.syntax in _JPEG_2000:
    pixels = imagecodecs.jpeg2k_decode(data)
  elif file.syntax in _JPEG_LS:
    pixels = imagecodecs.jpegls_decode(data)
  else:
    if not data.rstrip(b'\0\xff').endswith(b'\xff\xd9'):
      raise ValueError('a JPEG frame that has no end')
    pixels = imagecodecs.jpeg8_decode(data)
  if pixels.size != file.rows * file.columns:
    raise ValueError(f'a frame of {pixels.shape} values, {shape} declared')
  return _contain(pixels.reshape(shape), file)


def _contain(pixels: np.ndarray, file: dicom_headers.File) -> np.ndarray:
  """Widens what a codec returned to the file's container, keeping bits."""
  if 8 * pixels.dtype.itemsize > file.allocated:
    raise ValueError(f'{pixels.dtype} pixels in {file.allocated} bits')
  return pixels.astype(f'{pixels.dtype.kind}{file.allocated // 8}', copy=False)


def _claimed_shape(
  data: bytes, file: dicom_headers.File
) -> tuple[int, int] | None:
  """Reads rows and columns in a frame's own header, before any decoding."""
  if file.syntax == _RLE:
    return file.rows, file.columns  # RLE has none
  if file.syntax in _JPEG_2000:
    start = data.find(b'\xff\x4f\xff\x51')
    if start < 0 or len(data) < start + 24:
      return None
    right, bottom, left, top = struct.unpack_from('>4I', data, start + 8)
    return bottom - top, right - left
  position = 2
  while position + 9 <= len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    # C4, C8 and CC of the frame range are tables; F7 is JPEG-LS's frame.
    if (
      marker == 0xF7
      or 0xC0 <= marker <= 0xCF
      and marker not in (0xC4, 0xC8, 0xCC)
    ):
      return struct.unpack_from('>HH', data, position + 5)
    if marker == 0xFF:
      position += 1  # a fill byte
      continue
    position += 2 + struct.unpack_from('>H', data, position + 2)[0]
  return None


def _first_line(error: Exception) -> str:
  return str(error).splitlines()[0] if str(error) else type(error).__name__
