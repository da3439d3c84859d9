"""Whose the films of a folder are, and which split a table puts them in."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from datasets import cases
from datasets import splits
from medzoo.io import radiographs

Key = TypeVar('Key')

_TABLES = ('patients.csv', 'attribution.csv')
# What tables call splits.
SPLITS = {
  'train': 'train',
  'val': 'validation',
  'validation': 'validation',
  'test': 'test',
}


@dataclasses.dataclass(frozen=True)
class Owners:
  """Groups and splits of films.

  Attributes:
    groups: pseudonym of every film's group.
    splits: every film's split; empty where no table has them.
    left_out: films that are missing, or that the table does not name.
    notes: how the groups were found.
  """

  groups: Mapping[pathlib.Path, str]
  splits: Mapping[pathlib.Path, str]
  left_out: tuple[cases.LeftOut, ...]
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """What a table says of a film: its patient, and its split or ''."""

  patient: str
  split: str
  place: str


def find(
  films: Sequence[pathlib.Path],
  root: pathlib.Path,
  pattern: str,
  locate: Callable[[str], pathlib.Path | None],
) -> Owners:
  """Finds the groups of films.

  Args:
    films: their files.
    root: the raw root.
    pattern: regular expression that finds a group in a key, the path from the
      root; '' for the table, else DICOM's patients and each picture by itself.
    locate: finds the film that the table names; None where there is none.

  Returns:
    the groups.

  Raises:
    ValueError: the pattern does not match, or the table is at fault.
  """
  keys = {path: path.relative_to(root).as_posix() for path in films}
  table = read_table(root)
  if table and not pattern:
    return _by_table(keys, locate, *table)
  if pattern:
    found = splits.group_by(pattern, keys.values())
    groups = {path: found[key] for path, key in keys.items()}
    notes = [f'{len(set(groups.values()))} groups by {pattern!r}']
    if table:
      notes.append(f'{table[0].name} is unread: the option group goes before')
  else:
    patients = {path: radiographs.patient(path) for path in keys}
    groups = {path: patients[path] or key for path, key in keys.items()}
    count = len(set(patients.values()) - {''})
    alone = sum(not patient for patient in patients.values())
    told = [f'{count} DICOM patients'] * (count > 0)
    told += [f'{alone} pictures by themselves'] * (alone > 0)
    notes = [f'groups are {" and ".join(told)}']
  pseudonyms = {path: cases.pseudonym(x) for path, x in groups.items()}
  return Owners(pseudonyms, {}, (), tuple(notes))


def read_table(
  root: pathlib.Path,
) -> tuple[pathlib.Path, dict[str, Row]] | None:
  """Reads whose the films are.

  Args:
    root: has `patients.csv` or `attribution.csv`, with the columns `file` and
      `patient`, and perhaps `split`.

  Returns:
    the table's path and its rows by file; None where there is no table.

  Raises:
    ValueError: there are two, `patients.csv` has other columns, or a row says
      nothing or else than another one of the same film.
  """
  tables = []
  for name in _TABLES:
    if (root / name).is_file():
      reader = open_table(root / name)
      if {'file', 'patient'} <= set(reader.fieldnames or ()):
        tables.append((root / name, reader))
      elif name == _TABLES[0]:
        raise ValueError(
          f'{root / name}: found the columns {reader.fieldnames}, expected'
          ' file, patient and perhaps split'
        )
  if len(tables) > 1:
    raise ValueError(
      f'{root}: found patients in {" and ".join(_TABLES)}, expected one table'
    )
  if not tables:
    return None
  ((path, reader),) = tables
  rows: dict[str, Row] = {}
  for entry in reader:
    place = f'{path}:{reader.line_num}'
    file, patient, split = (
      (entry.get(key) or '').strip() for key in ('file', 'patient', 'split')
    )
    if not file or not patient or (split and split.lower() not in SPLITS):
      raise ValueError(
        f'{place}: found file {file!r}, patient {patient!r} and split'
        f' {split!r}, expected a name of each and train, validation or test'
      )
    row = Row(patient, SPLITS.get(split.lower(), ''), place)
    first = rows.setdefault(file, row)
    if (first.patient, first.split) != (row.patient, row.split):
      raise ValueError(
        f'{place}: found {file} again, expected the patient and the split of'
        f' {first.place}'
      )
  return path, rows


def open_table(path: pathlib.Path) -> csv.DictReader:
  """Opens a CSV, with or without a byte order mark.

  Raises:
    ValueError: it is not in UTF-8.
  """
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path}: found byte {error.start} outside of UTF-8, expected UTF-8'
    ) from None
  return csv.DictReader(lines)


def _by_table(
  keys: Mapping[pathlib.Path, str],
  locate: Callable[[str], pathlib.Path | None],
  table: pathlib.Path,
  rows: Mapping[str, Row],
) -> Owners:
  named: dict[pathlib.Path, Row] = {}
  left_out = []
  for name, row in rows.items():
    path = locate(name)
    if path is None:
      left_out.append(cases.LeftOut(name, 'missing', f'{row.place} names it'))
    else:
      named[path] = row
  left_out += [
    cases.LeftOut(key, 'no_patient', f'{table}: found no row for it')
    for path, key in keys.items()
    if path not in named
  ]
  groups = {path: cases.pseudonym(row.patient) for path, row in named.items()}
  patients = len(set(groups.values()))
  return Owners(
    groups,
    splits_of(named, groups, 'patient'),
    tuple(left_out),
    (f'groups are {patients} patients of {table.name}',),
  )


def splits_of(
  named: Mapping[Key, Any], groups: Mapping[Key, str], what: str
) -> dict[Key, str]:
  """Returns the splits of a table's rows, which all or none must have.

  Args:
    named: by film or frame, its row, with `split`, '' for none, and `place`.
    groups: by the same, who or what must not be divided.
    what: a group is called in messages.

  Raises:
    ValueError: a group is in two splits, or some rows have none.
  """
  first_of: dict[str, Any] = {}
  for key, row in named.items():
    first = first_of.setdefault(groups[key], row)
    if first.split != row.split:
      raise ValueError(
        f'{row.place}: found split {row.split!r}, expected {first.split!r} as'
        f' {first.place} has for the same {what}'
      )
  found = {key: row.split for key, row in named.items()}
  if not any(found.values()):
    return {}
  for row in named.values():
    if not row.split:
      raise ValueError(
        f'{row.place}: found no split, expected one as other rows have'
      )
  return found
