"""The folder of a scraper: n.png for every n of a JSON.

`{n: {'type': 'Major', 'items': [terms], 'img': address}}` is what the older
scraper writes; ours adds `uid`, the study, `caption` and `sha256`.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

# Ours, and what the older one wrote and gave away.
NAMES = ('data.json', 'data_new.json', 'datas.json')
_STUDY = re.compile(r'CXR\d+(?=[_.]|$)')


@dataclasses.dataclass(frozen=True)
class Entry:
  """A picture that the JSON lists.

  Attributes:
    address: of the picture, from which its name comes; '' without one.
    study: such as CXR1; '' where nothing tells.
    terms: those of its report.
    caption: of the picture; '' where there is none.
    sha256: of its file; '' where it is not known.
  """

  address: str
  study: str
  terms: tuple[str, ...]
  caption: str
  sha256: str


def read(path: pathlib.Path) -> dict[str, Entry | None]:
  """Reads a JSON.

  Args:
    path: the file.

  Returns:
    By n its entry, None where it is of another form.

  Raises:
    ValueError: the file is no JSON, or not of this form.
  """
  return {n: _entry(value) for n, value in read_values(path).items()}


def read_values(path: pathlib.Path) -> dict[str, Any]:
  """Returns a JSON's entries as they stand; raises as `read` does."""
  try:
    values = json.loads(path.read_text(encoding='utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path}: found what is no JSON, expected the index of a scraper: {error}'
    ) from None
  if not isinstance(values, dict):
    raise ValueError(
      f'{path}: found a {type(values).__name__}, expected an object with an'
      ' entry for each picture'
    )
  return values


def study_of(name: str) -> str:
  """Returns the study that the name of a picture begins with, or ''."""
  match = _STUDY.match(name)
  return match[0] if match else ''


def name_of(address: str) -> str:
  """Returns the name of the picture at an address, without its ending."""
  path = address.partition('?')[0].partition('#')[0]
  return path.rpartition('/')[2].rpartition('.')[0]


def _entry(value: Any) -> Entry | None:
  if not isinstance(value, Mapping):
    return None
  terms = value.get('items')
  texts = [value.get(key, '') for key in ('img', 'uid', 'caption', 'sha256')]
  if not isinstance(terms, list) or not all(
    isinstance(x, str) for x in (*terms, *texts)
  ):
    return None
  address, uid, caption, sha256 = texts
  study = study_of(name_of(address)) or uid.strip()
  terms = tuple(' '.join(term.split()) for term in terms)
  return Entry(address, study, terms, caption, sha256)
