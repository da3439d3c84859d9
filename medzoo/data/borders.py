"""Finds the lit field of an endoscope's frame within its black border.

Video processors show what the endoscope sees as a rectangle, an octagon or a
disc on black, and write the date and the like beside it. The black is rarely
0, and the field lies elsewhere for every processor and every cut of a video,
so its place is looked for in every frame.
"""

import numpy as np
from scipy import ndimage

# A side of the picture whose median is brighter shows no border.
_BRIGHTEST_BORDER = 40
# How much brighter than the border lit pixels are, at least; video and JPEG
# change black by less.
_STEP = 8
# Strokes thinner than this share of the picture's shorter side are letters.
_STROKE = 0.015
# Parts of the field that dark mucosa cuts off, of the largest part's area.
_LEAST_PART = 0.1


def find_field(pixels: np.ndarray) -> tuple[int, int, int, int]:
  """Finds the box round the lit field.

  Args:
    pixels: (h, w, 3) or (h, w) uint8, a frame.

  Returns:
    Corners (y0, x0, y1, x1), half-open, of the smallest box that holds
    `find_lit`; its own corners are black where the field is an octagon.
  """
  return bound(find_lit(pixels))


def bound(mask: np.ndarray) -> tuple[int, int, int, int]:
  """Returns the smallest box round a mask.

  Args:
    mask: (h, w) bool, some of it true.

  Returns:
    Corners (y0, x0, y1, x1), half-open.
  """
  rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
  return (
    int(rows[0]),
    int(columns[0]),
    int(rows[-1]) + 1,
    int(columns[-1]) + 1,
  )


def find_lit(pixels: np.ndarray) -> np.ndarray:
  """Finds the lit field.

  Black is what the sides of the picture show, if they are dark. What is
  brighter belongs to the field, except letters and other small things beside
  it. Darkness that has field on all four sides belongs to it too; darkness at
  its edge cannot be told from the border.

  Args:
    pixels: (h, w, 3) or (h, w) uint8, a frame.

  Returns:
    (h, w) bool; all of the picture where it has no border, or is all dark.
  """
  bright = pixels
  if pixels.ndim == 3:
    # Ten times as fast as the maximum along the last axis.
    bright = np.maximum.reduce([pixels[..., i] for i in range(3)])
  sides = (bright[0], bright[-1], bright[:, 0], bright[:, -1])
  levels = [np.median(side) for side in sides]
  dark = [level for level in levels if level <= _BRIGHTEST_BORDER]
  if not dark:
    return np.ones(bright.shape, bool)
  lit = _drop_letters(bright > max(dark) + _STEP)
  parts, count = ndimage.label(lit)
  if not count:
    return np.ones(bright.shape, bool)
  areas = np.bincount(parts.ravel())
  areas[0] = 0
  return _fill((areas >= _LEAST_PART * areas.max())[parts])


def _drop_letters(lit: np.ndarray) -> np.ndarray:
  width = max(3, round(_STROKE * min(lit.shape)))
  # Beyond the edge there may be more of the field, so it counts as lit.
  kept = ndimage.minimum_filter(lit, width, mode='constant', cval=True)
  # An even filter is off its centre, which the second one has to undo.
  shift = -1 if width % 2 == 0 else 0
  return ndimage.maximum_filter(
    kept, width, mode='constant', cval=False, origin=shift
  )


def _fill(lit: np.ndarray) -> np.ndarray:
  """Adds what lies between lit pixels of its row, and of its column."""
  between = [
    np.logical_or.accumulate(lit, axis)
    & np.flip(np.logical_or.accumulate(np.flip(lit, axis), axis), axis)
    for axis in (0, 1)
  ]
  return between[0] & between[1]
