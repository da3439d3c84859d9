"""Training pictures kept on disk as networks see them, with their classes.

Every picture is prepared once (`labelled_pictures.prepare`). Where a network's
codes of pictures are trained on instead, `CodeStore` gives these the same form.
"""

import concurrent.futures
import functools
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import labelled_pictures

# Pictures in work at a time.
_WORKERS = 2


def derive(
  cases: Sequence[types.Case],
  directory: pathlib.Path,
  *,
  preprocess: Mapping[str, Any],
) -> None:
  """Stores the pictures of cases in a folder.

  Written are `pixels.npy`, uint8 (n, h, w, c); `labels.npy`, int32 (n,); and
  `sizes.npy`, int32 (n, 2), height and width of the part that is picture.

  Args:
    cases: pictures with a class; each is read once.
    directory: folder to make; it appears when it is complete.
    preprocess: arguments of `labelled_pictures.prepare`.

  Raises:
    ValueError: a case has no label, or there is no case.
  """
  if not len(cases):
    raise ValueError(f'{directory}: there is no case to take pictures of')
  partial = directory.with_name(directory.name + '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  channels = 3 if preprocess['colour'] else 1
  pixels = np.lib.format.open_memmap(
    partial / 'pixels.npy',
    'w+',
    np.uint8,
    (len(cases), *preprocess['shape'], channels),
  )
  labels = np.zeros(len(cases), np.int32)
  sizes = np.zeros((len(cases), 2), np.int32)
  # Pillow and numpy let go of the interpreter in their loops, so threads do.
  with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
    work = functools.partial(_prepare, cases, preprocess)
    for index, (picture, label) in enumerate(pool.map(work, range(len(cases)))):
      pixels[index], sizes[index] = picture.pixels, picture.inner
      labels[index] = label
  pixels.flush()
  np.save(partial / 'labels.npy', labels)
  np.save(partial / 'sizes.npy', sizes)
  partial.rename(directory)


class LabelledStore:
  """Random access to the pictures of a folder that `derive` made.

  Attributes:
    labels: (n,) int32, classes from 0.
    positive: the same, see `pipeline.Store`.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._pixels = np.load(directory / 'pixels.npy', mmap_mode='r')
    self._sizes = np.load(directory / 'sizes.npy')
    self.labels = np.load(directory / 'labels.npy')
    self.positive = self.labels

  def __reduce__(self) -> tuple:
    # Worker processes open the files themselves; the maps are not sent.
    return LabelledStore, (self._directory,)

  def __len__(self) -> int:
    return len(self._pixels)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns one picture.

    Returns:
      `image` (h, w, c) uint8; `label` () int32; `sizes` (2,) int32,
      height and width of the part that is picture.
    """
    return {
      'image': np.array(self._pixels[index]),
      'label': self.labels[index],
      'sizes': self._sizes[index],
    }


class CodeStore:
  """Random access to what a network makes of pictures, in memory.

  Attributes:
    labels: (n,) int32, classes from 0.
    positive: the same, see `pipeline.Store`.
  """

  def __init__(self, codes: np.ndarray, labels: np.ndarray):
    """Takes the codes of all pictures.

    Args:
      codes: (n, ...) of any kind of number.
      labels: (n,) int, classes from 0.

    Raises:
      ValueError: there are not as many labels, or others than classes.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(codes),) or not _are_classes(labels):
      found = sorted(set(labels.ravel().tolist()), key=str)
      raise ValueError(
        f'found labels {found} of shape {labels.shape}, expected a class from '
        f'0 for each of {len(codes)} codes'
      )
    self._codes = codes
    self.labels = labels.astype(np.int32)
    self.positive = self.labels

  def __len__(self) -> int:
    return len(self._codes)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns `image` (...) float32, one picture's code, and `label`."""
    return {
      'image': np.array(self._codes[index], np.float32),
      'label': self.labels[index],
    }


def _are_classes(labels: np.ndarray) -> bool:
  return labels.dtype.kind in 'iu' and bool((labels >= 0).all())


def _prepare(
  cases: Sequence[types.Case], preprocess: Mapping[str, Any], index: int
) -> tuple[labelled_pictures.Input, int]:
  """Returns the picture of one case, and its label."""
  case = cases[index]
  if case.label is None:
    raise ValueError(
      f'{case.volume.series_uid}: found no label, expected the class of the '
      'picture'
    )
  return labelled_pictures.prepare(case.volume, **preprocess), case.label
