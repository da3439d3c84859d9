"""Pictures to scroll through on a page, with boxes drawn over them."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

# What a box can be: one of it, several of it, whether it is shown at first.
KINDS = {
  'truth': ('true box', 'true boxes', True),
  'ignored': ('ignored finding', 'ignored findings', True),
  'detection': ('detection', 'detections', True),
  'suppressed': ('suppressed double', 'suppressed doubles', False),
}
_TICKED = ('truth', 'detection')
# Of a picture's width: the letters beside its boxes.
_TEXT_SIZE = 1 / 52


@dataclasses.dataclass(frozen=True)
class Box:
  """A box on a picture.

  Attributes:
    kind: one of `KINDS`.
    corners: y0, x0, y1, x1, half-open, pixels of the picture.
    text: what stands beside it; may be ''.
  """

  kind: str
  corners: tuple[float, float, float, float]
  text: str = ''


@dataclasses.dataclass(frozen=True)
class Frame:
  """One picture.

  Attributes:
    title: which one it is.
    jpeg: the file's bytes.
    boxes: drawn over it, the last on top.
  """

  title: str
  jpeg: bytes
  boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True)
class Scan:
  """Pictures of one size that belong together.

  Attributes:
    title: in a few words.
    shape: (h, w) of each picture, pixels.
    frames: from the first to the last, at least one.
    opening: index of the one that is shown first, and the only one where the
      page may run no script.
  """

  title: str
  shape: tuple[int, int]
  frames: tuple[Frame, ...]
  opening: int = 0


@dataclasses.dataclass(frozen=True)
class Viewer:
  """A part of a page, as `page.Figure` is one.

  Attributes:
    title: a few words.
    scans: one below the other.
    caption: what there is to see, in a sentence or two; may be ''.
  """

  title: str
  scans: Sequence[Scan]
  caption: str = ''


def context(viewer: Viewer) -> dict[str, Any]:
  """Returns what `figure.html.jinja` shows of a viewer."""
  return {
    'title': viewer.title,
    'caption': viewer.caption,
    'scans': [_scan(scan) for scan in viewer.scans],
  }


def _scan(scan: Scan) -> dict[str, Any]:
  boxes = [box for frame in scan.frames for box in frame.boxes]
  return {
    'title': scan.title,
    'height': scan.shape[0],
    'width': scan.shape[1],
    'text_size': _short(scan.shape[1] * _TEXT_SIZE),
    'opening': scan.opening,
    'frames': [_frame(frame, scan.shape) for frame in scan.frames],
    'legend': [
      {'kind': kind, 'words': _counted(boxes, kind), 'shown': KINDS[kind][2]}
      for kind in KINDS
    ],
    'ticks': [
      (kind, _short(100 * i / max(len(scan.frames) - 1, 1)))
      for kind in _TICKED
      for i, frame in enumerate(scan.frames)
      if any(box.kind == kind for box in frame.boxes)
    ],
  }


def _frame(frame: Frame, shape: tuple[int, int]) -> dict[str, Any]:
  counts = [
    _counted(frame.boxes, kind) + _told(frame.boxes, kind)
    for kind in KINDS
    if any(box.kind == kind for box in frame.boxes)
  ]
  data = base64.b64encode(frame.jpeg).decode('ascii')
  return {
    'words': f'{frame.title}: {", ".join(counts) or "no box"}',
    'source': f'data:image/jpeg;base64,{data}',
    'boxes': [_box(box, shape) for box in frame.boxes],
  }


def _box(box: Box, shape: tuple[int, int]) -> dict[str, str]:
  """Places a box and its text; what was found is named above the box.

  What was to be found is named below it, as the two often coincide; a text that
  would leave the picture goes to the other side.
  """
  y0, x0, y1, x1 = box.corners
  size = shape[1] * _TEXT_SIZE
  above = y0 > 1.5 * size
  if box.kind in ('truth', 'ignored'):
    above = y1 > shape[0] - 1.5 * size
  at_right = x0 > 0.75 * shape[1]
  return {
    'kind': box.kind,
    'x': _short(x0),
    'y': _short(y0),
    'width': _short(x1 - x0),
    'height': _short(y1 - y0),
    'text': box.text,
    'text_x': _short(x1 if at_right else x0),
    'text_y': _short(y0 - 0.3 * size if above else y1 + size),
    'anchor': 'end' if at_right else 'start',
  }


def _counted(boxes: Sequence[Box], kind: str) -> str:
  number = sum(box.kind == kind for box in boxes)
  one, several, _ = KINDS[kind]
  return f'{number} {one if number == 1 else several}'


def _told(boxes: Sequence[Box], kind: str) -> str:
  """Repeats what stands beside boxes of a kind."""
  texts = [box.text for box in boxes if box.kind == kind and box.text]
  return f' ({"; ".join(texts)})' if texts else ''


def _short(number: float) -> str:
  return f'{number:.2f}'.rstrip('0').rstrip('.')
