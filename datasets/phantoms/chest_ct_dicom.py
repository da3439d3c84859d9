"""Writes a phantom as a DICOM series, with the tags that real ones carry.

The tags are those of LIDC-IDRI's headers that say something technical. There
is nobody whom a phantom could identify, and its names say what it is.
"""

import copy
import pathlib

import numpy as np
import pydicom
import pydicom.dataset
import pydicom.uid

from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_scanner as scanners
from datasets.phantoms import chest_ct_uids as uids

_IMPLEMENTATION = uids.uid('medzoo', 'implementation')


def write_series(phantom: records.Phantom, folder: pathlib.Path) -> None:
  """Writes every slice of a phantom into a folder, which is made.

  Args:
    phantom: the scan.
    folder: gets files '001.dcm' and on, numbered by InstanceNumber.
  """
  folder.mkdir(parents=True)
  volume, scanner = phantom.volume, phantom.scanner
  count = len(volume.voxels)
  header = _header(phantom)
  beyond = ~scanners.field_of_view(volume.voxels.shape[1:])
  for i, plane in enumerate(volume.voxels):
    number = count - i if scanner.reversed else i + 1
    stored = plane - np.int16(scanner.intercept)
    if scanner.outside is not None:
      stored[beyond] = scanner.outside
    image = copy.copy(header)
    image.file_meta = copy.copy(header.file_meta)
    sop = uids.image(volume.series_uid, i)
    image.file_meta.MediaStorageSOPInstanceUID = sop
    image.SOPInstanceUID = sop
    image.InstanceNumber = number
    z = round(volume.origin[2] + i * volume.spacing[0], 4)
    image.ImagePositionPatient = [*volume.origin[:2], z]
    image.SliceLocation = z
    image.PixelData = stored.astype('<i2').tobytes()
    image.save_as(folder / f'{number:03d}.dcm', enforce_file_format=True)


def _header(phantom: records.Phantom) -> pydicom.Dataset:
  """Returns what all slices of a series share."""
  header = pydicom.Dataset()
  header.file_meta = _file_meta()
  header.SpecificCharacterSet = 'ISO_IR 100'
  header.SOPClassUID = pydicom.uid.CTImageStorage
  header.Modality = 'CT'
  _add_identity(header, phantom)
  _add_scanner(header, phantom)
  _add_image(header, phantom)
  return header


def _file_meta() -> pydicom.dataset.FileMetaDataset:
  meta = pydicom.dataset.FileMetaDataset()
  meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
  meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  meta.ImplementationClassUID = _IMPLEMENTATION
  meta.ImplementationVersionName = 'MEDZOO_PHANTOM'
  return meta


def _add_identity(header: pydicom.Dataset, phantom: records.Phantom) -> None:
  header.PatientName = phantom.patient
  header.PatientID = phantom.patient
  header.PatientBirthDate = ''
  header.PatientSex = ''
  header.PatientIdentityRemoved = 'YES'
  header.DeidentificationMethod = 'Synthetic: no patient was scanned'
  header.StudyDate = header.SeriesDate = header.ContentDate = '20000101'
  header.StudyTime = ''
  header.AccessionNumber = ''
  header.ReferringPhysicianName = ''
  header.StudyID = ''
  header.StudyInstanceUID = phantom.study_uid
  header.SeriesInstanceUID = phantom.volume.series_uid
  header.FrameOfReferenceUID = uids.uid(phantom.volume.series_uid, 'frame')
  header.SeriesNumber = 2
  header.LongitudinalTemporalInformationModified = 'MODIFIED'


def _add_scanner(header: pydicom.Dataset, phantom: records.Phantom) -> None:
  scanner = phantom.scanner
  header.Manufacturer = scanner.manufacturer
  header.ManufacturerModelName = scanner.model
  header.SoftwareVersions = scanner.software
  header.ConvolutionKernel = scanner.kernel
  header.KVP = scanner.kilovolt
  header.XRayTubeCurrent = scanner.current
  header.SliceThickness = scanner.thickness
  header.ScanOptions = 'HELICAL MODE'
  header.GantryDetectorTilt = 0
  header.TableHeight = 150
  header.RotationDirection = 'CW'
  header.BodyPartExamined = 'CHEST'
  header.PatientPosition = 'FFS'
  header.PositionReferenceIndicator = 'SN'
  header.ImageType = ['ORIGINAL', 'PRIMARY', 'AXIAL']
  width = phantom.volume.spacing[1] * phantom.volume.voxels.shape[1]
  header.DataCollectionDiameter = 500
  header.ReconstructionDiameter = round(width, 4)
  if scanner.contrast:
    header.ContrastBolusAgent = 'IV'


def _add_image(header: pydicom.Dataset, phantom: records.Phantom) -> None:
  scanner, volume = phantom.scanner, phantom.volume
  header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
  header.PixelSpacing = list(volume.spacing[1:])
  header.SamplesPerPixel = 1
  header.PhotometricInterpretation = 'MONOCHROME2'
  header.Rows, header.Columns = volume.voxels.shape[1:]
  header.BitsAllocated = 16
  # Where nothing stored is negative, scanners use twelve unsigned bits.
  unsigned = scanner.outside == 0
  header.BitsStored = 12 if unsigned else 16
  header.HighBit = header.BitsStored - 1
  header.PixelRepresentation = 0 if unsigned else 1
  if scanner.padding is not None:
    header.add_new('PixelPaddingValue', 'SS', scanner.padding)
  header.RescaleIntercept = scanner.intercept
  header.RescaleSlope = 1
  header.WindowCenter = -600
  header.WindowWidth = 1600
