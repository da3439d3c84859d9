"""The pixels that a LIDC reader's outlines enclose."""

from collections.abc import Iterable

import numpy as np

from medzoo.io import lidc_types


def _inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Fills a closed polygon by the even-odd rule, its edges uncertain.

  Args:
    points: (n, 2) whole x, y, not negative.
    shape: rows and columns of the raster, which holds all points.

  Returns:
    (rows, columns) bool.
  """
  start, end = points, np.roll(points, -1, axis=0)
  sloping = start[:, 1] != end[:, 1]
  down = (start[:, 1] < end[:, 1])[sloping, None]
  start, end = start[sloping], end[sloping]
  top, bottom = np.where(down, start, end), np.where(down, end, start)
  rows = bottom[:, 1] - top[:, 1]
  # Each edge crosses the centre lines of `rows` rows: its top one, not its
  # bottom one, so that a vertex counts once.
  edge = np.repeat(np.arange(len(rows)), rows)
  row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows)
  slope = (bottom[:, 0] - top[:, 0])[edge]
  column = top[edge, 0] + row * slope // rows[edge] + 1
  crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
  np.add.at(crossings, (top[edge, 1] + row, column), 1)
  return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def _edge(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Marks the pixels whose centres lie on a closed polygon's edges."""
  step = np.roll(points, -1, axis=0) - points
  count = np.maximum(np.gcd(abs(step[:, 0]), abs(step[:, 1])), 1)
  edge = np.repeat(np.arange(len(points)), count)
  along = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
  x, y = (points[edge] + along[:, None] * (step // count[:, None])[edge]).T
  mask = np.zeros(shape, bool)
  mask[y, x] = True
  return mask


def interior(
  contours: Iterable[lidc_types.Contour],
) -> tuple[np.ndarray, tuple[int, int]]:
  """Fills the contours that one reader drew round one nodule on one slice.

  Readers outline a nodule, and each hole in it, on the pixels just outside of
  what is nodule: all outlines are taken away from the pixels within.

  Args:
    contours: of one slice.

  Returns:
    (rows, columns) bool and the image's (row, column) of its first pixel.
  """
  contours = sorted(contours, key=lambda contour: not contour.inclusion)
  points = np.concatenate([contour.points for contour in contours])
  corner = points.min(axis=0)
  columns, rows = points.max(axis=0) - corner + 1
  mask = np.zeros((rows, columns), bool)
  for contour in contours:
    outline = contour.points.astype(np.int64) - corner
    inside = _inside(outline, mask.shape)
    edge = _edge(outline, mask.shape)
    if contour.inclusion:
      mask |= inside & ~edge
    else:
      mask &= ~(inside | edge)
  return mask, (int(corner[1]), int(corner[0]))
