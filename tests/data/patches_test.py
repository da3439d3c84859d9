import pathlib
import pickle

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage

from medzoo import types
from medzoo.data import patches
from medzoo.data import places
from medzoo.data import volumes
from tests.data import phantom_cases

_WINDOW = {'name': 'window', 'low': -1000.0, 'high': 0.0}


def _arguments(**changes):
  values = {
    'shape': (15, 20, 20),
    'margin': 2,
    'window': _WINDOW,
    'spacing': (1.0, 1.0, 1.0),
    'region': 'none',
    'shifted': 4,
    'shift_mm': 5.0,
    'random_per_scan': 15,
    'hard': None,
    'hard_per_scan': 0,
    'seed': 0,
  }
  return values | changes


class PatchesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'patches'

  def _derive(self, cases, name='patches', **changes):
    folder = patches.derive(
      cases, self.folder.with_name(name), **_arguments(**changes)
    )
    return patches.PatchStore(folder), np.load(folder / 'table.npz')

  def test_counts_and_rows(self):
    cases = [
      phantom_cases.case('a', [(14, 30, 30), (20, 20, 45)]),
      phantom_cases.case('b'),
    ]
    store, table = self._derive(cases)
    self.assertLen(store, 2 * 5 + 2 * 15)
    self.assertEqual(store[0]['image'].shape, (19, 24, 24))
    self.assertEqual(store[0]['image'].dtype, np.float16)
    self.assertSequenceEqual(
      store.kinds[:12].tolist(),
      ['annotation'] * 2 + ['shifted'] * 8 + ['random'] * 2,
    )
    self.assertEqual(np.sum(table['series'] == 'b'), 15)
    self.assertSetEqual(
      set(store.groups.tolist()), {'patient of a', 'patient of b'}
    )
    np.testing.assert_array_equal(store.labels > 0, store.kinds != 'random')
    np.testing.assert_array_equal(table['diameter'], 8.0 * store.labels)
    for name in ('labels', 'offset', 'diameter'):
      self.assertEqual(
        table[name].dtype, np.int32 if name == 'labels' else np.float32
      )

  def test_offset_points_at_the_lesion(self):
    case = phantom_cases.case('a', [(14.3, 30.2, 33.7)])
    store, _ = self._derive([case], shape=(25, 30, 30), shifted=9)
    for i in np.flatnonzero(store.labels):
      example = store[i]
      found = np.array(ndimage.center_of_mass(example['image'].astype(float)))
      found -= (np.array(example['image'].shape) - 1) / 2
      np.testing.assert_allclose(example['offset'], found, atol=0.15)
      # The first is cut at the whole voxel nearest to the lesion.
      limit = 0.5 if store.kinds[i] == 'annotation' else 5.5
      self.assertLessEqual(np.abs(example['offset']).max(), limit)

  def test_voxels_are_those_of_prepare(self):
    case = phantom_cases.case('a', [(14, 30, 30)])
    store, _ = self._derive([case], shifted=0, random_per_scan=0)
    prepared = volumes.prepare(case.volume, _WINDOW, (1.0, 1.0, 1.0))
    center = prepared.world_to_index(case.lesions.centers)[0]
    start = np.round(center - store[0]['offset'] - [9, 11.5, 11.5]).astype(int)
    box = tuple(
      slice(s, s + n) for s, n in zip(start, (19, 24, 24), strict=True)
    )
    np.testing.assert_allclose(
      store[0]['image'], prepared.voxels[box], atol=1e-3
    )

  def test_moving_the_scan_moves_nothing_else(self):
    case = phantom_cases.case('a', [(14, 30, 30)])
    moved = types.Volume(
      case.volume.voxels,
      case.volume.spacing,
      (0.0, 0.0, 0.0),
      series_uid='a',
    )
    index = case.volume.world_to_index(case.lesions.centers)
    other = types.Case(
      moved,
      'patient of a',
      phantom_cases.findings(moved.index_to_world(index), [8.0]),
      case.excluded,
    )
    first, _ = self._derive([case])
    second, _ = self._derive([other], name='other')
    for i in range(len(first)):
      np.testing.assert_array_equal(first[i]['image'], second[i]['image'])
      np.testing.assert_allclose(
        first[i]['offset'], second[i]['offset'], atol=1e-4
      )

  def test_outside_is_air(self):
    case = phantom_cases.case('a', [(0, 0, 0)])
    store, _ = self._derive([case], shifted=0, random_per_scan=0)
    image = store[0]['image']
    middle = (np.array(image.shape) - 1) / 2
    np.testing.assert_array_equal(image[: int(middle[0])], 0)
    self.assertGreater(image[9, 12, 12], 0.9)

  @parameterized.parameters(None, 1)
  def test_random_negatives_keep_away(self, seed):
    excluded = phantom_cases.findings([(-40.0, 110.0, 110.0)], [-1.0])
    case = phantom_cases.case(
      'a', [(14, 30, 30)], diameters=np.array([20.0]), excluded=excluded
    )
    volume = volumes.resample(case.volume)
    spheres = places.forbidden(case, volume, 5.0)
    np.testing.assert_allclose(spheres.radii, [15, 10])
    found = places.anywhere(
      volume,
      'none',
      spheres,
      4000,
      whole_shape=None if seed is None else (15, 20, 20),
      rng=np.random.default_rng(seed),
    )
    self.assertLen(found, 4000)
    self.assertLen(np.unique(found, axis=0), 4000)
    self.assertTrue(spheres.are_clear(found).all())
    np.testing.assert_array_less(-1, found)
    self.assertTrue((found < volume.voxels.shape).all())
    if seed is not None:
      start = np.round(found - np.array([7, 9.5, 9.5]))
      self.assertTrue((start >= 0).all())
      self.assertTrue((start + (15, 20, 20) <= volume.voxels.shape).all())

  def test_erasing_equals_asking_each_voxel(self):
    volume = volumes.resample(phantom_cases.case('a').volume, (1.5, 1.0, 1.0))
    rng = np.random.default_rng(0)
    shape = np.array(volume.voxels.shape)
    spheres = places.Spheres(
      rng.uniform(-5, shape + 5, (6, 3)), rng.uniform(2, 15, 6), (1.5, 1.0, 1.0)
    )
    mask = spheres.erased(np.ones(shape, bool))
    every = np.argwhere(np.ones(shape, bool))
    np.testing.assert_array_equal(mask.ravel(), spheres.are_clear(every))

  def test_cubes_of_one_lesion(self):
    """50 voxel cubes have room for negatives by centre, whole patch inside."""
    case = phantom_cases.case('a', [(12, 31, 31)], shape=(25, 63, 63))
    _, table = self._derive([case], shape=(25, 46, 46), margin=0, inside=True)
    self.assertEqual(np.sum(table['kind'] == 'random'), 15)

  def test_no_room_gives_fewer(self):
    case = phantom_cases.case('a', [(5, 12, 12)], shape=(11, 25, 25))
    _, table = self._derive([case], exclusion_mm=30.0)
    self.assertEqual(np.sum(table['kind'] == 'random'), 0)

  def test_hard_negatives(self):
    case = phantom_cases.case('a', [(14, 30, 30)])
    lesion = case.lesions.centers[0]
    candidates = np.array(
      [
        [*(lesion + (0, 0, 12)), 0.2],
        [*lesion, 0.99],
        [*(lesion + (12, 0, 0)), 0.9],
        [*(lesion + (0, 8.9, 0)), 0.8],
        [*(lesion + (0, 12, 0)), 0.5],
        [*(lesion + (900, 0, 0)), 0.7],
      ]
    )
    volume = volumes.resample(case.volume)
    spheres = places.forbidden(case, volume, 5.0)
    found = volume.index_to_world(places.surest(volume, candidates, spheres, 2))
    np.testing.assert_allclose(found, candidates[[2, 4], :3], atol=1e-9)
    store, _ = self._derive(
      [case],
      hard={'a': candidates},
      hard_per_scan=2,
      shifted=0,
      random_per_scan=0,
    )
    self.assertSequenceEqual(
      store.kinds.tolist(), ['annotation', 'hard', 'hard']
    )

  def test_classes_and_unknown_diameters(self):
    case = phantom_cases.case(
      'a',
      [(14, 30, 30), (20, 20, 45)],
      diameters=np.array([np.nan, 6.0]),
      labels=[2, 3],
    )
    store, table = self._derive([case], shifted=1, random_per_scan=0)
    self.assertSequenceEqual(store.labels.tolist(), [2, 3, 2, 3])
    np.testing.assert_array_equal(table['diameter'], [np.nan, 6, np.nan, 6])

  def test_lesion_of_unknown_place(self):
    case = phantom_cases.case('a', [(14, 30, 30)])
    vague = types.Case(
      case.volume,
      case.group,
      phantom_cases.findings(
        [case.lesions.centers[0], (np.nan,) * 3], [8.0, np.nan]
      ),
      case.excluded,
    )
    store, _ = self._derive([vague])
    self.assertSequenceEqual(
      store.kinds.tolist(), ['annotation'] + ['shifted'] * 4
    )

  def test_same_bytes_whatever_the_workers(self):
    cases = [
      phantom_cases.case(name, [(14, 30, 30)] if name != 'c' else [])
      for name in 'abcd'
    ]
    contents = []
    for workers in (1, 3):
      folder = self.folder.with_name(f'with {workers}')
      patches.derive(cases, folder, **_arguments(), workers=workers)
      contents.append((folder / 'cubes.npy').read_bytes())
    self.assertEqual(contents[0], contents[1])
    reversed_store, table = self._derive(cases[::-1], name='reversed')
    first = patches.PatchStore(self.folder.with_name('with 1'))
    np.testing.assert_array_equal(
      reversed_store[int(np.flatnonzero(table['series'] == 'a')[-1])]['image'],
      first[19]['image'],
    )

  def test_lesion_outside_is_an_error_and_leaves_no_folder(self):
    case = phantom_cases.case('a', [(14, 30, 300)])
    with self.assertRaisesRegex(ValueError, 'a: lesion centre at voxel'):
      self._derive([case])
    self.assertFalse(self.folder.exists())

  def test_nothing_and_twice_are_errors(self):
    case = phantom_cases.case('a')
    with self.assertRaisesRegex(ValueError, 'no patch at all'):
      self._derive([case], random_per_scan=0)
    self._derive([case])
    with self.assertRaisesRegex(ValueError, 'exists already'):
      self._derive([case])

  def test_store_travels_to_workers(self):
    store, _ = self._derive([phantom_cases.case('a', [(14, 30, 30)])])
    sent = pickle.dumps(store)
    self.assertLess(len(sent), 1000)
    np.testing.assert_array_equal(
      pickle.loads(sent)[3]['image'], store[3]['image']
    )

  def test_middles_are_those_of_the_crop(self):
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[9, 10, 11] = 1
    centers = np.array([[9.0, 10, 11], [9.4, 9.2, 12.1], [8.5, 10.5, 11.5]])
    for size in ((5, 5, 5), (4, 6, 8)):
      cubes = patches.crop(voxels, centers, size)
      offsets = [9, 10, 11] - patches.middles(centers, size)
      for cube, offset in zip(cubes, offsets, strict=True):
        place = np.argwhere(cube)[0] - (np.array(size) - 1) / 2
        np.testing.assert_array_equal(place, offset)


if __name__ == '__main__':
  absltest.main()
