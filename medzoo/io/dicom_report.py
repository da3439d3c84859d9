"""What `python -m medzoo.io.dicom` prints: nothing that identifies a person.

Dates, institutions, physicians, accession numbers and free descriptions say
who somebody is as well as a name does, so what is printed of a header is a
list of what may be, not of what may not.
"""

import os
import pathlib
import re
from typing import Any

import pydicom

from medzoo import types
from medzoo.io import dicom_headers
from medzoo.io import dicom_pixels
from medzoo.io import dicom_series
from medzoo.io import dicom_types

# Technical, and of types that hold numbers or coded words.
_NAMES = """
  Modality ImageType PatientPosition SamplesPerPixel PhotometricInterpretation
  NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
  PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit RescaleSlope
  RescaleIntercept PixelSpacing ImagerPixelSpacing ImagePositionPatient
  ImageOrientationPatient SliceThickness SpacingBetweenSlices
  GantryDetectorTilt KVP XRayTubeCurrent ExposureTime ReconstructionDiameter
  LossyImageCompression LossyImageCompressionRatio
"""
_TECHNICAL = _NAMES.split()
_GROUPS = ['SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence']
_PLAIN = re.compile(r'[A-Z0-9_ .+-]{1,16}', re.IGNORECASE)


def headers(
  path: str | os.PathLike[str], series: str | None
) -> dict[str, list[dict[str, Any]]]:
  """Returns technical tags of the first file of each series under a path.

  Args:
    path: a folder or a file.
    series: the SeriesInstanceUID wanted, or None for all.

  Returns:
    {'series': [tags by name, ...]}.

  Raises:
    dicom_types.Refused: 'not_dicom'.
  """
  found = dicom_series.find_series(path)
  if series is not None:
    found = [one for one in found if one.uid == series]
  if not found:
    dicom_series.choose(path, series=series)  # which says why
  return {'series': [_tags(one.slices[0].file) for one in found]}


def header_text(found: dict[str, list[dict[str, Any]]]) -> str:
  """Formats what `headers` returned, one tag a line."""
  blocks = (
    '\n'.join(f'{name}: {value}' for name, value in tags.items())
    for tags in found['series']
  )
  return '\n\n'.join(blocks)


def summary(volume: types.Volume) -> dict[str, Any]:
  """Returns what `--json` prints: shape, spacing, origin, range, repairs."""
  return {
    'shape': list(volume.voxels.shape),
    'spacing': list(volume.spacing),
    'origin': list(volume.origin),
    'hu_min': volume.voxels.min().item(),
    'hu_max': volume.voxels.max().item(),
    'repairs': list(volume.repairs),
  }


def text(volume: types.Volume, series: dicom_series.Series) -> str:
  """Says in words what was read, what was mended and what was skipped."""
  found = summary(volume)
  spacing = ('-' if step is None else f'{step:g}' for step in volume.spacing)
  lines = [
    f'modality: {volume.modality or "unknown"}',
    f'files: {len(series.paths)}',
    f'shape (z, y, x): {" x ".join(map(str, found["shape"]))}',
    f'spacing (z, y, x): {" x ".join(spacing)} mm',
    'origin (x, y, z): ' + ', '.join(f'{x:g}' for x in volume.origin) + ' mm',
    f'values: {found["hu_min"]:g} to {found["hu_max"]:g} '
    f'({volume.voxels.dtype})',
    f'repairs: {", ".join(volume.repairs) or "none"}',
  ]
  for path, kind in series.skipped:
    lines.append(f'skipped: {pathlib.Path(path).name} ({kind})')
  lines.append('Research use only; not a medical device.')
  return '\n'.join(lines)


def _tags(file: dicom_types.File) -> dict[str, Any]:
  wanted = [*_TECHNICAL, *_GROUPS]
  with dicom_headers.quiet(), dicom_headers.open_dataset(file.path) as stream:
    header = pydicom.dcmread(
      stream, stop_before_pixels=True, force=True, specific_tags=wanted
    )
    found = {'TransferSyntax': dicom_pixels.syntax_name(file.syntax)}
    _collect(header, found)
  return found


def _collect(level: pydicom.Dataset, found: dict[str, Any]) -> None:
  """Adds allowed elements, looking into the first item of each sequence."""
  for element in level:
    if element.VR == 'SQ':
      for item in element.value[:1]:
        _collect(item, found)
    elif element.keyword in _TECHNICAL and not element.is_empty:
      found.setdefault(element.keyword, _value(element.value))


def _value(value: Any) -> Any:
  """Returns numbers and coded words; anything longer is not shown."""
  if isinstance(value, pydicom.multival.MultiValue | list | tuple):
    return [_value(part) for part in value]
  if isinstance(value, float):
    return float(value)
  if isinstance(value, int):
    return int(value)
  return str(value) if _PLAIN.fullmatch(str(value)) else '(not shown)'
