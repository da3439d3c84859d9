"""Films, projection radiographs: a file each, to greys as a viewer shows them.

Pictures (PNG of 8 and 16 bits, JPEG, BMP, TIFF) come through Pillow, colours
as their luminance. Single DICOM images (CR, DX, secondary captures) come
through their window or table; MONOCHROME1 is turned round, so that air is
dark in every film.
"""

import os
import pathlib

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.io import dicom_display
from medzoo.io import dicom_headers
from medzoo.io import dicom_pixels
from medzoo.io import dicom_series
from medzoo.io import dicom_types
from medzoo.io import images

_DICOM_SUFFIXES = ('.dcm', '.dicom')
SUFFIXES = (*images.SUFFIXES, *_DICOM_SUFFIXES)
# The brightest grey of a DICOM film, the largest that int16 holds.
WHITE = 32767
# What makes slices, of which none is a film.
_SLICES = ('CT', 'MR', 'PT', 'NM')


def is_film_file(path: str | os.PathLike[str]) -> bool:
  """Whether a file's name ends as a film's does, or its content is DICOM."""
  if os.fspath(path).lower().endswith(SUFFIXES):
    return True
  try:
    with pathlib.Path(path).open('rb') as file:
      return file.read(132)[128:] == b'DICM'
  except OSError:
    return False


def read(
  path: str | os.PathLike[str], *, any_view: bool = False
) -> types.Volume:
  """Reads one film.

  Args:
    path: a picture, by the ending of its name, or a DICOM image.
    any_view: whether a film from the side, or mirrored or turned, is read as it
      is, where nobody asks which side is the left one.

  Returns:
    the film; voxels are (1, h, w): of a picture its greys as stored, uint8 or
    uint16, of a DICOM image int16 from 0, black, to `WHITE`; pixels that it
    declares to be no data are black, which `repairs` names 'padding'. Spacing
    is PixelSpacing, else ImagerPixelSpacing, which measures on the detector;
    (None, None, None) where there is neither. It has no `series_uid`, which
    films of one examination share.

  Raises:
    ValueError: the file is missing, or a picture that `images.read` refuses.
    dicom_types.Refused: 'not_dicom'; 'not_a_film', the file has several
      frames or is a slice of a scan; 'orientation', the film is mirrored,
      turned or from the side; 'broken_header', 'broken_table'; and, as
      `dicom.read` has them, 'unsupported_transfer_syntax' and
      'truncated_pixels'.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: found no such file, expected a film')
  if not images.is_picture_file(path):
    return _read_dicom(path, any_view)
  pixels = images.read(path, deep=True)
  if pixels.ndim == 3:
    pixels = np.asarray(Image.fromarray(pixels).convert('L'))
  return types.Volume(pixels[None], (None, None, None))


def patient(path: str | os.PathLike[str]) -> str:
  """Returns the pseudonym of a DICOM film's patient, '' of a picture."""
  if images.is_picture_file(path):
    return ''
  with dicom_headers.quiet():
    _, planes = dicom_headers.read_header(os.fspath(path))
  return planes[0].file.patient if planes else ''


def _read_dicom(path: pathlib.Path, any_view: bool) -> types.Volume:
  plane = _only_plane(path)
  display = dicom_display.read(plane.file)
  if not any_view:
    _check_orientation(plane.file, display.orientation)
  _, pixels = next(dicom_pixels.decode(plane.file, [plane.frame]))
  values, _ = dicom_pixels.intensities(pixels, plane)
  empty = _padding(values, plane)
  if empty.any() and not empty.all():
    values[empty] = values[~empty].min()
  greys = dicom_display.show(values, display, plane.file)
  greys[empty] = 0
  spacing = plane.spacing
  if spacing is None or not min(spacing) > 0:
    spacing = display.spacing or (None, None)
  return types.Volume(
    np.rint(WHITE * greys).astype(np.int16)[None],
    (None, *spacing),
    modality=plane.file.modality,
    repairs=('padding',) if empty.any() else (),
  )


def _only_plane(path: pathlib.Path) -> dicom_types.Slice:
  """Reads the header, and refuses by it what is no single film."""
  with dicom_headers.quiet():
    kind, planes = dicom_headers.read_header(str(path))
  if not planes:
    raise dicom_types.Refused(
      'not_dicom', f'{path}: found {kind}, expected a picture or a DICOM image'
    )
  plane, file = planes[0], planes[0].file
  if file.frames != 1:
    what = f'{file.frames} frames'
  elif file.modality in _SLICES:
    what = f'a slice of {file.modality}'
  elif plane.position is not None and plane.orientation is not None:
    what = 'a slice that lies in a scan'
  else:
    what = ''
  if what:
    raise dicom_types.Refused(
      'not_a_film', f'{path}: found {what}, expected a single film'
    )
  dicom_series.check_syntax(planes)
  problem = dicom_pixels.unknown_format(file)
  if problem:
    raise dicom_types.Refused('unsupported_transfer_syntax', problem)
  return plane


def _check_orientation(
  file: dicom_types.File, orientation: tuple[str, ...]
) -> None:
  """Refuses a film whose left the patient's left is not on the right of."""
  known = [x.strip().upper()[:1] for x in orientation]
  if any(known) and known != ['L', 'F']:
    raise dicom_types.Refused(
      'orientation',
      f'{file.name}: found PatientOrientation {"/".join(orientation)}, expected'
      " L/F: rows lead to the patient's left, columns to the feet",
    )


def _padding(values: np.ndarray, plane: dicom_types.Slice) -> np.ndarray:
  """(h, w) whether the file declares a pixel to be no data."""
  if plane.file.padding is None:
    return np.zeros(values.shape, bool)
  low, high = sorted(
    plane.slope * limit + plane.intercept for limit in plane.file.padding
  )
  return (values >= low) & (values <= high)
