"""Films as people look at them, with the outlines of what is in them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
from scipy import ndimage

from medzoo import types
from medzoo.data import drawing

# Of the patient's right and left lung.
LUNG_COLORS = {1: (255, 176, 0), 2: drawing.BLUE}

# So much of the greys is shown as black and as white, percent.
_CLIPPED = 0.5
_FONT_SIZE = 14


@dataclasses.dataclass(frozen=True)
class Outline:
  """One object and how it is to be drawn.

  Attributes:
    mask: (h, w) bool, pixels of the film as it was taken.
    color: red, green and blue of 0 to 255.
    text: what is written above it.
  """

  mask: np.ndarray
  color: tuple[int, int, int]
  text: str = ''


def draw(
  volume: types.Volume, outlines: Sequence[Outline], side: int
) -> np.ndarray:
  """Draws outlines on a film.

  Greys of any depth are shown between two percentiles of theirs; a film in
  colour as it is.

  Args:
    volume: a picture, (1, h, w) or (1, h, w, 3).
    outlines: later ones lie above earlier ones.
    side: pixels of the longer side of what is drawn.

  Returns:
    (h', w', 3) uint8.
  """
  film = Image.fromarray(_shown(volume.voxels[0])).convert('RGB')
  scale = side / max(film.size)
  size = tuple(max(round(length * scale), 1) for length in film.size)
  pixels = np.array(film.resize(size, Image.Resampling.BOX if scale < 1 else
                                Image.Resampling.BILINEAR))  # fmt: skip
  places = []
  for outline in outlines:
    layer = Image.fromarray(outline.mask.astype(np.uint8) * 255)
    mask = np.array(layer.resize(size, Image.Resampling.BILINEAR)) >= 128
    pixels[mask ^ ndimage.binary_erosion(mask, iterations=2)] = outline.color
    rows, columns = np.nonzero(mask)
    if len(rows) and outline.text:
      places.append((columns.min(), rows.min(), outline))
  picture = Image.fromarray(pixels)
  pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_SIZE)
  for x, y, outline in places:
    _, top, right, _ = pen.textbbox((0, 0), outline.text, font, 'lb')
    # Above the object, or as near as the film's edges allow.
    place = max(min(x, picture.width - right), 0), max(y - 2, -top)
    pen.text(place, outline.text, outline.color, font, 'lb', stroke_width=1,
             stroke_fill=(0, 0, 0))  # fmt: skip
  return np.array(picture)


def _shown(pixels: np.ndarray) -> np.ndarray:
  """Returns (h, w) or (h, w, 3) uint8."""
  if pixels.ndim == 3:
    return pixels
  low, high = np.percentile(pixels, (_CLIPPED, 100 - _CLIPPED))
  shown = (pixels.astype(np.float32) - low) / max(high - low, 1e-6)
  return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)
