"""Training slices of scans, or pictures, kept on disk with their boxes.

A scan is turned into pictures once (`slices.prepare`), these are written, and
only then is the next one read. All its slices are kept, those without a lesion
too; how many of them a batch has, the pipeline decides.
"""

import concurrent.futures
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import slices

# Scans in work at a time.
_WORKERS = 2


def derive(
  cases: Sequence[types.Case],
  directory: pathlib.Path,
  *,
  every: int,
  preprocess: Mapping[str, Any],
) -> None:
  """Stores the slices of cases in a folder.

  Written are `pixels.npy`, uint8 (n, h, w), or (n, h, w, 3) of pictures, and
  `table.npz`: of every slice the `first` and the `end` of its scan's and how
  far `apart` its channels are; of every box its `image`, `corners`
  (y0, x0, y1, x1) in pixels, `labels` and `ignored`.

  Args:
    cases: scans or pictures with boxes; each is read once.
    directory: folder to make; it appears when it is complete.
    every: slices that take part, 1 for all, 3 for every third; the others are
      only neighbours.
    preprocess: arguments of `slices.prepare`.

  Raises:
    ValueError: a case has no boxes, not even none, there are scans beside
      pictures, or there is no case.
  """
  partial = directory.with_name(directory.name + '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  scans, tables, total = [], [], 0
  with (partial / 'pixels.npy').open('wb') as file:
    header = {'descr': '|u1', 'fortran_order': False}
    for stack, table in _prepared(cases, preprocess):
      pixels = stack.pixels
      if not total:
        # numpy pads the header, so the count can be written over it.
        shape = pixels.shape[1:]
        np.lib.format.write_array_header_1_0(
          file, header | {'shape': (0, *shape)}
        )
      if pixels.shape[1:] != shape:
        raise ValueError(
          f'{directory}: found slices of {shape} and of {pixels.shape[1:]};'
          ' expected scans only, or pictures only'
        )
      file.write(pixels.tobytes())
      table['image'] += total
      tables.append(table)
      scans.append((total, total + len(pixels), stack.apart))
      total += len(pixels)
    if not total:
      raise ValueError(f'{directory}: there is no case to take slices of')
    file.seek(0)
    np.lib.format.write_array_header_1_0(
      file, header | {'shape': (total, *shape)}
    )
  lengths = [end - first for first, end, _ in scans]
  first, end, apart = np.repeat(np.array(scans), lengths, axis=0).T
  np.savez(
    partial / 'table.npz',
    first=first,
    end=end,
    apart=apart,
    used=(np.arange(total) - first) % every == 0,
    **{name: np.concatenate([t[name] for t in tables]) for name in tables[0]},
  )
  partial.rename(directory)


class SliceStore:
  """Random access to the slices of a folder that `derive` made.

  Attributes:
    positive: (n,) bool, whether there is a lesion to find on a slice.
    most_boxes: the most boxes to find that a slice has, at least 1.
    most_ignored: the most boxes that a slice has to be ignored, at least 1.
    highest_label: the highest class id of a box to find, 0 without any.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._pixels = np.load(directory / 'pixels.npy', mmap_mode='r')
    with np.load(directory / 'table.npz') as table:
      self._scans = np.stack([table[x] for x in ('first', 'end', 'apart')], -1)
      self._used = np.flatnonzero(table['used'])
      image, self._ignored = table['image'], table['ignored']
      self._corners, self._labels = table['corners'], table['labels']
    self._boxes = np.searchsorted(image, np.arange(len(self._pixels) + 1))
    counts = [
      np.bincount(image[self._ignored == ignored], minlength=len(self._pixels))
      for ignored in (False, True)
    ]
    self.positive = counts[0][self._used] > 0
    self.most_boxes, self.most_ignored = (max(c.max(), 1) for c in counts)
    self.highest_label = int(self._labels[~self._ignored].max(initial=0))

  def __reduce__(self) -> tuple:
    # Worker processes open the file themselves; the map is not sent.
    return SliceStore, (self._directory,)

  def __len__(self) -> int:
    return len(self._used)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns one slice.

    Returns:
      `image` (h, w, 3) uint8; `boxes` (n, 4) y0, x0, y1, x1 in pixels, their
      `labels` (n,), and `ignored` (m, 4).
    """
    index = self._used[index]
    image = slices.with_neighbours(self._pixels, [index], *self._scans[index])
    mine = slice(*self._boxes[index : index + 2])
    ignored = self._ignored[mine]
    return {
      'image': image[0],
      'boxes': self._corners[mine][~ignored],
      'labels': self._labels[mine][~ignored],
      'ignored': self._corners[mine][ignored],
    }


def _prepared(
  cases: Sequence[types.Case], preprocess: Mapping[str, Any]
) -> Iterator[tuple[slices.Stack, dict[str, np.ndarray]]]:
  """Yields pictures and boxes of each case, in order."""
  # Pillow and numpy let go of the interpreter in their loops, so threads do.
  with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
    waiting = []
    for index in range(len(cases)):
      waiting.append(
        pool.submit(lambda i: _prepare(cases[i], preprocess), index)
      )
      if len(waiting) > _WORKERS:
        yield waiting.pop(0).result()
    for future in waiting:
      yield future.result()


def _prepare(
  case: types.Case, preprocess: Mapping[str, Any]
) -> tuple[slices.Stack, dict[str, np.ndarray]]:
  """Returns the pictures of one case, and its boxes slice by slice."""
  if case.boxes is None:
    raise ValueError(
      f'{case.volume.series_uid}: the dataset has no boxes slice by slice; '
      'expected lidc_idri or boxes_json'
    )
  stack = slices.prepare(case.volume, **preprocess)
  order = np.argsort(case.boxes.slices, kind='stable')
  return stack, {
    'image': case.boxes.slices[order].astype(np.int64),
    'corners': stack.to_pixels(case.boxes.corners)[order].astype(np.float32),
    'labels': case.boxes.labels[order],
    'ignored': case.boxes.ignored[order],
  }
