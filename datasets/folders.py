"""Folders that are either complete or absent, whoever else makes them."""

import contextlib
import fcntl
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps other processes from making the same folder meanwhile."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  with folder.with_name(f'.{folder.name}.lock').open('w') as file:
    # A lock ends with its process, so a killed one blocks nobody.
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def partial(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes an empty folder beside the one given; it is gone afterwards."""
  path = folder.with_name(f'.{folder.name}.incomplete')
  # What a killed process left is not to be trusted.
  shutil.rmtree(path, ignore_errors=True)
  path.mkdir(parents=True)
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)
