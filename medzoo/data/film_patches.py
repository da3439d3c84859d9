"""Pieces of films round nodules and elsewhere, all of one size.

A film's nodule is a few of its pixels, and a few hundred films are too few to
find that out from. On patches, each nodule filling a good part of one, an
encoder learns it soon.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from medzoo import types
from medzoo.data import pictures
from medzoo.data import sources

# How far a nodule's middle may be from the patch's, of the nodule's sides.
_AWAY = 0.5


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a patch lies.

  Attributes:
    film: its film's place in the list.
    label: 1 round a nodule, 0 elsewhere.
    share: (2,) where its middle is, of the film's height and width.
  """

  film: int
  label: int
  share: tuple[float, float]


class Patches(Sequence[types.Case]):
  """Patches of films with boxes, cut when asked for.

  Films are prepared as a network sees them whole (`pictures.prepare`), so that
  both see the same greys. Round each nodule there are some patches, and as
  many from anywhere in films without any. A patch's `group` is its film's.

  Attributes:
    keys: FILM/patch_N.
    groups: pseudonym of every patch's study.
    labels: 1 round a nodule, 0 elsewhere.
  """

  def __init__(
    self,
    cases: sources.Cases,
    *,
    side: int,
    per_nodule: int,
    seed: int,
    shape: Sequence[int],
    equalize: bool,
  ):
    """Chooses the places, which a seed and the films' keys decide.

    Args:
      cases: films, whose boxes are their nodules.
      side: of a patch, pixels of the film as prepared.
      per_nodule: how many patches round each.
      seed: of the places.
      shape: see `pictures.prepare`.
      equalize: see `pictures.prepare`.

    Raises:
      ValueError: nothing tells where a film's nodules are, or all films have
        some, or none has.
    """
    self._cases = cases
    self._side = side
    self._prepare = {'shape': shape, 'equalize': equalize}
    self._last: tuple[int, np.ndarray] | None = None
    self._places = _choose(cases, per_nodule, seed)
    self.keys = [
      f'{cases.keys[place.film]}/patch_{i}'
      for i, place in enumerate(self._places)
    ]
    self.groups = [cases.groups[place.film] for place in self._places]
    self.labels = [place.label for place in self._places]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> types.Case:
    place = self._places[index]
    # Neighbouring patches are of one film; threads may ask for others.
    last = self._last
    if last is None or last[0] != place.film:
      film = self._cases[place.film].volume
      picture = pictures.prepare(film, **self._prepare)
      height, width = picture.inner
      self._last = last = place.film, picture.pixels[:height, :width]
    pixels = last[1]
    middle = np.array(place.share) * pixels.shape
    first = np.round(middle - self._side / 2).astype(int)
    first = np.clip(first, 0, np.array(pixels.shape) - self._side)
    y, x = np.maximum(first, 0)
    patch = pixels[y : y + self._side, x : x + self._side]
    volume = types.Volume(
      patch[None], (None, None, None), series_uid=self.keys[index]
    )
    nothing = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
    return types.Case(
      volume, self.groups[index], nothing, nothing, label=place.label
    )


def _choose(cases: sources.Cases, per_nodule: int, seed: int) -> list[_Place]:
  places, clean = [], []
  for i, (key, boxes) in enumerate(zip(cases.keys, cases.boxes, strict=True)):
    if boxes is None:
      raise ValueError(f'{key}: found no boxes, expected those of its nodules')
    if not len(boxes):
      clean.append(i)
      continue
    rng = _generator(seed, key)
    size = np.array(cases.grids[i].shape[1:])
    for corners in boxes.corners:
      middle = (corners[:2] + corners[2:]) / 2
      for _ in range(per_nodule):
        away = rng.uniform(-_AWAY, _AWAY, 2) * (corners[2:] - corners[:2])
        share = (middle + away) / size
        places.append(_Place(i, 1, tuple(share.tolist())))
  if not clean or not places:
    raise ValueError(
      f'found {len(cases) - len(clean)} films with nodules and {len(clean)} '
      'without, expected both'
    )
  number = -(-len(places) // len(clean))
  positive = len(places)
  for i in clean:
    rng = _generator(seed, cases.keys[i])
    shares = rng.uniform(0.1, 0.9, (number, 2))
    places += [_Place(i, 0, tuple(share)) for share in shares.tolist()]
  return places[: 2 * positive]


def _generator(seed: int, key: str) -> np.random.Generator:
  digest = hashlib.sha256(f'{seed}/{key}'.encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8]))
