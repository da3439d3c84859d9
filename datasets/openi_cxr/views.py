"""From which side films were taken.

Names of files do not tell: 3001 is a lateral film in one study, a frontal one
in another. Captions do where they name one view; most name both.
"""

import pathlib
import re
from collections.abc import Mapping

from datasets import owners

VIEWS = ('frontal', 'lateral')
TABLE = 'indiana_projections.csv'
_WORDS = {
  'frontal': re.compile(r'\b(frontal|pa|ap)\b', re.IGNORECASE),
  'lateral': re.compile(r'\b(lateral|lat)\b', re.IGNORECASE),
}
# The part of a picture's name that tables and archives share.
_NUMBER = re.compile(r'IM-\d+(-\d+)*')


def of_caption(caption: str) -> str:
  """Returns the only view that a caption names, '' where it is another."""
  named = [view for view, words in _WORDS.items() if words.search(caption)]
  return named[0] if len(named) == 1 else ''


def number(name: str) -> str:
  """Returns the part of a name from IM on, '' where there is none."""
  match = _NUMBER.search(name)
  return match[0] if match else ''


def read_table(root: pathlib.Path) -> Mapping[tuple[str, str], str]:
  """Reads the views of the copy of the collection that Kaggle has.

  Args:
    root: may have `indiana_projections.csv`, with the columns uid, filename
      and projection.

  Returns:
    the view by study, such as CXR1, and `number`; empty without a table.

  Raises:
    ValueError: it lacks a column, or a row has another view.
  """
  path = root / TABLE
  if not path.is_file():
    return {}
  reader = owners.open_table(path)
  columns = ('uid', 'filename', 'projection')
  if not {*columns} <= set(reader.fieldnames or ()):
    raise ValueError(
      f'{path}: found the columns {reader.fieldnames}, expected'
      f' {", ".join(columns)}'
    )
  found = {}
  for row in reader:
    study, name, view = ((row[key] or '').strip() for key in columns)
    if view.lower() not in VIEWS:
      raise ValueError(
        f'{path}:{reader.line_num}: found projection {view!r}, expected one of'
        f' {", ".join(VIEWS)}'
      )
    found[f'CXR{study}', number(name)] = view.lower()
  return found
