"""Keeps a device busy while the host prepares and collects."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')

# One network call uses little more than one core of a CPU, and on a GPU the
# next call waits ready.
_IN_FLIGHT = 2


def overlapped(
  function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
  """Yields every item with its result, in order, two calls at a time.

  Items are drawn as they are needed, so only a few are held at once.
  """
  waiting: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(_IN_FLIGHT) as pool:
    for item in items:
      waiting.append((item, pool.submit(function, item)))
      if len(waiting) > _IN_FLIGHT:
        done, future = waiting.popleft()
        yield done, future.result()
    for done, future in waiting:
      yield done, future.result()
