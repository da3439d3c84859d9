"""Boxes drawn on pictures, for people to look at."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

GREEN = (0, 230, 64)
BLUE = (64, 176, 255)
RED = (255, 64, 64)

# Smaller pictures are enlarged to at least this, or no label could be read.
_SIDE = 480
_FONT_SIZE = 12


@dataclasses.dataclass(frozen=True)
class Marks:
  """Boxes of one kind.

  Attributes:
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels; they may leave the
      picture.
    color: red, green and blue of 0 to 255.
    texts: what is written at each; () for nothing.
  """

  corners: np.ndarray
  color: tuple[int, int, int]
  texts: Sequence[str] = ()


def draw(pixels: np.ndarray, marks: Sequence[Marks]) -> np.ndarray:
  """Draws boxes on a picture.

  Args:
    pixels: (h, w) or, in colour, (h, w, 3) uint8.
    marks: later ones lie above earlier ones.

  Returns:
    (k h, k w, 3) uint8; of a small picture each pixel becomes k x k.
  """
  zoom = -(-_SIDE // max(pixels.shape[:2]))
  large = pixels.repeat(zoom, 0).repeat(zoom, 1)
  picture = Image.fromarray(large).convert('RGB')
  pen = ImageDraw.Draw(picture)
  font = ImageFont.load_default(_FONT_SIZE)
  for kind in marks:
    low = np.round(kind.corners[:, :2] * zoom).astype(int)
    high = np.round(kind.corners[:, 2:] * zoom).astype(int) - 1
    for (y0, x0), (y1, x1) in zip(low, np.maximum(low, high), strict=True):
      pen.rectangle((x0, y0, x1, y1), outline=kind.color, width=2)
    for (y, x), text in zip(low, kind.texts, strict=False):
      _, top, right, _ = pen.textbbox((0, 0), text, font, 'lb')
      # Above the box, or as near as the picture's edges allow.
      place = max(min(x, picture.width - right), 0), max(y, -top)
      pen.text(place, text, kind.color, font, 'lb')
  return np.array(picture)
