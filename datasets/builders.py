"""What all builders of scans have in common.

A builder lists its cases from names and headers, then a pure function reads
one case at a time; worker processes map it here, Apache Beam elsewhere.
"""

import abc
import collections
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from datasets import cases
from datasets import progress
from datasets import shards
from medzoo.data import sources

REPORT_FILE = 'build_report.json'


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
  """The options of every builder of scans.

  Attributes:
    workers: processes that read cases; the dataset does not depend on it.
  """

  workers: int = 1


class CaseBuilder(
  tfds.core.GeneratorBasedBuilder, abc.ABC, skip_registration=True
):
  """A dataset of scans with what was found in them.

  Attributes:
    read: the pure function from a listed case to the record's key and values;
      raises `cases.LeftOut` where the case cannot be part of the dataset.
    HASHES_CONTENTS: whether a raw file that changes without changing its size
      is noticed; every file is read for it, which scans are too large for.
  """

  HASHES_CONTENTS = False

  VERSION = tfds.core.Version('4.0.0')
  RELEASE_NOTES = {
    '1.0.0': 'First version.',
    '2.0.0': 'Boxes slice by slice, and pictures of 8 bits.',
    '3.0.0': 'Masks of pictures, and pixels of unknown size.',
    '4.0.0': 'Classes of whole pictures.',
  }

  read: Callable[[Any], cases.Example]

  def __init__(self, **arguments: Any):
    """Passes TFDS's arguments on; other file formats have no random access."""
    super().__init__(**{**arguments, 'file_format': 'array_record'})

  @abc.abstractmethod
  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Lists the cases of every split without reading voxels.

    Args:
      manual_dir: the root of the raw files.

    Returns:
      What to read, and what not.

    Raises:
      ValueError: the files are not in the layout that the builder reads.
    """

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: Config
  ) -> Iterable[pathlib.Path]:
    """Returns every file that the dataset may depend on."""
    del config
    return walk(manual_dir)

  @classmethod
  def extra_features(cls) -> dict[str, tfds.features.FeatureConnector]:
    """Returns the features that only this dataset has."""
    return {}

  def write_tables(
    self, directory: pathlib.Path, entries: Sequence[dict[str, Any]]
  ) -> None:
    """Writes files beside the records; `entries` are those of the index."""
    del directory, entries

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=_features(type(self)))

  def _download_and_prepare(
    self,
    dl_manager: tfds.download.DownloadManager,
    download_config: tfds.download.DownloadConfig,
  ) -> None:
    self._index = None
    if download_config.beam_runner or download_config.beam_options:
      super()._download_and_prepare(dl_manager, download_config)
      return
    self._index = {}
    limit = download_config.max_examples_per_split
    infos = [
      self._write_split(name, listed[:limit])
      for name, listed in self._list_splits(dl_manager).items()
    ]
    self.info.set_splits(tfds.core.SplitDict(infos))

  def _list_splits(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, list[Any]]:
    root = pathlib.Path(dl_manager.manual_dir)
    progress.say(f'{self.name}: looking at the files in {root}')
    self._listing = self.list_cases(root)
    self._left_out = list(self._listing.left_out)
    splits = {name: x for name, x in self._listing.splits.items() if x}
    if not splits:
      why = describe(self._left_out)
      raise ValueError(f'{root}: found no case that can be used; {why}')
    return splits

  def _write_split(
    self, split: str, listed: Sequence[Any]
  ) -> tfds.core.SplitInfo:
    entries = self._index[split] = []
    failed = []

    def records() -> Iterator[bytes]:
      results = _map(type(self), listed, self.builder_config.workers)
      title = f'{self.name}, {split}'
      for result in progress.track(results, title, len(listed)):
        if isinstance(result, cases.LeftOut):
          failed.append(result)
        else:
          entries.append(result.entry)
          yield result.data
      if not entries:
        raise ValueError(
          f'{title}: none of {len(listed)} cases can be used;'
          f' {describe(failed)}'
        )

    template = tfds.core.ShardedFileTemplate(
      data_dir=self.data_path,
      dataset_name=self.name,
      split=split,
      filetype_suffix=self.info.file_format.file_suffix,
    )
    info = shards.write(records(), template)
    self._left_out.extend(failed)
    return info

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Any]:
    """Gives TFDS what it runs on Beam."""
    splits = self._list_splits(dl_manager)
    return {name: self._generate_examples(x) for name, x in splits.items()}

  def _generate_examples(self, listed: Sequence[Any]) -> Any:
    beam = tfds.core.lazy_imports.apache_beam
    return beam.Create(listed) | beam.FlatMap(_read_or_nothing, type(self).read)

  def _post_download_and_prepare_hook(self) -> None:
    directory = pathlib.Path(self.data_path)
    index = self._index or sources.read_index(directory)
    _check_unique(index)
    entries = [entry for split in index.values() for entry in split]
    (directory / sources.INDEX_FILE).write_text(json.dumps(index))
    self.write_tables(directory, entries)
    (directory / REPORT_FILE).write_text(
      json.dumps(self._report(index), indent=1)
    )

  def _report(self, index: dict[str, Any]) -> dict[str, Any]:
    notes = list(self._listing.notes)
    listed = sum(map(len, self._listing.splits.values()))
    read = sum(map(len, index.values()))
    unread = listed - read - len(self._left_out) + len(self._listing.left_out)
    if unread:
      notes.append(f'{unread} cases failed on Beam; its log says why')
    return {
      'dataset': self.info.full_name,
      'classes': list(self._listing.classes),
      'background': self._listing.background,
      'splits': {name: _count(entries) for name, entries in index.items()},
      'repairs': _count_repairs(index),
      'left_out': count_codes(self._left_out),
      'left_out_cases': [
        {'series': x.series, 'code': x.code, 'detail': x.detail}
        for x in self._left_out
      ],
      'notes': notes,
    }


def walk(folder: pathlib.Path) -> list[pathlib.Path]:
  """Lists the files under a folder, except hidden ones, by name."""
  return sorted(
    path
    for path in folder.rglob('*')
    if not any(x.startswith('.') for x in path.relative_to(folder).parts)
    and path.is_file()
  )


def count_codes(left_out: Iterable[cases.LeftOut]) -> dict[str, int]:
  """Counts cases by the code that says why they were left out."""
  return dict(collections.Counter(x.code for x in left_out).most_common())


def describe(left_out: Iterable[cases.LeftOut]) -> str:
  """Says in a line what was left out and why."""
  counts = count_codes(left_out)
  if not counts:
    return 'left out: nothing'
  return 'left out: ' + ', '.join(f'{n} {code}' for code, n in counts.items())


def _count(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
  return {
    'cases': len(entries),
    'groups': len({entry['group'] for entry in entries}),
    'lesions': sum(len(entry['lesions']) for entry in entries),
    'excluded': sum(len(entry['excluded']) for entry in entries),
    # Those to be found: the others are ignored.
    'boxes': sum(entry['box_ignored'].count(0) for entry in entries),
    'masks': sum(len(entry['mask_labels']) for entry in entries),
    'labelled': sum(entry['label'] is not None for entry in entries),
    'positive': sum((entry['label'] or 0) > 0 for entry in entries),
  }


def _count_repairs(index: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict:
  """Counts the cases that each repair was made on."""
  names = (
    name
    for entries in index.values()
    for entry in entries
    for name in entry['repairs'].split()
  )
  return dict(collections.Counter(names).most_common())


def _check_unique(index: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
  names = collections.Counter(
    entry['series'] for entries in index.values() for entry in entries
  )
  name, count = names.most_common(1)[0]
  if count > 1:
    raise ValueError(f'{name}: found {count} cases of this name, expected one')


@dataclasses.dataclass(frozen=True)
class _Record:
  """A case as it is written, and its entry in the index."""

  data: bytes
  entry: dict[str, Any]


@functools.cache
def _features(
  builder_class: type[CaseBuilder],
) -> tfds.features.FeaturesDict:
  return cases.features(builder_class.extra_features())


def _map(
  builder_class: type[CaseBuilder], listed: Sequence[Any], workers: int
) -> Iterator[_Record | cases.LeftOut]:
  """Reads cases in their order, one more at a time than there are workers."""
  if workers == 1:
    yield from (_read(builder_class, case) for case in listed)
    return
  waiting: collections.deque[concurrent.futures.Future] = collections.deque()
  # Forking a process in which JAX runs threads may hang it.
  context = multiprocessing.get_context('spawn')
  try:
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
      for case in listed:
        if len(waiting) > workers:
          yield waiting.popleft().result()
        waiting.append(pool.submit(_read, builder_class, case))
      while waiting:
        yield waiting.popleft().result()
  except concurrent.futures.process.BrokenProcessPool:
    raise OSError(
      'a process that read cases was killed, as happens when memory is short'
    ) from None


def _read(
  builder_class: type[CaseBuilder], case: Any
) -> _Record | cases.LeftOut:
  try:
    _, example = builder_class.read(case)
  except cases.LeftOut as error:
    return error
  data = _features(builder_class).serialize_example(example)
  return _Record(data, sources.index_entry(example))


def _read_or_nothing(
  case: Any, read: Callable[[Any], cases.Example]
) -> list[cases.Example]:
  try:
    return [read(case)]
  except cases.LeftOut:
    return []
