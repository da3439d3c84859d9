"""Runs main.py as a user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(*args: str, **environment: str) -> subprocess.CompletedProcess:
  """Runs it with flags and more environment variables, to its end."""
  return subprocess.run(
    [sys.executable, 'main.py', *args],
    cwd=ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )
