"""Divides cases of two classes so that every split has its part of both."""

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
  """Divides items by group; groups with a case of class 1 by themselves.

  Args:
    items: the cases.
    groups: the group of every case.
    labels: its class, 0 or 1.
    shares: by split, its share; see `splits.divide`.
    seed: chooses among the divisions.

  Returns:
    By split, its items in their own order; no group is in two splits.

  Raises:
    ValueError: the shares are not positive.
  """
  positive = {
    group for group, label in zip(groups, labels, strict=True) if label
  }
  chosen: dict[str, list[int]] = {}
  for inside in (False, True):
    part = [i for i, x in enumerate(groups) if (x in positive) == inside]
    divided = splits.divide(part, [groups[i] for i in part], shares, seed)
    for name, indices in divided.items():
      chosen.setdefault(name, []).extend(indices)
  return {
    name: [items[i] for i in sorted(indices)]
    for name, indices in chosen.items()
  }
