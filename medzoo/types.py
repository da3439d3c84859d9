"""The few types and conventions that every part of medzoo shares.

Axis letters of annotated shapes: `b` batch, `d h w` depth, height and width,
`c` channels, `n` findings or detections, `k` kept detections, `r` spatial
rank.

Volumes are arrays in (z, y, x). World coordinates are DICOM and ITK's: LPS
millimetres in (x, y, z). *Index coordinates* (ITK, CSV and XML files) put the
centre of voxel i at i. Boxes are corners in array order,
(z0, y0, x0, z1, y1, x1), half-open: voxel i spans [i, i + 1), its centre at
i + 0.5. Only `Volume` and the readers convert between the two.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Volume:
  """A scan on its regular grid.

  Attributes:
    voxels: (d, h, w) intensities, Hounsfield units in CT; a picture is a
      volume of one slice, in colour (1, h, w, 3).
    spacing: distance of neighbouring voxel centres along (z, y, x), mm. The
      first is None for a single image, whose thickness is not known, and all
      three where a picture's file does not say how large a pixel is.
    origin: world (x, y, z) of the centre of voxel (0, 0, 0), mm.
    direction: (3, 3); its columns are the world directions of the x, y and z
      index axes, as in ITK.
    modality: DICOM modality, 'CT' or 'MR' say; '' where the file has none.
    series_uid: the name of the scan; DICOM's SeriesInstanceUID where there is
      one.
    repairs: what the reader mended, by name.
  """

  voxels: np.ndarray
  spacing: tuple[float | None, float | None, float | None]
  origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
  direction: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))
  modality: str = ''
  series_uid: str = ''
  repairs: tuple[str, ...] = ()

  @property
  def grid(self) -> 'Grid':
    """Its size without its voxels."""
    return Grid(self.voxels.shape[:3], self.spacing)

  def index_to_world(self, index: np.ndarray) -> np.ndarray:
    """Maps (..., 3) index coordinates (z, y, x) to world (x, y, z) mm."""
    steps = np.asarray(index, float) * np.asarray(self.spacing, float)
    return steps[..., ::-1] @ self.direction.T + np.asarray(self.origin)

  def world_to_index(self, world: np.ndarray) -> np.ndarray:
    """Maps (..., 3) world (x, y, z) mm to index coordinates (z, y, x)."""
    steps = (np.asarray(world, float) - self.origin) @ self.direction
    return steps[..., ::-1] / np.asarray(self.spacing, float)


@dataclasses.dataclass(frozen=True)
class Grid:
  """The size of a scan or a picture.

  Attributes:
    shape: (d, h, w) voxels; a picture is of one slice.
    spacing: (z, y, x) mm, see `Volume`.
  """

  shape: tuple[int, int, int]
  spacing: tuple[float | None, float | None, float | None]

  @property
  def is_picture(self) -> bool:
    """Whether it is a single image."""
    return self.spacing[0] is None


@dataclasses.dataclass(frozen=True)
class Findings:
  """What readers marked in one scan, as spheres in the world.

  Attributes:
    centers: (n, 3) world (x, y, z), mm.
    diameters: (n,) mm, NaN where the reader gave none.
    labels: (n,) class ids, 1 and up; 0 is background.
  """

  centers: np.ndarray
  diameters: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.centers)


@dataclasses.dataclass(frozen=True)
class Detections:
  """What a predictor found in one scan, by falling score.

  Attributes:
    centers: (n, 3) world (x, y, z), mm.
    diameters: (n,) mm, NaN where the predictor does not estimate it.
    scores: (n,) higher is surer; a probability where the predictor gives one.
    labels: (n,) class ids, 1 and up.
  """

  centers: np.ndarray
  diameters: np.ndarray
  scores: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.centers)


@dataclasses.dataclass(frozen=True)
class Boxes:
  """What there is to find on the slices of one scan, or in one picture.

  Attributes:
    slices: (n,) int32 index of the slice.
    corners: (n, 4) y0, x0, y1, x1, half-open, voxels of the scan.
    labels: (n,) int32 class ids, 1 and up.
    ignored: (n,) bool; finding these is neither right nor wrong.
    findings: (n,) int32; boxes of one finding on several slices share a
      number, from 0.
  """

  slices: np.ndarray
  corners: np.ndarray
  labels: np.ndarray
  ignored: np.ndarray
  findings: np.ndarray

  def __len__(self) -> int:
    return len(self.slices)


@dataclasses.dataclass(frozen=True)
class BoxDetections:
  """Boxes that a predictor found on the slices of one scan, slice by slice.

  Attributes:
    slices: (n,) int32 index of the slice.
    corners: (n, 4) y0, x0, y1, x1, half-open, voxels of the scan.
    scores: (n,) higher is surer.
    labels: (n,) int32 class ids, 1 and up.
    steps: (n,) int32, which of a cell's boxes it was, 0 for the first.
    suppressed: (n,) bool; taken for another box's double, only to be drawn.
    links: (n,) int32, which lesion of the scan's `Detections` it is part of;
      -1 for none.
  """

  slices: np.ndarray
  corners: np.ndarray
  scores: np.ndarray
  labels: np.ndarray
  steps: np.ndarray
  suppressed: np.ndarray
  links: np.ndarray

  def __len__(self) -> int:
    return len(self.slices)


@dataclasses.dataclass(frozen=True)
class Masks:
  """The objects in one picture, outlined to the pixel.

  Attributes:
    masks: (n, h, w) bool, the picture's own pixels.
    labels: (n,) int32 class ids, 1 and up; there is at most one lung of each,
      and any number of polyps.
  """

  masks: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)


@dataclasses.dataclass(frozen=True)
class MaskDetections:
  """Objects that a predictor found in one picture, by falling score.

  Attributes:
    masks: (n, h, w) bool, the picture's own pixels.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels; the predictor's own
      box, which need not be the mask's.
    scores: (n,) higher is surer.
    labels: (n,) int32 class ids, 1 and up.
  """

  masks: np.ndarray
  corners: np.ndarray
  scores: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)


@dataclasses.dataclass(frozen=True)
class PictureScore:
  """What a predictor says of a whole picture.

  Attributes:
    logit: as the network gives them, of two classes () float, the log-odds
      that the picture is of class 1 rather than 0; of more (classes,), their
      logits.
  """

  logit: np.ndarray


@dataclasses.dataclass(frozen=True)
class Saliency:
  """Which parts of a picture speak for a class, from edge to edge of it.

  The class is 1 of two, and of more the one that the picture is called.

  Attributes:
    grad_cam: (h, w) float32, 0 and up, of any resolution.
    gradients: (h, w) float32, integrated gradients, negative where a pixel
      speaks against it.
  """

  grad_cam: np.ndarray
  gradients: np.ndarray


@dataclasses.dataclass(frozen=True)
class Codes:
  """What a layer of a network makes of a picture.

  Attributes:
    values: float32 of any shape.
  """

  values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
  """One scan, or one picture, of a prepared dataset.

  Attributes:
    volume: the scan as it was acquired; its `series_uid` is the case's key.
    group: pseudonym of the patient; splits never divide a group.
    lesions: what a detector is to find.
    excluded: findings that are neither lesions nor false positives.
    boxes: the same slice by slice; None where a dataset has no outlines.
    masks: the objects of a picture; None where a dataset has no masks, or
      nobody has outlined this picture.
    label: class of the picture as a whole, from 0; None where a dataset does
      not say.
  """

  volume: Volume
  group: str
  lesions: Findings
  excluded: Findings
  boxes: Boxes | None = None
  masks: Masks | None = None
  label: int | None = None
