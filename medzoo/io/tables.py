"""The CSV files of LUNA16, and convnet3d's.

Every table is read as UTF-8 with or without a byte order mark, with either
line ending, blank lines skipped and spaces round a field taken off. All else
that a format does not provide for is refused in one line that names the file
and the line number.
"""

import array
import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from medzoo import types

_PLACE = ('seriesuid', 'coordX', 'coordY', 'coordZ')
_SERIES_COLUMNS = ('path', 'class', 'x', 'y', 'z', 'd', 'group')


@dataclasses.dataclass(frozen=True)
class SeriesRow:
  """One row of convnet3d's table of lesions and images.

  Attributes:
    path: a DICOM folder or a volume file, as written.
    label: class id; None on a row that only names an image.
    x, y, z: zero-based, continuous index coordinates in the original image;
      None where the class is that of the whole image.
    d: diameter, mm; None where it is not known.
    group: patient or series, by which folds are made.
    line: line number in the file, from 1.
  """

  path: str
  label: int | None
  x: float | None
  y: float | None
  z: float | None
  d: float | None
  group: str
  line: int


def read_marks(path: pathlib.Path, value: str) -> dict[str, np.ndarray]:
  """Reads annotations, excluded findings, candidates or results of LUNA16.

  The first line names the columns, which may stand in any order; columns that
  are not asked for are ignored.

  Args:
    path: the CSV.
    value: the column beside the place: 'diameter_mm', 'probability', 'class'.

  Returns:
    seriesuid -> (n, 4) float64 of world x, y, z in mm and the value. Series
    are in the order in which they are met first, their rows in the file's.

  Raises:
    ValueError: a column is missing or named twice, a row has another number of
      fields than the header, no series, or a number that is not finite.
  """
  wanted = (*_PLACE, value)
  rows = _rows(path)
  line, header = next(rows, (1, []))
  missing = [name for name in wanted if header.count(name) != 1]
  if missing:
    raise ValueError(
      f'{path}:{line}: found the columns {_quote(header)}, expected each of'
      f' {_quote(wanted)} once'
    )
  series, *numbers = (header.index(name) for name in wanted)
  marks: dict[str, array.array] = {}
  for line, row in rows:
    _expect_fields(path, line, row, header)
    uid = row[series]
    if not uid:
      raise ValueError(f'{path}:{line}: found an empty seriesuid, expected one')
    # Boxed floats of half a million candidates would take 100 MB.
    marks.setdefault(uid, array.array('d')).extend(
      _number(path, line, header[i], row[i]) for i in numbers
    )
  return {
    uid: np.array(values, float).reshape(-1, 4) for uid, values in marks.items()
  }


def write_marks(
  path: pathlib.Path, marks: Mapping[str, np.ndarray], value: str
) -> None:
  """Writes a table that `read_marks` reads back exactly.

  Args:
    path: the CSV to write.
    marks: seriesuid -> (n, 4) of world x, y, z in mm and the value.
    value: the name of the last column.

  Raises:
    ValueError: a number is not finite.
  """
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow((*_PLACE, value))
    for uid, rows in marks.items():
      rows = np.asarray(rows, float).reshape(-1, 4)
      if not np.isfinite(rows).all():
        raise ValueError(f'{path}: found a number that is not finite to write')
      writer.writerows([uid, *map(_text, row)] for row in rows.tolist())


def read_seriesuids(path: pathlib.Path) -> list[str]:
  """Reads LUNA16's list of scans, one a line; a header is optional.

  Args:
    path: the CSV.

  Returns:
    The names in the file's order.

  Raises:
    ValueError: a line has several fields or names a scan again.
  """
  lines: dict[str, int] = {}
  for line, row in _rows(path):
    _expect_fields(path, line, row, ('seriesuid',))
    if row == ['seriesuid'] and not lines:
      continue
    if row[0] in lines:
      raise ValueError(
        f'{path}:{line}: found the series of line {lines[row[0]]} again,'
        ' expected each once'
      )
    lines[row[0]] = line
  return list(lines)


def write_seriesuids(path: pathlib.Path, uids: Iterable[str]) -> None:
  """Writes a list of scans, one a line, without header."""
  path.write_text(''.join(f'{uid}\n' for uid in uids), encoding='utf-8')


def from_findings(findings: types.Findings) -> np.ndarray:
  """Makes rows for `write_marks`: (n, 4), an unknown diameter becomes -1."""
  diameters = np.where(np.isnan(findings.diameters), -1, findings.diameters)
  return np.column_stack([findings.centers, diameters])


def to_findings(rows: np.ndarray) -> types.Findings:
  """Makes findings of class 1 from (n, 4) rows of `read_marks`.

  A negative diameter, which LUNA16 writes for an unknown one, becomes NaN.
  """
  diameters = np.where(rows[:, 3] < 0, np.nan, rows[:, 3])
  return types.Findings(rows[:, :3], diameters, np.ones(len(rows), np.int32))


def read_class_map(path: pathlib.Path) -> dict[str, int]:
  """Reads convnet3d's class map: lines `name,id` without header, `bg,0` in it.

  Args:
    path: the CSV.

  Returns:
    name -> id, in the file's order.

  Raises:
    ValueError: a name or an id is given twice, an id is no whole number from 0
      up, or background is missing.
  """
  classes: dict[str, int] = {}
  for line, row in _rows(path):
    _expect_fields(path, line, row, ('name', 'id'))
    name, text = row
    if not text.isascii() or not text.isdigit() or len(text) > 9:
      raise ValueError(
        f'{path}:{line}: found the class id {text!r}, expected a whole number'
        ' from 0 up'
      )
    if not name or name in classes or int(text) in classes.values():
      raise ValueError(
        f'{path}:{line}: found class {name!r} with id {text}, expected each'
        ' name and each id once'
      )
    classes[name] = int(text)
  if classes.get('bg') != 0:
    raise ValueError(
      f'{path}: found the classes {_quote(classes)}, expected a line bg,0 for'
      ' the background'
    )
  return classes


def read_series_rows(
  path: pathlib.Path, classes: Mapping[str, int]
) -> list[SeriesRow]:
  """Reads convnet3d's table: lines `path,class,x,y,z,d,group`, no header.

  A row may leave out d; or x, y, z and d, then its class is the image's; or
  the class too, then it only says that the image exists.

  Args:
    path: the CSV.
    classes: `read_class_map`'s.

  Returns:
    The rows in the file's order.

  Raises:
    ValueError: a row has another number of fields, a class that the map does
      not know, half a position, a number that is not finite, a diameter that
      is not positive, or lacks path or group.
  """
  found = []
  for line, row in _rows(path):
    _expect_fields(path, line, row, _SERIES_COLUMNS)
    image, name, *place, group = row
    if not image or not group:
      raise ValueError(
        f'{path}:{line}: found an empty path or group, expected both'
      )
    x, y, z, d = (
      _number(path, line, column, text) if text else None
      for column, text in zip('xyzd', place, strict=True)
    )
    located = [value is not None for value in (x, y, z)]
    if any(located) != all(located) or (d is not None and not all(located)):
      raise ValueError(
        f'{path}:{line}: found x, y, z, d = {", ".join(place)}, expected all'
        ' of x, y, z or none, and d only with them'
      )
    if d is not None and d <= 0:
      raise ValueError(
        f'{path}:{line}: found the diameter {d:g}, expected more than 0 mm'
      )
    if name not in classes and (name or all(located)):
      raise ValueError(
        f'{path}:{line}: found the class {name!r}, expected one of'
        f' {_quote(classes)} (the file has no header)'
      )
    found.append(SeriesRow(image, classes.get(name), x, y, z, d, group, line))
  return found


def _rows(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """Yields the number and the fields of every line that is not blank."""
  with path.open(newline='', encoding='utf-8-sig') as file:
    reader = csv.reader(file, strict=True)
    try:
      for row in reader:
        row = [field.strip() for field in row]
        if row not in ([], ['']):
          yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
      raise ValueError(
        f'{path}:{reader.line_num + 1}: found what is no CSV in UTF-8: {error}'
      ) from None


def _expect_fields(
  path: pathlib.Path, line: int, row: Sequence[str], columns: Sequence[str]
) -> None:
  if len(row) != len(columns):
    raise ValueError(
      f'{path}:{line}: found {len(row)} fields, expected {len(columns)}:'
      f' {",".join(columns)}'
    )


def _number(path: pathlib.Path, line: int, column: str, text: str) -> float:
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(
      f'{path}:{line}: found {column} {text!r}, expected a finite number'
    )
  return number


def _text(number: float) -> str:
  """The shortest text that reads back as the same number."""
  return repr(number).removesuffix('.0')


def _quote(names: Iterable[str]) -> str:
  return ', '.join(repr(name) for name in names) or 'nothing'
