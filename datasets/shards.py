"""Writes array_record files as TFDS names them, in one pass.

TFDS's own writer shuffles, for which it imports TensorFlow as soon as a split
exceeds a gigabyte. Here records are written as they come.
"""

import contextlib
import pathlib
from collections.abc import Iterable, Iterator

import tensorflow_datasets as tfds
from array_record.python import array_record_module

_SHARD_BYTES = 512 << 20
# One record a chunk, so that a single one is read and decompressed at a time.
_OPTIONS = 'group_size:1'


def write(
  records: Iterable[bytes], template: tfds.core.ShardedFileTemplate
) -> tfds.core.SplitInfo:
  """Writes the records of a split.

  Args:
    records: serialised examples.
    template: where the files go and what they are called.

  Returns:
    What TFDS wants to know of the split.

  Raises:
    OSError: a file cannot be written; the disk is full, say.
  """
  shards: list[_Shard] = []
  for record in records:
    if not shards or shards[-1].size > _SHARD_BYTES:
      if shards:
        shards[-1].close()
      shards.append(_Shard(template, len(shards)))
    shards[-1].add(record)
  if shards:
    shards[-1].close()
  for i, shard in enumerate(shards):
    shard.path.rename(
      template.sharded_filepath(shard_index=i, num_shards=len(shards))
    )
  return tfds.core.SplitInfo(
    name=template.split,
    shard_lengths=[shard.count for shard in shards],
    num_bytes=sum(shard.size for shard in shards),
    filename_template=template,
  )


class _Shard:
  """A file that is being written, and how much is in it."""

  def __init__(self, template: tfds.core.ShardedFileTemplate, number: int):
    # The final name says how many there are.
    name = f'{template.split}.{number}.partial'
    self.path = pathlib.Path(template.data_dir) / name
    self.count = self.size = 0
    with self._as_os_error():
      self._writer = array_record_module.ArrayRecordWriter(
        str(self.path), _OPTIONS
      )

  def add(self, record: bytes) -> None:
    with self._as_os_error():
      self._writer.write(record)
    self.count += 1
    self.size += len(record)

  def close(self) -> None:
    with self._as_os_error():
      self._writer.close()

  @contextlib.contextmanager
  def _as_os_error(self) -> Iterator[None]:
    try:
      yield
    except RuntimeError as error:
      reason = str(error).partition(';')[0]
      raise OSError(f'{self.path}: cannot be written: {reason}') from None
