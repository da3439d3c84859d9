"""Picture files (BMP, PNG, JPEG, TIFF), through Pillow.

Boxes are drawn on pixels as stored, so a camera's note that a picture should
be turned (EXIF orientation) is not followed.

Some programs write colours into a TIFF whose header calls them greys, as in
the frames of CVC-ClinicDB. Pillow does not open these, and readers that
believe the header show red as grey. They are read as what they are: red,
green and blue.
"""

import io
import os
import pathlib
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image

SUFFIXES = ('.bmp', '.png', '.jpg', '.jpeg', '.tif', '.tiff')
# Pillow knows formats that start other programs; none of them is asked.
_FORMATS = ('BMP', 'PNG', 'JPEG', 'TIFF')
# Pillow warns of more, and decoding it would take a gigabyte.
_MOST_PIXELS = 1 << 26
# How a TIFF begins, and struct's letter for the order of its bytes.
_BYTE_ORDERS = {b'II*\0': '<', b'MM\0*': '>'}
# TIFF's tag that says whether 0 is white (0) or black (1), or colours (2).
_PHOTOMETRIC = 262
# Its tags of how many values a pixel has, and of those that are no colours.
_SAMPLES, _EXTRA_SAMPLES = 277, 338


def is_picture_file(path: str | os.PathLike[str]) -> bool:
  """Whether the name ends as a picture's does."""
  return os.fspath(path).lower().endswith(SUFFIXES)


def read(path: str | os.PathLike[str], *, deep: bool = False) -> np.ndarray:
  """Reads a picture; its content tells the format, not its name.

  A palette becomes colours and two levels become 0 and 255. Transparency is
  taken off: what is stored below it shows. Of colours of 16 bits the upper 8
  are kept.

  Args:
    path: the file.
    deep: whether greys of 16 bits are read; refused else, as nothing says
      which of them are black and white.

  Returns:
    uint8, (h, w) for a grey picture, (h, w, 3) red, green, blue for others;
    of greys of 16 bits, as they are stored, uint16, (h, w).

  Raises:
    ValueError: the file is missing, broken, no picture of these formats, a
      TIFF of several pictures, larger than 67 million pixels, or has greys of
      more than 8 bits, or of more than 16 where these are asked for.
  """
  return _read(path, _simplify, deep)


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads a picture whose values are numbers, such as classes.

  Args:
    path: the file.

  Returns:
    (h, w) uint8 or uint16: greys, the indices of a palette, not its colours,
    or 0 and 1 where there are two levels.

  Raises:
    ValueError: as `read` does, or the picture is in colour.
  """
  return _read(path, _to_labels, True)


def _read(
  path: str | os.PathLike[str],
  decode: Callable[[Image.Image], np.ndarray],
  deep: bool,
) -> np.ndarray:
  try:
    with _open(path) as image:
      _check(image, deep)
      return decode(image)
  except _Unfit as error:
    raise ValueError(f'{path}: {error}') from None
  except Image.DecompressionBombError:
    raise ValueError(f'{path}: {_TOO_LARGE}') from None
  # Pillow's decoders raise anything at all on broken files.
  except Exception as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(
      f'{path}: found what cannot be read, expected a picture of'
      f' {", ".join(_FORMATS)}: {reason}'
    ) from None


def _open(path: str | os.PathLike[str]) -> Image.Image:
  try:
    return Image.open(path, formats=_FORMATS)
  except Image.UnidentifiedImageError:
    path = pathlib.Path(path)
    with path.open('rb') as file:
      order = _BYTE_ORDERS.get(file.read(4))
    mended = order and _mend_colours(path.read_bytes(), order)
    if not mended:
      raise
    return Image.open(io.BytesIO(mended), formats=('TIFF',))


def _mend_colours(data: bytes, order: str) -> bytes | None:
  """Returns a TIFF with its colours declared; None where that is no help."""
  try:
    (start,) = struct.unpack_from(f'{order}I', data, 4)
    (count,) = struct.unpack_from(f'{order}H', data, start)
    # An entry is a tag, a type, a count and, if it fits, the value.
    entries = range(start + 2, start + 2 + 12 * count, 12)
    values = {
      struct.unpack_from(f'{order}H', data, place)[0]: place + 8
      for place in entries
    }
    declared = [
      struct.unpack_from(f'{order}H', data, values[tag])[0]
      for tag in (_PHOTOMETRIC, _SAMPLES)
    ]
  except (struct.error, KeyError):
    return None
  if declared != [1, 3] or _EXTRA_SAMPLES in values:
    return None
  mended = bytearray(data)
  struct.pack_into(f'{order}H', mended, values[_PHOTOMETRIC], 2)
  return bytes(mended)


class _Unfit(Exception):
  """What the file is instead of a picture that can be used."""


_TOO_LARGE = (
  f'found more than {_MOST_PIXELS} pixels, expected a picture that fits into'
  ' memory'
)


def _check(image: Image.Image, deep: bool) -> None:
  """Refuses by the header, before a pixel is decoded."""
  if image.width * image.height > _MOST_PIXELS:
    raise _Unfit(_TOO_LARGE)
  is_deep = image.mode == 'F' or image.mode.startswith('I')
  if is_deep and not (deep and _has_16_bits(image)):
    raise _Unfit(
      f'found greys of more than {16 if deep else 8} bits ({image.mode}),'
      f' expected {"16 at most" if deep else 8}: save it with the window that'
      ' you want'
    )
  count = image.n_frames if image.format == 'TIFF' else 1
  if count > 1:
    raise _Unfit(f'found {count} pictures in one file, expected one')


def _has_16_bits(image: Image.Image) -> bool:
  # Some versions of Pillow open greys of PNG, 16 bits at most, as wider ones.
  wide = image.mode == 'I' and image.format == 'PNG'
  return wide or image.mode.startswith('I;16')


def _simplify(image: Image.Image) -> np.ndarray:
  if _has_16_bits(image):
    return _deep_greys(image)
  if image.mode in ('1', 'L', 'LA'):
    return np.array(image.convert('L'))
  if image.mode in ('P', 'PA'):
    # Of some kinds of transparency Pillow warns on the way to RGB.
    image = image.convert('RGBA')
  return np.array(image.convert('RGB'))


def _to_labels(image: Image.Image) -> np.ndarray:
  if _has_16_bits(image):
    return _deep_greys(image)
  if image.mode in ('1', 'L', 'LA', 'P', 'PA'):
    values = np.array(image).astype(np.uint8)
    return values if values.ndim == 2 else values[..., 0]
  colours = np.array(image.convert('RGB'))
  if (colours != colours[..., :1]).any():
    raise _Unfit('found colours, expected greys or a palette')
  return colours[..., 0]


def _deep_greys(image: Image.Image) -> np.ndarray:
  values = np.array(image).astype(np.uint16)
  # Pillow turns round only shallow TIFFs whose 0 is white.
  if image.format == 'TIFF' and image.tag_v2.get(_PHOTOMETRIC) == 0:
    return np.uint16(np.iinfo(np.uint16).max) - values
  return values
