"""Access to the folder of real data, which the repository does not carry."""

import os
import pathlib
import unittest


def folder(name: str) -> pathlib.Path:
  """Returns $MEDZOO_TEST_DATA/name, or skips the test that asks for it."""
  path = pathlib.Path(os.environ['MEDZOO_TEST_DATA']) / name
  if not path.exists():
    raise unittest.SkipTest(f'no real data at {path}; set MEDZOO_TEST_DATA')
  return path
