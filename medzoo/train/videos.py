"""Applies a model to videos that nobody has labelled, frame by frame.

Of each are left the video with what was found drawn on every frame, and a
table of it.
"""

import collections
import csv
import dataclasses
import pathlib
import time
import types as modules
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medzoo import types
from medzoo.io import video
from medzoo.train import inputs
from medzoo.train import mapping
from medzoo.train import progress

_COLUMNS = ('frame', 'time_s', 'x0', 'y0', 'x1', 'y1', 'score')


@dataclasses.dataclass(frozen=True)
class Seen:
  """What came of a video.

  Attributes:
    frames: how many were judged; every one that can be decoded.
    frames_expected: how many there should be by what the file says.
    frames_with_detections: in how many something reached the threshold.
    frames_per_second: how fast they were decoded, judged, drawn and written.
    video: name of the file with the drawn frames.
    table: name of the file with a row a box.
  """

  frames: int
  frames_expected: int
  frames_with_detections: int
  frames_per_second: float
  video: str
  table: str


def annotate(
  path: pathlib.Path,
  name: str,
  look: Callable[[types.Volume], Mapping[str, mapping.Found]],
  rules: modules.ModuleType,
  model: Any,
  folder: pathlib.Path,
  stem: str,
) -> Seen:
  """Judges every frame of a video and writes what was found.

  Small frames are drawn enlarged, as pictures are. All are shown at the video's
  mean rate; the table has the times at which they are in the video.

  Args:
    path: the video.
    name: what it is called in messages.
    look: gives what is found in a picture.
    rules: the protocol, which describes and draws that.
    model: a `predict.Model`.
    folder: to write to.
    stem: of the two files' names.

  Returns:
    How many frames there were and where the files lie.

  Raises:
    ValueError: it cannot be read; see `video.read_frames`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  drawn, table = folder / f'{stem}{inputs.ANNOTATED}', folder / f'{stem}.csv'
  partial = [file.with_suffix('.partial') for file in (drawn, table)]
  facts, began = video.read_facts(path), time.monotonic()
  number = holding = 0
  try:
    with (
      partial[1].open('w', newline='', encoding='utf-8') as file,
      video.Writer(partial[0], facts.rate) as writer,
      progress.Progress(name, facts.frames) as bar,
    ):
      rows = csv.writer(file, lineterminator='\n')
      rows.writerow(_COLUMNS)
      for frame in video.read_frames(path):
        volume = types.Volume(
          frame.pixels[None], (None, None, None), series_uid=name
        )
        one = mapping.Output(name, look(volume), 0.0)
        boxes = rules.describe(one, volume, model)['detections']
        for box in boxes:
          places = [f'{box[side]:.1f}' for side in _COLUMNS[2:6]]
          rows.writerow(
            [number, f'{frame.seconds:.3f}', *places, f'{box["score"]:.4f}']
          )
        for _, pixels in rules.draw(one, volume, model):
          writer.write(pixels)
        number += 1
        holding += bool(boxes)
        bar.update(min(number, facts.frames))
    for before, after in zip(partial, (drawn, table), strict=True):
      before.replace(after)
  finally:
    for file in partial:
      file.unlink(missing_ok=True)
  seconds = time.monotonic() - began
  return Seen(
    number,
    facts.frames,
    holding,
    number / seconds,
    drawn.name,
    table.name,
  )


def stems(names: Sequence[str]) -> dict[str, str]:
  """Leaves off how videos' names end, where that does not make two alike."""
  bare = {name: name.rpartition('.')[0] for name in names}
  counts = collections.Counter(bare.values())
  return {name: b if counts[b] == 1 else name for name, b in bare.items()}


def tell(seen: Mapping[str, Any]) -> str:
  """Says in a line what came of a video.

  Args:
    seen: `case`, `threshold` and the fields of `Seen`.
  """
  lacking = seen['frames_expected'] - seen['frames']
  # What is worked out from a video's length may be a frame off.
  damage = f', {lacking} more cannot be decoded' if lacking > 1 else ''
  return (
    f'{seen["case"]}: {seen["frames_with_detections"]} of {seen["frames"]} '
    f'frames have something above the threshold {seen["threshold"]:.3f}'
    f'{damage}; {seen["frames_per_second"]:.1f} frames a second'
  )
