"""Readers' contours of one LIDC scan, clustered into lesions as LUNA16 did.

LUNA16 (Setio et al. 2017, doi 10.1016/j.media.2017.06.015) publishes the
result of its clustering and not the code. The rules here reproduce its two
annotation files: a mark is the set of pixels strictly inside of a reader's
contours; sessions are taken from the last to the first; a mark joins the
nearest lesion that no mark of its session has joined yet and that is nearer
than the sum of both radii; the lesion's centre and diameter then become the
mean of their running value and the mark's. With marks of three sessions it is
a nodule to be found; everything else is excluded from scoring.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.io import lidc_contours
from medzoo.io import lidc_types

# No CT matrix is larger; a contour outside of it is refused, not rastered.
_NOMINAL_MATRIX = 4096
# LUNA16 gives a finding without a measured diameter one of 10 mm.
_UNKNOWN_DIAMETER_MM = 10.0


@dataclasses.dataclass(frozen=True)
class Mark:
  """One reader's nodule, measured.

  Attributes:
    session: index of the reading session in the document.
    nodule: what the reader drew and rated.
    voxels: (n, 3) int32 index coordinates (z, y, x) of its voxels.
    center: (3,) world (x, y, z) of their centroid, mm.
    diameter: of the sphere of their volume, mm.
  """

  session: int
  nodule: lidc_types.Nodule
  voxels: np.ndarray
  center: np.ndarray
  diameter: float


@dataclasses.dataclass(frozen=True)
class Lesion:
  """Marks of different sessions that mean the same place.

  Attributes:
    marks: in the order in which they joined.
    steps: (readers, 4) centre x, y, z and diameter, mm, after each joined.
  """

  marks: tuple[Mark, ...]
  steps: np.ndarray

  @property
  def readers(self) -> int:
    """How many sessions marked it."""
    return len(self.marks)

  @property
  def center(self) -> np.ndarray:
    """(3,) world (x, y, z), mm."""
    return self.steps[-1, :3]

  @property
  def diameter(self) -> float:
    """In mm."""
    return float(self.steps[-1, 3])


def voxels(nodule: lidc_types.Nodule, slices: Mapping[str, int]) -> np.ndarray:
  """Lists the voxels of one reader's nodule.

  Args:
    nodule: its contours.
    slices: index of the slice of every SOPInstanceUID of the scan.

  Returns:
    (n, 3) int32 index coordinates (z, y, x); none for a single point.

  Raises:
    ValueError: a contour is on an image that the scan does not have.
  """
  by_slice = collections.defaultdict(list)
  for contour in nodule.contours:
    by_slice[_slice(contour, slices)].append(contour)
  found = [np.zeros((0, 3), np.int32)]
  for index, contours in by_slice.items():
    mask, corner = lidc_contours.interior(contours)
    rows = np.argwhere(mask) + corner
    found.append(np.insert(rows, 0, index, axis=1).astype(np.int32))
  return np.concatenate(found)


def _slice(contour: lidc_types.Contour, slices: Mapping[str, int]) -> int:
  if contour.sop_uid not in slices:
    raise ValueError(
      f'a mark at z {contour.z:g} mm is on an image that is not among the'
      f' {len(slices)} slices of its scan'
    )
  return slices[contour.sop_uid]


def measure(
  document: lidc_types.Document,
  slices: Mapping[str, int],
  volume: types.Volume,
) -> tuple[list[Mark], np.ndarray]:
  """Measures the nodules that have voxels, and places everything else.

  As in LUNA16 the contours decide which is which, not the ratings: two nodules
  of LIDC-IDRI have ratings but a single point, two an outline but no ratings.

  Args:
    document: what the readers marked.
    slices: index of the slice of every SOPInstanceUID of the scan.
    volume: the scan; only its grid matters.

  Returns:
    The marks, and the (n, 3) world (x, y, z) in mm of the nodules without
    voxels, which are those smaller than 3 mm, and of the non-nodules; both
    session by session in the document's order.

  Raises:
    ValueError: a mark is on an unknown image or leaves its image, or the scan
      is a single image.
  """
  if volume.spacing[0] is None:
    raise ValueError('found a single image, expected a scan: marks have volume')
  marks, places = [], []
  for session, reading in enumerate(document.sessions):
    for nodule in (*reading.nodules, *reading.small_nodules):
      _expect_within(nodule.contours, volume)
      index = voxels(nodule, slices)
      if len(index):
        marks.append(_mark(session, nodule, index, volume))
      else:
        places.append(_middle(nodule.contours, slices))
    for contour in reading.non_nodules:
      _expect_within([contour], volume)
      places.append(_middle([contour], slices))
  return marks, volume.index_to_world(np.array(places).reshape(-1, 3))


def _mark(
  session: int,
  nodule: lidc_types.Nodule,
  index: np.ndarray,
  volume: types.Volume,
) -> Mark:
  center = volume.index_to_world(index.mean(axis=0))
  content = len(index) * np.prod(volume.spacing)
  return Mark(
    session, nodule, index, center, float(np.cbrt(6 * content / np.pi))
  )


def _expect_within(
  contours: Iterable[lidc_types.Contour], volume: types.Volume
) -> None:
  _, rows, columns = volume.voxels.shape
  for contour in contours:
    x, y = contour.points.max(axis=0)
    if x >= columns or y >= rows:
      raise ValueError(
        f'found a contour that reaches x {x}, y {y}, expected it within the'
        f' {columns} columns and {rows} rows of its image'
      )


def _middle(
  contours: Sequence[lidc_types.Contour], slices: Mapping[str, int]
) -> np.ndarray:
  """The mean index coordinates (z, y, x) of a mark that encloses nothing."""
  x, y = np.concatenate([contour.points for contour in contours]).mean(axis=0)
  return np.array([np.mean([_slice(c, slices) for c in contours]), y, x])


def cluster(marks: Iterable[Mark]) -> list[Lesion]:
  """Joins the marks of one scan into lesions; the module says how.

  Args:
    marks: `measure`'s.

  Returns:
    The lesions, in the order in which their first mark was taken.
  """
  clusters: list[tuple[list[Mark], list[np.ndarray]]] = []
  # The sort is stable: within a session the document's order stays.
  for mark in sorted(marks, key=lambda mark: -mark.session):
    value = np.append(mark.center, mark.diameter)
    nearest, distance = None, np.inf
    for members, steps in clusters:
      gap = float(np.linalg.norm(steps[-1][:3] - mark.center))
      # Sessions fall, so a mark of this one could only have joined last.
      free = members[-1].session != mark.session
      touching = gap < (steps[-1][3] + mark.diameter) / 2
      if free and touching and gap < distance:
        nearest, distance = (members, steps), gap
    if nearest is None:
      clusters.append(([mark], [value]))
    else:
      nearest[0].append(mark)
      nearest[1].append((nearest[1][-1] + value) / 2)
  return [Lesion(tuple(x), np.array(steps)) for x, steps in clusters]


def lesions(
  document: lidc_types.Document,
  slices: Mapping[str, int],
  volume: types.Volume,
) -> list[Lesion]:
  """Clusters all readers' marks: `cluster` of `measure`, which see."""
  return cluster(measure(document, slices, volume)[0])


def findings(
  document: lidc_types.Document,
  slices: Mapping[str, int],
  volume: types.Volume,
  readers: int = 3,
) -> tuple[types.Findings, types.Findings]:
  """Says what a detector is to find in a scan and what does not count.

  Args:
    document: what the readers marked.
    slices: index of the slice of every SOPInstanceUID of the scan.
    volume: the scan; only its grid matters.
    readers: sessions that must have marked a lesion that is to be found.

  Returns:
    The lesions, and the excluded findings in LUNA16's sense: every step of
    every lesion's clustering but the last of an accepted one, then small
    nodules and non-nodules, whose diameters are NaN (-1 in LUNA16's files).

  Raises:
    ValueError: as `measure` does.
  """
  marks, places = measure(document, slices, volume)
  accepted, excluded = [], []
  for lesion in cluster(marks):
    steps = list(lesion.steps)
    if lesion.readers >= readers:
      accepted.append(steps.pop())
    excluded.extend(steps)
  excluded.extend(np.append(place, np.nan) for place in places)
  return _as_findings(accepted), _as_findings(excluded)


def boxes(
  document: lidc_types.Document,
  slices: Mapping[str, int],
  volume: types.Volume,
  readers: int = 3,
) -> types.Boxes:
  """Says what a detector is to find on every slice of a scan.

  The box of a lesion bounds, on each slice, the interiors of all contours that
  were merged into it. What is excluded is ignored: lesions of fewer readers
  likewise, and small nodules and non-nodules, whose size nobody drew, as
  spheres of 10 mm, as LUNA16 does.

  Args:
    document: what the readers marked.
    slices: index of the slice of every SOPInstanceUID of the scan.
    volume: the scan; only its grid matters.
    readers: sessions that must have marked a lesion that is to be found.

  Returns:
    The boxes, lesion by lesion.

  Raises:
    ValueError: as `measure` does.
  """
  marks, places = measure(document, slices, volume)
  found = [
    (np.concatenate([mark.voxels for mark in lesion.marks]), lesion.readers)
    for lesion in cluster(marks)
  ]
  found += [(_sphere(at, volume), 0) for at in volume.world_to_index(places)]
  rows = [_bounds(index) for index, _ in found]
  of = np.repeat(np.arange(len(rows)), [len(some) for some in rows])
  table = np.concatenate([np.zeros((0, 5)), *rows])
  return types.Boxes(
    slices=table[:, 0].astype(np.int32),
    corners=table[:, 1:],
    labels=np.ones(len(table), np.int32),
    ignored=np.array([n < readers for _, n in found], bool)[of],
    findings=of.astype(np.int32),
  )


def _bounds(index: np.ndarray) -> np.ndarray:
  """Bounds (n, 3) voxels on each of their slices: (k, 5) slice and corners."""
  rows = []
  for z in np.unique(index[:, 0]):
    place = index[index[:, 0] == z, 1:]
    rows.append([z, *place.min(axis=0), *place.max(axis=0) + 1])
  return np.array(rows, float).reshape(-1, 5)


def _sphere(center: np.ndarray, volume: types.Volume) -> np.ndarray:
  """Lists the (n, 3) voxels of a sphere of 10 mm, of the centre at least."""
  spacing = np.asarray(volume.spacing, float)
  reach = np.ceil(_UNKNOWN_DIAMETER_MM / 2 / spacing).astype(int)
  middle = np.round(center).astype(int)
  offsets = np.argwhere(np.ones(2 * reach + 1, bool)) - reach
  index = middle + offsets
  near = np.linalg.norm((index - center) * spacing, axis=1)
  index = index[(near < _UNKNOWN_DIAMETER_MM / 2) | (offsets == 0).all(axis=1)]
  within = (index >= 0) & (index < volume.voxels.shape)
  return index[within.all(axis=1)]


def _as_findings(rows: Sequence[np.ndarray]) -> types.Findings:
  table = np.array(rows, float).reshape(-1, 4)
  return types.Findings(
    table[:, :3], table[:, 3], np.ones(len(table), np.int32)
  )


def nominal_grid(
  document: lidc_types.Document, pixel_mm: float = 0.68
) -> tuple[dict[str, int], types.Volume]:
  """Guesses a scan's grid from its message, where the images are not at hand.

  Slice positions are in the message, the pixel spacing is not: 0.68 mm is
  common in chest CT. Centres in x and y therefore start at the image's corner
  and lesions are only nearly those of the true grid. The slice spacing is the
  smallest distance of marked slices, 1 mm where they are fewer than two.

  Args:
    document: what the readers marked.
    pixel_mm: distance of neighbouring pixels.

  Returns:
    `slices` and `volume` for the functions above. The volume has no memory
    behind its voxels.
  """
  z = {contour.sop_uid: contour.z for contour in _contours(document)}
  heights = np.unique(list(z.values()) or [0.0])
  # Positions that are one but for rounding leave gaps that are no spacing.
  gaps = np.diff(heights)
  gaps = gaps[gaps > 0.1]
  span, spacing = heights[-1] - heights[0], 1.0
  if len(gaps):
    spacing = span / round(span / gaps.min())
  slices = {uid: round((at - heights[0]) / spacing) for uid, at in z.items()}
  depth = round(span / spacing) + 1
  nothing = np.broadcast_to(
    np.int16(0), (depth, _NOMINAL_MATRIX, _NOMINAL_MATRIX)
  )
  volume = types.Volume(
    nothing,
    (float(spacing), pixel_mm, pixel_mm),
    (0.0, 0.0, float(heights[0])),
    series_uid=document.series_uid,
  )
  return slices, volume


def _contours(
  document: lidc_types.Document,
) -> Iterator[lidc_types.Contour]:
  for reading in document.sessions:
    for nodule in (*reading.nodules, *reading.small_nodules):
      yield from nodule.contours
    yield from reading.non_nodules
