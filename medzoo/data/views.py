"""What classifiers look at: the pictures of a dataset, or parts of them.

A config's `view` names one; '' are the pictures as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from medzoo import types
from medzoo.data import crops
from medzoo.data import film_patches
from medzoo.data import frame_windows
from medzoo.data import sources

_VIEWS = {
  'crops': crops.Crops,
  'film_patches': film_patches.Patches,
  'windows': frame_windows.Windows,
}


class Pictures(Protocol):
  """Cases that are decoded one by one; what they are is known before.

  Attributes:
    keys: name of every case.
    groups: pseudonym of every case's patient, study or sequence.
    labels: class of every case as a whole, None where nobody has said.
  """

  keys: Sequence[str]
  groups: Sequence[str]
  labels: Sequence[int | None]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> types.Case: ...


class Viewed(Mapping[str, Pictures]):
  """The splits of a run as a view shows them, each made when it is wanted."""

  def __init__(
    self, cases: Mapping[str, sources.Cases], view: Mapping[str, Any]
  ):
    """Takes the splits and the view.

    Args:
      cases: by split.
      view: `name`, '' or a key of `_VIEWS`, and that view's own arguments.

    Raises:
      ValueError: there is no such view.
    """
    self._name = view['name']
    if self._name and self._name not in _VIEWS:
      raise ValueError(
        f'view.name: found {self._name!r}, expected one of '
        f"{', '.join(_VIEWS)}, or '' for none"
      )
    self._cases = cases
    self._options = {k: v for k, v in view.items() if k != 'name'}
    self._made: dict[str, Pictures] = {}

  def __getitem__(self, split: str) -> Pictures:
    if not self._name:
      return self._cases[split]
    if split not in self._made:
      self._made[split] = _VIEWS[self._name](
        self._cases[split], **self._options
      )
    return self._made[split]

  def __iter__(self) -> Iterator[str]:
    return iter(self._cases)

  def __len__(self) -> int:
    return len(self._cases)


class Joined(Sequence[types.Case]):
  """The pictures of several runs, one after the other."""

  def __init__(self, parts: Sequence[Pictures]):
    """Joins them in the order given."""
    self._places = [(part, i) for part in parts for i in range(len(part))]
    self.keys = [part.keys[i] for part, i in self._places]
    self.groups = [part.groups[i] for part, i in self._places]
    self.labels = [part.labels[i] for part, i in self._places]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> types.Case:
    part, i = self._places[index]
    return part[i]
