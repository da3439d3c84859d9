"""Progress of long work: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
import types
from collections.abc import Callable
from typing import Self

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
  """Counts towards a total and shows the time left.

  ```
  with progress.Progress('mining', len(cases)) as bar:
    for i, case in enumerate(cases):
      ...
      bar.update(i + 1)
  ```
  """

  def __init__(
    self,
    title: str,
    total: int,
    *,
    start: int = 0,
    emit: Callable[[str], None] | None = None,
  ):
    """Prepares the display.

    Args:
      title: names the work.
      total: the count at the end.
      start: the count already done; it takes no part in the estimate.
      emit: takes the plain lines; None prints them to standard error.
    """
    self._title = title
    self._total = total
    self._start = start
    self._emit = emit or _to_stderr
    self._bar = None
    self._began = self._last = time.monotonic()

  def __enter__(self) -> Self:
    if sys.stderr.isatty():
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn('{task.description}'),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn('{task.fields[note]}'),
        console=rich.console.Console(stderr=True),
      )
      self._bar.start()
      self._bar.add_task(
        self._title, total=self._total, completed=self._start, note=''
      )
    return self

  def update(self, done: int, note: str = '') -> None:
    """Tells how far the work is; `note` is a word on how it goes."""
    if self._bar is not None:
      task = self._bar.tasks[0]
      self._bar.update(
        task.id, completed=done, note=note or task.fields['note']
      )
      return
    now = time.monotonic()
    if now - self._last >= _SECONDS_BETWEEN_LINES:
      self._last = now
      self._emit(self._line(done, now - self._began, note))

  def __exit__(
    self,
    kind: type[BaseException] | None,
    value: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    if self._bar is not None:
      self._bar.stop()

  def _line(self, done: int, elapsed: float, note: str) -> str:
    pace = elapsed / max(done - self._start, 1)
    left = pace * (self._total - done)
    text = f'{self._title}: {done}/{self._total}, {_clock(left)} left'
    return f'{text}, {note}' if note else text


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}'


def _to_stderr(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
