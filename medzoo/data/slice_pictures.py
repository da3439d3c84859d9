"""Slices of scans as files of pictures, and the records that list them."""

import pathlib
from collections.abc import Mapping, Sequence

from PIL import Image

from medzoo import types
from medzoo.data import slices
from medzoo.io import box_lists


def write(
  stack: slices.Stack,
  boxes: types.Boxes,
  names: Mapping[int, str],
  directory: pathlib.Path,
  classes: Sequence[str] = ('',),
) -> list[box_lists.Record]:
  """Writes slices as pictures in colour: the one below, itself, the one above.

  Args:
    stack: the slices of a scan.
    boxes: of the same scan.
    names: by slice, the path of its picture below the directory; its ending
      says the format.
    directory: gets the pictures of these slices.
    classes: names of the class ids from 1; '' for none.

  Returns:
    A record a picture, without boxes too; corners in hundredths of a pixel.
  """
  corners = stack.to_pixels(boxes.corners).round(2)
  records = []
  for z, name in names.items():
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stack.images([z])[0]).save(path)
    mine = boxes.slices == z
    called = tuple(classes[label - 1] for label in boxes.labels[mine])
    records.append(
      box_lists.Record(name, corners[mine], called, boxes.ignored[mine], name)
    )
  return records
