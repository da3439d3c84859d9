"""What a LIDC-IDRI message says, as plain records, or why it says nothing."""

import dataclasses
from collections.abc import Mapping

import numpy as np

CHARACTERISTICS = (
  'subtlety',
  'internalStructure',
  'calcification',
  'sphericity',
  'margin',
  'lobulation',
  'spiculation',
  'texture',
  'malignancy',
)


class Refused(ValueError):
  """An XML file that is hostile, broken, or does not say what it should."""


class NotLidc(Refused):
  """A well-formed beginning of some other kind of XML file."""


@dataclasses.dataclass(frozen=True)
class Contour:
  """One outline, or single point, that a reader drew on one image.

  Attributes:
    sop_uid: SOPInstanceUID of the image.
    z: imageZposition, mm; NaN on chest films.
    inclusion: False where the outline is a hole in its nodule.
    points: (n, 2) int32 index coordinates (x, y). The outline of a nodule runs
      on the pixels just outside of it; it may be left open.
  """

  sop_uid: str
  z: float
  inclusion: bool
  points: np.ndarray


@dataclasses.dataclass(frozen=True)
class Nodule:
  """What one reader took for one nodule.

  Attributes:
    contours: at least one, several on a slice where the nodule has parts or
      holes.
    characteristics: the reader's ratings by name: all of `CHARACTERISTICS` for
      a CT nodule of 3 mm and more, none for a smaller one.
  """

  contours: tuple[Contour, ...]
  characteristics: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Session:
  """One reading session, which stands for one reader.

  Attributes:
    nodules: those with ratings; in CT, nodules of 3 mm and more.
    small_nodules: those without ratings, smaller than 3 mm.
    non_nodules: findings of 3 mm and more that are no nodules, a point each.
  """

  nodules: tuple[Nodule, ...]
  small_nodules: tuple[Nodule, ...]
  non_nodules: tuple[Contour, ...]


@dataclasses.dataclass(frozen=True)
class Document:
  """All reading sessions of one message, in its order.

  Attributes:
    kind: 'ct' or 'film'.
    series_uid: SeriesInstanceUID of what was read.
    sessions: may be empty.
  """

  kind: str
  series_uid: str
  sessions: tuple[Session, ...]
