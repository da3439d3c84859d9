"""Whether slices make a volume, decided by where they lie.

Only positions, orientations and sizes count: instance numbers, slice
thickness, slice locations and the gantry tilt tag are wrong too often. The
checks run in a fixed order and the first that fails names the reason.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np

from medzoo.io import dicom_pixels
from medzoo.io import dicom_types

# Direction cosines are written with six digits or so; 1e-3 is 0.06 degree.
_SAME_DIRECTION = 1e-3
# Relative; over 512 pixels it is a quarter of a pixel.
_SAME_SPACING = 5e-4
# A gap is regular within 2 % or 0.1 mm, whichever is more.
_ROOM = 0.02
_ROOM_MM = 0.1
_ROUNDING_MM = 1e-4  # positions are decimal numbers of a few digits
_NO_TILT = math.tan(math.radians(0.1))


@dataclasses.dataclass(frozen=True)
class Stack:
  """Slices in the order of their positions along the normal.

  Attributes:
    places: the slices at each position, in rising order.
    positions: (n, 3) world (x, y, z) of the first pixel at each place, mm.
    direction: (3, 3); its columns are the directions of a row, of a column
      and of the normal, right-handed.
    spacing: distance of rows, then of columns, mm.
  """

  places: list[list[dicom_types.Slice]]
  positions: np.ndarray
  direction: np.ndarray
  spacing: tuple[float, float]

  @property
  def heights(self) -> np.ndarray:
    """(n,) positions along the normal, mm, from the first."""
    return (self.positions - self.positions[0]) @ self.direction[:, 2]

  @property
  def drift(self) -> np.ndarray:
    """(n, 2) positions along a row and a column, mm, from the first."""
    return (self.positions - self.positions[0]) @ self.direction[:, :2]


def stack(slices: Sequence[dicom_types.Slice]) -> Stack:
  """Orders slices that have one orientation and one shape.

  Args:
    slices: all slices of a series, at least one.

  Returns:
    the stack; places may hold several slices, and lie anyhow along the normal.

  Raises:
    dicom_types.Refused: 'missing_geometry', 'mixed_orientation' or
      'mixed_shape', or 'truncated_pixels' where a file ends inside the header.
  """
  for plane in slices:
    _check_geometry(plane)
  first = slices[0]
  for plane in slices[1:]:
    _check_orientation(plane, first)
  for plane in slices[1:]:
    _check_shape(plane, first)
  row, column = np.reshape(first.orientation, (2, 3))
  row = row / np.linalg.norm(row)
  normal = np.cross(row, column)
  normal /= np.linalg.norm(normal)
  # + 0.0 turns -0.0 into 0.0
  direction = np.stack([row, np.cross(normal, row), normal], axis=1) + 0.0
  positions = np.array([plane.position for plane in slices])
  places = _places(positions @ normal, first.spacing)
  return Stack(
    places=[[slices[i] for i in place] for place in places],
    positions=positions[[place[0] for place in places]],
    direction=direction,
    spacing=(first.spacing[0], first.spacing[1]),
  )


def check_spacing(pile: Stack) -> None:
  """Refuses a stack that is not a regular grid.

  Args:
    pile: a stack with one slice at each place.

  Raises:
    dicom_types.Refused: 'too_few_slices', 'gantry_tilt', 'missing_slices'
      or 'uneven_spacing'.
  """
  number = len(pile.places)
  if number < 3:
    raise dicom_types.Refused(
      'too_few_slices',
      f'{number} slice positions; a volume has 3 at least',
    )
  _check_tilt(pile)
  gaps = np.diff(pile.heights)
  median = middle(gaps)
  times, regular = multiples(pile.heights)
  found = (
    f'gaps of {gaps.min():.3f} to {gaps.max():.3f} mm, median {median:.3f}'
  )
  if regular and times.max() > 1:
    raise dicom_types.Refused(
      'missing_slices', f'{int(times.sum()) - len(gaps)} missing: {found}'
    )
  stray = _stray(pile) / median
  if not regular:
    raise dicom_types.Refused('uneven_spacing', found)
  if stray.max() > 0.5:
    raise dicom_types.Refused(
      'uneven_spacing',
      f'slice {int(stray.argmax()) + 1} of {number} lies {stray.max():.1f} '
      'slices off the straight line',
    )


def middle(gaps: np.ndarray) -> float:
  """The median gap; the lower one of two, so that it is one that occurs."""
  return statistics.median_low(gaps.tolist())


def multiples(heights: np.ndarray) -> tuple[np.ndarray, bool]:
  """Counts the slices that should lie between neighbours.

  Gaps are regular if they are near multiples of the median gap, or if all
  positions are near a grid, half as far: where each is off by 0.05 mm, gaps,
  and the median with them, are off by 0.1 mm.

  Args:
    heights: (n,) rising positions along the normal, mm.

  Returns:
    (n - 1,) how many times the median each gap is, 1 at least; and whether
    they are regular.
  """
  gaps = np.diff(heights)
  median = middle(gaps)
  times = np.maximum(np.rint(gaps / median), 1)
  room = np.maximum(_ROOM * times * median, _ROOM_MM) + _ROUNDING_MM
  if (np.abs(gaps - times * median) <= room).all():
    return times, True
  index = np.concatenate([[0.0], np.cumsum(times)])
  room = max(_ROOM * median, _ROOM_MM) / 2 + _ROUNDING_MM
  return times, _off_grid(index, heights) <= room


def _off_grid(index: np.ndarray, heights: np.ndarray) -> float:
  """Returns the largest distance from that grid for which it is smallest.

  The spread of `heights - step * index` is convex in the step, so narrowing
  a bracket by thirds finds its least.
  """
  step = (heights[-1] - heights[0]) / index[-1]
  low, high = 0.5 * step, 1.5 * step
  for _ in range(80):
    third = (high - low) / 3
    below = np.ptp(heights - (low + third) * index)
    above = np.ptp(heights - (high - third) * index)
    if below < above:
      high -= third
    else:
      low += third
  return float(np.ptp(heights - low * index)) / 2


def same_place(a: dicom_types.Slice, b: dicom_types.Slice) -> bool:
  """Whether two slices at one height also start at one point of the plane."""
  away = np.subtract(a.position, b.position)
  return float(np.abs(away).max()) <= 0.1 * min(a.spacing)


def _check_geometry(plane: dicom_types.Slice) -> None:
  file = plane.file
  problem = None
  if not file.rows or not file.columns:
    problem = 'no Rows or Columns'
  elif plane.frames != 1:
    problem = f'no positions for its {plane.frames} frames'
  elif not _finite(plane.spacing) or min(plane.spacing) <= 0:
    problem = 'no valid PixelSpacing'
  elif not _finite(plane.orientation):
    problem = 'no valid ImageOrientationPatient'
  elif not _orthonormal(plane.orientation):
    problem = 'an orientation that is not two perpendicular unit vectors'
  elif not _finite(plane.position):
    problem = 'no valid ImagePositionPatient'
  if problem is None:
    return
  # A header that was cut short, or claims frames that cannot be there, is no
  # matter of geometry.
  cut = file.offset is None
  if cut or (plane.frames != 1 and dicom_pixels.short(file)):
    problem = dicom_pixels.short(file)
    raise dicom_types.Refused('truncated_pixels', problem)
  raise dicom_types.Refused('missing_geometry', f'{file.name}: {problem}')


def _finite(numbers: tuple[float, ...] | None) -> bool:
  return numbers is not None and bool(np.isfinite(numbers).all())


def _orthonormal(orientation: tuple[float, ...]) -> bool:
  pair = np.reshape(orientation, (2, 3))
  return bool(np.abs(pair @ pair.T - np.eye(2)).max() < 0.01)


def _check_orientation(
  plane: dicom_types.Slice, first: dicom_types.Slice
) -> None:
  away = np.subtract(plane.orientation, first.orientation)
  if np.abs(away).max() > _SAME_DIRECTION:
    raise dicom_types.Refused(
      'mixed_orientation',
      f'{plane.file.name} faces another way than {first.file.name}',
    )


def _check_shape(plane: dicom_types.Slice, first: dicom_types.Slice) -> None:
  mine = (plane.file.rows, plane.file.columns)
  other = (first.file.rows, first.file.columns)
  names = f'{plane.file.name} and {first.file.name}'
  if mine != other:
    raise dicom_types.Refused(
      'mixed_shape', f'{names} have {mine} and {other} rows and columns'
    )
  if not np.allclose(plane.spacing, first.spacing, rtol=_SAME_SPACING, atol=0):
    raise dicom_types.Refused(
      'mixed_shape',
      f'{names} have pixels of {plane.spacing} and {first.spacing} mm',
    )


def _places(heights: np.ndarray, spacing: tuple[float, ...]) -> list[list[int]]:
  """Groups slices whose heights are the same but for rounding."""
  order = np.argsort(heights, kind='stable')
  ordered = heights[order]
  step = (ordered[-1] - ordered[0]) / max(len(ordered) - 1, 1)
  same = max(0.01 * min(spacing), min(0.1, 0.05 * step))
  starts = np.flatnonzero(np.diff(ordered) > same) + 1
  return [group.tolist() for group in np.split(order, starts)]


def _check_tilt(pile: Stack) -> None:
  drift, height = pile.drift[-1], pile.heights[-1]
  pixels = np.abs(drift) / (pile.spacing[1], pile.spacing[0])
  slant = float(np.linalg.norm(drift)) / height
  if slant <= _NO_TILT or pixels.max() <= 1:
    return
  tilt = pile.places[0][0].file.tilt
  tag = '' if tilt is None else f'; the tag says {tilt:g}'
  raise dicom_types.Refused(
    'gantry_tilt',
    f'the stack leaves the normal by {math.degrees(math.atan(slant)):.2f} '
    f'degrees, {pixels.max():.1f} pixels over its length{tag}',
  )


def _stray(pile: Stack) -> np.ndarray:
  """(n,) distances of the positions from a regular line of points, mm."""
  line = np.linspace(pile.positions[0], pile.positions[-1], len(pile.places))
  return np.linalg.norm(pile.positions - line, axis=1)
