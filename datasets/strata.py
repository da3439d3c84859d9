"""Divides cases of classes so that every split has its part of each."""

import collections
from collections.abc import Mapping, Sequence
from typing import TypeVar

from datasets import splits

Item = TypeVar('Item')


def divide(
  items: Sequence[Item],
  groups: Sequence[str],
  labels: Sequence[int],
  shares: Mapping[str, float],
  seed: int,
) -> dict[str, list[Item]]:
  """Divides items by group.

  Of two classes groups with a case of class 1 are divided by themselves; of
  more each class is spread, the rarest first.

  Args:
    items: the cases.
    groups: the group of every case.
    labels: its class, from 0.
    shares: by split, its share; see `splits.divide`.
    seed: chooses among the divisions.

  Returns:
    By split, its items in their own order; no group is in two splits.

  Raises:
    ValueError: the shares are not positive.
  """
  if max(labels, default=0) > 1:
    chosen = _spread(groups, labels, splits.check_shares(shares), seed)
  else:
    chosen = _apart(groups, labels, shares, seed)
  return {
    name: [items[i] for i in sorted(indices)]
    for name, indices in chosen.items()
  }


def _apart(
  groups: Sequence[str],
  labels: Sequence[int],
  shares: Mapping[str, float],
  seed: int,
) -> dict[str, list[int]]:
  """Divides groups with and without a case of class 1 each by themselves."""
  positive = {
    group for group, label in zip(groups, labels, strict=True) if label
  }
  chosen: dict[str, list[int]] = {}
  for inside in (False, True):
    part = [i for i, x in enumerate(groups) if (x in positive) == inside]
    divided = splits.divide(part, [groups[i] for i in part], shares, seed)
    for name, indices in divided.items():
      chosen.setdefault(name, []).extend(indices)
  return chosen


def _spread(
  groups: Sequence[str],
  labels: Sequence[int],
  shares: Mapping[str, float],
  seed: int,
) -> dict[str, list[int]]:
  """Divides groups so that every split gets its quota of every class.

  Class by class, the rarest first, groups with the most cases of it first, each
  goes to the split that lacks most of what it has (after iterative
  stratification, Sechidis et al. 2011). Cases count by how rare their class is.
  """
  total = collections.Counter(labels)
  whole = sum(shares.values())
  # What each split still lacks of each class, in parts of all cases of it.
  room = {
    name: dict.fromkeys(total, share / whole) for name, share in shares.items()
  }
  members = splits.members_of(groups)
  parts: dict[str, dict[int, float]] = {}
  for group, own in members.items():
    counts = collections.Counter(labels[i] for i in own)
    parts[group] = {label: n / total[label] for label, n in counts.items()}
  chosen: dict[str, list[int]] = {}
  for label, _ in reversed(total.most_common()):
    holders = [group for group in members if label in parts[group]]
    for group in sorted(
      holders, key=lambda x: (-parts[x][label], splits.rank(x, seed))
    ):
      lacking = {
        name: sum(part * lacks[x] for x, part in parts[group].items())
        for name, lacks in room.items()
      }
      name = max(lacking, key=lacking.__getitem__)
      for x, part in parts[group].items():
        room[name][x] -= part
      chosen.setdefault(name, []).extend(members.pop(group))
  return chosen
