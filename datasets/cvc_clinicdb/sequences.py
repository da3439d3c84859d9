"""Which sequence of a colonoscopy every frame is of.

Neighbouring frames show the same polyp from nearly the same place, so a
sequence must stay on one side of a split.
"""

import bisect
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from datasets import cases
from datasets import owners

TABLE = 'sequences.csv'
# The last frame of every sequence of CVC-ClinicDB. The authors publish no
# list; these are the places where the picture changes at once.
_LAST_FRAMES = (
  *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
  *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)


@dataclasses.dataclass(frozen=True)
class Sequences:
  """Sequences and splits of frames.

  Attributes:
    groups: by key, the pseudonym of the frame's sequence.
    splits: by key, the frame's split; empty where no table has them.
    left_out: frames that are missing, or that the table does not name.
    notes: how the sequences were found.
  """

  groups: Mapping[str, str]
  splits: Mapping[str, str]
  left_out: tuple[cases.LeftOut, ...]
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Row:
  sequence: str
  split: str
  place: str


def find(
  root: pathlib.Path, keys: Sequence[str], *, ungrouped: bool
) -> Sequences:
  """Finds the sequences of frames.

  Args:
    root: may have `sequences.csv`, with the columns `file`, which is a key
      with or without the ending of a picture, `sequence`, and perhaps `split`.
    keys: those of the frames.
    ungrouped: whether every frame is a sequence by itself where neither the
      table nor CVC-ClinicDB's numbers say better.

  Returns:
    The sequences.

  Raises:
    ValueError: the table is at fault, or nothing says what the sequences are.
  """
  path = root / TABLE
  if path.is_file():
    return _by_table(keys, path, _read_table(path))
  numbers = [int(key) if key.isdecimal() else 0 for key in keys]
  if all(1 <= number <= _LAST_FRAMES[-1] for number in numbers):
    names = [str(bisect.bisect_left(_LAST_FRAMES, x) + 1) for x in numbers]
    note = 'sequences of CVC-ClinicDB, by the numbers of the frames'
  elif ungrouped:
    names = list(keys)
    note = 'frames by themselves, neighbours may stand on both sides'
  else:
    raise ValueError(
      f'{root}: found no {TABLE}, and frames that are not numbered as'
      f' CVC-ClinicDB numbers them; expected {TABLE} with the columns file and'
      ' sequence, or the option ungrouped'
    )
  groups = {
    key: cases.pseudonym(name) for key, name in zip(keys, names, strict=True)
  }
  return Sequences(groups, {}, (), (f'groups are {len(set(names))} {note}',))


def _read_table(path: pathlib.Path) -> dict[str, _Row]:
  """Returns the rows by file."""
  reader = owners.open_table(path)
  if not {'file', 'sequence'} <= set(reader.fieldnames or ()):
    raise ValueError(
      f'{path}: found the columns {reader.fieldnames}, expected file, sequence'
      ' and perhaps split'
    )
  rows: dict[str, _Row] = {}
  for entry in reader:
    place = f'{path}:{reader.line_num}'
    file, sequence, split = (
      (entry.get(name) or '').strip() for name in ('file', 'sequence', 'split')
    )
    if (
      not file or not sequence or (split and split.lower() not in owners.SPLITS)
    ):
      raise ValueError(
        f'{place}: found file {file!r}, sequence {sequence!r} and split'
        f' {split!r}, expected a name of each and train, validation or test'
      )
    row = _Row(sequence, owners.SPLITS.get(split.lower(), ''), place)
    if rows.setdefault(file, row) is not row:
      raise ValueError(
        f'{place}: found {file} again, expected one row, {rows[file].place}'
      )
  return rows


def _by_table(
  keys: Sequence[str], path: pathlib.Path, rows: Mapping[str, _Row]
) -> Sequences:
  known = set(keys)
  named: dict[str, _Row] = {}
  left_out = []
  for file, row in rows.items():
    key = file
    if key not in known:
      key = pathlib.PurePosixPath(file).with_suffix('').as_posix()
    if key in named:
      raise ValueError(
        f'{row.place}: found {key} again, expected one row, {named[key].place}'
      )
    if key in known:
      named[key] = row
    else:
      left_out.append(cases.LeftOut(file, 'missing', f'{row.place} names it'))
  left_out += [
    cases.LeftOut(key, 'no_sequence', f'{path}: found no row for it')
    for key in keys
    if key not in named
  ]
  groups = {key: cases.pseudonym(row.sequence) for key, row in named.items()}
  note = f'groups are {len(set(groups.values()))} sequences of {path.name}'
  return Sequences(
    groups,
    owners.splits_of(named, groups, 'sequence'),
    tuple(left_out),
    (note,),
  )
