"""What the parts of the DICOM reader hand to each other."""

import dataclasses
import pathlib

DEFLATED = '1.2.840.10008.1.2.1.99'


class Refused(ValueError):
  """A series that cannot be read without guessing.

  Attributes:
    code: the reason, one of the names in `medzoo.io.dicom`.
    detail: one line for a person: what was found, and where.
  """

  def __init__(self, code: str, detail: str):
    super().__init__(f'{code}: {detail}')
    self.code = code
    self.detail = detail


@dataclasses.dataclass(frozen=True, slots=True)
class File:
  """What one DICOM image file declares.

  Attributes:
    path: where it is.
    series_uid: SeriesInstanceUID, '' where missing.
    sop_uid: SOPInstanceUID, '' where missing.
    patient: hash of PatientID (of the study's or series' UID where empty).
    modality: 'CT' or 'MR' say, '' where unknown.
    syntax: transfer syntax UID, '' where the file does not say.
    big_endian: whether numbers are stored with the high byte first.
    rows: pixels down; 0 where missing, as for all counts here.
    columns: pixels across.
    frames: NumberOfFrames, 1 where missing.
    samples: values per pixel.
    photometric: PhotometricInterpretation.
    allocated: bits of a pixel's container.
    stored: bits of it that count.
    high: the highest of them.
    signed: whether stored values are two's complement.
    padding: lowest and highest stored value that mean "no data", or None.
    lookup: whether values pass through a table (ModalityLUTSequence).
    localizer: whether ImageType says LOCALIZER.
    tilt: GantryDetectorTilt in degrees, None where missing.
    offset: where the value of PixelData starts, None where there is none.
    length: its bytes; None if encapsulated.
    available: bytes from there to the end of the file.
  """

  path: str
  series_uid: str
  sop_uid: str
  patient: str
  modality: str
  syntax: str
  big_endian: bool
  rows: int
  columns: int
  frames: int
  samples: int
  photometric: str
  allocated: int
  stored: int
  high: int
  signed: bool
  padding: tuple[int, int] | None
  lookup: bool
  localizer: bool
  tilt: float | None
  offset: int | None
  length: int | None
  available: int

  @property
  def name(self) -> str:
    """The file's own name, for messages."""
    return pathlib.Path(self.path).name


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
  """One plane of an image file, and where it lies.

  Attributes:
    file: the file that holds it.
    frame: its number in that file, from 0.
    frames: 1, or how many planes this stands for where the file has several
      and does not say where each lies.
    position: world (x, y, z) of its first pixel in mm, None where unknown.
    orientation: world directions of a row, then of a column; None likewise.
    spacing: distance of rows, then of columns, mm; None likewise.
    slope: factor of the stored values, None where it is no single number.
    intercept: what is added then; None likewise.
  """

  file: File
  frame: int
  frames: int
  position: tuple[float, ...] | None
  orientation: tuple[float, ...] | None
  spacing: tuple[float, ...] | None
  slope: float | None
  intercept: float | None
