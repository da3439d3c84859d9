"""Pieces of frames with and without a polyp that only differ in what they show.

Older work cut polyps by their boxes and took the strips beside them for
normal mucosa, so that a crop's shape told its class without a look at a pixel.
Here every polyp has one piece of mucosa of its very height and width, from the
same frame where there is room.
"""

import collections
import copy
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
class _Frame:
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
class _Place:
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


class Crops(Sequence[types.Case]):
  """Polyps and as many pieces of mucosa, cut from frames when asked for.

  A polyp's crop is its box with a margin, clipped to the lit field. Its piece
  of mucosa has the same height and width, does not touch the box of any polyp,
  and shows as much of the black border, or less. It lies in the same frame
  where there is room, else in another frame of the same sequence, else in
  another frame of the view; where there is room in none, the polyp is left
  out too. Where it lies is up to chance, the seed and the frame's key, and not
  to the order of the frames.

  A case's `label` is 1 for a polyp and 0 for mucosa, its `group` that of the
  frame it was cut from. The `origin` of its volume is (x, y, 0), the place of
  its first pixel in the frame.

  Attributes:
    left_out: keys of the polyps for which no mucosa was found.
  """

  def __init__(self, cases: Sequence[types.Case], *, margin: float, seed: int):
    """Looks once at every frame.

    Args:
      cases: frames with masks, a polyp each, and with the attributes `keys`
        and `groups`, as `sources.Cases` has them.
      margin: what a crop has on each of its sides beyond the polyp's box, of
        the box's own height and width.
      seed: chooses among the places of mucosa.

    Raises:
      ValueError: the margin is negative, or a frame has no masks.
    """
    if margin < 0:
      raise ValueError(f'found a margin of {margin}, expected 0 or more')
    self._cases = cases
    self._last: tuple[int, types.Volume] | None = None
    frames = [_look(cases, i, margin) for i in range(len(cases))]
    self._places, self.left_out = _match(frames, seed)

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> types.Case:
    place = self._places[index]
    frame = self._read(place.frame)
    y0, x0, y1, x1 = place.corners
    volume = dataclasses.replace(
      frame,
      voxels=frame.voxels[:, y0:y1, x0:x1].copy(),
      origin=(float(x0), float(y0), 0.0),
      series_uid=place.key,
    )
    nothing = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
    return types.Case(volume, place.group, nothing, nothing, label=place.label)

  @property
  def keys(self) -> list[str]:
    """Name of every crop: its frame's, then polyp_0, mucosa_0 and so on."""
    return [place.key for place in self._places]

  @property
  def groups(self) -> list[str]:
    """Pseudonym of every crop's sequence."""
    return [place.group for place in self._places]

  @property
  def labels(self) -> list[int]:
    """Class of every crop, 1 a polyp, 0 mucosa."""
    return [place.label for place in self._places]

  @property
  def corners(self) -> list[np.ndarray]:
    """Corners (y0, x0, y1, x1) of every crop in its frame, half-open."""
    return [place.corners for place in self._places]

  @property
  def counts(self) -> dict[str, int]:
    """How many polyps and pieces of mucosa there are, and whence.

    `same_frame`, `same_sequence` and `same_view` are parts of `mucosa`;
    `left_out` are polyps for which there was no room.
    """
    labels = collections.Counter(self.labels)
    whence = collections.Counter(place.source for place in self._places)
    return {
      'polyp': labels[1],
      'mucosa': labels[0],
      **{source: whence[source] for source in SOURCES},
      'left_out': len(self.left_out),
    }

  def subset(self, indices: Sequence[int]) -> 'Crops':
    """Returns the crops with these indices, in the order given."""
    part = copy.copy(self)
    part._places = [self._places[i] for i in indices]
    return part

  def _read(self, index: int) -> types.Volume:
    # Neighbouring crops are of one frame, and decoding it costs most.
    if self._last is None or self._last[0] != index:
      self._last = index, self._cases[index].volume
    return self._last[1]


def _look(cases: Sequence[types.Case], index: int, margin: float) -> _Frame:
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
  return _Frame(
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


def _match(
  frames: Sequence[_Frame], seed: int
) -> tuple[list[_Place], list[str]]:
  """Finds mucosa for every polyp."""
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
          polyps.append(_Place(key, frame.group, 1, frame.index, corners, ''))
          break
      else:
        left_out.append(key)
  mucosa = [
    _Place(
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
  # Frame by frame, the polyps first.
  places = sorted([*polyps, *mucosa], key=lambda x: (x.frame, -x.label))
  return places, left_out


def _donors(
  frame: _Frame,
  frames: Sequence[_Frame],
  by_group: Mapping[str, Sequence[_Frame]],
  name: str,
) -> Iterator[tuple[str, _Frame]]:
  """Yields the frames that mucosa may come from, and what they are."""

  def shuffled(others: Sequence[_Frame]) -> list[_Frame]:
    return sorted(others, key=lambda x: _digest(f'{name}/{x.key}'))

  yield 'same_frame', frame
  near = [x for x in by_group[frame.group] if x is not frame]
  for donor in shuffled(near):
    yield 'same_sequence', donor
  for donor in shuffled([x for x in frames if x.group != frame.group]):
    yield 'same_view', donor


def _find_room(
  donor: _Frame, frame: _Frame, corners: np.ndarray, name: str
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
