"""Pieces of frames with and without a polyp that only differ in what they show.

Older work cut polyps by their boxes and took the strips beside them for
normal mucosa, so that a crop's shape told its class without a look at a pixel.
Here every polyp has one piece of mucosa of its very height and width, from the
same frame where there is room.
"""

import collections
import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from medzoo import types
from medzoo.data import crop_places


class Cut(Sequence[types.Case]):
  """Pieces of frames, cut when asked for.

  The `origin` of a piece's volume is (x, y, 0), the place of its first pixel in
  the frame.
  """

  def __init__(
    self,
    cases: Sequence[types.Case],
    places: Sequence[crop_places.Place],
  ):
    """Takes the frames and the places."""
    self._cases = cases
    self._places = list(places)
    self._last: tuple[int, types.Volume] | None = None

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

  def subset(self, indices: Sequence[int]) -> 'Cut':
    """Returns the pieces with these indices, in the order given."""
    part = copy.copy(self)
    part._places = [self._places[i] for i in indices]
    return part

  def _read(self, index: int) -> types.Volume:
    # Neighbouring crops are of one frame, and decoding it costs most. Other
    # threads may ask for other frames meanwhile.
    last = self._last
    if last is None or last[0] != index:
      self._last = last = index, self._cases[index].volume
    return last[1]


class Crops(Cut):
  """Polyps and as many pieces of mucosa, cut from frames when asked for.

  A polyp's crop is its box with a margin, clipped to the lit field. Its piece
  of mucosa has the same height and width, does not touch the box of any polyp,
  and shows as much of the black border, or less. It lies in the same frame
  where there is room, else in another frame of the same sequence, else in
  another frame of the view; where there is room in none, the polyp is left
  out too. Where it lies is up to chance, the seed and the frame's key, and not
  to the order of the frames.

  A case's `label` is 1 for a polyp and 0 for mucosa, its `group` that of the
  frame it was cut from. Sides have the same sizes in both classes only where
  all crops of a view are together, so what is scored apart is better cut from
  frames of its own than taken by `subset`.

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
    frames = [crop_places.look(cases, i, margin) for i in range(len(cases))]
    places, self.left_out = crop_places.match(frames, seed)
    super().__init__(cases, places)

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
      **{source: whence[source] for source in crop_places.SOURCES},
      'left_out': len(self.left_out),
    }
