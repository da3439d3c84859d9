"""Batches for training and validation, through grain.

Every example's randomness comes from the seed and its place in the stream, so
batches do not depend on threads, and an iterator's state restores them to the
bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import grain
import numpy as np

Example = Mapping[str, np.ndarray]
Transform = grain.transforms.Map | grain.transforms.RandomMap

# Counted in batches, each of which may have tens of megabytes; grain's own 500
# would not fit the memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)


class Store(Protocol):
  """Random access to examples on disk.

  Attributes:
    positive: (n,) bool, whether there is something to find in an example; or
      int, what of, from 1, where each kind is to have its share of a batch.
  """

  positive: np.ndarray

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...


def train_batches(
  store: Store,
  *,
  batch_size: int,
  positive_share: float,
  transforms: Sequence[Transform],
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
) -> grain.DatasetIterator:
  """Returns an endless iterator of augmented, mixed batches.

  Positives and negatives are shuffled and repeated each on their own, every
  one once a round, and mixed evenly, so each batch has its share of both. Where
  positives are of several kinds, so is each kind.

  Args:
    store: the examples.
    batch_size: examples in a batch, over all processes.
    positive_share: part of a batch that is positive, between 0 and 1. With
      several kinds of positives each kind has the weight `positive_share`, and
      negatives have `1 - positive_share`: at 0.5 all are equally many.
    transforms: applied to each example in turn; the results are stacked.
    seed: of order and augmentation.
    process_index: which of the processes this is; each has its own examples.
    process_count: number of processes.
    workers: processes that augment; 0 does it in threads of this one.

  Returns:
    An iterator with `get_state` and `set_state`, of dicts of what the
    transforms give, with a leading axis b, and valid bool (b,).

  Raises:
    ValueError: positives or negatives are wanted and there are fewer than
      processes, or the processes cannot share a batch evenly.
  """
  if batch_size % process_count:
    raise ValueError(
      f'batch of {batch_size} cannot be shared evenly by {process_count} '
      'processes'
    )
  shares = _shares(store.positive, positive_share)
  streams, weights = [], []
  for number, (kind, name, share) in enumerate(shares):
    if share <= 0:
      continue
    index = np.flatnonzero(store.positive == kind)
    index = index[process_index::process_count]
    if not len(index):
      raise ValueError(
        f'no {name} example for process {process_index} of {process_count}, '
        f'but positive_share is {positive_share}'
      )
    source = grain.MapDataset.source(_Subset(store, index))
    source = source.seed(_seed(seed, process_index, number))
    streams.append(source.shuffle().repeat())
    weights.append(share)
  dataset = grain.MapDataset.mix(streams, weights)
  dataset = dataset.seed(_seed(seed, process_index, len(shares)))
  dataset = _apply(dataset, transforms).batch(batch_size // process_count)
  dataset = dataset.to_iter_dataset(_READ_OPTIONS)
  if workers:
    dataset = dataset.mp_prefetch(
      grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    )
  return iter(dataset)


def eval_batches(
  store: Store, *, batch_size: int, transforms: Sequence[Transform]
) -> Iterable[dict[str, np.ndarray]]:
  """Returns all examples once, in order, in batches of one size.

  Args:
    store: the examples.
    batch_size: examples in a batch; the last one is padded with zeros, whose
      `valid` is False.
    transforms: applied to each example in turn.

  Returns:
    An iterable that starts anew each time, of dicts as `train_batches` gives.
  """
  dataset = _apply(grain.MapDataset.source(store), transforms)
  dataset = dataset.batch(batch_size, drop_remainder=False)
  dataset = dataset.map(lambda batch: _pad(batch, batch_size))
  return dataset.to_iter_dataset(_READ_OPTIONS)


def _shares(
  kinds: np.ndarray, positive_share: float
) -> list[tuple[int, str, float]]:
  """Returns each kind of example, the last first, its name and its weight."""
  highest = max(int(kinds.max(initial=0)), 1)
  if highest == 1:
    names = ['negative', 'positive']
  else:
    names = [f'class {kind}' for kind in range(highest + 1)]
  weights = [1 - positive_share] + [positive_share] * highest
  return list(zip(range(highest + 1), names, weights, strict=True))[::-1]


class _Subset:
  """Some examples of a store, as a source of their own."""

  def __init__(self, store: Store, index: np.ndarray):
    self._store = store
    self._index = index

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, position: int) -> Example:
    return self._store[int(self._index[position])]


def _seed(seed: int, *place: int) -> int:
  """Returns a 32-bit seed of its own for each use of the user's seed."""
  return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def _apply(
  dataset: grain.MapDataset, transforms: Sequence[Transform]
) -> grain.MapDataset:
  """Applies transforms in turn and marks the examples as real ones."""
  for transform in transforms:
    if isinstance(transform, grain.transforms.RandomMap):
      dataset = dataset.random_map(transform)
    else:
      dataset = dataset.map(transform)
  return dataset.map(lambda example: {**example, 'valid': np.bool_(True)})


def _pad(
  batch: dict[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
  """Fills a batch up to its size with zeros."""
  missing = batch_size - len(batch['valid'])
  return {
    name: np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1))
    for name, value in batch.items()
  }
