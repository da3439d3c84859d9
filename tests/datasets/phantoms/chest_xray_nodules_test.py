"""Tests of phantom chest X-rays with nodules: lumps, classes, the files."""

import collections
import csv
import pathlib
import tempfile
from xml.etree import ElementTree

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from sklearn import metrics

from datasets.phantoms import chest_xray_body as bodies
from datasets.phantoms import chest_xray_nodule_lumps as lumps
from datasets.phantoms import chest_xray_nodules as nodules
from datasets.phantoms import chest_xray_views as views

_SIZE = 64


def _view(**changes):
  arguments = {
    'center': np.zeros(3),
    'extent': (120.0, 100.0),
    'longest': 60,
    'distances': (1800.0, 200.0),
  }
  return views.make('PA', **{**arguments, **changes})


class LumpsTest(parameterized.TestCase):
  def test_a_ball_has_its_chords(self):
    center = np.array([7.0, 0.0, -11.0])
    ball = lumps.ellipsoid(center, [10, 10, 10], 0.5, margin=0.0)
    view = _view()
    thickness = lumps.draw([ball], view)
    rows, columns = np.indices(view.shape)
    # Rows go down from z = 59 by 2 mm, columns to the left from x = -49.
    x, z = 2.0 * columns - 49, 59 - 2.0 * rows
    gap = np.hypot(x - 7, z + 11)
    expected = np.sqrt(np.maximum(100 - gap**2, 0))
    inner = gap < 8
    np.testing.assert_allclose(thickness[inner], expected[inner], rtol=0.03)
    self.assertEqual(thickness[gap > 13].max(), 0)
    # The integral over the film is the ball's volume.
    volume = thickness.sum() * 4 / 0.5
    self.assertAlmostEqual(volume / (4 / 3 * np.pi * 1000), 1, delta=0.02)

  def test_ellipsoids_in_each_other_count_once(self):
    ball = lumps.ellipsoid(np.zeros(3), [9, 9, 9], 1.0)
    twice = lumps.Lump(
      ball.center,
      np.zeros((2, 3)),
      np.concatenate([ball.axes, 2 * ball.axes]),
      9.0,
      1.0,
      ball.margin,
    )
    np.testing.assert_allclose(
      lumps.draw([twice], _view()), lumps.draw([ball], _view()), atol=1e-6
    )

  @parameterized.parameters(0, 4)
  def test_lobulated_has_its_radius(self, lobes):
    rng = np.random.default_rng(0)
    volumes = []
    for _ in range(20):
      lump = lumps.lobulated(np.zeros(3), 12.0, 0.5, rng, lobes=lobes)
      volumes.append(lumps.draw([lump], _view()).sum() * 4 / 0.5)
    ball = 4 / 3 * np.pi * 12**3
    self.assertAlmostEqual(np.mean(volumes) / ball, 1, delta=0.2)

  def test_marks_follow_pose_and_magnification(self):
    place = np.array([10.0, 40.0, 20.0])
    ball = lumps.ellipsoid(place, [8, 8, 8], 1.0)
    view = _view(angles=(0.1, 0.05, -0.1), distances=(600.0, 150.0))
    row, column, diameter = lumps.mark(ball, view)
    thickness = lumps.draw([ball], view)
    rows, columns = np.indices(view.shape)
    total = thickness.sum()
    self.assertAlmostEqual((rows * thickness).sum() / total, row, delta=0.1)
    self.assertAlmostEqual(
      (columns * thickness).sum() / total, column, delta=0.1
    )
    # Nearer to the source, 450 mm away from the middle, it is larger.
    self.assertAlmostEqual(diameter, 8 * 450 / (450 - 40), delta=0.3)

  def test_beyond_the_film(self):
    ball = lumps.ellipsoid(np.array([400.0, 0, 0]), [8, 8, 8], 1.0)
    self.assertEqual(lumps.draw([ball], _view()).max(), 0)


class MakeTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.with_, cls.without = (
      [nodules.make(1, i, kind, size=_SIZE) for i in range(4)]
      for kind in ('nodule', 'normal')
    )

  def test_half_are_nodular(self):
    for cases, expected in (
      (16, {'normal': 8, 'nodule': 7, 'cardiomegaly': 1}),
      (600, {'normal': 285, 'nodule': 285}),
    ):
      found = collections.Counter(nodules.kinds(0, cases))
      self.assertLessEqual(expected.items(), found.items())
      self.assertEqual(found.total(), cases)
      self.assertEqual(found['normal'] + found['nodule'], round(0.95 * cases))

  def test_only_the_nodules_differ(self):
    for one, other in zip(self.with_, self.without, strict=True):
      self.assertLen(other.films, len(one.films))
      for film, clear in zip(one.films, other.films, strict=True):
        self.assertEqual(film.picture.shape, clear.picture.shape)
        self.assertEqual(film.projection, clear.projection)
        self.assertEmpty(clear.nodules)
        alike = np.corrcoef(film.picture.ravel(), clear.picture.ravel())
        self.assertGreater(alike[0, 1], 0.8)

  def test_nodules_are_where_they_are_said_to_be(self):
    gains = []
    for one, other in zip(self.with_, self.without, strict=True):
      for film, clear in zip(one.films, other.films, strict=True):
        self.assertNotEmpty(film.nodules)
        rows, columns = np.indices(film.picture.shape)
        for row, column, diameter in film.nodules:
          gap = np.hypot(rows - row, columns - column)
          inner = gap < max(0.35 * diameter, 1)
          ring = (gap > 0.7 * diameter + 1) & (gap < diameter + 2)
          gain, before = (
            picture[inner].mean() - picture[ring].mean()
            for picture in (film.picture, clear.picture)
          )
          gains.append(gain - before)
    self.assertGreater(np.mean(np.array(gains) > 0), 0.8)
    self.assertGreater(np.mean(gains), 0.05)

  def test_terms(self):
    for study in self.without:
      self.assertEqual(study.terms, ('normal',))
    for study in self.with_:
      for term in study.terms:
        self.assertRegex(term, r'^Nodule/lung/[a-z ]+/(left|right)$')
    # The patient's right is on the film's left.
    for study in self.with_:
      sides = [term.rpartition('/')[2] for term in study.terms]
      film = study.films[0]
      middle = film.picture.shape[1] / 2
      right = film.nodules[:, 1] < middle
      self.assertEqual('right' in sides, right.any())
      self.assertEqual('left' in sides, (~right).any())

  def test_others(self):
    study = nodules.make(1, 0, 'effusion', size=_SIZE)
    self.assertRegex(study.terms[0], '^Pleural Effusion/(left|right|bilateral)')
    self.assertEmpty(study.films[0].nodules)
    heart = nodules.make(1, 0, 'cardiomegaly', size=_SIZE)
    self.assertEqual(heart.terms, ('Cardiomegaly/mild',))

  def test_an_enlarged_heart(self):
    usual, large = (
      bodies.make(np.random.default_rng(2), kind, 5.5).body.heart
      for kind in ('none', 'cardiomegaly')
    )
    self.assertAlmostEqual(large, 1.35 * usual)

  def test_same_arguments_same_study(self):
    again = nodules.make(1, 2, 'nodule', size=_SIZE)
    for film, first in zip(again.films, self.with_[2].films, strict=True):
      np.testing.assert_array_equal(film.picture, first.picture)
      np.testing.assert_array_equal(film.nodules, first.nodules)
    other = nodules.make(2, 2, 'nodule', size=_SIZE)
    self.assertNotEqual(
      other.films[0].picture.tobytes(), again.films[0].picture.tobytes()
    )


class WriteTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    cls.root = pathlib.Path(temporary.name) / 'set'
    nodules.write(cls.root, cases=20, size=_SIZE)
    cls.reports = {}
    for path in (cls.root / 'NLMCXR_reports/ecgen-radiology').iterdir():
      cls.reports[f'CXR{path.stem}'] = ElementTree.parse(path).getroot()

  def table(self, name):
    with (self.root / name).open() as file:
      return list(csv.DictReader(file))

  def majors(self, study):
    found = self.reports[study].findall('MedlineCitation/MeSH/major')
    return [element.text for element in found]

  def films(self, study):
    found = self.reports[study].findall('parentImage')
    return [element.get('id') for element in found]

  def test_reports_name_the_films(self):
    self.assertLen(self.reports, 20)
    named = []
    for study, report in self.reports.items():
      self.assertEqual(report.tag, 'eCitation')
      self.assertEqual(report.find('uId').get('id'), study)
      for name in self.films(study):
        self.assertRegex(name, rf'^{study}_IM-\d{{4}}-\d{{4}}$')
        named.append(f'{name}.png')
      labels = [
        text.get('Label') for text in report.iter('AbstractText') if text.text
      ]
      self.assertContainsSubset(['FINDINGS', 'IMPRESSION'], labels)
    self.assertCountEqual(
      named, [path.name for path in (self.root / 'NLMCXR_png').iterdir()]
    )
    self.assertBetween(len(named), 21, 39)

  def test_pictures(self):
    kinds = nodules.kinds(0, 20)
    for index in (0, 5):
      study = nodules.make(0, index, kinds[index], size=_SIZE)
      self.assertEqual(self.films(study.name), [f.name for f in study.films])
      for film in study.films:
        path = self.root / 'NLMCXR_png' / f'{film.name}.png'
        image = np.asarray(Image.open(path))
        self.assertEqual(image.dtype, np.uint8)
        self.assertEqual(max(image.shape), _SIZE)
        np.testing.assert_allclose(image / 255, film.picture, atol=0.003)

  def test_labels_fit_the_nodules(self):
    marked = {row['image'] for row in self.table('nodules.csv')}
    classes = collections.Counter()
    for study in self.reports:
      terms = self.majors(study)
      nodular = any(term.startswith('Nodule/') for term in terms)
      classes['nodule' if nodular else terms[0]] += 1
      for name in self.films(study):
        self.assertEqual(name in marked, nodular)
    self.assertEqual(classes['normal'], 10)
    self.assertEqual(classes['nodule'], 9)

  def test_nodules_are_in_the_films(self):
    for row in self.table('nodules.csv'):
      path = self.root / 'NLMCXR_png' / f'{row["image"]}.png'
      h, w = np.asarray(Image.open(path)).shape
      radius = float(row['diameter_px']) / 2
      self.assertBetween(float(row['y']), radius, h - 1 - radius)
      self.assertBetween(float(row['x']), radius, w - 1 - radius)

  def test_every_split_has_both_classes(self):
    rows = self.table('splits.csv')
    self.assertCountEqual([row['study'] for row in rows], self.reports)
    found = collections.defaultdict(collections.Counter)
    for row in rows:
      term = self.majors(row['study'])[0].partition('/')[0]
      found[row['split']][term] += 1
    self.assertEqual(set(found), {'train', 'validation', 'test'})
    for counts in found.values():
      self.assertGreaterEqual(counts['normal'], 1)
      self.assertLessEqual(abs(counts['normal'] - counts['Nodule']), 1)

  def test_nothing_simple_tells_the_classes(self):
    values, labels = [], []
    for study in self.reports:
      term = self.majors(study)[0]
      if term != 'normal' and not term.startswith('Nodule'):
        continue
      path = self.root / 'NLMCXR_png' / f'{self.films(study)[0]}.png'
      image = np.asarray(Image.open(path), float)
      values.append([image.mean(), image.std(), *image.shape])
      labels.append(term != 'normal')
    for value in np.transpose(values):
      # Of 10 and 9; twenty such draws would give .5 +- .26.
      self.assertBetween(metrics.roc_auc_score(labels, value), 0.2, 0.8)

  def test_workers_write_what_one_process_writes(self):
    with tempfile.TemporaryDirectory() as folder:
      root = pathlib.Path(folder)
      for name, workers in (('one', 1), ('two', 2)):
        nodules.write(root / name, cases=2, size=_SIZE, workers=workers)
      files = [p for p in (root / 'one').rglob('*') if p.is_file()]
      self.assertGreater(len(files), 5)
      for path in files:
        other = root / 'two' / path.relative_to(root / 'one')
        self.assertEqual(other.read_bytes(), path.read_bytes(), path.name)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'expected an empty folder'):
      nodules.write(self.root, cases=1)
    with self.assertRaisesRegex(ValueError, 'size 10, expected at least 64'):
      nodules.write(self.root, cases=1, size=10)
    self.assertEqual(nodules.main(['--output', str(self.root)]), 2)


if __name__ == '__main__':
  absltest.main()
