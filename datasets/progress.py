"""Shows how a build gets on: a bar on a terminal, else now and then a line."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.console
import rich.progress

Item = TypeVar('Item')

_SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
  """Passes items on and tells on standard error how many and how long yet."""
  if sys.stderr.isatty():
    console = rich.console.Console(stderr=True)
    yield from rich.progress.track(items, title, total, console=console)
    return
  began = last = time.monotonic()
  for done, item in enumerate(items, 1):
    yield item
    now = time.monotonic()
    if now - last >= _SECONDS_BETWEEN_LINES:
      last = now
      left = round((now - began) / done * (total - done))
      clock = f'{left // 3600}:{left // 60 % 60:02}:{left % 60:02}'
      say(f'{title}: {done}/{total}, {clock} left')


def say(line: str) -> None:
  """Prints a line on standard error."""
  print(line, file=sys.stderr, flush=True)
