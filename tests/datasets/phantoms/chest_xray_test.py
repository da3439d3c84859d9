"""Tests of phantom chest X-rays: the rays, the masks, and the files."""

import collections
import csv
import pathlib
import tempfile

import numpy as np
import pydicom
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets.phantoms import chest_xray
from datasets.phantoms import chest_xray_body as bodies
from datasets.phantoms import chest_xray_film as films
from datasets.phantoms import chest_xray_findings as findings
from datasets.phantoms import chest_xray_views as views

_SPACING = (2.0, 4.0, 2.0)
_ORIGIN = np.array([-50.0, -40.0, -50.0])


def _view(projection='PA', **changes):
  arguments = {
    'center': np.zeros(3),
    'extent': (80.0, 60.0),
    'longest': 40,
    'distances': (1800.0, 200.0),
  }
  return views.make(projection, **{**arguments, **changes})


def _block(density, high, wide):
  """Returns voxels of a block: 40 mm deep, at y from -22 to 18 mm."""
  voxels = np.zeros((51, 21, 51, 1), np.float32)
  inside = np.arange(51)
  rows = abs(2 * inside - 50) <= high
  columns = abs(2 * inside - 50) <= wide
  voxels[np.ix_(rows, np.arange(5, 15), columns)] = density
  return voxels


def _project(voxels, view):
  return views.project(voxels, _SPACING, _ORIGIN, view)[..., 0]


class ProjectTest(parameterized.TestCase):
  @parameterized.parameters('PA', 'AP')
  def test_a_slab_obeys_beer_and_lambert(self, projection):
    thickness = _project(_block(0.5, 60, 60), _view(projection))
    self.assertEqual(thickness.shape, (40, 30))
    # 40 mm of half of water's density; rays slant by 1.5 degrees at most.
    np.testing.assert_allclose(thickness, 20.0, rtol=1e-3)
    passed = films.transmit(thickness[20, 15])
    self.assertAlmostEqual(passed, np.exp(-0.0193 * 20), 4)
    # Two slabs let through what the first leaves of the second.
    both = films.transmit(2 * thickness[20, 15])
    self.assertAlmostEqual(both, passed**2, 6)

  def test_a_turned_slab_is_thicker(self):
    for angles in ((0.3, 0, 0), (0, 0.3, 0)):
      view = _view(angles=angles, extent=(10.0, 10.0), longest=9)
      thickness = _project(_block(1.0, 60, 60), view)
      self.assertAlmostEqual(thickness[4, 4], 40 / np.cos(0.3), delta=0.05)

  def test_a_roll_turns_the_film(self):
    straight = _project(_block(1.0, 30, 10), _view(extent=(70.0, 70.0)))
    rolled = _project(
      _block(1.0, 30, 10), _view(extent=(70.0, 70.0), angles=(0, 0, np.pi / 2))
    )
    np.testing.assert_allclose(rolled, np.rot90(straight), atol=2.0)
    self.assertGreater(straight[5, 20], 20)
    self.assertLess(straight[20, 5], 1)

  @parameterized.parameters(('PA', 1), ('AP', -1))
  def test_what_is_nearer_to_the_source_is_larger(self, projection, behind):
    view = _view(projection, distances=(500.0, 100.0), longest=160)
    for k in (2, 18):
      # A dot, 20 mm to the left, in front (y < 0) or behind.
      dot = np.zeros((51, 21, 51, 1), np.float32)
      dot[25, k, 35] = 1
      y = _ORIGIN[1] + k * _SPACING[1]
      columns = _project(dot, view).sum(0)
      seen = (columns * np.arange(len(columns))).sum() / columns.sum()
      # The source is 400 mm from the middle.
      expected = 20 * 400 / (400 - behind * y)
      middle = (len(columns) - 1) / 2
      self.assertAlmostEqual(
        (seen - middle) * view.spacing, expected, delta=0.2
      )
      place = np.array([[20.0, y, 0.0]])
      self.assertAlmostEqual(view.pixels(place)[0, 1], seen, delta=0.4)

  def test_pixels_of_the_film_itself(self):
    view = _view(angles=(0.1, -0.1, 0.2))
    places = view.corner + np.array([[0], [7]]) * view.down + 5 * view.right
    np.testing.assert_allclose(view.pixels(places), [[0, 5], [7, 5]], atol=1e-6)


class MasksTest(absltest.TestCase):
  def paths(self):
    return np.zeros((50, 40, 4), np.float32)

  def test_the_rule(self):
    paths = self.paths()
    paths[5:45, 2:18, bodies.RIGHT] = 9.9
    paths[10:40, 4:16, bodies.RIGHT] = 100
    paths[30:40, 4:16, bodies.HIDING] = 20.1
    paths[10:40, 30:36, bodies.LEFT] = 100
    # A hole, and a corner that is apart.
    paths[20, 10, bodies.RIGHT] = 0
    paths[45, 30, bodies.LEFT] = 100
    right, left = chest_xray.masks(paths)
    expected = np.zeros((50, 40), bool)
    expected[10:30, 4:16] = True
    np.testing.assert_array_equal(right, expected)
    expected = np.zeros((50, 40), bool)
    expected[10:40, 30:36] = True
    np.testing.assert_array_equal(left, expected)

  def test_no_lung(self):
    for mask in chest_xray.masks(self.paths()):
      self.assertFalse(mask.any())


class MakeTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.findings = [chest_xray.finding_of(0, i) for i in range(8)]
    cls.films = [chest_xray.make(0, i, poses=2, size=96) for i in range(8)]

  def whole(self):
    """Yields the films of patients with both lungs, without fluid."""
    for finding, of_patient in zip(self.findings, self.films, strict=True):
      if finding not in ('one_lung', 'effusion'):
        yield from of_patient

  def test_findings_of_eight(self):
    for first in (0, 8, 16):
      found = [chest_xray.finding_of(3, first + i) for i in range(8)]
      self.assertCountEqual(found, findings.KINDS)

  def test_masks_are_in_the_film_and_apart(self):
    for film in (film for some in self.films for film in some):
      self.assertEqual(max(film.picture.shape), 96)
      self.assertBetween(film.picture.min(), 0, 0.3)
      self.assertBetween(film.picture.max(), 0.7, 1)
      for mask in (film.right, film.left):
        self.assertEqual(mask.shape, film.picture.shape)
        self.assertEqual(mask.dtype, bool)
      self.assertFalse((film.right & film.left).any())

  def test_the_patients_right_is_the_films_left(self):
    for film in self.whole():
      columns = np.arange(film.picture.shape[1])
      right, left = (
        (mask.sum(0) * columns).sum() / mask.sum()
        for mask in (film.right, film.left)
      )
      self.assertLess(right, left)

  def test_one_lung(self):
    sides = []
    for finding, of_patient in zip(self.findings, self.films, strict=True):
      seen = [(film.right.any(), film.left.any()) for film in of_patient]
      if finding == 'one_lung':
        self.assertIn(seen[0], [(True, False), (False, True)])
        self.assertLen(set(seen), 1)
        sides.append(seen[0])
      else:
        self.assertEqual(set(seen), {(True, True)})
    self.assertLen(sides, 1)

  def test_lungs_are_dark(self):
    for film in self.whole():
      lungs = film.right | film.left
      # Right of some of the right lung and left of some of the left.
      between = film.right.cumsum(1) > 0
      between &= film.left[:, ::-1].cumsum(1)[:, ::-1] > 0
      between &= ~lungs
      self.assertGreater(
        film.picture[between].mean(), film.picture[lungs].mean() + 0.15
      )

  def test_the_heart_is_on_the_patients_left(self):
    # A large heart, straight, with neither devices nor noise.
    patient = bodies.make(np.random.default_rng(1), 'none', 5.0)
    height, width = patient.body.height, patient.body.width
    view = views.make(
      'PA',
      center=np.array([0.0, 0.0, 0.3 * height]),
      extent=(0.16 * height, 1.2 * width),
      longest=61,
    )
    paths = views.project(patient.voxels, patient.spacing, patient.origin, view)
    bright = -np.log(films.transmit(paths[..., bodies.WATER]))
    image_left, image_right = bright[:, :20], bright[:, -20:]
    self.assertGreater(image_right.mean(), image_left.mean() + 0.2)

  def test_the_right_dome_is_higher(self):
    rng = np.random.default_rng(4)
    for _ in range(2):
      right, left = bodies.make(rng, 'none', 5.5).body.domes
      self.assertGreater(right, left)

  def test_same_arguments_same_films(self):
    again = chest_xray.make(0, 3, poses=2, size=96)
    for film, first in zip(again, self.films[3], strict=True):
      np.testing.assert_array_equal(film.picture, first.picture)
      np.testing.assert_array_equal(film.left, first.left)
    one, other = self.films[3]
    self.assertNotEqual(one.picture.tobytes(), other.picture.tobytes())
    (changed,) = chest_xray.make(1, 3, poses=1, size=96)
    self.assertNotEqual(changed.picture.tobytes(), one.picture.tobytes())


class WriteTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    cls.root = pathlib.Path(temporary.name) / 'set'
    chest_xray.write(cls.root, cases=4, poses=2, size=96)
    with (cls.root / 'patients.csv').open() as file:
      cls.rows = list(csv.DictReader(file))

  def test_every_film_has_two_masks(self):
    self.assertLen(self.rows, 8)
    self.assertCountEqual(
      [row['file'] for row in self.rows],
      [path.name for path in (self.root / 'images').iterdir()],
    )
    expected = [
      film for i in range(4) for film in chest_xray.make(0, i, poses=2, size=96)
    ]
    for row, film in zip(self.rows, expected, strict=True):
      self.assertEqual(row['patient'], film.patient)
      stem = pathlib.Path(row['file']).stem
      for side, truth in (('right', film.right), ('left', film.left)):
        mask = np.asarray(Image.open(self.root / f'{side}Mask/{stem}.png'))
        np.testing.assert_array_equal(mask, 255 * truth.astype(np.uint8))
      if row['file'].endswith('.png'):
        image = np.asarray(Image.open(self.root / 'images' / row['file']))
        self.assertEqual(image.dtype, np.uint8)
        np.testing.assert_allclose(image / 255, film.picture, atol=0.003)

  def test_dicom(self):
    films_ = {
      f'{film.patient}_{film.pose + 1}.dcm': film
      for i in (1, 3)
      for film in chest_xray.make(0, i, poses=2, size=96)
    }
    kinds = collections.Counter()
    for path in (self.root / 'images').glob('*.dcm'):
      film, image = films_[path.name], pydicom.dcmread(path)
      kinds[image.PhotometricInterpretation] += 1
      self.assertEqual(image.Modality, 'DX')
      self.assertEqual(image.PatientID, film.patient)
      self.assertEqual(image.BitsAllocated, 16)
      shown = (
        image.pixel_array - (image.WindowCenter - image.WindowWidth / 2)
      ) / image.WindowWidth
      if image.PhotometricInterpretation == 'MONOCHROME1':
        shown = 1 - shown
      np.testing.assert_allclose(shown, film.picture, atol=0.001)
      self.assertAlmostEqual(image.PixelSpacing[0], film.view.spacing, 5)
      self.assertGreater(image.ImagerPixelSpacing[0], image.PixelSpacing[0])
    self.assertEqual(kinds, {'MONOCHROME1': 1, 'MONOCHROME2': 1})

  def test_patients_are_in_one_split(self):
    splits = collections.defaultdict(set)
    for row in self.rows:
      splits[row['patient']].add(row['split'])
    self.assertLen(splits, 4)
    self.assertTrue(all(len(names) == 1 for names in splits.values()))
    self.assertEqual(set.union(*splits.values()), {'train', 'test'})

  def test_workers_write_what_one_process_writes(self):
    with tempfile.TemporaryDirectory() as folder:
      root = pathlib.Path(folder)
      chest_xray.write(root, cases=4, poses=2, size=96, workers=2)
      for path in self.root.rglob('*'):
        if path.is_file():
          other = root / path.relative_to(self.root)
          self.assertEqual(other.read_bytes(), path.read_bytes(), path.name)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'expected an empty folder'):
      chest_xray.write(self.root, cases=1)
    with self.assertRaisesRegex(ValueError, 'size 10, expected at least 64'):
      chest_xray.write(self.root, cases=1, size=10)
    self.assertEqual(chest_xray.main(['--output', str(self.root)]), 2)


if __name__ == '__main__':
  absltest.main()
