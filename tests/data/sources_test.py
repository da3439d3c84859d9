import concurrent.futures
import json
import pathlib
import pickle
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.io import volumes
from tests.datasets import raw_files
from tests.io import lidc_messages

# x, y, z and diameter; 'd' has no lesion, one of 'b' has no diameter.
LESIONS = {
  'a': [[1.0, 2.0, 3.0, 5.0]],
  'b': [[1 / 3, 2.0, 3.0, 5.0], [0.1, 0.2, 0.3, -1.0]],
  'c': [[300.123456789012, 2.0, 3.0, 5.5]],
}


def scan(name):
  rng = np.random.default_rng(ord(name))
  voxels = rng.integers(-1000, 1000, (3, 4, 5)).astype(np.int16)
  if name == 'c':
    voxels = (voxels / 4).astype(np.float32)
  return types.Volume(
    voxels, (2.5, 0.7, 1 / 3), (-10.1, 20.2, 30.3), np.diag([-1.0, -1, 1])
  )


class SourcesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    folder = pathlib.Path(temporary.name)
    for subset, name in (
      ('subset0', 'a'),
      ('subset0', 'b'),
      ('subset1', 'c'),
      ('subset1', 'd'),
    ):
      (folder / 'raw' / subset).mkdir(parents=True, exist_ok=True)
      volumes.write(scan(name), folder / 'raw' / subset / f'{name}.mhd')
    marks = {name: np.array(rows) for name, rows in LESIONS.items()}
    tables.write_marks(folder / 'raw/annotations.csv', marks, 'diameter_mm')
    excluded = {'d': np.array([[9.0, 8.0, 7.0, -1.0]])}
    tables.write_marks(
      folder / 'raw/annotations_excluded.csv', excluded, 'diameter_mm'
    )
    cls.directory = build.prepare(
      'luna16', manual_dir=folder / 'raw', data_dir=folder / 'data'
    )

  def test_gives_back_what_the_files_hold(self):
    cases = sources.open_cases(self.directory, 'all')
    self.assertCountEqual(cases.keys, 'abcd')
    for name, case in zip(cases.keys, cases, strict=True):
      expected = scan(name)
      volume = case.volume
      self.assertEqual(volume.series_uid, name)
      self.assertEqual(volume.modality, 'CT')
      self.assertEqual(volume.repairs, ())
      self.assertEqual(volume.voxels.dtype, expected.voxels.dtype)
      np.testing.assert_array_equal(volume.voxels, expected.voxels)
      np.testing.assert_array_equal(volume.direction, expected.direction)
      np.testing.assert_allclose(volume.spacing, expected.spacing, rtol=1e-15)
      self.assertEqual(volume.origin, expected.origin)
      lesions = np.array(LESIONS.get(name, [])).reshape(-1, 4)
      np.testing.assert_array_equal(case.lesions.centers, lesions[:, :3])
      np.testing.assert_array_equal(
        case.lesions.diameters,
        np.where(lesions[:, 3] < 0, np.nan, lesions[:, 3]),
      )
      np.testing.assert_array_equal(case.lesions.labels, np.ones(len(lesions)))
      self.assertIsNone(case.boxes)
      self.assertLen(case.excluded, int(name == 'd'))

  def test_the_index_agrees_with_the_records(self):
    cases = sources.open_cases(self.directory, 'all')
    for case, group, found in zip(
      cases, cases.groups, cases.findings, strict=True
    ):
      self.assertEqual(case.group, group)
      for ours, theirs in zip(
        found, (case.lesions, case.excluded), strict=True
      ):
        for field in ('centers', 'diameters', 'labels'):
          a, b = getattr(ours, field), getattr(theirs, field)
          np.testing.assert_array_equal(a, b)
          self.assertEqual(a.dtype, b.dtype)
          self.assertEqual(a.shape, b.shape)

  def test_without_outlines_no_boxes(self):
    cases = sources.open_cases(self.directory, 'subset0+subset1')
    self.assertEqual(cases.boxes, [None] * 4)
    self.assertEqual([grid.shape[0] for grid in cases.grids], [3] * 4)

  def test_reads_without_the_index(self):
    index = pathlib.Path(self.directory) / sources.INDEX_FILE
    kept = index.with_suffix('.kept')
    expected = sources.open_cases(self.directory, 'all')
    index.rename(kept)
    try:
      cases = sources.open_cases(self.directory, 'all')
    finally:
      kept.rename(index)
    self.assertEqual(cases.keys, expected.keys)
    self.assertEqual(cases.groups, expected.groups)

  def test_splits(self):
    first, second = (
      sources.open_cases(self.directory, name)
      for name in ('subset0', 'subset1')
    )
    self.assertCountEqual(first.keys, 'ab')
    both = sources.open_cases(self.directory, 'subset1+subset0')
    self.assertEqual(both.keys, second.keys + first.keys)
    joined = sources.concatenate([second, first])
    self.assertEqual(joined.keys, both.keys)
    self.assertEqual(joined[3].volume.series_uid, joined.keys[3])
    chosen = both.subset([3, 0])
    self.assertEqual(chosen.keys, [both.keys[3], both.keys[0]])
    self.assertEqual(chosen[1].volume.series_uid, both.keys[0])
    self.assertEqual(chosen.groups, [both.groups[3], both.groups[0]])

  def test_threads_and_pickles(self):
    cases = sources.open_cases(self.directory, 'all')
    copy = pickle.loads(pickle.dumps(cases))
    self.assertEqual(copy[2].volume.series_uid, cases.keys[2])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      names = pool.map(lambda i: cases[i % 4].volume.series_uid, range(40))
      self.assertEqual(list(names), cases.keys * 10)

  @parameterized.parameters('subset2', 'subset0+test', '')
  def test_refuses_an_unknown_split(self, split):
    with self.assertRaisesRegex(ValueError, 'expected one of subset0, subset1'):
      sources.open_cases(self.directory, split)

  def test_refuses_another_folder(self):
    with self.assertRaisesRegex(ValueError, 'found no prepared dataset'):
      sources.open_cases(pathlib.Path(self.directory).parent, 'all')

  @parameterized.parameters((10, 3, 0), (88, 10, 1), (2, 2, 2))
  def test_folds(self, count, k, seed):
    groups = np.random.default_rng(seed).integers(0, count, 3 * count)
    groups = np.append(groups, np.arange(count)).astype(str)
    folds = sources.kfold(groups, k, seed)
    self.assertLen(folds, k)
    np.testing.assert_array_equal(
      np.sort(np.concatenate(folds)), np.arange(len(groups))
    )
    sides = [set(groups[fold]) for fold in folds]
    self.assertLen(set.union(*sides), sum(map(len, sides)))
    largest = np.unique(groups, return_counts=True)[1].max()
    sizes = [len(fold) for fold in folds]
    self.assertLessEqual(max(sizes) - min(sizes), largest)

  def test_the_seed_of_folds(self):
    groups = [str(i) for i in range(20)]
    first, again, other = (
      [fold.tolist() for fold in sources.kfold(groups, 4, seed)]
      for seed in (0, 0, 1)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)

  def test_refuses_more_folds_than_groups(self):
    with self.assertRaisesRegex(ValueError, 'found 2 groups for 3 folds'):
      sources.kfold(['a', 'b', 'a'], 3, 0)


class BoxesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def open(self, name, rows):
    """Prepares a dataset and checks its boxes against rows by key.

    A row is of slice, corners, label, whether ignored, and finding.
    """
    directory = build.prepare(
      name,
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      shares={'train': 1},
    )
    cases = sources.open_cases(directory, 'train')
    self.assertCountEqual(cases.keys, rows)
    for key, case, index in zip(cases.keys, cases, cases.boxes, strict=True):
      for boxes in (case.boxes, index):
        n = len(rows[key])
        self.assertLen(boxes, n)
        for field, dtype, shape in (
          ('slices', np.int32, ()),
          ('corners', np.float64, (4,)),
          ('labels', np.int32, ()),
          ('ignored', np.bool_, ()),
          ('findings', np.int32, ()),
        ):
          values = getattr(boxes, field)
          self.assertEqual(values.dtype, dtype)
          self.assertEqual(values.shape, (n, *shape))
        self.assertEqual(
          [
            (z, tuple(corners), label, ignored, finding)
            for z, corners, label, ignored, finding in zip(
              boxes.slices.tolist(),
              boxes.corners.tolist(),
              boxes.labels.tolist(),
              boxes.ignored.tolist(),
              boxes.findings.tolist(),
              strict=True,
            )
          ],
          rows[key],
        )
    return {
      case.volume.series_uid: (case, grid.shape[0])
      for case, grid in zip(cases, cases.grids, strict=True)
    }

  def test_of_scans(self):
    for series, depth, xml in (('1.1', 6, True), ('1.2', 9, False)):
      folder = self.raw / series
      scan = raw_files.scan(0, depth)
      raw_files.write_dicom(folder, series, 'NAME', scan)
      if xml:
        raw_files.write_xml(folder / '1.xml', series)
      else:
        message = lidc_messages.ct('', '', '', series=series)
        (folder / '1.xml').write_text(message)
    rows = {
      '1.1': [
        *((z, (8, 8, 13, 13), 1, False, 0) for z in (2, 3, 4)),
        # A point at (4, 3), which is a sphere of 10 mm.
        (0, (0, 0, 11, 10), 1, True, 1),
        (1, (0, 0, 10, 9), 1, True, 1),
        (2, (1, 0, 8, 7), 1, True, 1),
      ],
      '1.2': [],
    }
    found = self.open('lidc_idri', rows)
    for series, depth in (('1.1', 6), ('1.2', 9)):
      case, length = found[series]
      self.assertEqual(length, depth)
      scan = raw_files.scan(0, depth)
      np.testing.assert_array_equal(case.volume.voxels, scan)

  def test_of_pictures(self):
    random = np.random.default_rng(0)
    pixels = {
      'gray.png': random.integers(0, 256, (5, 7), np.uint8),
      'color.png': random.integers(0, 256, (6, 4, 3), np.uint8),
    }
    entries = []
    for name, values in pixels.items():
      Image.fromarray(values).save(self.raw / name)
      entries.append({'image_path': name, 'rects': []})
    entries[0]['rects'] = [
      {'x1': 0.1, 'y1': 1 / 3, 'x2': 6, 'y2': 4, 'class': 'b'},
      {'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4, 'class': 'a'},
    ]
    (self.raw / 'list.json').write_text(json.dumps(entries))
    rows = {
      'gray.png': [
        (0, (1 / 3, 0.1, 4, 6), 2, False, 0),
        (0, (2, 1, 4, 3), 1, False, 1),
      ],
      'color.png': [],
    }
    found = self.open('boxes_json', rows)
    for name, values in pixels.items():
      case, length = found[name]
      self.assertEqual(length, 1)
      self.assertEqual(case.volume.voxels.dtype, np.uint8)
      self.assertIsNone(case.volume.spacing[0])
      np.testing.assert_array_equal(case.volume.voxels, values[None])


if __name__ == '__main__':
  absltest.main()
