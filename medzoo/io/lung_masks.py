"""Masks of the lungs in a film, told apart by the patient's side.

Left is the patient's left, which a film shows on its right. Masks come as
two pictures, as one of labels or as one of both lungs, which is split only
where there is no doubt; what is doubtful is refused by name, never guessed.
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from medzoo import types

RIGHT, LEFT = 1, 2
# Names of the class ids from 1.
CLASSES = ('right lung', 'left lung')
_SIDES = {RIGHT: 'right', LEFT: 'left'}

# Greys between a quarter and three quarters of the brightest one are the
# fringe that JPEG and resizing leave; a picture has more of them.
_MOST_FRINGE = 0.05
_LEAST_WHITE = 128
# Of all lung; what is smaller is a speck.
_SPECK = 0.02
# Of the larger lung; a smaller other one is doubted.
_LEAST_RATIO = 0.2
# Of the picture: no lung is larger, and none that is split off is smaller.
_MOST_SHARE = 0.5
_LEAST_SHARE = 0.01
# Of the narrower lung's width: by how much the other may reach over it.
_MOST_REACH = 0.25
# Of the smaller lung: by how much both may be drawn over each other.
_MOST_OVERLAP = 0.05


class Refused(ValueError):
  """Masks that do not say without doubt which lung is where.

  Attributes:
    code: why, in one word: 'not_binary', 'bad_labels', 'empty_mask',
      'mask_size', 'overlap', 'implausible_size', 'mirrored', 'one_component',
      'several_components' or 'crosses_midline'.
    detail: why, in a line.
  """

  def __init__(self, code: str, detail: str):
    super().__init__(f'{code}: {detail}')
    self.code = code
    self.detail = detail


def binarize(values: np.ndarray) -> np.ndarray:
  """Tells a mask from its background.

  Args:
    values: (h, w) numbers: 0 and one other, or greys with a fringe between.

  Returns:
    (h, w) bool; of greys with a fringe what is brighter than half.

  Raises:
    Refused: 'not_binary', too much is neither black nor white.
  """
  present = np.unique(values)
  if not present.any():
    return np.zeros(values.shape, bool)
  if len(present) <= 2 and present[0] == 0:
    return values != 0
  peak = float(present[-1])
  fringe = ((values > peak / 4) & (values < 0.75 * peak)).mean()
  if peak < _LEAST_WHITE or fringe > _MOST_FRINGE or present[0] > peak / 4:
    raise Refused(
      'not_binary',
      f'found {len(present)} values from {present[0]} to {present[-1]},'
      f' {fringe:.0%} of them grey, expected black and white',
    )
  return values > peak / 2


def from_labels(values: np.ndarray) -> types.Masks:
  """Reads one image of both lungs, 1 the patient's right and 2 the left.

  Args:
    values: (h, w) numbers; a lung that is absent has no pixel.

  Returns:
    the lungs there are.

  Raises:
    Refused: 'bad_labels', 'empty_mask' or 'implausible_size'.
  """
  present = np.unique(values).tolist()
  if not set(present) <= {0, RIGHT, LEFT}:
    shown = ', '.join(map(str, present[:5])) + ', ...' * (len(present) > 5)
    raise Refused('bad_labels', f'found values {shown}, expected 0, 1 and 2')
  return from_sides({side: values == side for side in _SIDES})


def from_sides(sides: Mapping[int, np.ndarray]) -> types.Masks:
  """Puts the masks of both sides together.

  Args:
    sides: by `RIGHT` and `LEFT`, (h, w) bool; a lung that is absent has no
      pixel.

  Returns:
    the lungs there are, the right one first.

  Raises:
    Refused: 'mask_size' where the two differ, 'empty_mask', 'implausible_size'
      or 'overlap'.
  """
  shapes = {mask.shape for mask in sides.values()}
  if len(shapes) > 1:
    sizes = ' and '.join(f'{h} x {w}' for h, w in sorted(shapes))
    raise Refused('mask_size', f'found masks of {sizes}, expected one size')
  labels = [side for side in _SIDES if side in sides and sides[side].any()]
  if not labels:
    raise Refused('empty_mask', 'found no pixel of a lung, expected some')
  masks = np.stack([sides[side] for side in labels])
  for side, mask in zip(labels, masks, strict=True):
    if mask.mean() > _MOST_SHARE:
      raise Refused(
        'implausible_size',
        f'found {mask.mean():.0%} of the picture in the {_SIDES[side]} lung,'
        f' expected {_MOST_SHARE:.0%} at most: white for black?',
      )
  both = masks.all(axis=0).sum() / masks.sum(axis=(1, 2)).min()
  if len(labels) == 2 and both > _MOST_OVERLAP:
    raise Refused(
      'overlap', f'found {both:.0%} of a lung in both, expected two lungs'
    )
  return types.Masks(masks, np.array(labels, np.int32))


def exchange(masks: types.Masks) -> types.Masks:
  """Calls the right lung left and the left one right."""
  return types.Masks(masks.masks[::-1], RIGHT + LEFT - masks.labels[::-1])


def check_standard(masks: types.Masks) -> None:
  """Refuses masks whose right lung is not on the left of the left one.

  Raises:
    Refused: 'mirrored'.
  """
  if len(masks) == 2 and _center(masks.masks[0]) >= _center(masks.masks[1]):
    raise Refused(
      'mirrored',
      "found the patient's right lung on the right of the film, expected it on"
      ' the left',
    )


def split(mask: np.ndarray) -> types.Masks:
  """Splits a mask of both lungs of a film that is not mirrored.

  Holes are filled and specks of less than 2 % of the mask dropped. Two pieces
  must then be left that `pair` accepts.

  Args:
    mask: (h, w) bool.

  Returns:
    both lungs, the right one first.

  Raises:
    Refused: 'empty_mask'; 'one_component', the lungs touch or there is one
      only; 'several_components'; or what `pair` raises.
  """
  pieces, count = ndimage.label(mask)
  if not count:
    raise Refused('empty_mask', 'found no pixel of a lung, expected some')
  areas = np.bincount(pieces.ravel())[1:]
  large = np.flatnonzero(areas > _SPECK * areas.sum()) + 1
  if len(large) == 1:
    raise Refused(
      'one_component',
      'found one piece, so that the lungs touch or one is absent, expected a'
      ' gap between two; masks of either side or labels tell them apart',
    )
  if len(large) > 2:
    raise Refused(
      'several_components', f'found {len(large)} large pieces, expected two'
    )
  return pair(*(ndimage.binary_fill_holes(pieces == i) for i in large))


def pair(one: np.ndarray, other: np.ndarray) -> types.Masks:
  """Tells two lungs apart by their places, in a film that is not mirrored.

  Args:
    one, other: (h, w) bool, the lungs in either order.

  Returns:
    both lungs, the right one first: it is on the left of the film.

  Raises:
    Refused: 'implausible_size', a lung below a fifth of the other, below 1 %
      or above half of the picture; 'crosses_midline', they do not lie side by
      side; 'overlap'.
  """
  right, left = sorted((one, other), key=_center)
  areas = sorted((right.sum(), left.sum()))
  if areas[0] < max(_LEAST_RATIO * areas[1], _LEAST_SHARE * right.size):
    raise Refused(
      'implausible_size',
      f'found pieces of {areas[0]} and {areas[1]} of {right.size} pixels,'
      ' expected two lungs',
    )
  (right_low, right_high), (left_low, left_high) = map(_range, (right, left))
  reach = min(right_high, left_high) - max(right_low, left_low)
  narrow = min(right_high - right_low, left_high - left_low)
  away = _center(left) - _center(right)
  above = abs(_center(left, 0) - _center(right, 0))
  if reach > _MOST_REACH * narrow or away <= above:
    raise Refused(
      'crosses_midline',
      f'found pieces over columns {right_low} to {right_high} and'
      f' {left_low} to {left_high}, expected lungs side by side',
    )
  return from_sides({RIGHT: right, LEFT: left})


def fit(masks: types.Masks, shape: tuple[int, int]) -> types.Masks:
  """Brings masks to the size of their picture, by nearest neighbours.

  Args:
    masks: of any size.
    shape: rows and columns of the picture.

  Returns:
    masks of that size.

  Raises:
    Refused: 'mask_size', the proportions differ by more than a pixel.
  """
  (h, w), (rows, columns) = masks.masks.shape[1:], shape
  if abs(h * columns - w * rows) > max(h, w, rows, columns):
    raise Refused(
      'mask_size',
      f'found a mask of {h} x {w} pixels, expected {rows} x {columns} as the'
      ' picture has, or its proportions',
    )
  # Where the centres of the picture's pixels fall.
  y = (2 * np.arange(rows) + 1) * h // (2 * rows)
  x = (2 * np.arange(columns) + 1) * w // (2 * columns)
  return types.Masks(masks.masks[:, y[:, None], x], masks.labels)


def _center(mask: np.ndarray, axis: int = 1) -> float:
  """Returns the mean row (axis 0) or column (axis 1) of a mask."""
  return float(np.nonzero(mask)[axis].mean()) if mask.any() else 0.0


def _range(mask: np.ndarray) -> tuple[int, int]:
  """Returns the first column of a mask, and the one after its last."""
  columns = np.flatnonzero(mask.any(axis=0))
  return int(columns[0]), int(columns[-1]) + 1
