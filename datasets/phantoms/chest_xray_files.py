"""Writes films as folders of images and of two masks, with a table."""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pydicom
import pydicom.dataset
import pydicom.uid
from PIL import Image

from datasets.phantoms import chest_ct_uids as uids
from datasets.phantoms import chest_xray_views as views

MASKS = ('rightMask', 'leftMask')
# Every fourth film is DICOM, every other one of these with black for much.
_DICOM_EVERY = 4
# What is stored for the picture's black and white.
_BLACK, _WHITE = 400, 3500


@dataclasses.dataclass(frozen=True)
class Film:
  """One film.

  Attributes:
    patient: such as 'PHANTOM-0001'.
    pose: its number among the patient's films, from 0.
    series_uid: SeriesInstanceUID.
    view: source and detector.
    picture: (h, w) float32 in [0, 1], white where little passed.
    right, left: (h, w) bool, the fields of the patient's lungs.
  """

  patient: str
  pose: int
  series_uid: str
  view: views.View
  picture: np.ndarray
  right: np.ndarray
  left: np.ndarray


def write(film: Film, root: pathlib.Path, number: int) -> tuple[str, str]:
  """Writes a film and its masks.

  Args:
    film: what to write.
    root: of the layout; its folders exist.
    number: of the film among all, which decides on the format.

  Returns:
    The name of the image's file, and the patient.
  """
  stem = f'{film.patient}_{film.pose + 1}'
  for folder, mask in zip(MASKS, (film.right, film.left), strict=True):
    Image.fromarray(mask.astype(np.uint8) * 255).save(
      root / folder / f'{stem}.png'
    )
  if number % _DICOM_EVERY == _DICOM_EVERY - 1:
    name = f'{stem}.dcm'
    inverted = number // _DICOM_EVERY % 2 == 1
    _dicom(film, inverted).save_as(
      root / 'images' / name, enforce_file_format=True
    )
  else:
    name = f'{stem}.png'
    grey = np.round(film.picture * 255).astype(np.uint8)
    Image.fromarray(grey).save(root / 'images' / name)
  return name, film.patient


def write_table(
  rows: Sequence[tuple[str, str]],
  splits: Mapping[str, str],
  root: pathlib.Path,
) -> None:
  """Writes `patients.csv`.

  Args:
    rows: as `write` returns them.
    splits: by patient.
    root: of the layout.
  """
  path = root / 'patients.csv'
  with path.open('w', encoding='utf-8', newline='') as file:
    table = csv.writer(file, lineterminator='\n')
    table.writerow(('file', 'patient', 'split'))
    for name, patient in rows:
      table.writerow((name, patient, splits[patient]))


def _dicom(film: Film, inverted: bool) -> pydicom.Dataset:
  """Returns a digital radiograph of 16 bits, for presentation."""
  kind = pydicom.uid.DigitalXRayImageStorageForPresentation
  image = pydicom.Dataset()
  image.file_meta = pydicom.dataset.FileMetaDataset()
  image.file_meta.MediaStorageSOPClassUID = kind
  image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  image.file_meta.ImplementationClassUID = uids.uid('medzoo', 'implementation')
  image.SOPClassUID = kind
  image.SOPInstanceUID = uids.image(film.series_uid, 0)
  image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
  image.StudyInstanceUID = uids.uid(film.series_uid, 'study')
  image.SeriesInstanceUID = film.series_uid
  image.Modality = 'DX'
  image.PatientName = image.PatientID = film.patient
  image.PatientBirthDate = image.PatientSex = ''
  image.PatientIdentityRemoved = 'YES'
  image.DeidentificationMethod = 'Synthetic: no patient was X-rayed'
  image.StudyDate = image.ContentDate = '20000101'
  image.StudyTime = image.StudyID = image.AccessionNumber = ''
  image.ReferringPhysicianName = ''
  image.SeriesNumber = image.InstanceNumber = 1
  image.BodyPartExamined = 'CHEST'
  image.ViewPosition = film.view.projection
  image.PatientOrientation = ['L', 'F']
  image.PresentationIntentType = 'FOR PRESENTATION'
  image.ImageType = ['ORIGINAL', 'PRIMARY']
  _add_pixels(image, film, inverted)
  return image


def _add_pixels(image: pydicom.Dataset, film: Film, inverted: bool) -> None:
  stored = np.round(_BLACK + film.picture * (_WHITE - _BLACK))
  if inverted:
    stored = 4095 - stored
  middle = (_BLACK + _WHITE) / 2
  spacing = film.view.spacing
  enlarged = film.view.magnification
  image.ImagerPixelSpacing = [round(spacing * enlarged, 6)] * 2
  image.PixelSpacing = [round(spacing, 6)] * 2
  image.PixelSpacingCalibrationType = 'GEOMETRY'
  image.EstimatedRadiographicMagnificationFactor = round(enlarged, 4)
  image.SamplesPerPixel = 1
  image.PhotometricInterpretation = 'MONOCHROME1' if inverted else 'MONOCHROME2'
  image.PresentationLUTShape = 'INVERSE' if inverted else 'IDENTITY'
  image.Rows, image.Columns = stored.shape
  image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
  image.PixelRepresentation = 0
  image.RescaleIntercept, image.RescaleSlope = 0, 1
  image.RescaleType = 'US'
  image.WindowCenter = 4095 - middle if inverted else middle
  image.WindowWidth = _WHITE - _BLACK
  image.PixelData = stored.astype('<u2').tobytes()
