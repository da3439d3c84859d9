"""Keeps what a scraper fetches; whatever stops it, nothing is lost or half."""

import hashlib
import json
import os
import pathlib
from typing import Any

from datasets.openi_cxr import scraped
from datasets.openi_cxr import searches
from medzoo.io import images

_INDEX = scraped.NAMES[0]
# Hidden, so that builders do not see it.
_PARTIAL = '.partial'


class Foreign(ValueError):
  """A folder that holds something else."""


class Store:
  """A folder with films and their index.

  Films are called by numbers of our own, never by what a server says.
  """

  def __init__(self, folder: pathlib.Path):
    """Opens a folder.

    Args:
      folder: has an index, or is empty.

    Raises:
      Foreign: it holds something else.
      OSError: it cannot be written.
      ValueError: its index is broken.
    """
    self._folder = folder
    index = folder / _INDEX
    self._entries: dict[str, Any] = {}
    if index.exists():
      self._entries = scraped.read_values(index)
      _check(index, self._entries)
    elif any(not path.name.startswith('.') for path in folder.iterdir()):
      raise Foreign(
        f'{folder}: found files but no {_INDEX}, expected an empty folder or'
        ' one that a scraper has begun'
      )
    self._numbers = {
      searches.path_of(entry['img']): n for n, entry in self._entries.items()
    }
    self._whole = {
      path for path, n in self._numbers.items() if self._is_whole(n)
    }
    self._write_index()

  def __len__(self) -> int:
    return len(self._whole)

  def __contains__(self, item: searches.Item) -> bool:
    return item.path in self._whole

  def save(self, item: searches.Item, address: str, content: bytes) -> None:
    """Adds a film, or puts it back where its file was lost.

    Args:
      item: what is known of it.
      address: where it comes from.
      content: its file.

    Raises:
      ValueError: the content is no whole picture.
    """
    partial = self._write(content)
    try:
      images.read(partial, deep=True)
    except ValueError:
      raise ValueError(
        f'found {len(content)} bytes that are no whole picture, expected PNG or'
        ' JPEG'
      ) from None
    n = self._numbers.get(item.path) or str(
      max(map(int, self._entries), default=0) + 1
    )
    partial.replace(self._folder / f'{n}.png')
    self._entries[n] = {
      'type': 'Major',
      'items': list(item.terms),
      'img': address,
      'uid': item.study,
      'caption': item.caption,
      'sha256': hashlib.sha256(content).hexdigest(),
    }
    self._numbers[item.path] = n
    self._whole.add(item.path)
    self._write_index()

  def _is_whole(self, n: str) -> bool:
    path = self._folder / f'{n}.png'
    if not path.is_file():
      return False
    # The older scraper wrote no sums.
    expected = self._entries[n].get('sha256')
    return expected in (None, hashlib.sha256(path.read_bytes()).hexdigest())

  def _write_index(self) -> None:
    content = json.dumps(self._entries, indent=1).encode()
    self._write(content).replace(self._folder / _INDEX)

  def _write(self, content: bytes) -> pathlib.Path:
    """Writes a file of which nobody knows yet."""
    path = self._folder / _PARTIAL
    with path.open('wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    return path


def _check(index: pathlib.Path, entries: dict[str, Any]) -> None:
  for n, entry in entries.items():
    if not (n.isascii() and n.isdecimal()):
      raise ValueError(f'{index}: found an entry {n[:40]!r}, expected a number')
    if not isinstance(entry, dict) or not isinstance(entry.get('img'), str):
      raise ValueError(f'{index}: found an entry {n} without img, expected one')
