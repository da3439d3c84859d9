"""How a DICOM image of one plane is to be shown: as greys from black to white.

DICOM PS3.3, C.11.2 (VOI LUT) and C.7.6.3.1.2 (MONOCHROME1, whose lowest value
is white). A table goes before a window, the first of several is taken, and
where there is neither the values that the image has fill the range.
"""

import dataclasses

import numpy as np
import pydicom

from medzoo.io import dicom_headers
from medzoo.io import dicom_types

_TAGS = """
  ImagerPixelSpacing PatientOrientation WindowCenter WindowWidth VOILUTFunction
  VOILUTSequence
"""


@dataclasses.dataclass(frozen=True)
class Display:
  """What an image's header says of how to show it.

  Attributes:
    spacing: distance of rows, then of columns, on the detector (not within
      the patient), mm; None where unknown.
    orientation: where in the patient rows, then columns lead to: 'L', 'F'
      and so on; empty where unknown.
    window: centre and width of the greys; None where there is none.
    function: how the window is meant: 'LINEAR', 'LINEAR_EXACT', 'SIGMOID'.
    table: (n,) the grey of `first`, `first + 1` and so on, 0 is black and 1
      white; None where there is none.
    first: the lowest value that the table tells apart.
  """

  spacing: tuple[float, float] | None
  orientation: tuple[str, ...]
  window: tuple[float, float] | None
  function: str
  table: np.ndarray | None
  first: int


def read(file: dicom_types.File) -> Display:
  """Reads how an image is to be shown.

  Args:
    file: a DICOM image that `dicom_headers.read_header` has accepted.

  Returns:
    what its header says; a number that is none is taken for missing.

  Raises:
    dicom_types.Refused: 'broken_table', the table of its greys is broken;
      'broken_header'.
  """
  try:
    with (
      dicom_headers.quiet(),
      dicom_headers.open_dataset(file.path) as stream,
    ):
      header = pydicom.dcmread(
        stream, stop_before_pixels=True, force=True, specific_tags=_TAGS.split()
      )
      return _describe(header, file)
  except (OSError, dicom_types.Refused):
    raise
  except Exception as error:  # a hostile file can break any parser anyhow
    reason = ' '.join(str(error).split())
    raise dicom_types.Refused(
      'broken_header', f'{file.name}: found what cannot be parsed: {reason}'
    ) from None


def show(
  values: np.ndarray, display: Display, file: dicom_types.File
) -> np.ndarray:
  """Turns an image's intensities into greys.

  Args:
    values: (h, w) intensities, as `dicom_pixels.intensities` gives them.
    display: how they are to be shown.
    file: the image's file.

  Returns:
    (h, w) float32 from 0, black, to 1, white.
  """
  if display.table is not None:
    index = np.clip(values - display.first, 0, len(display.table) - 1)
    greys = display.table[index.astype(np.int64)]
  elif display.window is not None:
    greys = _through_window(values, *display.window, display.function)
  else:
    low, high = float(values.min()), float(values.max())
    greys = (values - low).astype(np.float32) / max(high - low, 1e-6)
  return 1 - greys if file.photometric == 'MONOCHROME1' else greys


def _describe(header: pydicom.Dataset, file: dicom_types.File) -> Display:
  spacing = _numbers(header, 'ImagerPixelSpacing')
  centers = _numbers(header, 'WindowCenter')
  widths = _numbers(header, 'WindowWidth')
  windowed = centers and widths and widths[0] > 0
  orientation = header.get('PatientOrientation') or ()
  if isinstance(orientation, str):
    orientation = (orientation,)
  table, first = _table(header, file)
  return Display(
    spacing=spacing if len(spacing) == 2 and min(spacing) > 0 else None,
    orientation=tuple(map(str, orientation)),
    window=(centers[0], widths[0]) if windowed else None,
    function=str(header.get('VOILUTFunction') or 'LINEAR').strip().upper(),
    table=table,
    first=first,
  )


def _through_window(
  values: np.ndarray, center: float, width: float, function: str
) -> np.ndarray:
  values = values.astype(np.float32)
  if function == 'SIGMOID':
    slope = np.clip(-4 * (values - center) / width, -80, 80)
    return 1 / (1 + np.exp(slope))
  if function != 'LINEAR_EXACT':
    # The standard's window of whole numbers, which counts both ends.
    center, width = center - 0.5, max(width - 1, 1e-3)
  return np.clip((values - center) / width + 0.5, 0, 1)


def _numbers(header: pydicom.Dataset, name: str) -> tuple[float, ...]:
  """Returns the finite numbers of an element; none where one is not."""
  try:
    found = np.atleast_1d(np.asarray(header.get(name, ()), float))
  except (TypeError, ValueError):
    return ()
  return tuple(found.tolist()) if np.isfinite(found).all() else ()


def _table(
  header: pydicom.Dataset, file: dicom_types.File
) -> tuple[np.ndarray | None, int]:
  """Returns the first table's greys, and the value that it starts with."""
  items = header.get('VOILUTSequence')
  if not items:
    return None, 0
  try:
    entries, first, bits = (int(x) for x in items[0].LUTDescriptor)
    entries = entries or 1 << 16
    greys = _entries(items[0].LUTData, file.big_endian)[:entries]
  except (AttributeError, TypeError, ValueError):
    entries, first, bits, greys = 0, 0, 0, np.zeros(0)
  if not 0 < len(greys) == entries or not 8 <= bits <= 16:
    raise dicom_types.Refused(
      'broken_table',
      f'{file.name}: found a VOILUTSequence of {len(greys)} entries of {bits}'
      f' bits, expected {entries or "some"} of 8 to 16',
    )
  # The descriptor's type does not say whether it is signed where the file is
  # in implicit VR.
  if file.signed and first >= 1 << 15:
    first -= 1 << 16
  return greys.astype(np.float32) / ((1 << bits) - 1), first


def _entries(data: object, big_endian: bool) -> np.ndarray:
  if isinstance(data, bytes):
    return np.frombuffer(data, '>u2' if big_endian else '<u2')
  return np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
