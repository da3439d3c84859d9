"""Prepares datasets without TensorFlow.

`python -m datasets.build NAME[/CONFIG] [--manual_dir=DIR] [--data_dir=DIR]`

TFDS alone returns old data when a builder is asked for with other arguments
or other raw files, so both are hashed into the name of the prepared dataset:
the files by their names and sizes, pictures and their tables by their bytes
too.
A dataset is built in a folder of its own and moved when it is complete.

Where TensorFlow is installed TFDS's own command works too, for real data:
`tfds build NAME --imports=datasets.NAME.NAME_dataset_builder
--manual_dir=DIR`, with the Beam options of TFDS for a cluster.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from datasets import builders
from datasets import folders
from datasets import phantom_files
from datasets import progress

# Starting worker processes takes seconds, which a small build never earns
# back; more than two would not keep a build of large scans under 3 GB.
_PARALLEL_FROM_BYTES = 256 << 20
_MOST_WORKERS = 2


class UsageError(ValueError):
  """The call is at fault, not the data."""


def prepare(
  name: str,
  *,
  manual_dir: str | os.PathLike | None = None,
  data_dir: str | os.PathLike = 'data',
  **options: Any,
) -> str:
  """Builds a dataset unless it has been built before.

  Args:
    name: of the dataset, alone or followed by '/' and a configuration;
      `list_names` gives all of them.
    manual_dir: root of the raw files, in their published layout; None for a
      phantom, whose files are made first.
    data_dir: where prepared datasets and phantoms are kept.
    **options: those of the builder's configuration, for a phantom also
      `phantom`, a mapping of arguments for its maker.

  Returns:
    The folder that `medzoo.data.sources.open_cases` takes. It also holds
    `build_report.json`.

  Raises:
    UsageError: the call is at fault.
    ValueError: the raw files are.
  """
  builder_class, configuration = _find(name)
  data_dir = _writable(pathlib.Path(data_dir))
  synthetic = configuration in phantom_files.CONFIGS
  if synthetic:
    _refuse_root(builder_class, configuration, manual_dir)
    changes = options.pop('phantom', {})
    options = {'shares': phantom_files.SHARES, **options}
  config = _configure(builder_class, configuration, options)
  if synthetic:
    root = phantom_files.make(
      builder_class.name, configuration, changes, data_dir
    )
  else:
    root = _checked_root(name, manual_dir)
  files = _measure(root, builder_class.raw_files(root, config))
  if not files:
    raise ValueError(f'{root}: found no files, expected raw data of {name}')
  # Phantoms of other code may have files of the same names and sizes.
  origin = root.name if synthetic else ''
  contents = {}
  if builder_class.HASHES_CONTENTS and not synthetic:
    contents = {name: _digest_file(root / name) for name in files}
  config.name += f'-{_digest([_hashed(config), files, origin, contents])}'
  config.workers = _choose_workers(sum(files.values()))
  final = (
    data_dir / builder_class.name / config.name / str(builder_class.VERSION)
  )
  with folders.locked(final.parent):
    if not final.exists():
      _build(builder_class, config, root, final)
      _print_report(final)
  return str(final)


def list_names() -> list[str]:
  """Returns every name that `prepare` knows, with its configuration."""
  return [
    f'{name}/{config}'
    for name in _dataset_names()
    for config in _config_names(name)
  ]


def _dataset_names() -> list[str]:
  folder = pathlib.Path(__file__).parent
  return sorted(
    path.parent.name for path in folder.glob('*/*_dataset_builder.py')
  )


def _config_names(name: str) -> list[str]:
  real = [config.name for config in _load(name).BUILDER_CONFIGS]
  return real + list(
    phantom_files.CONFIGS if name in phantom_files.LAYOUTS else ()
  )


def _load(name: str) -> type[builders.CaseBuilder]:
  module = importlib.import_module(f'datasets.{name}.{name}_dataset_builder')
  return module.Builder


def _find(name: str) -> tuple[type[builders.CaseBuilder], str]:
  dataset, _, configuration = name.partition('/')
  if dataset not in _dataset_names():
    known = ', '.join(_dataset_names())
    raise UsageError(f'found dataset {dataset!r}, expected one of {known}')
  configuration = configuration or _config_names(dataset)[0]
  if configuration not in _config_names(dataset):
    known = ', '.join(_config_names(dataset))
    raise UsageError(
      f'{dataset}: found configuration {configuration!r}, expected one of'
      f' {known}'
    )
  return _load(dataset), configuration


def _configure(
  builder_class: type[builders.CaseBuilder],
  configuration: str,
  options: Mapping[str, Any],
) -> builders.Config:
  """Returns a fresh configuration with the given options."""
  base = builder_class.BUILDER_CONFIGS[0]
  known = {field.name for field in dataclasses.fields(base)} - {
    field.name for field in dataclasses.fields(builders.Config)
  }
  unknown = sorted(set(options) - known)
  if unknown:
    raise UsageError(
      f'{builder_class.name}: found option {unknown[0]!r}, expected one of'
      f' {", ".join(sorted(known))}'
    )
  return dataclasses.replace(base, name=configuration, **options)


def _hashed(config: builders.Config) -> dict[str, Any]:
  skipped = {field.name for field in dataclasses.fields(builders.Config)}
  return {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if field.name not in skipped
  }


def _digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _measure(
  root: pathlib.Path, paths: Iterable[pathlib.Path]
) -> dict[str, int]:
  """Returns names, from the root where they lie under it, and sizes."""
  return {os.path.relpath(path, root): path.stat().st_size for path in paths}


def _digest_file(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _choose_workers(size: int) -> int:
  if size < _PARALLEL_FROM_BYTES:
    return 1
  return min(os.cpu_count() or 1, _MOST_WORKERS)


def _refuse_root(
  builder_class: type[builders.CaseBuilder],
  configuration: str,
  manual_dir: str | os.PathLike | None,
) -> None:
  if manual_dir is not None:
    real = builder_class.BUILDER_CONFIGS[0].name
    raise UsageError(
      f'{builder_class.name}/{configuration}: found --manual_dir, but it makes'
      f' its own data; expected {builder_class.name}/{real} for real data'
    )


def _checked_root(
  name: str, manual_dir: str | os.PathLike | None
) -> pathlib.Path:
  if manual_dir is None:
    raise UsageError(
      f'{name}: found no --manual_dir, expected the folder of its raw files;'
      f' datasets/{name.partition("/")[0]}/README.md says what goes there'
    )
  root = pathlib.Path(manual_dir)
  if not root.is_dir():
    raise UsageError(f'--manual_dir {root}: found no such folder')
  return root


def _writable(folder: pathlib.Path) -> pathlib.Path:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(
      f'--data_dir {folder}: cannot be made: {error.strerror}'
    ) from None
  if not os.access(folder, os.W_OK):
    raise UsageError(f'--data_dir {folder}: cannot be written')
  return folder


def _build(
  builder_class: type[builders.CaseBuilder],
  config: builders.Config,
  root: pathlib.Path,
  final: pathlib.Path,
) -> None:
  with folders.partial(final.parent) as partial, _quiet():
    builder = builder_class(data_dir=partial, config=config)
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    final.parent.mkdir(exist_ok=True)
    pathlib.Path(builder.data_path).rename(final)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps TFDS from printing all options and where it builds meanwhile."""
  tfds.disable_progress_bar()
  level = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(level)


def _print_report(directory: pathlib.Path) -> None:
  report = json.loads((directory / builders.REPORT_FILE).read_text())
  if report['classes']:
    progress.say(f'  classes: {", ".join(report["classes"])}')
  for split, counts in report['splits'].items():
    parts = ', '.join(f'{count} {what}' for what, count in counts.items())
    progress.say(f'  {split}: {parts}')
  for title in ('repairs', 'left_out'):
    counts = ', '.join(f'{n} {name}' for name, n in report[title].items())
    progress.say(f'  {title.replace("_", " ")}: {counts or "nothing"}')
  for note in report['notes']:
    progress.say(f'  {note}')


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit code: 2 the call, 1 the data."""
  parser = argparse.ArgumentParser(
    prog='python -m datasets.build',
    description='Prepares a dataset. Known: ' + ', '.join(list_names()),
  )
  parser.add_argument('name', metavar='NAME[/CONFIG]')
  parser.add_argument('--manual_dir', metavar='DIR', help='root of raw files')
  parser.add_argument('--data_dir', metavar='DIR', default='data')
  options = parser.parse_args(arguments)
  try:
    print(
      prepare(
        options.name, manual_dir=options.manual_dir, data_dir=options.data_dir
      )
    )
  except UsageError as error:
    progress.say(f'error: {error}')
    return 2
  except (ValueError, OSError) as error:
    progress.say(f'error: {error}')
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
