"""Where nodules are, if a table beside the films tells; Open-i has none."""

import collections
import math
import pathlib

import numpy as np

from datasets import owners
from medzoo import types

TABLE = 'nodules.csv'
COLUMNS = ('image', 'y', 'x', 'diameter_px')


def read_table(path: pathlib.Path) -> dict[str, types.Boxes]:
  """Reads the nodules of every film.

  Args:
    path: a CSV with the columns image (a file's name without its ending), y
      and x of the centre (pixels, that of the first pixel being 0), and
      diameter_px.

  Returns:
    Squares round the nodules by the film's name; films without are absent.

  Raises:
    ValueError: the file is missing or lacks a column, or a row has no name, or
      numbers that cannot be.
  """
  if not path.is_file():
    raise ValueError(f'{path}: found no such file, expected the nodules')
  reader = owners.open_table(path)
  if not set(COLUMNS) <= set(reader.fieldnames or ()):
    raise ValueError(
      f'{path}: found the columns {reader.fieldnames}, expected'
      f' {", ".join(COLUMNS)}'
    )
  found = collections.defaultdict(list)
  for row in reader:
    name, *texts = ((row[key] or '').strip() for key in COLUMNS)
    try:
      y, x, diameter = map(float, texts)
    except ValueError:
      y = x = diameter = math.nan
    if not name or not math.isfinite(y + x) or not 0 < diameter < math.inf:
      raise ValueError(
        f'{path}:{reader.line_num}: found {[name, *texts]}, expected a name,'
        ' two coordinates and a diameter'
      )
    middle, half = np.array([y, x]) + 0.5, diameter / 2
    found[name].append(np.concatenate([middle - half, middle + half]))
  return {name: to_boxes(np.array(corners)) for name, corners in found.items()}


def to_boxes(corners: np.ndarray) -> types.Boxes:
  """Returns (n, 4) corners as boxes of a picture, each a finding of its own."""
  number = len(corners)
  return types.Boxes(
    slices=np.zeros(number, np.int32),
    corners=corners.reshape(-1, 4),
    labels=np.ones(number, np.int32),
    ignored=np.zeros(number, bool),
    findings=np.arange(number, dtype=np.int32),
  )
