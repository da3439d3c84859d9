"""Training films kept on disk as networks see them, with their masks.

Every film is prepared once (`pictures.prepare`), and its masks with it; the
boxes are those of the masks and are worked out when all augmentation is done.
"""

import concurrent.futures
import functools
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.data import pictures

# Films in work at a time.
_WORKERS = 2


def derive(
  cases: Sequence[types.Case],
  directory: pathlib.Path,
  *,
  preprocess: Mapping[str, Any],
) -> None:
  """Stores the films of cases in a folder.

  Written are `pixels.npy`, uint8 (n, h, w); `layers.npy` of the same shape,
  whose bit k tells whether a pixel is of the object with label k + 1; and
  `sizes.npy`, int32 (n, 2), height and width of the part that is film.

  Args:
    cases: pictures with masks; each is read once.
    directory: folder to make; it appears when it is complete.
    preprocess: arguments of `pictures.prepare`.

  Raises:
    ValueError: a case has no masks, not even none, or one of another label
      than the lungs', or there is no case.
  """
  if not len(cases):
    raise ValueError(f'{directory}: there is no case to take pictures of')
  partial = directory.with_name(directory.name + '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  shape = (len(cases), *preprocess['shape'])
  pixels, layers = (
    np.lib.format.open_memmap(partial / f'{name}.npy', 'w+', np.uint8, shape)
    for name in ('pixels', 'layers')
  )
  sizes = np.zeros((len(cases), 2), np.int32)
  # Pillow and numpy let go of the interpreter in their loops, so threads do.
  with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
    work = functools.partial(_prepare, cases, preprocess)
    for index, (picture, layer) in enumerate(pool.map(work, range(len(cases)))):
      pixels[index], layers[index] = picture.pixels, layer
      sizes[index] = picture.inner
  pixels.flush()
  layers.flush()
  np.save(partial / 'sizes.npy', sizes)
  partial.rename(directory)


class PictureStore:
  """Random access to the films of a folder that `derive` made.

  Attributes:
    positive: (n,) bool, True for all: a film without lungs teaches as well as
      any other.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._pixels, self._layers = (
      np.load(directory / f'{name}.npy', mmap_mode='r')
      for name in ('pixels', 'layers')
    )
    self._sizes = np.load(directory / 'sizes.npy')
    self.positive = np.ones(len(self._pixels), bool)

  def __reduce__(self) -> tuple:
    # Worker processes open the files themselves; the maps are not sent.
    return PictureStore, (self._directory,)

  def __len__(self) -> int:
    return len(self._pixels)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns one film.

    Returns:
      `image` (h, w) uint8; `masks` (2, h, w) uint8, 0 or 1, of the right and
      the left lung; `sizes` (2,) int32, height and width of the part that is
      film.
    """
    layers = self._layers[index]
    return {
      'image': np.array(self._pixels[index]),
      'masks': np.stack(
        [(layers >> bit) & 1 for bit in range(len(lung_shapes.LABELS))]
      ),
      'sizes': self._sizes[index],
    }


def _prepare(
  cases: Sequence[types.Case], preprocess: Mapping[str, Any], index: int
) -> tuple[pictures.Picture, np.ndarray]:
  """Returns the film of one case, and its masks as bits."""
  case = cases[index]
  name, masks = case.volume.series_uid, case.masks
  if masks is None:
    raise ValueError(
      f'{name}: found no masks, expected those of every film to train on'
    )
  if not np.isin(masks.labels, lung_shapes.LABELS).all():
    raise ValueError(
      f'{name}: found masks with the labels {masks.labels.tolist()}, expected'
      f' {lung_shapes.LABELS}, the right and the left lung'
    )
  picture = pictures.prepare(case.volume, **preprocess)
  layers = np.zeros(picture.pixels.shape, np.uint8)
  covered = picture.place(masks.masks) >= 0.5
  for label, mask in zip(masks.labels.tolist(), covered, strict=True):
    layers |= mask.astype(np.uint8) << (label - 1)
  return picture, layers
