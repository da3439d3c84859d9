"""What Open-i's search gives, page by page."""

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from datasets.openi_cxr import fetching

# The largest that Open-i gives.
_PAGE = 100
_MOST_BYTES = 32 << 20
# A server that goes on so has no end.
_MOST_BARREN = 10
# Nothing that leads up or elsewhere.
_PATH = re.compile(r'(/\w[\w.-]*)+\.(png|jpe?g)', re.ASCII | re.IGNORECASE)


class BadQuery(fetching.Failed):
  """A search that Open-i does not understand."""


@dataclasses.dataclass(frozen=True)
class Item:
  """A film that a search found.

  Attributes:
    path: of its largest picture, on the server.
    study: such as CXR1.
    terms: MeSH's headings with what qualifies them.
    caption: what the report calls the picture.
  """

  path: str
  study: str
  terms: tuple[str, ...]
  caption: str


def search(
  client: fetching.Client, base_url: str, query: str
) -> tuple[int, Iterator[Any]]:
  """Searches the chest X-rays.

  Args:
    client: asks the server.
    base_url: the server's address, without a slash behind.
    query: words to look for; '' for all films.

  Returns:
    how many films there are, and what the server says of each, for `parse`;
    the pages are fetched while one goes through it.

  Raises:
    fetching.Failed: the server gives no answer that can be used.
  """

  def fetch(first: int) -> tuple[int, list[Any]]:
    fields = {'it': 'xg', 'coll': 'cxr', 'm': first, 'n': first + _PAGE - 1}
    words = {'query': query} if query else {}
    url = f'{base_url}/api/search?{urllib.parse.urlencode(words | fields)}'
    return client.get(url, _MOST_BYTES, _read_page)

  total, page = fetch(1)

  def walk() -> Iterator[Any]:
    first, items, known, barren = 1, page, set(), 0
    while items:
      yield from items
      new = {json.dumps(item, sort_keys=True) for item in items} - known
      barren = 0 if new else barren + 1
      if barren == _MOST_BARREN:
        raise fetching.Failed(
          f'{base_url}: found {barren} pages of films that it gave before, up'
          f' to {first}, expected others'
        )
      known |= new
      first += _PAGE
      items = fetch(first)[1] if first <= total else []

  return total, walk()


def parse(item: Any) -> Item:
  """Reads what the server says of a film.

  Raises:
    ValueError: it lacks something, or the picture's path is none that Open-i
      would give.
  """
  try:
    path, study = item['imgLarge'], item['uid']
    # Reports that nobody indexed have no terms.
    headings = item.get('MeSH') or {}
    terms = (headings.get('major') or []) + (headings.get('minor') or [])
    caption = (item.get('image') or {}).get('caption') or ''
    texts = (path, study, caption, *terms)
  except (AttributeError, KeyError, TypeError):
    texts = (None,)
  if not all(isinstance(text, str) for text in texts):
    raise ValueError(
      f'found {str(item)[:80]!r}, expected imgLarge and uid, and lists of MeSH'
    )
  if not _PATH.fullmatch(path):
    raise ValueError(
      f'found imgLarge {path[:80]!r}, expected a path such as'
      ' /imgs/512/1/1/CXR1_1_IM-0001-3001.png'
    )
  return Item(path, study, tuple(terms), caption)


def path_of(address: str) -> str:
  """Returns the path of an address; older ones have a slash too many."""
  return '/' + urllib.parse.urlsplit(address).path.lstrip('/')


def _read_page(content: bytes) -> tuple[int, list[Any]]:
  """Returns how many films there are, and what there is of this page.

  Raises:
    ValueError: it is nothing that a search gives.
    BadQuery: the server does not understand the search.
  """
  try:
    answer = json.loads(content)
  except (ValueError, RecursionError):
    raise ValueError(
      f'found {content[:40]!r}, expected a JSON of films'
    ) from None
  if isinstance(answer, dict) and 'Query-Error' in answer:
    raise BadQuery(
      f'found {str(answer)[:200]}, expected a search that succeeds'
    )
  total, items = None, None
  if isinstance(answer, dict):
    # A search that finds nothing gives no list.
    total, items = answer.get('total'), answer.get('list', [])
  if not isinstance(total, int) or not isinstance(items, list):
    raise ValueError(
      f'found {content[:40]!r}, expected a JSON with total and list'
    )
  return total, items
