"""Divides cases into splits by group, so that no patient is in two of them."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

DEFAULT_SHARES = {'train': 0.7, 'validation': 0.1, 'test': 0.2}

Item = TypeVar('Item')


def divide(
  items: Sequence[Item],
  groups: Sequence[str],
  shares: Mapping[str, float],
  seed: int,
) -> dict[str, list[Item]]:
  """Divides items by group.

  Groups go one by one, in an order that the seed and their names decide, to
  the split that lacks most of its quota, so splits differ from their quotas
  by less than the largest group.

  Args:
    items: the cases.
    groups: the group of every case.
    shares: by split, its share; any unit, so fractions or counts.
    seed: chooses among the divisions.

  Returns:
    By split, its items in their own order; splits that got none are absent.

  Raises:
    ValueError: the shares are not positive.
  """
  shares = check_shares(shares)
  members = members_of(groups)
  room = _quotas(len(items), shares)
  chosen: dict[str, list[int]] = {name: [] for name in shares}
  # Large groups first, while every split still has room for them.
  for group in sorted(
    members, key=lambda name: (-len(members[name]), rank(name, seed))
  ):
    name = max(room, key=room.__getitem__)
    chosen[name].extend(members[group])
    room[name] -= len(members[group])
  return {
    name: [items[i] for i in sorted(indices)]
    for name, indices in chosen.items()
    if indices
  }


def members_of(groups: Sequence[str]) -> dict[str, list[int]]:
  """Returns the indices of each group's cases, groups in their own order."""
  members: dict[str, list[int]] = {}
  for i, group in enumerate(groups):
    members.setdefault(group, []).append(i)
  return members


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
  """Returns shares by the alphabet, as a config's order must not decide.

  Raises:
    ValueError: the shares are not positive.
  """
  if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
    raise ValueError(f'found shares {dict(shares)}, expected positive ones')
  return dict(sorted(shares.items()))


def rank(group: str, seed: int) -> str:
  """Returns what orders groups by chance, by the seed and their names."""
  return hashlib.sha256(f'{seed}/{group}'.encode()).hexdigest()


def search_group(pattern: str, key: str) -> str | None:
  """Finds a group in a case's key.

  Args:
    pattern: regular expression; with a pair of brackets, what they hold.
    key: the case's key.

  Returns:
    The group, None where nothing matches.

  Raises:
    ValueError: the pattern is no regular expression.
  """
  try:
    match = re.search(pattern, key)
  except re.error as error:
    raise ValueError(
      f'found the group {pattern!r}, expected a regular expression: {error}'
    ) from None
  return match and match[min(1, match.re.groups)]


def group_by(pattern: str, keys: Iterable[str]) -> dict[str, str]:
  """Returns the group of every key, as `search_group` finds it.

  Raises:
    ValueError: also where nothing matches in a key.
  """
  found = {key: search_group(pattern, key) for key in keys}
  for key, group in found.items():
    if group is None:
      raise ValueError(
        f'{key}: found no match of the group {pattern!r}, expected one in'
        ' every path'
      )
  return found


def _quotas(total: int, shares: Mapping[str, float]) -> dict[str, int]:
  """Rounds shares of a total to whole numbers by largest remainder."""
  exact = np.array(list(shares.values()), float)
  exact *= total / exact.sum()
  quotas = np.floor(exact).astype(int)
  # Of equal remainders the emptier split gets the case.
  order = np.lexsort((quotas, np.round(quotas - exact, 9)))
  quotas[order[: total - quotas.sum()]] += 1
  return dict(zip(shares, quotas.tolist(), strict=True))
