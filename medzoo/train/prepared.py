"""The datasets of a run, prepared."""

import collections
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medzoo.data import sources
from medzoo.train import folds

# Takes a dataset's name and options, and returns its folder.
Prepare = Callable[..., str]


class Data:
  """The prepared datasets of a config, opened by the names of splits.

  A split is 'train' or 'train+validation' of `dataset`, or 'NAME:train' of
  the dataset that `more_datasets` calls NAME.
  """

  def __init__(self, config: Mapping[str, Any], prepare: Prepare):
    self._config = config
    dataset = config['dataset']
    self._folders = {'': prepare(dataset['name'], **dataset['options'])}
    for name, spec in config['more_datasets'].items():
      self._folders[name] = prepare(
        spec['name'], manual_dir=spec['manual_dir'] or None, **spec['options']
      )
    self.fingerprint = json.dumps(
      {name: _last_parts(folder) for name, folder in self._folders.items()}
    )

  def open(self, split: str) -> sources.Cases:
    """Opens the cases of a split."""
    name, _, split = split.rpartition(':')
    return sources.open_cases(self._folders[name], split)

  def splits(self) -> dict[str, folds.Splits]:
    """Returns the splits of every run, see `folds.make`."""
    known = sources.split_names(self._folders[''])
    return folds.make(self._config, self.open, known)

  def summary(self) -> str:
    """Says where the prepared datasets lie, a line each."""
    return '\n'.join(f'prepared: {path}' for path in self._folders.values())

  @property
  def classes(self) -> list[str]:
    """Names of the class ids from 1; [] where the dataset names none."""
    return _build_report(self._folders[''])['classes']

  @property
  def background(self) -> str:
    """Name of class 0 of whole pictures; '' where they are of no class."""
    return _build_report(self._folders[''])['background']

  @property
  def class_names(self) -> list[str]:
    """Names of the classes of whole pictures, from 0; [] without such."""
    return [self.background, *self.classes] if self.background else []

  def describe(
    self, splits: Mapping[str, Sequence[sources.Cases]]
  ) -> dict[str, Any]:
    """Returns the `dataset` part of the results.

    Args:
      splits: the cases of each split, a list a run; those of the last split
        were scored.
    """
    name = list(splits)[-1]
    scored = splits[name]
    dataset = self._config['dataset']
    return {
      'name': dataset['name'],
      'version': _last_parts(self._folders['']),
      'split': name,
      'examples': sum(len(cases) for cases in scored),
      'groups': len({group for cases in scored for group in cases.groups}),
      'lesions': sum(len(f) for cases in scored for f, _ in cases.findings),
      'synthetic': dataset['synthetic'],
      'classes': self.classes,
      'background': self.background,
      'notes': _build_report(self._folders[''])['notes'],
      'cases_by_split': {
        split: sum(len(cases) for cases in parts)
        for split, parts in splits.items()
      },
    }

  def reading(self) -> dict[str, Any]:
    """Returns `repairs`, counts by name, and `skipped` of the results.

    Series are named by no more than their reason: the names of scans stay in
    the dataset's own report.
    """
    repairs, skipped = collections.Counter(), []
    for folder in self._folders.values():
      report = _build_report(folder)
      repairs.update(report['repairs'])
      for reason, count in report['left_out'].items():
        skipped += [{'series': '', 'reason': reason}] * count
    return {'repairs': dict(repairs), 'skipped': skipped}


def _build_report(folder: str | pathlib.Path) -> dict[str, Any]:
  """Reads what the builder of a prepared dataset said of it."""
  return json.loads((pathlib.Path(folder) / 'build_report.json').read_text())


def _last_parts(folder: str | pathlib.Path) -> str:
  """Names a prepared dataset by its last folders, not by where it lies."""
  return '/'.join(pathlib.Path(folder).parts[-3:])
