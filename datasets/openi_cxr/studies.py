"""Which split a table puts studies in."""

import pathlib

from datasets import owners

TABLE = 'splits.csv'


def read_table(root: pathlib.Path) -> dict[str, str]:
  """Reads the split of every study.

  Args:
    root: may have `splits.csv`, with the columns study and split.

  Returns:
    the split by study; empty without a table.

  Raises:
    ValueError: it lacks a column, or a row says nothing or else than another
      one of the same study.
  """
  path = root / TABLE
  if not path.is_file():
    return {}
  reader = owners.open_table(path)
  if not {'study', 'split'} <= set(reader.fieldnames or ()):
    raise ValueError(
      f'{path}: found the columns {reader.fieldnames}, expected study and split'
    )
  found: dict[str, str] = {}
  for row in reader:
    study, split = ((row[key] or '').strip() for key in ('study', 'split'))
    known = owners.SPLITS.get(split.lower())
    if not study or known is None:
      raise ValueError(
        f'{path}:{reader.line_num}: found study {study!r} and split {split!r},'
        ' expected a name and train, validation or test'
      )
    if found.setdefault(study, known) != known:
      raise ValueError(
        f'{path}:{reader.line_num}: found split {split!r} of {study}, expected'
        f' {found[study]!r} as above'
      )
  return found
