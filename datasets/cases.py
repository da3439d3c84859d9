"""The features that all builders of scans share, and what they are made from.

`medzoo.data.sources` turns them back into cases.
"""

import csv
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medzoo import types
from medzoo.io import dicom
from medzoo.io import volumes

Example = tuple[str, dict[str, Any]]


class LeftOut(ValueError):
  """A case that cannot be part of the dataset.

  Attributes:
    series: its series UID, or the file's name.
    code: why, in one word; the build's report counts by it.
    detail: why, in a line.
  """

  def __init__(self, series: str, code: str, detail: str):
    super().__init__(f'{series}: {code}: {detail}')
    self.series = series
    self.code = code
    self.detail = detail

  def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
    return LeftOut, (self.series, self.code, self.detail)


@dataclasses.dataclass(frozen=True)
class Listing:
  """What a builder found in the raw files before it read a voxel.

  Attributes:
    splits: by split, the cases to read; what a case is, its builder says.
    left_out: what is not going to be read.
    notes: what else the user should know, a line each.
    classes: names of the class ids from 1, where the dataset names them.
    background: name of class 0, where whole pictures, or crops, are of a class.
  """

  splits: dict[str, list[Any]]
  left_out: tuple[LeftOut, ...] = ()
  notes: tuple[str, ...] = ()
  classes: tuple[str, ...] = ()
  background: str = ''


def features(
  extra: Mapping[str, tfds.features.FeatureConnector] | None = None,
) -> tfds.features.FeaturesDict:
  """Returns the features of a scan and what was found in it.

  Args:
    extra: further features of one dataset.

  Returns:
    `series`, `group`, `modality`, `repairs` (joined by spaces); the voxels
    (d, h, w) in `voxels_int16` or `voxels_float32` or, with their colours,
    (d, h, w, c) in `voxels_uint8`, whichever `dtype` names, the others are two
    zeros; `spacing` (z, y, x) mm, `origin` world
    (x, y, z) mm and `direction` as in `types.Volume`; `lesions` and `excluded`
    (n, 4) world x, y, z and diameter in mm, NaN where unknown, with their
    class ids, and how many readers marked each lesion, 0 where unknown; where
    `has_boxes`, `boxes` (n, 4) corners y0, x0, y1, x1 in voxels with their
    `box_slices`, `box_labels`, `box_ignored` and `box_findings`, see
    `types.Boxes`; where `has_masks`, `masks` (n, h, w) uint8, 0 or 1, a layer
    for each of `mask_labels`, or one empty layer where there are none; `label`
    the class of the whole picture, -1 where nobody has said.
  """
  return tfds.features.FeaturesDict(
    {
      **{
        name: tfds.features.Text()
        for name in ('series', 'group', 'modality', 'repairs', 'dtype')
      },
      # array_record compresses by itself, four times as fast as zlib here.
      'voxels_int16': _tensor((None, None, None), np.int16, 'bytes'),
      'voxels_float32': _tensor((None, None, None), np.float32, 'bytes'),
      'voxels_uint8': _tensor((None, None, None, None), np.uint8, 'bytes'),
      'spacing': _tensor((3,), np.float64),
      'origin': _tensor((3,), np.float64),
      'direction': _tensor((3, 3), np.float64),
      'lesions': _tensor((None, 4), np.float64),
      'lesion_labels': _tensor((None,), np.int32),
      'lesion_readers': _tensor((None,), np.int32),
      'excluded': _tensor((None, 4), np.float64),
      'excluded_labels': _tensor((None,), np.int32),
      'has_boxes': np.bool_,
      'boxes': _tensor((None, 4), np.float64),
      'box_slices': _tensor((None,), np.int32),
      'box_labels': _tensor((None,), np.int32),
      'box_ignored': _tensor((None,), np.int32),
      'box_findings': _tensor((None,), np.int32),
      'has_masks': np.bool_,
      'masks': _tensor((None, None, None), np.uint8),
      'mask_labels': _tensor((None,), np.int32),
      'label': np.int32,
      **(extra or {}),
    }
  )


def _tensor(
  shape: tuple[int | None, ...], dtype: type, encoding: str = 'zlib'
) -> tfds.features.Tensor:
  # A plain float64 feature would be rounded to float32.
  return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)


def encode(
  case: types.Case,
  readers: np.ndarray | None = None,
  extra: Mapping[str, Any] | None = None,
) -> Example:
  """Turns a case into a record's key and features.

  Args:
    case: the scan.
    readers: (n,) how many readers marked each lesion; None where not known.
    extra: the values of further features.

  Returns:
    The series UID and the values that `features` describes.
  """
  volume = case.volume
  # TFDS cannot read back a tensor of fewer bytes than axes.
  voxels = {
    'voxels_int16': np.zeros((1, 1, 2), np.int16),
    'voxels_float32': np.zeros((1, 1, 2), np.float32),
    'voxels_uint8': np.zeros((1, 1, 2, 2), np.uint8),
  }
  scan = _narrow(volume.voxels)
  voxels[f'voxels_{scan.dtype}'] = scan
  if readers is None:
    readers = np.zeros(len(case.lesions))
  boxes = case.boxes or types.Boxes(*np.zeros((5, 0)))
  masks = case.masks or types.Masks(np.zeros((0, 2, 2), bool), np.zeros(0))
  layers = masks.masks if len(masks) else np.zeros((1, 2, 2), bool)
  spacing = [np.nan if step is None else step for step in volume.spacing]
  return volume.series_uid, {
    'series': volume.series_uid,
    'group': case.group,
    'modality': volume.modality,
    'repairs': ' '.join(volume.repairs),
    'dtype': str(scan.dtype),
    **voxels,
    'spacing': np.array(spacing, np.float64),
    'origin': np.array(volume.origin, np.float64),
    'direction': np.array(volume.direction, np.float64),
    'lesions': _rows(case.lesions),
    'lesion_labels': np.array(case.lesions.labels, np.int32),
    'lesion_readers': np.array(readers, np.int32),
    'excluded': _rows(case.excluded),
    'excluded_labels': np.array(case.excluded.labels, np.int32),
    'has_boxes': case.boxes is not None,
    'boxes': np.array(boxes.corners, np.float64).reshape(-1, 4),
    'box_slices': np.array(boxes.slices, np.int32),
    'box_labels': np.array(boxes.labels, np.int32),
    'box_ignored': np.array(boxes.ignored, np.int32),
    'box_findings': np.array(boxes.findings, np.int32),
    'has_masks': case.masks is not None,
    'masks': np.array(layers, np.uint8),
    'mask_labels': np.array(masks.labels, np.int32),
    'label': -1 if case.label is None else case.label,
    **(extra or {}),
  }


def _narrow(voxels: np.ndarray) -> np.ndarray:
  """Returns int16 where that loses nothing, else float32; pictures stay."""
  if voxels.dtype == np.uint8:
    return voxels if voxels.ndim == 4 else voxels[..., None]
  if voxels.dtype.kind in 'iu':
    limits = np.iinfo(np.int16)
    if voxels.min() >= limits.min and voxels.max() <= limits.max:
      return np.ascontiguousarray(voxels, np.int16)
  return np.ascontiguousarray(voxels, np.float32)


def _rows(found: types.Findings) -> np.ndarray:
  return np.column_stack([found.centers, found.diameters]).reshape(-1, 4)


def read_dicom(series: dicom.Series) -> types.Volume:
  """Reads a series; one that is refused is left out under the same code."""
  try:
    return dicom.read(series)
  except dicom.Refused as error:
    raise LeftOut(series.uid, error.code, error.detail) from None


def read_file(path: pathlib.Path, name: str) -> types.Volume:
  """Reads a DICOM folder or a volume file; `name` is what a report calls it."""
  try:
    return volumes.read_any(path)
  except dicom.Refused as error:
    raise LeftOut(name, error.code, error.detail) from None
  except ValueError as error:
    raise LeftOut(name, 'unreadable', str(error)) from None


def pseudonym(identifier: str) -> str:
  """Returns the name under which a patient or group enters a dataset."""
  return hashlib.sha256(identifier.encode()).hexdigest()[:16]


def read_patients(path: pathlib.Path) -> dict[str, str]:
  """Reads whose every series is.

  Args:
    path: LIDC-IDRI-mappingLUNA16.txt, a table with the columns PatientID and
      SeriesInstanceUID, or TCIA's metadata CSV, with Patient Id and Series
      UID.

  Returns:
    By series UID, the patient's identifier as the file has it.

  Raises:
    ValueError: the file has neither pair of columns.
  """
  lines = path.read_text(encoding='utf-8-sig').splitlines()
  delimiter = ',' if lines and ',' in lines[0] else ' '
  table = csv.DictReader(lines, delimiter=delimiter)
  for patient, series in (
    ('PatientID', 'SeriesInstanceUID'),
    ('Patient Id', 'Series UID'),
  ):
    if {patient, series} <= set(table.fieldnames or ()):
      return {row[series]: row[patient] for row in table}
  raise ValueError(
    f'{path}: found the columns {table.fieldnames}, expected PatientID and'
    ' SeriesInstanceUID, or Patient Id and Series UID'
  )


def optional_file(name: str) -> list[pathlib.Path]:
  """Returns the file that an option names, or nothing where it is empty."""
  if not name:
    return []
  path = pathlib.Path(name)
  if not path.is_file():
    raise ValueError(f'{path}: found no such file')
  return [path]
