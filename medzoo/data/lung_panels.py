"""Four views of a film and its lungs side by side, for a person to judge."""

import numpy as np

from medzoo import types
from medzoo.data import drawing
from medzoo.data import lung_shapes
from medzoo.data import outlines
from medzoo.data import pictures

# Of a lung's colour in the overlay.
_OPACITY = 0.5


def draw(
  volume: types.Volume, masks: types.Masks, *, side: int = 256
) -> np.ndarray:
  """Draws the film; its lungs alone; their boxes and middles; an overlay.

  Args:
    volume: a picture.
    masks: its lungs.
    side: pixels of each view's longer side.

  Returns:
    (h, w, 3) uint8, the four views from left to right.
  """
  picture = pictures.prepare(volume, shape=(side, side), equalize=False)
  rows, columns = picture.inner
  film = np.repeat(picture.pixels[:rows, :columns, None], 3, -1)
  shown = picture.place(masks.masks)[:, :rows, :columns] >= 0.5
  colors = [outlines.LUNG_COLORS[int(label)] for label in masks.labels]
  alone = np.where(shown.any(0)[..., None], film, 0)
  boxed, overlay = film.copy(), film.astype(float)
  for mask, color in zip(shown, colors, strict=True):
    (corners,) = lung_shapes.boxes_of(mask[None])
    _frame(boxed, corners.astype(int), color)
    overlay[mask] += _OPACITY * (np.array(color) - overlay[mask])
  overlay = np.round(overlay).astype(np.uint8)
  return np.concatenate([film, alone, boxed, overlay], axis=1)


def _frame(
  pixels: np.ndarray, corners: np.ndarray, color: tuple[int, int, int]
) -> None:
  """Writes a box of one pixel's width, and a dot in its middle."""
  y0, x0, y1, x1 = corners.tolist()
  inner = pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].copy()
  pixels[y0:y1, x0:x1] = color
  pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = inner
  y, x = (y0 + y1) // 2, (x0 + x1) // 2
  pixels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = drawing.RED
