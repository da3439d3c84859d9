"""Batches for training and validation, through grain.

Every example's randomness comes from the seed and its place in the stream, so
batches do not depend on threads, and an iterator's state restores them to the
bit.
"""

from collections.abc import Iterable, Sequence

import grain
import numpy as np

from medzoo.data import patches
from medzoo.data import transforms

# Counted in batches, each of which may have tens of megabytes; grain's own 500
# would not fit the memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)


def train_batches(
  store: patches.PatchStore,
  *,
  batch_size: int,
  positive_share: float,
  augment: Sequence[grain.transforms.RandomMap],
  shape: Sequence[int],
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
) -> grain.DatasetIterator:
  """Returns an endless iterator of augmented, mixed batches.

  Positives and negatives are shuffled and repeated each on their own, every
  cube once a round, and mixed evenly, so each batch has its share of both.

  Args:
    store: derived cubes.
    batch_size: examples in a batch, over all processes.
    positive_share: part of a batch that is positive, between 0 and 1.
    augment: applied to each example in turn; without any, the cube's middle is
      taken.
    shape: (D, H, W) of the images.
    seed: of order and augmentation.
    process_index: which of the processes this is; each has its own cubes.
    process_count: number of processes.
    workers: processes that augment; 0 does it in threads of this one.

  Returns:
    An iterator with `get_state` and `set_state`, of dicts with image float32
    (b, d, h, w, 1), label int32 (b,), offset float32 (b, 3), diameter float32
    (b,) and valid bool (b,).

  Raises:
    ValueError: positives or negatives are wanted and there are fewer than
      processes, or the processes cannot share a batch evenly.
  """
  if batch_size % process_count:
    raise ValueError(
      f'batch of {batch_size} cannot be shared evenly by {process_count} '
      'processes'
    )
  shares = {'positive': positive_share, 'negative': 1 - positive_share}
  streams, weights = [], []
  for number, (name, share) in enumerate(shares.items()):
    if share <= 0:
      continue
    index = np.flatnonzero((store.labels > 0) == (name == 'positive'))
    index = index[process_index::process_count]
    if not len(index):
      raise ValueError(
        f'no {name} patch for process {process_index} of {process_count}, but '
        f'positive_share is {positive_share}'
      )
    source = grain.MapDataset.source(_Subset(store, index))
    source = source.seed(_seed(seed, process_index, number))
    streams.append(source.shuffle().repeat())
    weights.append(share)
  dataset = grain.MapDataset.mix(streams, weights)
  dataset = dataset.seed(_seed(seed, process_index, len(shares)))
  for transform in augment:
    dataset = dataset.random_map(transform)
  dataset = dataset.map(transforms.CenterCrop(tuple(shape))).map(_finish)
  dataset = dataset.batch(batch_size // process_count)
  dataset = dataset.to_iter_dataset(_READ_OPTIONS)
  if workers:
    dataset = dataset.mp_prefetch(
      grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    )
  return iter(dataset)


def eval_batches(
  store: patches.PatchStore, *, batch_size: int, shape: Sequence[int]
) -> Iterable[dict[str, np.ndarray]]:
  """Returns all cubes once, in order, in batches of one size.

  Args:
    store: derived cubes.
    batch_size: examples in a batch; the last one is padded with zeros, whose
      `valid` is False.
    shape: (D, H, W) of the images, cut from the middle of the cubes.

  Returns:
    An iterable that starts anew each time, of dicts as `train_batches` gives.
  """
  dataset = grain.MapDataset.source(store)
  dataset = dataset.map(transforms.CenterCrop(tuple(shape))).map(_finish)
  dataset = dataset.batch(batch_size, drop_remainder=False)
  dataset = dataset.map(lambda batch: _pad(batch, batch_size))
  return dataset.to_iter_dataset(_READ_OPTIONS)


class _Subset:
  """Some examples of a store, as a source of their own."""

  def __init__(self, store: patches.PatchStore, index: np.ndarray):
    self._store = store
    self._index = index

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, position: int) -> dict[str, np.ndarray]:
    return self._store[int(self._index[position])]


def _seed(seed: int, *place: int) -> int:
  """Returns a 32-bit seed of its own for each use of the user's seed."""
  return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def _finish(example: transforms.Example) -> dict[str, np.ndarray]:
  """Gives an example the types and the channel axis that models expect."""
  return {
    'image': np.asarray(example['image'], np.float32)[..., None],
    'label': np.int32(example['label']),
    'offset': np.asarray(example['offset'], np.float32),
    'diameter': np.float32(example['diameter']),
    'valid': np.bool_(True),
  }


def _pad(
  batch: dict[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
  """Fills a batch up to its size with zeros."""
  missing = batch_size - len(batch['valid'])
  return {
    name: np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1))
    for name, value in batch.items()
  }
