"""COCO's JSON of outlined objects: polygons and run lengths, to masks.

pycocotools fills the outlines. Boxes are not read: some files have another
annotator's. Every fault is one line that names the file and the entry.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np
from pycocotools import mask as rle

# As many as a picture may have.
_MOST_PIXELS = 1 << 26


@dataclasses.dataclass(frozen=True)
class Outline:
  """An object.

  Attributes:
    category: its name.
    segmentation: polygons, or run lengths, as the file has them.
  """

  category: str
  segmentation: Any


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture that a file lists.

  Attributes:
    name: its file's name, as written.
    shape: rows and columns that its outlines refer to.
    outlines: the objects in it.
    place: file and entry, for messages.
  """

  name: str
  shape: tuple[int, int]
  outlines: tuple[Outline, ...]
  place: str


def is_list(path: pathlib.Path) -> bool:
  """Whether a .json file looks like COCO's."""
  if path.suffix.lower() != '.json':
    return False
  content = path.read_bytes()
  keys = (b'"images"', b'"annotations"')
  return content.lstrip()[:1] == b'{' and all(key in content for key in keys)


def read(path: pathlib.Path) -> tuple[list[Picture], list[str]]:
  """Reads a file.

  Args:
    path: the file.

  Returns:
    its pictures, and the names of its categories, both in the file's order.

  Raises:
    ValueError: it is no JSON of this form.
  """
  try:
    document = json.loads(path.read_text(encoding='utf-8-sig'))
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise ValueError(
      f'{path}: found what is no JSON, expected COCO: {error}'
    ) from None
  if not isinstance(document, dict):
    raise ValueError(f'{path}: found no object, expected COCO')
  categories = {
    _get(place, entry, 'id', int): _get(place, entry, 'name', str)
    for place, entry in _entries(path, document, 'categories')
  }
  outlines: dict[int, list[Outline]] = {}
  images = list(_entries(path, document, 'images'))
  for place, entry in images:
    number = _get(place, entry, 'id', int)
    if number in outlines:
      raise ValueError(f'{place}: found id {number} again, expected another')
    outlines[number] = []
  for place, entry in _entries(path, document, 'annotations'):
    image = _get(place, entry, 'image_id', int)
    category = _get(place, entry, 'category_id', int)
    if image not in outlines or category not in categories:
      raise ValueError(
        f'{place}: found image_id {image} and category_id {category}, expected'
        ' ids of images and categories'
      )
    segmentation = entry.get('segmentation')
    _check(place, segmentation)
    outlines[image].append(Outline(categories[category], segmentation))
  pictures = [
    Picture(
      _get(place, entry, 'file_name', str).replace('\\', '/'),
      _shape(place, entry),
      tuple(outlines[entry['id']]),
      place,
    )
    for place, entry in images
  ]
  return pictures, list(categories.values())


def fill(outline: Outline, picture: Picture) -> np.ndarray:
  """Returns the pixels of an object, (h, w) bool of its picture's `shape`.

  Raises:
    ValueError: its run lengths are not those of a mask of this shape.
  """
  segmentation, (h, w) = outline.segmentation, picture.shape
  if isinstance(segmentation, list):
    coded = rle.merge(rle.frPyObjects(segmentation, h, w))
    return rle.decode(coded).astype(bool)
  counts = segmentation['counts']
  runs = _decompress(counts) if isinstance(counts, str) else counts
  if segmentation['size'] != [h, w] or min(runs) < 0 or sum(runs) != h * w:
    raise ValueError(
      f'{picture.place}: found run lengths of {sum(runs)} pixels and size'
      f' {segmentation["size"]}, expected those of {h} x {w}'
    )
  return rle.decode(
    rle.frPyObjects({'size': [h, w], 'counts': runs}, h, w)
  ).astype(bool)


def _decompress(text: str) -> list[int]:
  """Undoes COCO's compression of run lengths.

  Each is a number of 5 bits a character, the low ones first, and from the
  fourth on the difference from the one before the last (maskApi.c,
  rleFrString). pycocotools would take one that ends early for a whole one.
  """
  runs, value, shift = [], 0, 0
  for code in text.encode():
    code -= 48
    value |= (code & 31) << shift
    shift += 5
    if not code & 32:
      value -= (code & 16) << (shift - 4)
      runs.append(value + (runs[-2] if len(runs) > 2 else 0))
      value = shift = 0
  return runs


def _entries(
  path: pathlib.Path, document: dict[str, Any], key: str
) -> list[tuple[str, dict[str, Any]]]:
  """Returns the entries of a list with their places."""
  entries = document.get(key)
  if not isinstance(entries, list):
    raise ValueError(f'{path}: found no list {key!r}, expected COCO')
  for number, entry in enumerate(entries, 1):
    if not isinstance(entry, dict):
      raise ValueError(
        f'{path}: {key} entry {number}: found {entry!r:.40}, expected an object'
      )
  return [
    (f'{path}: {key} entry {number}', entry)
    for number, entry in enumerate(entries, 1)
  ]


def _get(place: str, entry: dict[str, Any], key: str, kind: type) -> Any:
  value = entry.get(key)
  # True is an int to Python.
  if type(value) is not kind or value == '':
    raise ValueError(
      f'{place}: found {key} {value!r:.40}, expected'
      f' {"a whole number" if kind is int else "a name"}'
    )
  return value


def _shape(place: str, entry: dict[str, Any]) -> tuple[int, int]:
  height, width = (_get(place, entry, x, int) for x in ('height', 'width'))
  if min(height, width) < 1 or height * width > _MOST_PIXELS:
    raise ValueError(
      f'{place}: found {height} x {width} pixels, expected 1 to {_MOST_PIXELS}'
    )
  return height, width


def _check(place: str, segmentation: Any) -> None:
  """Refuses outlines that pycocotools would trip over."""
  if isinstance(segmentation, dict):
    size, counts = segmentation.get('size'), segmentation.get('counts')
    sound = isinstance(size, list) and len(size) == 2
    if isinstance(counts, list):
      sound = sound and all(type(x) is int and x >= 0 for x in counts)
    else:
      sound = sound and isinstance(counts, str)
    if not sound or not counts:
      raise ValueError(
        f'{place}: found run lengths without size and counts, expected both'
      )
    return
  if not isinstance(segmentation, list) or not segmentation:
    raise ValueError(
      f'{place}: found segmentation {segmentation!r:.40}, expected polygons or'
      ' run lengths'
    )
  for polygon in segmentation:
    if (
      not isinstance(polygon, list)
      or len(polygon) < 6
      or len(polygon) % 2
      or not all(type(x) in (int, float) and _near(x) for x in polygon)
    ):
      raise ValueError(
        f'{place}: found polygon {polygon!r:.40}, expected x and y of three'
        ' corners at least'
      )


def _near(number: float) -> bool:
  return math.isfinite(number) and abs(number) < 1e6
