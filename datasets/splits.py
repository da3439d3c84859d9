"""Divides cases into splits by group, so that no patient is in two of them."""

import hashlib
from collections.abc import Mapping, Sequence
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
  if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
    raise ValueError(f'found shares {dict(shares)}, expected positive ones')
  # The order of a config's keys must not decide.
  shares = dict(sorted(shares.items()))
  members: dict[str, list[int]] = {}
  for i, group in enumerate(groups):
    members.setdefault(group, []).append(i)
  room = _quotas(len(items), shares)
  chosen: dict[str, list[int]] = {name: [] for name in shares}
  # Large groups first, while every split still has room for them.
  for group in sorted(
    members, key=lambda name: (-len(members[name]), _rank(name, seed))
  ):
    name = max(room, key=room.__getitem__)
    chosen[name].extend(members[group])
    room[name] -= len(members[group])
  return {
    name: [items[i] for i in sorted(indices)]
    for name, indices in chosen.items()
    if indices
  }


def _rank(group: str, seed: int) -> str:
  return hashlib.sha256(f'{seed}/{group}'.encode()).hexdigest()


def _quotas(total: int, shares: Mapping[str, float]) -> dict[str, int]:
  """Rounds shares of a total to whole numbers by largest remainder."""
  exact = np.array(list(shares.values()), float)
  exact *= total / exact.sum()
  quotas = np.floor(exact).astype(int)
  # Of equal remainders the emptier split gets the case.
  order = np.lexsort((quotas, np.round(quotas - exact, 9)))
  quotas[order[: total - quotas.sum()]] += 1
  return dict(zip(shares, quotas.tolist(), strict=True))
