"""Lists of pictures with boxes in them: TensorBox's JSON and .idl, and TXT.

TensorBox (github.com/Russell91/TensorBox) inherited its lists from the tools
of Andriluka's annolist; lidc_nodule_detection exports nodules as TXT. All
three count pixels from the upper left corner and measure boxes by difference,
width x2 - x1. Their coordinates are therefore taken as continuous corners,
where pixel i spans [i, i + 1), which are medzoo's own: nothing is added.

Every fault is one line that names the file with the line, or with the entry
of the JSON, counted from 1.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np

SUFFIXES = ('.json', '.idl', '.txt')

# The kinds of lidc_nodule_detection's TXT: nodules, nodules below 3 mm, and
# what is none. The last two were given boxes of a fixed size.
_KINDS = ('1', '2', '3')
_NODULE = 'nodule'
_CORNERS = ('x1', 'y1', 'x2', 'y2')
# What messages call a box of these lists of a JSON.
_SINGULAR = {'rects': 'box', 'ignored': 'ignored box'}
# The first of these that a box of a JSON has names its class.
_CLASS_KEYS = ('class', 'classID', 'label', 'silhouetteID')
_NUMBER = r'\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*'
_IDL_IMAGE = re.compile(r'"([^"]+)"\s*(?:$|:\s*|(?=[;.]))')
_IDL_BOX = re.compile(
  rf'\({_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\)'
  rf'\s*(?::{_NUMBER})?(?:/\s*([-\w]+)\s*)?(?:,\s*|$)'
)


@dataclasses.dataclass(frozen=True)
class Record:
  """A picture of a list.

  Attributes:
    image: its path as the list has it, with slashes; relative to the list.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels; sorted, but they may
      leave the picture or be empty.
    names: n names of classes, '' where the list has none.
    ignored: (n,) bool; finding these is neither right nor wrong.
    place: file and line, or entry, for messages.
  """

  image: str
  corners: np.ndarray
  names: tuple[str, ...]
  ignored: np.ndarray
  place: str


def is_list(path: pathlib.Path) -> bool:
  """Whether a file may be meant as a list, by its name and its beginning.

  Args:
    path: the file.

  Returns:
    True for every .idl, for a .json that starts as a list does and for a .txt
    whose second line is a whole number; other files have these endings too.
  """
  suffix = path.suffix.lower()
  if suffix not in SUFFIXES:
    return False
  with path.open(encoding='utf-8-sig', errors='replace') as file:
    start = file.read(4096)
  if suffix == '.json':
    return start.lstrip().startswith('[')
  lines = [line for line in start.splitlines() if line.strip()]
  return suffix == '.idl' or (len(lines) > 1 and _is_count(lines[1]))


def read(path: pathlib.Path) -> list[Record]:
  """Reads a list in the format that its name's ending says.

  Args:
    path: .json, .idl or .txt; see `read_json`, `read_idl` and `read_txt`.

  Returns:
    Its records in their order.

  Raises:
    ValueError: the ending is another, or the file is not in that format.
  """
  readers = {'.json': read_json, '.idl': read_idl, '.txt': read_txt}
  if path.suffix.lower() not in readers:
    raise ValueError(
      f'{path}: found the ending {path.suffix!r}, expected one of'
      f' {", ".join(readers)}'
    )
  return readers[path.suffix.lower()](path)


def read_json(path: pathlib.Path) -> list[Record]:
  """Reads TensorBox's JSON: `[{image_path, rects: [{x1, y1, x2, y2}]}]`.

  Corners may stand in either order. A box may name its class as `class`,
  `classID`, `label` or `silhouetteID`, a text or a whole number, of which -1
  is none. Beside `rects`, medzoo's own lists may have `ignored`, of the same
  form, which TensorBox passes over. All else, scores too, is passed over here.

  Args:
    path: the file.

  Returns:
    Its records in their order.

  Raises:
    ValueError: it is no JSON or another one.
  """
  try:
    entries = json.loads(_text(path))
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{path}:{error.lineno}: found what is no JSON: {error.msg}'
    ) from None
  except RecursionError:
    raise ValueError(f'{path}: found JSON nested without end') from None
  if not isinstance(entries, list):
    raise ValueError(
      f'{path}: found {_show(entries)}, expected a list of pictures'
    )
  return [_entry(f'{path}: entry {i}', x) for i, x in enumerate(entries, 1)]


def _entry(place: str, entry: Any) -> Record:
  if not isinstance(entry, dict):
    raise ValueError(
      f'{place}: found {_show(entry)}, expected an object with image_path and'
      ' rects'
    )
  image = entry.get('image_path')
  if not isinstance(image, str) or not image.strip():
    raise ValueError(
      f'{place}: found image_path {_show(image)}, expected the path of a'
      ' picture'
    )
  rows, names = _boxes(place, 'rects', entry.get('rects'))
  more = _boxes(place, 'ignored', entry.get('ignored', []))
  ignored = [False] * len(rows) + [True] * len(more[0])
  return _record(image, rows + more[0], names + more[1], ignored, place)


def _boxes(
  place: str, key: str, boxes: Any
) -> tuple[list[list[float]], list[str]]:
  """Returns the corners x1, y1, x2, y2 and the class of each box of a list."""
  if not isinstance(boxes, list):
    raise ValueError(f'{place}: found {key} {_show(boxes)}, expected a list')
  rows, names = [], []
  for number, box in enumerate(boxes, 1):
    spot = f'{place}, {_SINGULAR[key]} {number}'
    if not isinstance(box, dict):
      raise ValueError(
        f'{spot}: found {_show(box)}, expected an object with x1, y1, x2, y2'
      )
    rows.append([_coordinate(spot, name, box) for name in _CORNERS])
    names.append(_class_of(spot, box))
  return rows, names


def _coordinate(spot: str, key: str, box: Mapping[str, Any]) -> float:
  value = box.get(key)
  # True is an int to Python, and an int may be too large for a float.
  if type(value) not in (int, float) or not abs(value) < 1e9:
    raise ValueError(
      f'{spot}: found {key} {_show(value)}, expected a number of pixels'
    )
  return float(value)


def _class_of(spot: str, box: Mapping[str, Any]) -> str:
  for key in _CLASS_KEYS:
    value = box.get(key)
    if value is None or value == -1:
      continue
    if type(value) not in (int, str) or not str(value).strip():
      raise ValueError(
        f'{spot}: found {key} {_show(value)}, expected a name or a whole number'
      )
    return str(value).strip()
  return ''


def write_json(records: Iterable[Record], file: TextIO) -> None:
  """Writes a list that `read_json`, and TensorBox, reads.

  Args:
    records: what to list; a class has a name, or ''.
    file: takes a picture a line; it has `ignored` where a box is.
  """
  lines = []
  for record in records:
    entry: dict[str, Any] = {'image_path': record.image, 'rects': []}
    for (y0, x0, y1, x1), name, ignored in zip(
      record.corners.tolist(), record.names, record.ignored, strict=True
    ):
      box = {'x1': x0, 'y1': y0, 'x2': x1, 'y2': y1}
      key = 'ignored' if ignored else 'rects'
      entry.setdefault(key, []).append(box | ({'class': name} if name else {}))
    lines.append(json.dumps(entry))
  file.write('[\n' + ',\n'.join(lines) + '\n]\n')


def read_idl(path: pathlib.Path) -> list[Record]:
  """Reads .idl: lines `"a.png": (x1, y1, x2, y2):score/class, (...);`.

  Score and class, which annolist calls silhouette, may be absent, a class of
  -1 is none. A line ends on a semicolon, the last one on a full stop; a
  picture without boxes may have no colon. Coordinates keep their fractions,
  which annolist rounded.

  Args:
    path: the file.

  Returns:
    Its records in their order.

  Raises:
    ValueError: a line is not of this form, or names a frame of a video.
  """
  records = []
  for number, line in _lines(path):
    place = f'{path}:{number}'
    match = _IDL_IMAGE.match(line)
    if not match:
      raise ValueError(
        f'{place}: found {_show(line)}, expected "PICTURE": (x1, y1, x2, y2),'
        ' ...;'
      )
    image, boxes = match[1], line[match.end() :].rstrip(';. \t')
    if re.search(r'@\d+$', image):
      raise ValueError(
        f'{place}: found {_show(image)}, a frame of a video, expected a picture'
      )
    rows, names, at = [], [], 0
    while at < len(boxes):
      box = _IDL_BOX.match(boxes, at)
      if not box:
        raise ValueError(
          f'{place}: found {_show(boxes[at:])} as box {len(rows) + 1},'
          ' expected (x1, y1, x2, y2), each a number'
        )
      rows.append([_bounded(place, text) for text in box.groups()[:4]])
      names.append('' if box[6] in (None, '-1') else box[6])
      at = box.end()
    records.append(_record(image, rows, names, [False] * len(rows), place))
  return records


def read_txt(path: pathlib.Path) -> list[Record]:
  """Reads the TXT that lidc_nodule_detection exports.

  A line with the picture, one with the number of its boxes, then a line for
  each, `kind x y width height`. Kind 1 is a nodule, and is to be found; 2, a
  nodule below 3 mm, and 3, what is no nodule, are ignored.

  Args:
    path: the file.

  Returns:
    Its records in their order.

  Raises:
    ValueError: a line is not what is due, or the file ends early.
  """
  records = []
  lines = _lines(path)
  for number, image in lines:
    place = f'{path}:{number}'
    count_at, text = next(lines, (number, None))
    if text is None or not _is_count(text):
      raise ValueError(
        f'{path}:{count_at}: found {_show(text)}, expected the number of boxes'
        f' in {_show(image)}'
      )
    rows, ignored, at = [], [], count_at
    for _ in range(int(text)):
      at, box = next(lines, (at, None))
      if box is None:
        raise ValueError(
          f'{path}:{at}: found the end after {len(rows)} of {text} boxes,'
          ' expected all of them'
        )
      kind, x, y, width, height = _fields(f'{path}:{at}', box)
      rows.append([x, y, x + width, y + height])
      ignored.append(kind != _KINDS[0])
    records.append(_record(image, rows, [_NODULE] * len(rows), ignored, place))
  return records


def _fields(place: str, line: str) -> tuple[str, float, float, float, float]:
  kind, *texts = line.split()
  if kind not in _KINDS or len(texts) != 4:
    raise ValueError(
      f'{place}: found {_show(line)}, expected a box: kind (1, 2 or 3) x y'
      ' width height'
    )
  x, y, width, height = (_bounded(place, text) for text in texts)
  if width < 0 or height < 0:
    raise ValueError(
      f'{place}: found a box of {texts[2]} x {texts[3]} pixels, expected no'
      ' negative size'
    )
  return kind, x, y, width, height


def _record(
  image: str,
  rows: list[list[float]],
  names: list[str],
  ignored: list[bool],
  place: str,
) -> Record:
  """Makes a record from x, y of one corner and x, y of the opposite one."""
  ends = np.array(rows, float).reshape(-1, 2, 2)[..., ::-1]
  corners = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
  # Lists that were made on Windows have its separators.
  path = image.strip().replace('\\', '/')
  return Record(path, corners, tuple(names), np.array(ignored, bool), place)


def _bounded(place: str, text: str) -> float:
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not abs(number) < 1e9:
    raise ValueError(
      f'{place}: found {_show(text)}, expected a number of pixels'
    )
  return number


def _is_count(text: str) -> bool:
  return bool(re.fullmatch(r'\s*[0-9]{1,9}\s*', text))


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
  """Yields the number and the text of every line that is not blank."""
  # Not splitlines: a name may hold what that takes for the end of a line.
  for number, line in enumerate(_text(path).split('\n'), 1):
    if line.strip():
      yield number, line.strip()


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding='utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path}: found byte {error.start} outside of UTF-8, expected a text in'
      ' UTF-8'
    ) from None


def _show(value: Any) -> str:
  """Quotes what was found, in a line of bearable length."""
  if value is None:
    return 'nothing'
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'
