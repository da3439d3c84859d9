"""Pixel data of DICOM images: from bytes to stored values to intensities.

Native data are read at the place that the header pass noted. Everything that
is wrong with the pixels of a file is `truncated_pixels`; everything that is
not decoded here is `unsupported_transfer_syntax`.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from pydicom import config
from pydicom import uid

from medzoo.io import dicom_frames
from medzoo.io import dicom_headers
from medzoo.io import dicom_types

AIR = -1024

_NATIVE = frozenset(
  [
    '',  # no file meta information; the parser found out how numbers are kept
    '1.2.840.10008.1.2',  # implicit little endian
    '1.2.840.10008.1.2.1',  # explicit little endian
    '1.2.840.10008.1.2.2',  # explicit big endian
    dicom_types.DEFLATED,
  ]
)
_SYNTAXES = (
  _NATIVE
  | dicom_frames.JPEG
  | dicom_frames.JPEG_LS
  | dicom_frames.JPEG_2000
  | {dicom_frames.RLE}
)


def syntax_name(syntax: str) -> str:
  """Returns a transfer syntax's name, never text that is only in a file."""
  known = uid.UID(syntax, validation_mode=config.IGNORE)
  return known.name if known.name != syntax else 'an unknown transfer syntax'


def unknown_syntax(file: dicom_types.File) -> str | None:
  """Says why a file's transfer syntax is not read, or None if it is."""
  if file.syntax not in _SYNTAXES:
    return f'{file.name} is in {syntax_name(file.syntax)}'
  if file.syntax in _NATIVE and file.offset and file.length is None:
    return f'{file.name} is compressed but does not say how'
  return None


def unknown_format(file: dicom_types.File) -> str | None:
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


def short(file: dicom_types.File) -> str | None:
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
  file: dicom_types.File, frames: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
  """Decodes frames of one file.

  Args:
    file: the file.
    frames: numbers of the frames wanted, from 0.

  Yields:
    number of the frame and its container values, (rows, columns), before any
    unused bits are taken off.

  Raises:
    dicom_types.Refused: 'truncated_pixels'.
  """
  problem = short(file)
  if problem:
    raise dicom_types.Refused('truncated_pixels', problem)
  try:
    with dicom_headers.open_dataset(file.path) as stream:
      stream.seek(file.offset)
      if file.length is not None:
        yield from _native(stream, file, frames)
        return
      pieces = dicom_frames.frames(*dicom_frames.fragments(stream), file)
    for frame in frames:
      yield frame, dicom_frames.decompress(pieces[frame], file)
  except (ValueError, RuntimeError, zlib.error, struct.error) as error:
    if isinstance(error, dicom_types.Refused):
      raise
    raise dicom_types.Refused(
      'truncated_pixels', f'{file.name}: {_first_line(error)}'
    ) from error


def intensities(
  pixels: np.ndarray, plane: dicom_types.Slice
) -> tuple[np.ndarray, bool]:
  """Turns container values into intensities, Hounsfield units in CT.

  Args:
    pixels: (rows, columns) as `decode` gives them.
    plane: the slice they belong to.

  Returns:
    (rows, columns) int32 (int64 for 32-bit pixels) where slope and intercept
    are whole, else float64; and whether padding was turned into air.

  Raises:
    dicom_types.Refused: 'truncated_pixels' where slope or intercept are no
      usable numbers.
  """
  file = plane.file
  if not _usable(plane):
    raise dicom_types.Refused(
      'truncated_pixels', f'{file.name} has no valid rescale slope, intercept'
    )
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


def _usable(plane: dicom_types.Slice) -> bool:
  numbers = (plane.slope, plane.intercept)
  if None in numbers or not np.isfinite(numbers).all():
    return False
  return plane.slope != 0 and max(map(abs, numbers)) < 1 << 31


def _stored(
  pixels: np.ndarray, file: dicom_types.File
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
  stream: BinaryIO, file: dicom_types.File, frames: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
  size = file.rows * file.columns * file.allocated // 8
  order = '>' if file.big_endian else '<'
  for frame in frames:
    stream.seek(file.offset + frame * size)
    values = np.frombuffer(stream.read(size), f'{order}u{file.allocated // 8}')
    values = values.astype(values.dtype.newbyteorder('='), copy=False)
    yield frame, values.reshape(file.rows, file.columns)


def _first_line(error: Exception) -> str:
  return str(error).splitlines()[0] if str(error) else type(error).__name__
