"""Makes phantoms one after another, in processes where that is faster."""

import multiprocessing
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

Result = TypeVar('Result')


def run(
  job: Callable[[int], Result], indices: Sequence[int], workers: int
) -> Iterator[Result]:
  """Yields a job's results in order.

  Args:
    job: can be pickled where there are several workers.
    indices: what it is called with.
    workers: processes; one is this one.
  """
  if workers == 1:
    yield from map(job, indices)
    return
  context = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(workers, context) as pool:
    yield from pool.map(job, indices)


def make_empty(directory: pathlib.Path) -> None:
  """Makes a folder.

  Args:
    directory: made if need be.

  Raises:
    ValueError: it is there and not empty.
  """
  if directory.exists() and any(directory.iterdir()):
    raise ValueError(f'{directory}: found files, expected an empty folder')
  directory.mkdir(parents=True, exist_ok=True)
