"""Writes small DICOM series for the tests, one fault at a time."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
from pydicom import dataset
from pydicom import encaps
from pydicom import uid

CT = '1.2.840.10008.5.1.4.1.1.2'
MR = '1.2.840.10008.5.1.4.1.1.4'
ENHANCED_CT = '1.2.840.10008.5.1.4.1.1.2.1'
SERIES = '1.2.3.4'
_PLACE = ('ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing')

Tweak = Callable[[pydicom.Dataset, int], None]


def pixels(
  number: int, shape: tuple[int, int] = (8, 10), seed: int = 0
) -> np.ndarray:
  """Returns (number, h, w) int16 stored values, no two slices alike."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, 2000, (number, *shape)).astype(np.int16)


def image(stored: np.ndarray, index: int, **tags: Any) -> pydicom.Dataset:
  """Makes one axial CT slice at z = 2 * index with the given stored values."""
  header = dataset.Dataset()
  header.SOPClassUID = CT
  header.SOPInstanceUID = f'{SERIES}.9.{index}'
  header.Modality = 'CT'
  header.ImageType = ['ORIGINAL', 'PRIMARY', 'AXIAL']
  header.PatientName = 'Secret^Person'
  header.PatientID = 'secret-17'
  header.StudyDate = '20011231'
  header.InstitutionName = 'Secret Hospital'
  header.SeriesDescription = 'Secret chest'
  header.StudyInstanceUID = '1.2.3'
  header.SeriesInstanceUID = SERIES
  header.InstanceNumber = index + 1
  header.ImagePositionPatient = [-10.0, -20.0, 2.0 * index]
  header.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
  header.SamplesPerPixel = 1
  header.PhotometricInterpretation = 'MONOCHROME2'
  header.Rows, header.Columns = stored.shape[-2:]
  header.PixelSpacing = [0.7, 0.6]
  header.BitsAllocated = 8 * stored.dtype.itemsize
  header.BitsStored = header.BitsAllocated
  header.HighBit = header.BitsAllocated - 1
  header.PixelRepresentation = int(stored.dtype.kind == 'i')
  header.RescaleIntercept = -1024
  header.RescaleSlope = 1
  header.PixelData = stored.tobytes()
  for name, value in tags.items():
    setattr(header, name, value)
  return header


def save(
  header: pydicom.Dataset,
  path: pathlib.Path,
  syntax: str = uid.ExplicitVRLittleEndian,
) -> pathlib.Path:
  """Writes a data set as a DICOM file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  header.file_meta = dataset.FileMetaDataset()
  header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
  header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
  header.file_meta.TransferSyntaxUID = syntax
  header['PixelData'].VR = 'OB' if uid.UID(syntax).is_compressed else 'OW'
  if syntax == uid.ExplicitVRBigEndian:
    swapped = np.frombuffer(header.PixelData, '<u2').astype('>u2')
    header.PixelData = swapped.tobytes()
  pydicom.dcmwrite(path, header, enforce_file_format=True)
  return path


def series(
  folder: pathlib.Path,
  stored: np.ndarray,
  tweak: Tweak | None = None,
  syntax: str = uid.ExplicitVRLittleEndian,
) -> list[pathlib.Path]:
  """Writes a series, each slice changed by `tweak(header, index)` first."""
  paths = []
  for index, plane in enumerate(stored):
    header = image(plane, index)
    if tweak is not None:
      tweak(header, index)
    name = f'{header.SeriesInstanceUID}-{index:03d}.dcm'
    paths.append(save(header, folder / name, syntax))
  return paths


def encapsulated(
  header: pydicom.Dataset, frames: list[bytes], pieces: int = 1, table=True
) -> pydicom.Dataset:
  """Puts compressed frames into a header."""
  header.PixelData = encaps.encapsulate(
    frames, fragments_per_frame=pieces, has_bot=table
  )
  header['PixelData'].is_undefined_length = True
  return header


def enhanced(stored: np.ndarray, order: list[int]) -> pydicom.Dataset:
  """Makes a multi-frame CT; frame i lies at z = 2 * order[i]."""
  header = image(stored[order], 0)
  header.SOPClassUID = ENHANCED_CT
  header.NumberOfFrames = len(order)
  for name in (*_PLACE, 'RescaleSlope', 'RescaleIntercept'):
    delattr(header, name)
  shared = dataset.Dataset()
  shared.PlaneOrientationSequence = [
    _item(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
  ]
  shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.7, 0.6])]
  header.SharedFunctionalGroupsSequence = [shared]
  header.PerFrameFunctionalGroupsSequence = []
  for index in order:
    frame = dataset.Dataset()
    position = [-10.0, -20.0, 2.0 * index]
    frame.PlanePositionSequence = [_item(ImagePositionPatient=position)]
    frame.PixelValueTransformationSequence = [
      _item(RescaleSlope=1 + index % 2, RescaleIntercept=-1000)
    ]
    header.PerFrameFunctionalGroupsSequence.append(frame)
  return header


def _item(**tags: Any) -> pydicom.Dataset:
  item = dataset.Dataset()
  for name, value in tags.items():
    setattr(item, name, value)
  return item
