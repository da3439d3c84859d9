"""Divides cases of classes so that every split has its part of each."""

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
  """Divides items by group, the groups of each class by themselves.

  A group with cases of several classes is taken for one of class 1 where there
  are two classes, and for one of its rarest class where there are more.

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
  kinds = _kinds(groups, labels)
  chosen: dict[str, list[int]] = {}
  for kind in sorted(set(kinds.values())):
    part = [i for i, group in enumerate(groups) if kinds[group] == kind]
    divided = splits.divide(part, [groups[i] for i in part], shares, seed)
    for name, indices in divided.items():
      chosen.setdefault(name, []).extend(indices)
  return {
    name: [items[i] for i in sorted(indices)]
    for name, indices in chosen.items()
  }


def _kinds(groups: Sequence[str], labels: Sequence[int]) -> dict[str, int]:
  """Returns the class that each group is taken for."""
  members: dict[int, set[str]] = {}
  for group, label in zip(groups, labels, strict=True):
    members.setdefault(label, set()).add(group)
  order = sorted(members, reverse=True)
  if max(members, default=0) > 1:
    order.sort(key=lambda label: len(members[label]))
  return {group: label for label in reversed(order) for group in members[label]}
