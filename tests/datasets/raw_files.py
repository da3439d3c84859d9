"""Writes tiny raw files in the published layouts, for the builders' tests."""

import pathlib

import numpy as np
import pydicom
from pydicom import uid

SPACING = (2.0, 0.8, 0.8)
ORIGIN = (-10.0, -12.0, -30.0)


def scan(seed, depth=6):
  """(depth, 24, 24) int16, a bright cube in air."""
  voxels = np.random.default_rng(seed).integers(-900, -700, (depth, 24, 24))
  voxels[2:5, 8:13, 8:13] = 40
  return voxels.astype(np.int16)


def slice_uids(series, depth=6):
  return [f'{series}.{i + 1}' for i in range(depth)]


def write_dicom(
  folder, series, patient, voxels, modality='CT', thickness=SPACING[0]
):
  """Writes a slice a file, first to last in rising z."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  uids = slice_uids(series, len(voxels))
  for i, (name, plane) in enumerate(zip(uids, voxels, strict=True)):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = name
    data.SOPClassUID = uid.CTImageStorage
    data.SOPInstanceUID = name
    data.SeriesInstanceUID = series
    data.StudyInstanceUID = f'{series}.99'
    data.PatientID = patient
    data.Modality = modality
    data.Rows, data.Columns = plane.shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = 'MONOCHROME2'
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 1
    data.PixelSpacing = list(SPACING[1:])
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + i * thickness]
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelData = plane.tobytes()
    data.save_as(folder / f'{i}.dcm', enforce_file_format=True)


def write_xml(path, series, readers=3):
  """Writes sessions that outline the bright cube, and one non-nodule."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  ring = [(x, y) for x in range(7, 14) for y in (7, 13)]
  ring += [(x, y) for x in (7, 13) for y in range(8, 13)]
  ring.sort(key=lambda p: np.arctan2(p[1] - 10, p[0] - 10))
  edges = ''.join(
    f'<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>'
    for x, y in [*ring, ring[0]]
  )
  uids = slice_uids(series)
  rois = ''.join(
    f'<roi><imageZposition>{ORIGIN[2] + i * SPACING[0]}</imageZposition>'
    f'<imageSOP_UID>{uids[i]}</imageSOP_UID><inclusion>TRUE</inclusion>'
    f'{edges}</roi>'
    for i in (2, 3, 4)
  )
  names = (
    *('subtlety', 'internalStructure', 'calcification', 'sphericity'),
    *('margin', 'lobulation', 'spiculation', 'texture', 'malignancy'),
  )
  ratings = ''.join(f'<{name}>3</{name}>' for name in names)
  nodule = (
    '<unblindedReadNodule><noduleID>1</noduleID><characteristics>'
    f'{ratings}</characteristics>{rois}</unblindedReadNodule>'
  )
  other = (
    '<nonNodule><nonNoduleID>2</nonNoduleID>'
    f'<imageZposition>{ORIGIN[2]}</imageZposition>'
    f'<imageSOP_UID>{uids[0]}</imageSOP_UID>'
    '<locus><xCoord>3</xCoord><yCoord>4</yCoord></locus></nonNodule>'
  )
  sessions = ''.join(
    f'<readingSession>{nodule if i < readers else ""}'
    f'{other if i == 3 else ""}</readingSession>'
    for i in range(4)
  )
  path.write_text(
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
    f'<SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>'
    f'{sessions}</LidcReadMessage>'
  )
