"""Writes frames and masks as CVC-ClinicDB has them, with a table."""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

FRAMES, MASKS = 'Original', 'Ground Truth'


@dataclasses.dataclass(frozen=True)
class Frame:
  """One frame.

  Attributes:
    name: its number among all frames, from '1'.
    sequence: such as 'PHANTOM-0001'.
    picture: (h, w, 3) uint8 RGB.
    mask: (h, w) bool, what is seen of polyps.
  """

  name: str
  sequence: str
  picture: np.ndarray
  mask: np.ndarray


def write(frame: Frame, root: pathlib.Path) -> tuple[str, str]:
  """Writes a frame and its mask.

  Args:
    frame: what to write.
    root: of the layout; its folders exist.

  Returns:
    The frame's name and its sequence.
  """
  mask = frame.mask.astype(np.uint8) * 255
  for folder, pixels in ((FRAMES, frame.picture), (MASKS, mask)):
    Image.fromarray(pixels).save(
      root / folder / f'{frame.name}.png', compress_level=3
    )
  return frame.name, frame.sequence


def write_table(
  rows: Sequence[tuple[str, str]],
  splits: Mapping[str, str],
  root: pathlib.Path,
) -> None:
  """Writes `sequences.csv`.

  Args:
    rows: as `write` returns them.
    splits: by sequence.
    root: of the layout.
  """
  path = root / 'sequences.csv'
  with path.open('w', encoding='utf-8', newline='') as file:
    table = csv.writer(file, lineterminator='\n')
    table.writerow(('file', 'sequence', 'split'))
    for name, sequence in rows:
      table.writerow((name, sequence, splits[sequence]))
