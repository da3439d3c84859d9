"""Fetches chest X-rays and their findings from Open-i.

`python -m datasets.openi_cxr.scrape FOLDER --accept_terms [--query=WORDS]
[--limit=N] [--delay=S] [--base_url=URL]`

The folder gets n.png for every film and `data.json`, in the form that the
older scraper wrote and `openi_cxr` reads. Called again it goes on where it
stopped. To have the whole collection the official archives are the better way.
"""

import argparse
import functools
import math
import pathlib
import sys

from datasets import folders
from datasets import progress
from datasets.openi_cxr import fetching
from datasets.openi_cxr import searches
from datasets.openi_cxr import stores

TERMS = (
  "Open-i's chest X-rays (Indiana University, through the National Library of"
  ' Medicine) are licensed CC BY-NC-ND 4.0: credit them, use them for nothing'
  ' commercial, pass on nothing derived from them;'
  ' https://openi.nlm.nih.gov/faq'
)
_MOST_BYTES = 64 << 20
# So many in a row, and the server is not well.
_MOST_FAILURES = 5


class UsageError(ValueError):
  """The call is at fault, not the server."""


def fetch(
  folder: pathlib.Path,
  *,
  base_url: str,
  query: str = '',
  limit: int = 0,
  delay: float = 1.0,
) -> tuple[int, int, int]:
  """Fetches films into a folder.

  Args:
    folder: new, empty or begun earlier.
    base_url: the server's address.
    query: words to look for; '' for all films.
    limit: how many films the folder may hold; 0 for all.
    delay: least seconds between two requests.

  Returns:
    how many films were fetched, how many the folder holds, and how many could
    not be fetched.

  Raises:
    UsageError: an argument is impossible.
    fetching.Failed: the server does not answer, or forbids it.
    OSError: the folder cannot be written.
    ValueError: the folder's index is broken.
  """
  base_url = base_url.rstrip('/')
  try:
    client = fetching.Client(base_url, delay)
  except ValueError as error:
    raise UsageError(f'--base_url: {error}') from None
  try:
    with folders.locked(folder / 'scrape'):
      store = stores.Store(folder)
      return _fill(store, client, base_url, query, limit)
  except stores.Foreign as error:
    raise UsageError(str(error)) from None
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise UsageError(f'{folder}: cannot be written: {error.strerror}') from None


def _fill(
  store: stores.Store,
  client: fetching.Client,
  base_url: str,
  query: str,
  limit: int,
) -> tuple[int, int, int]:
  total, items = searches.search(client, base_url, query)
  total = min(total, limit) if limit else total
  before, failures, in_a_row = len(store), 0, 0
  for found in progress.track(items, 'films', total):
    if limit and len(store) >= limit:
      break
    try:
      item = searches.parse(found)
      if item in store:
        continue
      address = f'{base_url}{item.path}'
      client.get(
        address, _MOST_BYTES, functools.partial(store.save, item, address)
      )
      in_a_row = 0
    except fetching.Forbidden:
      raise
    except (ValueError, fetching.Failed) as error:
      progress.say(f'left out: {error}')
      failures += 1
      in_a_row += isinstance(error, fetching.Failed)
      if in_a_row == _MOST_FAILURES:
        raise fetching.Failed(
          f'{base_url}: found {in_a_row} films in a row that it does not give;'
          ' the same call goes on later'
        ) from None
  return len(store) - before, len(store), failures


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit code: 2 the call, 1 the server."""
  parser = argparse.ArgumentParser(
    prog='python -m datasets.openi_cxr.scrape',
    description='Fetches chest X-rays and their findings from Open-i.',
  )
  parser.add_argument('folder', type=pathlib.Path, help='where they are kept')
  parser.add_argument(
    '--accept_terms', action='store_true', help='you keep to the licence'
  )
  parser.add_argument('--query', default='', help='words to look for')
  parser.add_argument(
    '--limit', type=int, default=0, help='most films in the folder; 0 for all'
  )
  parser.add_argument(
    '--delay', type=float, default=1.0, help='least seconds between requests'
  )
  parser.add_argument('--base_url', default='https://openi.nlm.nih.gov')
  options = parser.parse_args(arguments)
  progress.say(TERMS)
  try:
    _check(options)
    fetched, count, failures = fetch(
      options.folder,
      base_url=options.base_url,
      query=options.query,
      limit=options.limit,
      delay=options.delay,
    )
  except (UsageError, searches.BadQuery) as error:
    progress.say(f'error: {error}')
    return 2
  except (fetching.Failed, ValueError, OSError) as error:
    progress.say(f'error: {error}')
    return 1
  except KeyboardInterrupt:
    progress.say('stopped; the same call goes on')
    return 1
  told = f'{options.folder}: {fetched} films fetched, {count} in all'
  if failures:
    progress.say(
      f'error: {told}, {failures} left out; the same call tries them'
    )
    return 1
  print(told)
  return 0


def _check(options: argparse.Namespace) -> None:
  if not options.accept_terms:
    raise UsageError(
      'found no --accept_terms, expected it once you have read the licence'
    )
  if options.limit < 0 or not 0 <= options.delay < math.inf:
    raise UsageError(
      f'found --limit {options.limit} and --delay {options.delay}, expected 0'
      ' or more'
    )


if __name__ == '__main__':
  sys.exit(main())
