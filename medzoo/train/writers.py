"""What a run writes while it goes: metrics.jsonl, TensorBoard, log.txt.

Everything is written by the calling thread: a writing thread of its own, as
the usual event writers have, hangs its program when the disk is full.
"""

import contextlib
import datetime
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tensorboardX import event_file_writer
from tensorboardX import summary
from tensorboardX.proto import event_pb2


class Writer:
  """Writes one work folder; of several processes only the first one does."""

  def __init__(self, workdir: str | os.PathLike[str], *, echo: bool = True):
    """Opens the folder and makes it if it is missing.

    Args:
      workdir: gets metrics.jsonl, log.txt and tensorboard/.
      echo: whether log lines go to standard error too.
    """
    self._workdir = pathlib.Path(workdir)
    self._echo = echo
    self._active = jax.process_index() == 0
    self._events: dict[str, event_file_writer.EventsWriter] = {}
    if self._active:
      self._workdir.mkdir(parents=True, exist_ok=True)

  def log(self, line: str) -> None:
    """Adds a line to log.txt, with the time."""
    if not self._active:
      return
    if self._echo:
      print(line, file=sys.stderr, flush=True)
    now = datetime.datetime.now().isoformat(sep=' ', timespec='seconds')
    self._append('log.txt', f'{now} {line}\n')

  def scalars(self, stage: str, step: int, values: Mapping[str, float]) -> None:
    """Adds a row to metrics.jsonl and the same values to TensorBoard.

    Args:
      stage: the stage, or 'fold_K/stage'.
      step: steps done.
      values: by name; what is not finite becomes null.
    """
    if not self._active:
      return
    row = {name: _number(value) for name, value in values.items()}
    line = json.dumps({'stage': stage, 'step': step, **row})
    self._append('metrics.jsonl', line + '\n')
    for name, value in row.items():
      if value is not None:
        self._event(stage, step=step, summary=summary.scalar(name, value))

  def image(self, stage: str, step: int, name: str, pixels: np.ndarray) -> None:
    """Adds a picture to TensorBoard.

    Args:
      stage: the stage it belongs to.
      step: steps done.
      name: its title.
      pixels: (h, w, 3) uint8.
    """
    if self._active:
      picture = summary.image(name, pixels, dataformats='HWC')
      self._event(stage, step=step, summary=picture)

  def truncate(self, stage: str, step: int) -> None:
    """Forgets what a stage wrote after `step`, before it is done again.

    A last line that a killed program left half written goes too.
    """
    if not self._active:
      return
    path = self._workdir / 'metrics.jsonl'
    if path.exists():
      rows = [row for row in read_rows(path) if not _after(row, stage, step)]
      lines = ''.join(json.dumps(row) + '\n' for row in rows)
      temporary = path.with_suffix('.partial')
      with _named(temporary):
        temporary.write_text(lines)
        temporary.rename(path)
    if (self._workdir / 'tensorboard' / stage).exists():
      # TensorBoard hides the steps from here on that lie in older files.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._event(stage, step=step + 1, session_log=start)

  def flush(self) -> None:
    """Brings what TensorBoard holds back to the disk."""
    for stage, events in self._events.items():
      with _named(self._workdir / 'tensorboard' / stage):
        events.flush()

  def close(self) -> None:
    """Closes the files; the writer may be used again."""
    self.flush()
    for events in self._events.values():
      events.close()
    self._events.clear()

  def _append(self, name: str, text: str) -> None:
    path = self._workdir / name
    with _named(path), path.open('a') as file:
      file.write(text)

  def _event(self, stage: str, **fields: Any) -> None:
    folder = self._workdir / 'tensorboard' / stage
    with _named(folder):
      if stage not in self._events:
        folder.mkdir(parents=True, exist_ok=True)
        self._events[stage] = event_file_writer.EventsWriter(
          str(folder / 'events'), f'.{os.getpid()}'
        )
      self._events[stage].write_event(
        event_pb2.Event(wall_time=time.time(), **fields)
      )


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads metrics.jsonl, without a half-written last line."""
  rows = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      rows.append(json.loads(line))
  return rows


def _after(row: Mapping[str, Any], stage: str, step: int) -> bool:
  return row['stage'] == stage and row['step'] > step


def _number(value: Any) -> float | None:
  number = float(value)
  return number if math.isfinite(number) else None


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
  """Names the file in an error that a full disk leaves without a name."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = str(path)
    raise
