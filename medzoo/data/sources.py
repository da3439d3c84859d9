"""Opens prepared datasets as lists of cases.

A prepared dataset is a folder of TFDS array_record files. It is read without
TensorFlow and without the builder's own code. Beside the records lies
`index.json`, which says what the cases of every split are called, whose they
are and what was found in them, so that none of this needs a voxel decoded.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medzoo import types

INDEX_FILE = 'index.json'
_TEXTS = ('series', 'group', 'modality', 'repairs', 'dtype')
_BOXES = ('box_slices', 'boxes', 'box_labels', 'box_ignored', 'box_findings')
_FINDINGS = ('lesions', 'lesion_labels', 'excluded', 'excluded_labels')


class Cases(Sequence[types.Case]):
  """The cases of one or several splits; a scan is decoded when it is asked for.

  Attributes:
    keys: series UID of every case.
    groups: pseudonym of every case's patient.
  """

  def __init__(self, places: Sequence['_Place']):
    """Lists the cases that lie in the given places."""
    self._places = list(places)
    self.keys = [place.entry['series'] for place in self._places]
    self.groups = [place.entry['group'] for place in self._places]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> types.Case:
    return decode(self.record(index))

  def record(self, index: int) -> dict[str, Any]:
    """Returns all features of a case, also those that are not in a Case."""
    place = self._places[index]
    return place.source[place.index]

  @functools.cached_property
  def findings(self) -> list[tuple[types.Findings, types.Findings]]:
    """Lesions and excluded findings of every case."""
    return [_read_findings(place.entry) for place in self._places]

  @functools.cached_property
  def boxes(self) -> list[types.Boxes | None]:
    """Boxes of every case; None where a dataset has no outlines."""
    return [_read_boxes(place.entry) for place in self._places]

  @functools.cached_property
  def grids(self) -> list[types.Grid]:
    """Size of every case."""
    return [
      types.Grid(tuple(place.entry['shape']), tuple(place.entry['spacing']))
      for place in self._places
    ]

  @functools.cached_property
  def outlined(self) -> list[bool]:
    """Whether every case has masks, though perhaps none on it."""
    return [bool(place.entry['has_masks']) for place in self._places]

  @functools.cached_property
  def labels(self) -> list[int | None]:
    """Class of every case as a whole; None where a dataset does not say."""
    return [place.entry['label'] for place in self._places]

  def subset(self, indices: Sequence[int]) -> 'Cases':
    """Returns the cases with these indices, in the order given."""
    return Cases([self._places[i] for i in indices])


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a case lies, and its entry in the index of the dataset."""

  source: Sequence[Any]
  index: int
  entry: Mapping[str, Any]


def concatenate(parts: Sequence[Cases]) -> Cases:
  """Joins lists of cases, of different datasets even."""
  return Cases([place for part in parts for place in part._places])


def split_names(directory: str | pathlib.Path) -> list[str]:
  """Returns the names of a prepared dataset's splits."""
  return list(tfds.builder_from_directory(directory).info.splits)


def open_cases(directory: str | pathlib.Path, split: str) -> Cases:
  """Opens a prepared dataset.

  Args:
    directory: the folder with the dataset's `features.json`.
    split: the name of a split, several joined by '+', or 'all'.

  Returns:
    The cases in a fixed order.

  Raises:
    ValueError: there is no prepared dataset, or it has no such split.
  """
  directory = pathlib.Path(directory)
  if not (directory / 'features.json').is_file():
    raise ValueError(f'{directory}: found no prepared dataset (features.json)')
  builder = tfds.builder_from_directory(directory)
  known = list(builder.info.splits)
  names = known if split == 'all' else split.split('+')
  for name in names:
    if name not in known:
      raise ValueError(
        f'{directory}: found no split {name!r}, expected one of'
        f' {", ".join(known)}, several joined by + or all'
      )
  index = _load_index(directory) or read_index(directory)
  places = []
  for name in names:
    source = builder.as_data_source(name)
    places.extend(
      _Place(source, i, entry) for i, entry in enumerate(index[name])
    )
  return Cases(places)


def read_index(
  directory: str | pathlib.Path,
) -> dict[str, list[dict[str, Any]]]:
  """Gathers series, group and findings of every record of every split.

  Args:
    directory: the folder with the dataset's `features.json`.

  Returns:
    By split, an entry for every record in order, as `index.json` holds it.
  """
  builder = tfds.builder_from_directory(directory)
  return {
    name: [index_entry(record) for record in builder.as_data_source(name)]
    for name in builder.info.splits
  }


def index_entry(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what `index.json` holds of the features of one record."""
  entry = {name: _text(record[name]) for name in ('series', 'group', 'repairs')}
  for name in _FINDINGS:
    # JSON has no NaN; a finding without a diameter has null.
    values = np.asarray(record[name], object)
    entry[name] = np.where(values != values, None, values).tolist()
  entry['shape'] = list(np.shape(record[_voxels_of(record)])[:3])
  entry['spacing'] = _read_spacing(record)
  entry['has_boxes'] = bool(record['has_boxes'])
  for name in _BOXES:
    entry[name] = np.asarray(record[name]).tolist()
  entry['has_masks'] = bool(record['has_masks'])
  entry['mask_labels'] = np.asarray(record['mask_labels']).tolist()
  entry['label'] = _read_label(record)
  return entry


def decode(record: Mapping[str, Any]) -> types.Case:
  """Turns the features of one record into a case."""
  text = {name: _text(record[name]) for name in _TEXTS}
  voxels = record[_voxels_of(record)]
  if voxels.ndim == 4 and voxels.shape[3] == 1:
    voxels = voxels[..., 0]
  volume = types.Volume(
    voxels,
    tuple(_read_spacing(record)),
    tuple(float(value) for value in record['origin']),
    np.asarray(record['direction'], float),
    text['modality'],
    text['series'],
    tuple(text['repairs'].split()),
  )
  return types.Case(
    volume,
    text['group'],
    *_read_findings(record),
    boxes=_read_boxes(record),
    masks=_read_masks(record),
    label=_read_label(record),
  )


def kfold(groups: Sequence[str], k: int, seed: int) -> list[np.ndarray]:
  """Divides cases into folds of about equal size that share no group.

  Args:
    groups: the group of every case.
    k: how many folds.
    seed: chooses among the divisions.

  Returns:
    k sorted index arrays which together hold every case once: the cases that
    each fold leaves out of training.

  Raises:
    ValueError: there are fewer groups than folds.
  """
  names, members = np.unique(np.asarray(groups, str), return_inverse=True)
  if not 2 <= k <= len(names):
    raise ValueError(
      f'found {len(names)} groups for {k} folds, expected at least 2 folds and'
      ' a group for each'
    )
  sizes = np.bincount(members)
  order = np.random.default_rng(seed).permutation(len(names))
  folds: list[list[int]] = [[] for _ in range(k)]
  # The largest groups first; the sort is stable, so chance orders equals.
  for group in order[np.argsort(-sizes[order], kind='stable')]:
    smallest = min(folds, key=len)
    smallest.extend(np.flatnonzero(members == group))
  return [np.sort(np.array(fold, int)) for fold in folds]


def _load_index(
  directory: pathlib.Path,
) -> dict[str, list[dict[str, Any]]] | None:
  path = directory / INDEX_FILE
  return json.loads(path.read_text()) if path.is_file() else None


def _read_findings(
  record: Mapping[str, Any],
) -> tuple[types.Findings, types.Findings]:
  return tuple(
    _as_findings(record[name], record[labels])
    for name, labels in (_FINDINGS[:2], _FINDINGS[2:])
  )


def _read_boxes(record: Mapping[str, Any]) -> types.Boxes | None:
  if not record['has_boxes']:
    return None
  slices, corners, labels, ignored, findings = (record[n] for n in _BOXES)
  return types.Boxes(
    np.asarray(slices, np.int32).reshape(-1),
    np.asarray(corners, float).reshape(-1, 4),
    np.asarray(labels, np.int32).reshape(-1),
    np.asarray(ignored, bool).reshape(-1),
    np.asarray(findings, np.int32).reshape(-1),
  )


def _read_masks(record: Mapping[str, Any]) -> types.Masks | None:
  if not record['has_masks']:
    return None
  labels = np.asarray(record['mask_labels'], np.int32).reshape(-1)
  masks = np.asarray(record['masks'], bool)[: len(labels)]
  if not len(labels):
    shape = np.shape(record[_voxels_of(record)])[1:3]
    masks = np.zeros((0, *shape), bool)
  return types.Masks(masks, labels)


def _read_label(record: Mapping[str, Any]) -> int | None:
  label = int(record['label'])
  return None if label < 0 else label


def _read_spacing(record: Mapping[str, Any]) -> list[float | None]:
  steps = [float(step) for step in record['spacing']]
  return [None if np.isnan(step) else step for step in steps]


def _voxels_of(record: Mapping[str, Any]) -> str:
  return f'voxels_{_text(record["dtype"])}'


def _as_findings(rows: Any, labels: Any) -> types.Findings:
  # Empty features come back without their trailing axis.
  table = np.asarray(rows, float).reshape(-1, 4)
  return types.Findings(
    table[:, :3], table[:, 3], np.asarray(labels, np.int32).reshape(-1)
  )


def _text(value: bytes | str) -> str:
  return value.decode() if isinstance(value, bytes) else value
