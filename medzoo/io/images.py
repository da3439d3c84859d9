"""Picture files (BMP, PNG, JPEG, TIFF), through Pillow.

Boxes are drawn on pixels as stored, so a camera's note that a picture should
be turned (EXIF orientation) is not followed.
"""

import os

import numpy as np
from PIL import Image

SUFFIXES = ('.bmp', '.png', '.jpg', '.jpeg', '.tif', '.tiff')
# Pillow knows formats that start other programs; none of them is asked.
_FORMATS = ('BMP', 'PNG', 'JPEG', 'TIFF')
# Pillow warns of more, and decoding it would take a gigabyte.
_MOST_PIXELS = 1 << 26


def is_picture_file(path: str | os.PathLike[str]) -> bool:
  """Whether the name ends as a picture's does."""
  return os.fspath(path).lower().endswith(SUFFIXES)


def read(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads a picture; its content tells the format, not its name.

  A palette becomes colours and two levels become 0 and 255. Transparency is
  taken off: what is stored below it shows. Of colours of 16 bits the upper 8
  are kept.

  Args:
    path: the file.

  Returns:
    uint8, (h, w) for a grey picture, (h, w, 3) red, green, blue for others.

  Raises:
    ValueError: the file is missing, broken, no picture of these formats, a
      TIFF of several pictures, larger than 67 million pixels, or has greys of
      more than 8 bits, of which nothing says which are black and white.
  """
  try:
    with Image.open(path, formats=_FORMATS) as image:
      _check(image)
      return np.array(_simplify(image))
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


class _Unfit(Exception):
  """What the file is instead of a picture that can be used."""


_TOO_LARGE = (
  f'found more than {_MOST_PIXELS} pixels, expected a picture that fits into'
  ' memory'
)


def _check(image: Image.Image) -> None:
  """Refuses by the header, before a pixel is decoded."""
  if image.width * image.height > _MOST_PIXELS:
    raise _Unfit(_TOO_LARGE)
  if image.mode == 'F' or image.mode.startswith('I'):
    raise _Unfit(
      f'found greys of more than 8 bits ({image.mode}), expected 8: save it'
      ' with the window that you want'
    )
  count = image.n_frames if image.format == 'TIFF' else 1
  if count > 1:
    raise _Unfit(f'found {count} pictures in one file, expected one')


def _simplify(image: Image.Image) -> Image.Image:
  if image.mode in ('1', 'L', 'LA'):
    return image.convert('L')
  if image.mode in ('P', 'PA'):
    # Of some kinds of transparency Pillow warns on the way to RGB.
    image = image.convert('RGBA')
  return image.convert('RGB')
