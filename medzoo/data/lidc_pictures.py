"""Pictures of slices with what each reader marked on them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL import ImageColor
from PIL import ImageDraw
from PIL import ImageFont
from scipy import ndimage

from medzoo.data import lidc_scans
from medzoo.io import lidc_types

# One a reader; some scans were read eight times.
_COLOURS = (
  '#ff5050', '#40c8ff', '#ffd23c', '#50e664',
  '#ff78e6', '#ff9632', '#9696ff', '#ffffff',
)  # fmt: skip
_LUNGS = '#2f8f8f'
_WIDTH = 1024
_LINE = 24
_ARM = 9.0


def marked(reading: lidc_scans.Reading) -> list[int]:
  """Returns the indices of the slices that carry a mark, in rising order."""
  found = {
    reading.slices[contour.sop_uid]
    for mark in reading.marks
    for contour in mark.nodule.contours
  }
  return sorted(found | {_slice(point) for point in reading.points})


def draw(
  reading: lidc_scans.Reading, index: int, lungs: np.ndarray | None = None
) -> Image.Image:
  """Draws a slice in the lung window with all marks on it and a legend below.

  An outline runs on the pixels that its reader drew, just outside of the
  nodule, and is closed where the reader left it open; the outline of a hole is
  dotted. A triangle is a small nodule, a cross a non-nodule; both leave their
  middle free.

  Args:
    reading: the scan.
    index: of the slice.
    lungs: (d, h, w) bool, the lung mask whose edge is drawn too.

  Returns:
    An RGB picture; each pixel of the slice is a square of whole pixels.
  """
  plane = lidc_scans.gray(reading.volume.voxels[index])
  zoom = max(1, round(_WIDTH / plane.shape[1]))
  slice_ = np.stack([_enlarge(plane, zoom)] * 3, axis=-1)
  if lungs is not None:
    inside = _enlarge(lungs[index], zoom)
    edge = inside & ~ndimage.binary_erosion(inside, iterations=2)
    slice_[edge] = ImageColor.getrgb(_LUNGS)
  height, width = slice_.shape[:2]
  picture = Image.new('RGB', (width, height + 2 * _LINE))
  picture.paste(Image.fromarray(slice_))
  pen = ImageDraw.Draw(picture)
  for mark in reading.marks:
    for contour in mark.nodule.contours:
      if reading.slices[contour.sop_uid] == index:
        _outline(pen, contour, zoom, _colour(mark.session))
  for point in reading.points:
    if _slice(point) == index:
      place = (point.index[[2, 1]] + 0.5) * zoom
      _symbol(pen, point.kind, place, _colour(point.session))
  _legend(pen, height, reading, index)
  return picture


def _slice(point: lidc_scans.Point) -> int:
  return round(float(point.index[0]))


def _colour(session: int) -> str:
  return _COLOURS[session % len(_COLOURS)]


def _enlarge(plane: np.ndarray, zoom: int) -> np.ndarray:
  return plane.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _outline(
  pen: ImageDraw.ImageDraw,
  contour: lidc_types.Contour,
  zoom: int,
  colour: str,
) -> None:
  corners = [(x, y) for x, y in (contour.points + 0.5) * zoom]
  if contour.inclusion:
    pen.line([*corners, corners[0]], fill=colour, width=2)
    return
  for x, y in corners:
    pen.rectangle([x - 1, y - 1, x, y], fill=colour)


def _symbol(
  pen: ImageDraw.ImageDraw, kind: str, place: Sequence[float], colour: str
) -> None:
  """Draws a triangle or a cross round (x, y), in pixels of the picture."""
  x, y = place
  if kind == 'small':
    below = y + 0.7 * _ARM
    corners = [(x, y - 1.3 * _ARM), (x - _ARM, below), (x + _ARM, below)]
    pen.line([*corners, corners[0]], fill=colour, width=2)
    return
  for right, down in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
    ends = [(x + right * r, y + down * r) for r in (0.35 * _ARM, _ARM)]
    pen.line([*ends[0], *ends[1]], fill=colour, width=2)


def _legend(
  pen: ImageDraw.ImageDraw, top: int, reading: lidc_scans.Reading, index: int
) -> None:
  font = ImageFont.load_default(size=16)
  height = reading.volume.index_to_world(np.array([index, 0, 0]))[2]
  x = 8.0
  for text, colour in (
    (f'slice {index} of {len(reading.volume.voxels)}', 'white'),
    (f'z {height:.1f} mm', 'white'),
    *((f'reader {i + 1}', _colour(i)) for i in range(reading.sessions)),
  ):
    pen.text((x, top + 3), text, fill=colour, font=font)
    x += pen.textlength(text, font=font) + 20
  x, y = 16.0, top + 1.5 * _LINE
  for kind, text in (('small', 'nodule < 3 mm'), ('non_nodule', 'non-nodule')):
    _symbol(pen, kind, (x, y), 'white')
    pen.text((x + 18, y - 9), text, fill='white', font=font)
    x += pen.textlength(text, font=font) + 52
  text = 'outline: nodule >= 3 mm; dotted: a hole in it'
  pen.text((x, y - 9), text, fill='white', font=font)
