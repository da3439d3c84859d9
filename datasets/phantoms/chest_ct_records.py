"""What a phantom chest CT consists of, as plain records."""

import dataclasses

import numpy as np

from medzoo import types


@dataclasses.dataclass(frozen=True)
class Size:
  """How large phantoms are; the thorax scales with the field of view.

  Attributes:
    matrix: rows and columns of a slice.
    spacing: range of pixel spacings, mm.
    thickness: the distances of slices to choose from, mm.
    most_nodules: of a patient, 3 mm and more.
    distractors: of a patient.
  """

  matrix: int
  spacing: tuple[float, float]
  thickness: tuple[float, ...]
  most_nodules: int
  distractors: int


# 'full' is an adult on the usual matrix, 'small' the same anatomy in a field
# of view of 155 to 230 mm, 'smoke' only as much as a test of the code needs.
SIZES = {
  'full': Size(512, (0.6, 0.9), (1.0, 1.25, 1.5, 2.0, 2.5), 8, 46),
  'small': Size(256, (0.6, 0.9), (1.0, 1.25, 1.5, 2.0, 2.5), 8, 12),
  'smoke': Size(96, (1.2, 1.4), (2.5,), 4, 4),
}


@dataclasses.dataclass(frozen=True)
class Points:
  """A body of one tissue as a cloud of small volumes.

  Attributes:
    positions: (n, 3) x, y, z, mm.
    volumes: (n,) mm3.
    hu: (n,) Hounsfield units.
  """

  positions: np.ndarray
  volumes: np.ndarray
  hu: np.ndarray


@dataclasses.dataclass(frozen=True)
class Distractor:
  """Something that looks like a nodule and is none.

  Attributes:
    kind: its name.
    center: (3,) in the patient, mm.
    extent: its longest diameter, mm.
    tissue: its cloud.
    air: what is hollow in it.
  """

  kind: str
  center: np.ndarray
  extent: float
  tissue: Points
  air: Points


@dataclasses.dataclass(frozen=True)
class Finding:
  """Something in the lung that a reader may mark.

  Attributes:
    kind: 'solid', 'part_solid', 'ground_glass' or 'micro' for nodules, else
      the name of a distractor.
    center: (3,) world (x, y, z), mm.
    diameter: of the sphere of its volume for nodules, its longest extent for
      distractors, mm.
  """

  kind: str
  center: np.ndarray
  diameter: float


@dataclasses.dataclass(frozen=True)
class Outline:
  """One closed outline on one slice.

  Attributes:
    slice: index of the slice in the volume.
    inclusion: False round a hole.
    points: (n, 2) int32 pixel indices (x, y).
  """

  slice: int
  inclusion: bool
  points: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mark:
  """What one reader says of one nodule.

  Attributes:
    nodule: index into `Phantom.nodules`.
    ratings: the nine characteristics, in the order of LIDC's files.
    outlines: on the pixels just outside of the nodule.
    center: (3,) world (x, y, z) of the centroid of the pixels within, mm.
    diameter: of the sphere of their volume, mm.
  """

  nodule: int
  ratings: tuple[int, ...]
  outlines: tuple[Outline, ...]
  center: np.ndarray
  diameter: float


@dataclasses.dataclass(frozen=True)
class Reading:
  """All marks of one reader.

  Attributes:
    marks: nodules of 3 mm and more.
    small: (n, 3) int32 (slice, y, x), nodules below 3 mm.
    others: (n, 3) int32 (slice, y, x), findings that are no nodules.
  """

  marks: tuple[Mark, ...]
  small: np.ndarray
  others: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scanner:
  """How the scan was made, as its headers tell.

  Attributes:
    manufacturer, model, software, kernel: DICOM's tags of these names.
    thickness: SliceThickness, mm.
    intercept: RescaleIntercept, HU.
    padding: PixelPaddingValue as stored, None where it is not declared.
    outside: what is stored outside of the circle that is reconstructed, None
      where the whole square is.
    reversed: whether InstanceNumber runs against z.
    contrast: whether a contrast agent was given.
    kilovolt: KVP.
    current: XRayTubeCurrent, mA.
  """

  manufacturer: str
  model: str
  software: str
  kernel: str
  thickness: float
  intercept: int
  padding: int | None
  outside: int | None
  reversed: bool
  contrast: bool
  kilovolt: int
  current: int


@dataclasses.dataclass(frozen=True)
class Phantom:
  """One scan with all that is known of it.

  Attributes:
    patient: such as 'PHANTOM-0001'; a patient may have two scans.
    study_uid: StudyInstanceUID.
    volume: as a reader of the files shall return it; int16, direction is the
      identity.
    nodules: the truth, whatever readers say.
    distractors: what looks like a nodule and is none.
    readings: of four readers, in the order in which they read.
    scanner: what the headers tell.
  """

  patient: str
  study_uid: str
  volume: types.Volume
  nodules: tuple[Finding, ...]
  distractors: tuple[Finding, ...]
  readings: tuple[Reading, ...]
  scanner: Scanner
