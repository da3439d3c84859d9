"""Volume files (.mhd, .mha, .nii, .nii.gz) in and out, through SimpleITK.

ITK turns NIfTI's RAS coordinates into LPS, so every format arrives in the
conventions of `types.Volume`.
"""

import os
import pathlib

import numpy as np
import SimpleITK as sitk

from medzoo import types
from medzoo.io import dicom

SUFFIXES = ('.mhd', '.mha', '.nii', '.nii.gz')


def is_volume_file(path: str | os.PathLike[str]) -> bool:
  """Whether the name ends as a volume file's does."""
  return os.fspath(path).lower().endswith(SUFFIXES)


def read(path: str | os.PathLike[str]) -> types.Volume:
  """Reads a volume file.

  Args:
    path: a .mhd, .mha, .nii or .nii.gz file of one 3D scalar image.

  Returns:
    the volume; its `series_uid` is the file's name without the ending, as in
    LUNA16. Voxels keep their type, but for 64-bit floats and integers wider
    than 16 bits, which become float32, and small integers, which become int16.

  Raises:
    ValueError: the file is missing, broken, or no scalar 3D volume.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    image = sitk.ReadImage(str(path))
  except RuntimeError as error:
    raise ValueError(f'{path}: not a readable volume file') from error
  parts = image.GetNumberOfComponentsPerPixel()
  if image.GetDimension() != 3 or parts != 1:
    raise ValueError(
      f'{path}: {image.GetDimension()} dimensions of {parts} values a voxel; '
      'expected 3 of 1'
    )
  spacing = image.GetSpacing()[::-1]
  if not np.isfinite(spacing).all() or min(spacing) <= 0:
    raise ValueError(f'{path}: spacing {spacing}; expected positive mm')
  return types.Volume(
    voxels=_narrow(sitk.GetArrayFromImage(image)),
    spacing=spacing,
    origin=image.GetOrigin(),
    direction=np.reshape(image.GetDirection(), (3, 3)),
    series_uid=_stem(path),
  )


def write(volume: types.Volume, path: str | os.PathLike[str]) -> None:
  """Writes a volume; the ending of `path` chooses the format.

  Args:
    volume: what to write; a single image gets a thickness of 1 mm.
    path: a .mhd (with a .raw beside it), .mha, .nii or .nii.gz file.

  Raises:
    ValueError: another ending.
  """
  if not is_volume_file(path):
    raise ValueError(f'{path}: expected one of the endings {SUFFIXES}')
  image = sitk.GetImageFromArray(volume.voxels)
  depth, height, width = volume.spacing
  image.SetSpacing((width, height, 1.0 if depth is None else depth))
  image.SetOrigin(volume.origin)
  image.SetDirection(np.asarray(volume.direction, float).ravel().tolist())
  compress = os.fspath(path).lower().endswith(('.mha', '.gz'))
  sitk.WriteImage(image, os.fspath(path), useCompression=compress)


def read_any(path: str | os.PathLike[str]) -> types.Volume:
  """Reads a volume file, a DICOM file, or a folder with one DICOM series.

  Args:
    path: the file or folder.

  Returns:
    the volume.

  Raises:
    ValueError: `dicom.Refused` from DICOM, or as `read` does.
  """
  if pathlib.Path(path).is_file() and is_volume_file(path):
    return read(path)
  return dicom.read_series(path)


def _stem(path: pathlib.Path) -> str:
  for suffix in sorted(SUFFIXES, key=len, reverse=True):
    if path.name.lower().endswith(suffix):
      return path.name[: -len(suffix)]
  return path.name


def _narrow(voxels: np.ndarray) -> np.ndarray:
  """Brings every type to int16 or float32."""
  if np.can_cast(voxels.dtype, np.int16):
    return voxels.astype(np.int16, copy=False)
  limits = np.iinfo(np.int16)
  whole = voxels.dtype.kind in 'iu'
  if whole and limits.min <= voxels.min() and voxels.max() <= limits.max:
    return voxels.astype(np.int16)
  return voxels.astype(np.float32, copy=False)
