"""Windows of frames as a search meets them: some fit a polyp, most do not.

Crops are polyps to the pixel and mucosa without any polyp. A window that slides
over a frame is seldom either, and a network that has only seen crops calls half
a polyp a whole one.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from medzoo import types
from medzoo.data import crop_places
from medzoo.data import crops

# How a window that counts as a polyp's may differ from the polyp's crop: its
# middle, of the crop's sides, and the logarithm of its sides.
_AWAY, _SCALE = 0.12, 0.2
# The intersection over union with any crop from which on a window is a polyp's,
# and below which it is none's.
_POLYP, _NONE = 0.5, 0.25
_TRIES = 50


class Windows(crops.Cut):
  """About as many windows on polyps as elsewhere.

  Those elsewhere have the sides of some polyp's crop in the view and may hold a
  part of a polyp. Where they lie is up to chance, the seed and the frame's key.
  A case's `label` is 1 for a polyp and 0 for none, its `group` the frame's.
  """

  def __init__(
    self,
    cases: Sequence[types.Case],
    *,
    margin: float,
    per_polyp: int,
    seed: int,
  ):
    """Looks once at every frame.

    Args:
      cases: frames with masks, as `crops.Crops` takes them.
      margin: of the polyps' crops, see `crops.Crops`.
      per_polyp: how many windows on each polyp.
      seed: chooses among the places.

    Raises:
      ValueError: a frame has no masks, or there is no polyp.
    """
    frames = [crop_places.look(cases, i, margin) for i in range(len(cases))]
    sizes = [box[2:] - box[:2] for frame in frames for box in frame.crops]
    if not sizes:
      raise ValueError(f'found {len(frames)} frames without a polyp')
    elsewhere = -(-len(sizes) * per_polyp // len(frames))
    places = []
    for frame in frames:
      rng = _generator(f'{seed}/{frame.key}')
      on = [_near(frame, i, rng) for i in range(len(frame.crops))
            for _ in range(per_polyp)]  # fmt: skip
      off = [_elsewhere(frame, sizes, rng) for _ in range(elsewhere)]
      found = [(1, x) for x in on] + [(0, x) for x in off if x is not None]
      places += [
        crop_places.Place(
          f'{frame.key}/window_{i}',
          frame.group,
          label,
          frame.index,
          corners,
          '',
        )
        for i, (label, corners) in enumerate(found)
      ]
    super().__init__(cases, places)


def _near(
  frame: crop_places.Frame, index: int, rng: np.random.Generator
) -> np.ndarray:
  """Returns a window on a polyp, its crop itself if no other is found."""
  crop = frame.crops[index]
  for _ in range(_TRIES):
    size = (crop[2:] - crop[:2]) * np.exp(rng.uniform(-_SCALE, _SCALE, 2))
    shift = rng.uniform(-_AWAY, _AWAY, 2) * (crop[2:] - crop[:2])
    window = _place((crop[:2] + crop[2:]) / 2 + shift, size, frame.field)
    if _iou(window, frame.crops[index : index + 1])[0] >= _POLYP:
      return window
  return crop


def _elsewhere(
  frame: crop_places.Frame,
  sizes: Sequence[np.ndarray],
  rng: np.random.Generator,
) -> np.ndarray | None:
  """Returns a window on no polyp, None where there is no room."""
  low, high = frame.field[:2], frame.field[2:]
  for _ in range(_TRIES):
    size = np.minimum(sizes[rng.integers(len(sizes))], high - low)
    window = _place(rng.uniform(low, high), size, frame.field)
    if (_iou(window, frame.crops) < _NONE).all():
      return window
  return None


def _place(
  middle: np.ndarray, size: np.ndarray, field: np.ndarray
) -> np.ndarray:
  """Returns a window of a size, as near to a place as the field allows."""
  size = np.round(np.minimum(size, field[2:] - field[:2])).astype(int)
  size = np.maximum(size, 1)
  first = np.round(middle - size / 2).astype(int)
  first = np.clip(first, field[:2], field[2:] - size)
  return np.concatenate([first, first + size])


def _iou(window: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Returns (n,) of one box and n others, as `ops.boxes` but without JAX."""
  low = np.maximum(window[:2], others[:, :2])
  high = np.minimum(window[2:], others[:, 2:])
  both = np.clip(high - low, 0, None).prod(axis=1)
  areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
  return both / ((window[2:] - window[:2]).prod() + areas - both)


def _generator(name: str) -> np.random.Generator:
  digest = hashlib.sha256(name.encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8]))
