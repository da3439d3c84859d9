import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from datasets.luna16_tiles import luna16_tiles_dataset_builder
from medzoo.data import sources
from tests import real_data


def _arrays(count=24):
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (count, 6, 5), np.uint8),
    'label': (np.arange(count) % 2).astype(np.uint8),
    'split': (np.arange(count) // 2 % 3).astype(np.uint8),
    'candidate_row': rng.permutation(1000)[:count].astype(np.int32),
  }


class Luna16TilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def prepare(self, arrays, **options):
    np.savez_compressed(self.raw / 'tiles_50x50.npz', **arrays)
    return build.prepare(
      'luna16_tiles',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )

  def test_tiles_keep_their_split_and_their_class(self):
    arrays = _arrays()
    directory = self.prepare(arrays, blocks=4)
    for number, split in enumerate(('train', 'validation', 'test')):
      cases = sources.open_cases(directory, split)
      members = np.flatnonzero(arrays['split'] == number)
      self.assertEqual(cases.labels, arrays['label'][members].tolist())
      for case, i in zip(cases, members, strict=True):
        np.testing.assert_array_equal(case.volume.voxels[0], arrays['image'][i])
        self.assertEqual(
          case.volume.series_uid, f'row_{arrays["candidate_row"][i]:06}'
        )
    report = json.loads(
      pathlib.Path(directory, 'build_report.json').read_text()
    )
    self.assertEqual(report['classes'], ['nodule'])
    self.assertEqual(report['background'], 'no nodule')
    self.assertIn('splits are by candidate', report['notes'][0])

  def test_groups_are_blocks_of_neighbouring_candidates(self):
    arrays = _arrays()
    cases = sources.open_cases(self.prepare(arrays, blocks=4), 'all')
    ordered = sorted(zip(cases.keys, cases.groups, strict=True))
    expected = [f'block_{i:03}' for i in range(4) for _ in range(6)]
    self.assertEqual([group for _, group in ordered], expected)

  def test_another_tile_gives_another_dataset(self):
    arrays = _arrays()
    first = self.prepare(arrays)
    arrays['image'][3, 2, 1] ^= 1
    second = self.prepare(arrays)
    self.assertNotEqual(first, second)
    found = sources.open_cases(second, 'all')
    key = f'row_{arrays["candidate_row"][3]:06}'
    np.testing.assert_array_equal(
      found[found.keys.index(key)].volume.voxels[0], arrays['image'][3]
    )

  @parameterized.named_parameters(
    ('no_labels', {'label': None}, "found no array 'label' that can be read"),
    ('floats', {'label': np.zeros(24)}, r'found label \(24,\) of float64'),
    ('lengths', {'split': np.zeros(3, int)}, 'found .* as many of each'),
    ('class', {'label': np.full(24, 2)}, 'found label from 2 to 2'),
    ('split', {'split': np.full(24, 3)}, 'found split from 3 to 3'),
    ('deep', {'image': np.zeros((24, 5, 5), int)}, 'found image of int64'),
  )
  def test_other_arrays_are_refused(self, changes, message):
    arrays = {**_arrays(), **changes}
    with self.assertRaisesRegex(ValueError, f'tiles_50x50.npz: {message}'):
      self.prepare({x: y for x, y in arrays.items() if y is not None})

  def test_files_that_are_no_tiles_are_refused(self):
    (self.raw / 'a.txt').write_text('nothing')
    with self.assertRaisesRegex(ValueError, 'found 0 .npz files'):
      build.prepare(
        'luna16_tiles', manual_dir=self.raw, data_dir=self.folder / 'data'
      )
    (self.raw / 'a.npz').write_text('nothing')
    with self.assertRaisesRegex(ValueError, 'a.npz: found no array'):
      build.prepare(
        'luna16_tiles', manual_dir=self.raw, data_dir=self.folder / 'data'
      )


class RealTilesTest(absltest.TestCase):
  def test_published_tiles(self):
    root = real_data.folder('luna16_tiles_2d')
    builder = luna16_tiles_dataset_builder.Builder(
      data_dir=self.create_tempdir().full_path
    )
    listed = builder.list_cases(root).splits
    for split, count in (('train', 1690), ('validation', 448), ('test', 564)):
      self.assertLen(listed[split], count)
      self.assertEqual(sum(x.label for x in listed[split]), count // 2)
    tiles = [tile for split in listed.values() for tile in split]
    self.assertLen({tile.row for tile in tiles}, 2702)
    groups = [str(tile.block) for tile in tiles]
    self.assertLen(set(groups), 100)
    folds = sources.kfold(groups, 5, seed=0)
    self.assertEqual({len(fold) // 27 for fold in folds}, {20})
    key, record = builder.read(tiles[0])
    self.assertEqual(key, 'row_147683')
    self.assertEqual(record['voxels_uint8'].shape, (1, 50, 50, 1))
    self.assertEqual(record['label'], 1)


if __name__ == '__main__':
  absltest.main()
