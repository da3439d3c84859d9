import concurrent.futures
import pathlib
import pickle
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.io import volumes

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


if __name__ == '__main__':
  absltest.main()
