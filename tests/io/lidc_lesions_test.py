import csv
import pathlib
from xml.etree import ElementTree

import numpy as np
import pydicom
from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import path as mpl_path

from medzoo import types
from medzoo.io import lidc_lesions
from medzoo.io import lidc_types
from medzoo.io import lidc_xml
from medzoo.io import tables
from tests import real_data
from tests.io import lidc_messages as messages

_VOLUME = types.Volume(
  np.zeros((4, 64, 48), np.int16), (2.0, 0.5, 0.5), (-10.0, 20.0, 5.0)
)
_SLICES = {'s0': 0, 's1': 1, 's2': 2, 's3': 3}


def _box(x: int, y: int, size: int, sop: str, hole: bool = False) -> str:
  """The outline of size x size pixels from (x, y) on."""
  low_x, low_y, high_x, high_y = x - 1, y - 1, x + size, y + size
  corners = ((low_x, low_y), (high_x, low_y), (high_x, high_y), (low_x, high_y))
  return messages.roi(corners, sop, hole=hole)


def _document(*sessions: str) -> lidc_types.Document:
  return lidc_xml.parse(messages.ct(*sessions).encode())


def _mark(session: int, x: float, diameter: float) -> lidc_lesions.Mark:
  nothing = lidc_types.Nodule((), {})
  voxels = np.zeros((0, 3), np.int32)
  center = np.array([x, 0.0, 0.0])
  return lidc_lesions.Mark(session, nothing, voxels, center, diameter)


def _joined(*marks: lidc_lesions.Mark) -> list[list[int]]:
  return [
    [mark.session for mark in lesion.marks]
    for lesion in lidc_lesions.cluster(marks)
  ]


class MeasureTest(parameterized.TestCase):
  def test_center_and_diameter_of_a_mark(self):
    document = _document(
      messages.nodule(
        _box(10, 20, 4, 's1'), _box(10, 20, 4, 's2'), _box(11, 21, 0, 's3')
      )
    )
    (mark,), places = lidc_lesions.measure(document, _SLICES, _VOLUME)
    self.assertLen(mark.voxels, 32)
    self.assertEqual(mark.voxels.min(axis=0).tolist(), [1, 20, 10])
    self.assertEqual(mark.voxels.max(axis=0).tolist(), [2, 23, 13])
    # The centroid is z 1.5, y 21.5, x 11.5 in index coordinates.
    np.testing.assert_allclose(mark.center, [-4.25, 30.75, 8.0])
    self.assertAlmostEqual(np.pi / 6 * mark.diameter**3, 32 * 0.5)
    self.assertEmpty(places)

  def test_directions_count(self):
    volume = types.Volume(
      _VOLUME.voxels, _VOLUME.spacing, direction=np.diag([-1.0, 1.0, -1.0])
    )
    document = _document(messages.nodule(_box(10, 20, 1, 's1')))
    (mark,), _ = lidc_lesions.measure(document, _SLICES, volume)
    np.testing.assert_allclose(mark.center, [-5, 10, -2])

  def test_contours_decide_what_has_a_size(self):
    point = messages.roi([(4, 6)], 's1')
    document = _document(
      messages.nodule(point)
      + messages.nodule(_box(10, 20, 2, 's1'), rated=False)
      + messages.non_nodule(8, 2, 's3'),
    )
    marks, places = lidc_lesions.measure(document, _SLICES, _VOLUME)
    self.assertLen(marks, 1)
    self.assertEmpty(marks[0].nodule.characteristics)
    np.testing.assert_allclose(places, [[-8, 23, 7], [-6, 21, 11]])

  @parameterized.named_parameters(
    ('unknown_image', messages.non_nodule(1, 1, 's9'), 'not among the 4'),
    ('column', messages.non_nodule(48, 1, 's0'), '48 columns and 64 rows'),
    ('row', messages.nodule(_box(1, 63, 2, 's0')), 'reaches x 3, y 65'),
  )
  def test_marks_must_lie_in_the_scan(self, session: str, message: str):
    with self.assertRaisesRegex(ValueError, message):
      lidc_lesions.findings(_document(session), _SLICES, _VOLUME)

  def test_a_single_image_is_no_scan(self):
    volume = types.Volume(_VOLUME.voxels[:1], (None, 1.0, 1.0))
    with self.assertRaisesRegex(ValueError, 'expected a scan'):
      lidc_lesions.findings(_document(''), _SLICES, volume)


class ClusterTest(absltest.TestCase):
  def test_sessions_run_from_last_to_first_with_running_means(self):
    (lesion,) = lidc_lesions.cluster(
      [_mark(0, 3, 8), _mark(1, 2, 6), _mark(2, 0, 4)]
    )
    np.testing.assert_allclose(
      lesion.steps, [[0, 0, 0, 4], [1, 0, 0, 5], [2, 0, 0, 6.5]]
    )
    self.assertEqual((lesion.readers, lesion.diameter), (3, 6.5))
    np.testing.assert_allclose(lesion.center, [2, 0, 0])

  def test_touching_spheres_stay_apart(self):
    self.assertEqual(_joined(_mark(0, 5, 6), _mark(1, 0, 4)), [[1], [0]])
    self.assertEqual(_joined(_mark(0, 4.9, 6), _mark(1, 0, 4)), [[1, 0]])

  def test_a_session_marks_a_lesion_once(self):
    marks = _mark(0, 0.1, 4), _mark(0, 0.2, 4), _mark(1, 0, 4)
    self.assertEqual(_joined(*marks), [[1, 0], [0]])

  def test_the_nearest_lesion_is_joined(self):
    marks = _mark(0, 3, 9), _mark(1, 0, 5), _mark(1, 5, 5)
    self.assertEqual(_joined(*marks), [[1], [1, 0]])


class FindingsTest(absltest.TestCase):
  def test_three_readers_make_a_nodule(self):
    sure = messages.nodule(_box(10, 20, 4, 's1'))
    unsure = messages.nodule(_box(30, 50, 4, 's1'))
    small = messages.nodule(messages.roi([(2, 3)], 's0'), rated=False)
    document = _document(
      sure + small,
      unsure,
      sure,
      unsure + sure + messages.non_nodule(5, 5, 's2'),
    )
    lesions, excluded = lidc_lesions.findings(document, _SLICES, _VOLUME)
    self.assertLen(lesions, 1)
    np.testing.assert_allclose(lesions.centers, [[-4.25, 30.75, 7]])
    self.assertEqual(lesions.labels.tolist(), [1])
    # Two marks of the pair, two steps of the nodule, then what has no size.
    self.assertLen(excluded, 6)
    self.assertEqual(
      np.isnan(excluded.diameters).tolist(), [False] * 4 + [True] * 2
    )
    lesions, _ = lidc_lesions.findings(document, _SLICES, _VOLUME, readers=2)
    self.assertLen(lesions, 2)

  def test_no_marks_no_findings(self):
    for found in lidc_lesions.findings(_document(''), _SLICES, _VOLUME):
      self.assertEqual(found.centers.shape, (0, 3))


def _rows(boxes: types.Boxes) -> list[tuple]:
  """Finding, slice, corners and whether ignored, of every box."""
  return [
    (int(finding), int(z), *corners, bool(ignored))
    for finding, z, corners, ignored in zip(
      boxes.findings,
      boxes.slices,
      boxes.corners.tolist(),
      boxes.ignored,
      strict=True,
    )
  ]


class BoxesTest(parameterized.TestCase):
  def boxes(self, *sessions: str, volume=_VOLUME, readers: int = 3):
    found = lidc_lesions.boxes(_document(*sessions), _SLICES, volume, readers)
    n = len(found.slices)
    self.assertEqual(found.corners.shape, (n, 4))
    self.assertEqual(found.labels.tolist(), [1] * n)
    for name in ('slices', 'labels', 'findings'):
      self.assertEqual(getattr(found, name).dtype, np.int32)
    self.assertEqual(found.ignored.dtype, bool)
    return _rows(found)

  def test_what_any_reader_outlined(self):
    sessions = (
      messages.nodule(_box(10, 20, 4, 's1')),
      messages.nodule(_box(12, 21, 4, 's1'), _box(12, 21, 4, 's2')),
      messages.nodule(_box(9, 20, 5, 's1')),
    )
    corners = [(0, 1, 20, 9, 25, 16), (0, 2, 21, 12, 25, 16)]
    self.assertEqual(self.boxes(*sessions), [(*x, False) for x in corners])
    self.assertEqual(
      self.boxes(*sessions, readers=4), [(*x, True) for x in corners]
    )

  def test_holes_and_parts(self):
    # A hole within leaves the box; one over the edge takes its outline too.
    within = _box(10, 20, 12, 's0'), _box(13, 23, 4, 's0', hole=True)
    over = _box(10, 20, 6, 's1'), _box(15, 19, 8, 's1', hole=True)
    parts = _box(5, 30, 2, 's2'), _box(9, 34, 3, 's2')
    whole = _box(10, 20, 4, 's3'), _box(9, 19, 6, 's3', hole=True)
    nodule = messages.nodule(*within, *over, *parts, *whole)
    self.assertEqual(
      self.boxes(nodule, readers=1),
      [
        (0, 0, 20, 10, 32, 22, False),
        (0, 1, 20, 10, 26, 14, False),
        (0, 2, 30, 5, 37, 12, False),
      ],
    )

  def test_findings_are_numbered(self):
    sure = messages.nodule(_box(10, 20, 4, 's1'), _box(11, 20, 2, 's2'))
    unsure = messages.nodule(_box(30, 50, 4, 's1'), _box(30, 51, 3, 's0'))
    volume = types.Volume(_VOLUME.voxels, (30.0, 0.5, 0.5))
    point = messages.nodule(messages.roi([(24, 4)], 's0'), rated=False)
    other = messages.non_nodule(40, 60, 's3')
    rows = self.boxes(
      sure + point, sure + unsure + other, sure + unsure, volume=volume
    )
    # Slices are 30 mm apart, so that points are on their own only.
    self.assertEqual(
      rows,
      [
        (0, 1, 20, 10, 24, 14, False),
        (0, 2, 20, 11, 22, 13, False),
        (1, 0, 51, 30, 54, 33, True),
        (1, 1, 50, 30, 54, 34, True),
        (2, 0, 0, 15, 14, 34, True),
        (3, 3, 51, 31, 64, 48, True),
      ],
    )

  @parameterized.named_parameters(
    ('non_nodule', messages.non_nodule(24, 32, 's2')),
    (
      'small_nodule',
      messages.nodule(messages.roi([(24, 32)], 's2'), rated=False),
    ),
    ('rated_point', messages.nodule(messages.roi([(24, 32)], 's2'))),
  )
  def test_what_has_no_size_is_a_sphere_of_10_mm(self, session: str):
    # Its radius in rows of 0.5 mm: 10 here, 9.2 in 2 mm, 6 in 4 mm.
    self.assertEqual(
      self.boxes(session, session, session),
      [
        (finding, *row, True)
        for finding in range(3)
        for row in (
          (0, 27, 19, 38, 30),
          (1, 23, 15, 42, 34),
          (2, 23, 15, 42, 34),
          (3, 23, 15, 42, 34),
        )
      ],
    )

  def test_a_sphere_is_cut_at_the_image(self):
    rows = self.boxes(messages.non_nodule(1, 62, 's0'))
    self.assertEqual(
      rows,
      [
        (0, 0, 53, 0, 64, 11, True),
        (0, 1, 53, 0, 64, 11, True),
        (0, 2, 57, 0, 64, 7, True),
      ],
    )

  def test_a_sphere_has_a_voxel_at_least(self):
    # Its centre is half way between voxels that are 12 mm apart.
    volume = types.Volume(_VOLUME.voxels, (8.0, 12.0, 12.0))
    line = messages.roi([(4, 6), (7, 6)], 's1')
    (row,) = self.boxes(messages.nodule(line, rated=False), volume=volume)
    self.assertIn(row, [(0, 1, 6, x, 7, x + 1, True) for x in (5, 6)])

  def test_no_marks_no_boxes(self):
    self.assertEmpty(self.boxes('', ''))

  def test_marks_must_lie_in_the_scan(self):
    with self.assertRaisesRegex(ValueError, 'not among the 4'):
      self.boxes(messages.non_nodule(1, 1, 's9'))


class NominalGridTest(absltest.TestCase):
  def test_slice_positions_are_those_of_the_message(self):
    document = _document(
      ''.join(
        messages.non_nodule(1, 1, f's{i}', z)
        for i, z in enumerate((-100.0, -97.5, -85.0, -90.0))
      )
    )
    slices, volume = lidc_lesions.nominal_grid(document)
    self.assertEqual(slices, {'s0': 0, 's1': 1, 's2': 6, 's3': 4})
    self.assertEqual(volume.spacing, (2.5, 0.68, 0.68))
    self.assertEqual(volume.index_to_world(np.array([6, 0, 0]))[2], -85.0)

  def test_one_slice_or_none_is_enough(self):
    for session in ('', messages.non_nodule(1, 1, 's0', -7)):
      _, volume = lidc_lesions.nominal_grid(_document(session))
      self.assertEqual(volume.spacing[0], 1.0)


def _read_grid(folder: pathlib.Path) -> tuple[dict[str, int], types.Volume]:
  """A regular axial series' grid, straight from its headers."""
  headers = [
    pydicom.dcmread(path, stop_before_pixels=True)
    for path in folder.rglob('*.dcm')
  ]
  headers.sort(key=lambda header: header.ImagePositionPatient[2])
  first = headers[0]
  corner = [float(x) for x in first.ImagePositionPatient]
  step = float(headers[1].ImagePositionPatient[2]) - corner[2]
  shape = (len(headers), int(first.Rows), int(first.Columns))
  volume = types.Volume(
    np.broadcast_to(np.int16(0), shape),
    (step, *(float(x) for x in first.PixelSpacing)),
    tuple(corner),
    series_uid=str(first.SeriesInstanceUID),
  )
  slices = {str(x.SOPInstanceUID): i for i, x in enumerate(headers)}
  return slices, volume


class Luna16Test(parameterized.TestCase):
  @parameterized.parameters(('LIDC-IDRI-0001', 1, 3), ('LIDC-IDRI-0003', 3, 10))
  def test_rows_of_a_real_scan(self, name: str, nodules: int, steps: int):
    folder = real_data.folder('lidc_idri') / name
    luna16 = real_data.folder('luna16')
    slices, volume = _read_grid(folder)
    document = lidc_xml.read_all(folder)[volume.series_uid]
    found = lidc_lesions.findings(document, slices, volume)
    sized = np.isfinite(found[1].diameters).sum()
    self.assertEqual((len(found[0]), sized), (nodules, steps))
    for table, findings in zip(
      ('annotations.csv', 'annotations_excluded.csv'), found, strict=True
    ):
      rows = tables.read_marks(luna16 / table, 'diameter_mm')
      expected = rows[volume.series_uid]
      ours = tables.from_findings(findings)
      self.assertEqual(ours.shape, expected.shape)
      for one in (ours, expected), (expected, ours):
        self.assertLess(_farthest(*one), 0.01)


def _tag(element: ElementTree.Element) -> str:
  return element.tag.rpartition('}')[2]


def _texts(element: ElementTree.Element, name: str) -> list[str]:
  return [x.text.strip() for x in element.iter() if _tag(x) == name]


def _interior(points: np.ndarray) -> set[tuple[int, int]]:
  """The (y, x) of whole numbers strictly within a closed polygon."""
  low, high = points.min(axis=0), points.max(axis=0) + 1
  x, y = (v.ravel() for v in np.mgrid[low[0] : high[0], low[1] : high[1]])
  at = np.column_stack([x, y])
  inside = mpl_path.Path(np.append(points, points[:1], 0)).contains_points(at)
  for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
    to, way = at - start, end - start
    cross = to[:, 0] * way[1] - to[:, 1] * way[0]
    along = to @ way
    if way.any():  # most outlines end where they began
      inside &= ~((cross == 0) & (along >= 0) & (along <= way @ way))
  return set(zip(y[inside].tolist(), x[inside].tolist(), strict=True))


def _outlined(folder: pathlib.Path, slices: dict[str, int]) -> list[tuple]:
  """Session and (z, y, x) within of every nodule, from the XML alone."""
  (file,) = folder.rglob('*.xml')
  sessions = [
    x for x in ElementTree.parse(file).getroot() if _tag(x) == 'readingSession'
  ]
  found = []
  for number, session in enumerate(sessions):
    for nodule in session:
      if _tag(nodule) != 'unblindedReadNodule':
        continue
      voxels = set()
      for roi in (x for x in nodule if _tag(x) == 'roi'):
        (uid,) = _texts(roi, 'imageSOP_UID')
        assert _texts(roi, 'inclusion') == ['TRUE']
        columns, rows = _texts(roi, 'xCoord'), _texts(roi, 'yCoord')
        points = np.column_stack([columns, rows]).astype(int)
        voxels |= {(slices[uid], *at) for at in _interior(points)}
      if voxels:
        found.append((number, np.array(sorted(voxels))))
  return found


class RealBoxesTest(parameterized.TestCase):
  @parameterized.parameters(('LIDC-IDRI-0001', 1), ('LIDC-IDRI-0003', 3))
  def test_boxes_of_luna16s_nodules(self, name: str, nodules: int):
    folder = real_data.folder('lidc_idri') / name
    slices, volume = _read_grid(folder)
    outlined = _outlined(folder, slices)
    with (real_data.folder('luna16') / 'annotations.csv').open() as file:
      rows = [
        [float(row[key]) for key in ('coordX', 'coordY', 'coordZ')]
        + [float(row['diameter_mm'])]
        for row in csv.DictReader(file)
        if row['seriesuid'] == volume.series_uid
      ]
    self.assertLen(rows, nodules)
    document = lidc_xml.read_all(folder)[volume.series_uid]
    found = lidc_lesions.boxes(document, slices, volume)
    expected = set()
    step = np.array(volume.spacing)[::-1]
    for *place, diameter in rows:
      marks = [
        (session, voxels)
        for session, voxels in outlined
        if np.linalg.norm(
          np.array(volume.origin) + voxels.mean(axis=0)[::-1] * step - place
        )
        < diameter / 2
      ]
      # Three or four readers drew it, each once.
      sessions = [session for session, _ in marks]
      self.assertIn(len(sessions), (3, 4))
      self.assertLen(set(sessions), len(sessions))
      voxels = np.concatenate([voxels for _, voxels in marks])
      for z in np.unique(voxels[:, 0]):
        at = voxels[voxels[:, 0] == z, 1:]
        expected.add((int(z), *at.min(axis=0), *at.max(axis=0) + 1))
    sure = ~found.ignored
    self.assertLen(set(found.findings[sure]), nodules)
    self.assertEqual(
      {
        (int(z), *corners)
        for z, corners in zip(
          found.slices[sure], found.corners[sure].astype(int), strict=True
        )
      },
      expected,
    )
    self.assertLen(expected, sure.sum())
    # None is as large as a lung, none leaves its image.
    sides = (found.corners[:, 2:] - found.corners[:, :2]) * volume.spacing[1:]
    self.assertBetween(sides.min(), 1, sides.max())
    self.assertLess(sides.max(), 50)


def _farthest(rows: np.ndarray, others: np.ndarray) -> float:
  """Largest distance of a row to the nearest other, or of the diameters."""
  gap = np.linalg.norm(rows[:, None, :3] - others[None, :, :3], axis=-1)
  change = abs(rows[:, None, 3] - others[None, :, 3])
  return float(np.maximum(gap, change).min(axis=1).max())


if __name__ == '__main__':
  absltest.main()
