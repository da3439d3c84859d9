"""Finds polyps in frames, and mucosa of the same size for each of them."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.data import borders

# A crop is at least this high and wide, pixels; networks see nothing in less.
LEAST_SIDE = 16
# How much less of a crop may be border in mucosa, of its pixels, unless there
# is no other place: else the border alone would give polyps away.
_UNLIKE = 0.01
# Where mucosa may come from, nearest first.
SOURCES = ('same_frame', 'same_sequence', 'same_view')


@dataclasses.dataclass(frozen=True)
class Frame:
  """What is known of a frame when its pixels are put away.

  Attributes:
    index: its place in the view.
    key, group: its own.
    field: corners of its lit field.
    shape: (h, w) pixels.
    lit: (h * w / 8,) uint8, which of them are not black border, packed.
    polyps: (n, 4) corners of the polyps themselves.
    crops: (n, 4) corners of the polyps with their margin.
  """

  index: int
  key: str
  group: str
  field: np.ndarray
  shape: tuple[int, int]
  lit: np.ndarray
  polyps: np.ndarray
  crops: np.ndarray

  def count_unlit(self, corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Counts pixels of the border in every box of a size within a box.

    Args:
      corners: (4,) of the box to look in.
      size: (2,) of the boxes.

    Returns:
      Their counts by the place of their first pixel.
    """
    lit = np.unpackbits(self.lit, count=int(np.prod(self.shape)))
    y0, x0, y1, x1 = corners
    unlit = 1 - lit.reshape(self.shape)[y0:y1, x0:x1].astype(np.int32)
    table = np.pad(unlit, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    h, w = size
    return table[h:, w:] - table[:-h, w:] - table[h:, :-w] + table[:-h, :-w]


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a crop lies.

  Attributes:
    key: of the crop.
    group: of its frame.
    label: 1 a polyp, 0 mucosa.
    frame: its frame's place in the view.
    corners: (4,) y0, x0, y1, x1, half-open, pixels of the frame.
    source: one of `SOURCES`; '' of a polyp.
  """

  key: str
  group: str
  label: int
  frame: int
  corners: np.ndarray
  source: str


def look(cases: Sequence[types.Case], index: int, margin: float) -> Frame:
  """Looks at a frame.

  Args:
    cases: as `crops.Crops` takes them.
    index: the frame's place among them.
    margin: what a crop has on each of its sides beyond the polyp's box, of the
      box's own height and width.

  Returns:
    What there is to know of it.

  Raises:
    ValueError: the frame has no masks.
  """
  case = cases[index]
  key = cases.keys[index]
  if case.masks is None:
    raise ValueError(f'{key}: found a frame without masks, expected its polyps')
  pixels = case.volume.voxels[0]
  lit = borders.find_lit(pixels)
  field = np.array(borders.bound(lit))
  polyps = np.array([borders.bound(x) for x in case.masks.masks], int)
  polyps = polyps.reshape(-1, 4)
  if (_overlap(polyps, field) == 0).any():
    # What is outlined in the dark is there all the same.
    field, lit = np.array([0, 0, *lit.shape]), np.ones_like(lit)
  crops = np.array([_grow(box, margin, field) for box in polyps], int)
  return Frame(
    index,
    key,
    cases.groups[index],
    field,
    lit.shape,
    np.packbits(lit),
    polyps,
    crops.reshape(-1, 4),
  )


def _overlap(boxes: np.ndarray, field: np.ndarray) -> np.ndarray:
  """Returns (n,) areas."""
  sides = np.minimum(boxes[:, 2:], field[2:]) - np.maximum(
    boxes[:, :2], field[:2]
  )
  return np.clip(sides, 0, None).prod(axis=1)


def _grow(box: np.ndarray, margin: float, field: np.ndarray) -> np.ndarray:
  """Returns the box with its margin, within the field."""
  size = box[2:] - box[:2]
  wanted = np.maximum(np.round(size * (1 + 2 * margin)), LEAST_SIDE).astype(int)
  start = box[:2] - (wanted - size) // 2
  stop = start + wanted
  # At the edge a crop loses margin; only what would be too small is moved.
  start, stop = np.maximum(start, field[:2]), np.minimum(stop, field[2:])
  least = np.minimum(LEAST_SIDE, field[2:] - field[:2])
  start = np.clip(np.minimum(start, stop - least), field[:2], field[2:] - least)
  return np.concatenate([start, np.maximum(stop, start + least)])


def match(frames: Sequence[Frame], seed: int) -> tuple[list[Place], list[str]]:
  """Finds mucosa for every polyp.

  Args:
    frames: all that mucosa may come from.
    seed: chooses among the places.

  Returns:
    The places of the crops, frame by frame and the polyps first; and the keys
    of the polyps for which there is no mucosa.
  """
  by_group = collections.defaultdict(list)
  for frame in frames:
    by_group[frame.group].append(frame)
  polyps, taken, left_out = [], collections.defaultdict(list), []
  for frame in frames:
    for i, corners in enumerate(frame.crops):
      key = f'{frame.key}/polyp_{i}'
      for source, donor in _donors(frame, frames, by_group, f'{seed}/{key}'):
        found = _find_room(donor, frame, corners, f'{seed}/{key}/{donor.key}')
        if found is not None:
          taken[donor.index].append((SOURCES.index(source), key, found))
          polyps.append(Place(key, frame.group, 1, frame.index, corners, ''))
          break
      else:
        left_out.append(key)
  mucosa = [
    Place(
      f'{frames[index].key}/mucosa_{i}',
      frames[index].group,
      0,
      index,
      corners,
      SOURCES[source],
    )
    for index, found in taken.items()
    for i, (source, _, corners) in enumerate(
      sorted(found, key=lambda item: item[:2])
    )
  ]
  places = sorted([*polyps, *mucosa], key=lambda x: (x.frame, -x.label))
  return places, left_out


def _donors(
  frame: Frame,
  frames: Sequence[Frame],
  by_group: Mapping[str, Sequence[Frame]],
  name: str,
) -> Iterator[tuple[str, Frame]]:
  """Yields the frames that mucosa may come from, and what they are."""

  def shuffled(others: Sequence[Frame]) -> list[Frame]:
    return sorted(others, key=lambda x: _digest(f'{name}/{x.key}'))

  yield 'same_frame', frame
  near = [x for x in by_group[frame.group] if x is not frame]
  for donor in shuffled(near):
    yield 'same_sequence', donor
  for donor in shuffled([x for x in frames if x.group != frame.group]):
    yield 'same_view', donor


def _find_room(
  donor: Frame, frame: Frame, corners: np.ndarray, name: str
) -> np.ndarray | None:
  """Returns the corners of mucosa as large as a crop, or None.

  Args:
    donor: where to look.
    frame: where the crop was cut.
    corners: (4,) of the crop.
    name: decides among the places.
  """
  size = corners[2:] - corners[:2]
  # A first pixel at y leaves room for the crop's rows, y to y + size.
  room = donor.field[2:] - donor.field[:2] - size + 1
  if room.min() < 1:
    return None
  free = np.ones(room, bool)
  for y0, x0, y1, x1 in donor.polyps - np.tile(donor.field[:2], 2):
    free[
      max(y0 - size[0] + 1, 0) : max(y1, 0),
      max(x0 - size[1] + 1, 0) : max(x1, 0),
    ] = False
  if free.any():
    dark = donor.count_unlit(donor.field, size)
    most = frame.count_unlit(corners, size)
    free &= dark <= most
    alike = free & (dark >= most - _UNLIKE * size.prod())
    free = alike if alike.any() else free
  places = np.flatnonzero(free)
  if not len(places):
    return None
  choice = places[_digest(name) % len(places)]
  start = donor.field[:2] + np.unravel_index(choice, free.shape)
  return np.concatenate([start, start + size])


def _digest(name: str) -> int:
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
