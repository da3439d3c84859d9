import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets import build
from datasets import cases
from medzoo.data import sources

_FULL = {'x1': 2, 'y1': 3, 'x2': 8, 'y2': 5.5}


def _picture(name, *boxes):
  return {'image_path': name, 'rects': list(boxes)}


class BoxesJsonTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def draw(self, *names, shape=(10, 12, 3)):
    """Writes pictures, each of other pixels, and returns the last one's."""
    for name in names:
      path = self.raw / name
      path.parent.mkdir(parents=True, exist_ok=True)
      random = np.random.default_rng(list(name.encode()))
      pixels = random.integers(0, 256, shape, np.uint8)
      Image.fromarray(pixels).save(path)
    return pixels

  def list(self, name, *entries):
    path = self.raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))

  def prepare(self, **options):
    directory = build.prepare(
      'boxes_json',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    return directory, report

  def keys(self, directory):
    return {
      split: sorted(sources.open_cases(directory, split).keys)
      for split in sources.split_names(directory)
    }

  def test_pictures_and_boxes_return(self):
    colours = self.draw('a.png')
    greys = self.draw('sub/b.bmp', shape=(4, 6))
    self.list(
      'boxes.json',
      _picture('./a.png', _FULL | {'class': 'b'}, _FULL | {'class': 'a'}),
      _picture('sub/b.bmp'),
    )
    directory, report = self.prepare(shares={'train': 1})
    a, b = sources.open_cases(directory, 'train')
    self.assertEqual(a.volume.series_uid, 'a.png')
    self.assertEqual(a.volume.spacing, (None, 1.0, 1.0))
    self.assertEqual(a.volume.modality, '')
    np.testing.assert_array_equal(a.volume.voxels, colours[None])
    np.testing.assert_array_equal(b.volume.voxels, greys[None])
    np.testing.assert_array_equal(a.boxes.corners, [[3, 2, 5.5, 8]] * 2)
    self.assertEqual(a.boxes.slices.tolist(), [0, 0])
    self.assertEqual(a.boxes.labels.tolist(), [2, 1])
    self.assertEqual(a.boxes.ignored.tolist(), [False, False])
    self.assertEqual(a.boxes.findings.tolist(), [0, 1])
    self.assertEmpty(b.boxes)
    self.assertIsNotNone(b.boxes)
    self.assertEmpty(a.lesions)
    self.assertEmpty(a.excluded)
    self.assertEqual(report['classes'], ['a', 'b'])
    self.assertEqual(report['splits']['train']['boxes'], 2)
    self.assertEqual(report['repairs'], {})

  def test_boxes_are_brought_within_the_picture(self):
    self.draw('a.png', 'b.png')
    self.list(
      'boxes.json',
      _picture(
        'a.png',
        {'x1': 9, 'y1': -4, 'x2': 30, 'y2': 2},
        {'x1': 4, 'y1': 4, 'x2': 4, 'y2': 9},
        {'x1': 12, 'y1': 0, 'x2': 20, 'y2': 5},
      ),
      _picture('b.png', {'x1': 0, 'y1': 0, 'x2': 12, 'y2': 10}),
    )
    directory, report = self.prepare(shares={'train': 1})
    a, b = sources.open_cases(directory, 'train').boxes
    np.testing.assert_array_equal(a.corners, [[0, 9, 2, 12]])
    np.testing.assert_array_equal(b.corners, [[0, 0, 10, 12]])
    self.assertEqual(
      report['repairs'], {'boxes_clipped': 1, 'boxes_without_area_dropped': 1}
    )

  def test_the_old_layout_trains_unchanged(self):
    names = {
      'train': ['LIDC-IDRI-0001.dat_1_.bmp', 'LIDC-IDRI-0001.dat_2_.bmp'],
      'val': ['LIDC-IDRI-0002.dat_1_.bmp'],
      'test': ['LIDC-IDRI-0003.dat_1_.bmp'],
    }
    for split, some in names.items():
      some = names[split] = [f'lung_data/{name}' for name in some]
      self.draw(*some)
      self.list(
        f'lung_{split}.json', *(_picture(f'./{x}', _FULL) for x in some)
      )
    (self.raw / 'hypes.json').write_text('{"batch_size": 1}')
    directory, report = self.prepare()
    names['validation'] = names.pop('val')
    self.assertEqual(self.keys(directory), names)
    self.assertEqual(report['classes'], ['object'])
    self.assertEqual(report['notes'], ['groups are 3 LIDC-IDRI patients'])
    # The patient and not the name becomes the pseudonym.
    self.assertEqual(
      set(sources.open_cases(directory, 'train').groups),
      {cases.pseudonym('LIDC-IDRI-0001')},
    )

  def test_three_formats_stand_beside_each_other(self):
    self.draw('a.png', 'b.png', 'c.png')
    self.list('train.json', _picture('a.png', _FULL))
    (self.raw / 'val.idl').write_text('"b.png": (2, 3, 8, 5.5).\n')
    (self.raw / 'test.txt').write_text('c.png\n2\n2 1 1 4 4\n1 2 3 6 2\n')
    (self.raw / 'README.txt').write_text('Tests are\nin test.txt\n')
    directory, report = self.prepare()
    self.assertEqual(
      self.keys(directory),
      {'train': ['a.png'], 'validation': ['b.png'], 'test': ['c.png']},
    )
    (test,) = sources.open_cases(directory, 'test').boxes
    self.assertEqual(test.ignored.tolist(), [True, False])
    self.assertEqual(test.labels.tolist(), [1, 1])
    self.assertEqual(report['classes'], ['nodule'])
    self.assertEqual(report['splits']['test']['boxes'], 1)

  @parameterized.named_parameters(
    ('by_patient', 'x/LIDC-IDRI-{:04d}_{}.png', {}),
    ('by_folder', 'pictures/{}/{}.png', {}),
    ('by_expression', 'P{}_{}.png', {'group': r'P(\d+)_'}),
    ('by_whole_expression', 'P{}_{}.png', {'group': r'P\d+'}),
  )
  def test_no_group_is_on_both_sides(self, form, options):
    names = [form.format(i, j) for i in range(12) for j in range(3)]
    self.draw(*names, shape=(2, 2))
    half = len(names) // 2
    self.list('one.json', *(_picture(x) for x in names[:half]))
    self.list('two.json', *(_picture(x) for x in names[half:]))
    directory, report = self.prepare(**options)
    self.assertRegex(report['notes'][0], r'\b12\b')
    met = {}
    for split in ('train', 'validation', 'test'):
      part = sources.open_cases(directory, split)
      for key, group in zip(part.keys, part.groups, strict=True):
        met.setdefault(group, set()).add((split, names.index(key) // 3))
    self.assertLen(met, 12)
    self.assertLen(set.union(*met.values()), 12)

  def test_a_split_without_a_list_is_taken_from_training(self):
    names = [f'{i}/{j}.png' for i in range(9) for j in range(2)]
    self.draw(*names, 'test.png', shape=(2, 2))
    self.list('train.json', *(_picture(name) for name in names))
    self.list('test.json', _picture('test.png'))
    directory, _ = self.prepare(shares={'train': 8, 'validation': 1, 'test': 5})
    sizes = {name: len(keys) for name, keys in self.keys(directory).items()}
    self.assertEqual(sizes, {'train': 16, 'validation': 2, 'test': 1})

  def test_lists_can_be_named(self):
    self.draw('a.png', 'b.png', 'c.png', 'd.png')
    for name in 'abcd':
      self.list(f'lists/{name}.json', _picture(f'../{name}.png'))
    directory, _ = self.prepare(
      train='lists/[ab].json', validation='lists/c.json', test='lists/d.json'
    )
    self.assertEqual(
      self.keys(directory),
      {
        'train': ['a.png', 'b.png'],
        'validation': ['c.png'],
        'test': ['d.png'],
      },
    )

  def test_shared_groups_are_refused_unless_accepted(self):
    self.draw('p/a.png', 'p/b.png', 'q/c.png', shape=(2, 2))
    self.list('train.json', _picture('p/a.png'))
    self.list('val.json', _picture('p/b.png'))
    self.list('test.json', _picture('q/c.png'))
    name = cases.pseudonym('p')
    with self.assertRaisesRegex(
      ValueError, rf'raw: found 1 groups in more .*\({name}\), .* 2 folders'
    ):
      self.prepare()
    directory, report = self.prepare(shared_groups=True)
    self.assertLen(sources.open_cases(directory, 'all'), 3)
    self.assertIn('1 groups are in more than one split', report['notes'])

  def test_missing_and_unreadable_pictures_are_left_out(self):
    self.draw('a.png')
    (self.raw / 'b.png').write_bytes(b'no picture')
    self.list('boxes.json', *(_picture(f'{x}.png', _FULL) for x in 'abc'))
    _, report = self.prepare(shares={'train': 1})
    self.assertEqual(report['left_out'], {'missing': 1, 'unreadable': 1})
    found = {x['series']: x['detail'] for x in report['left_out_cases']}
    self.assertEndsWith(found['c.png'], 'boxes.json: entry 3 names it')
    self.assertIn('b.png: found what cannot be read', found['b.png'])

  def test_files_outside_of_the_folder_count(self):
    self.draw('../a.png', '../b.png', 'c.png')
    absolute = str((self.raw / '../b.png').resolve())
    self.list('boxes.json', _picture('../a.png'), _picture(absolute))
    first, _ = self.prepare(shares={'train': 1})
    self.assertEqual(self.keys(first), {'train': ['../a.png', '../b.png']})
    self.draw('../a.png', shape=(5, 5))
    second, _ = self.prepare(shares={'train': 1})
    self.assertNotEqual(first, second)

  def test_a_picture_may_be_listed_again_only_alike(self):
    self.draw('a.png', 'b.png')
    self.list('one.json', _picture('a.png', _FULL))
    self.list('two.json', _picture('./a.png', _FULL), _picture('b.png'))
    directory, _ = self.prepare(shares={'train': 1})
    self.assertLen(sources.open_cases(directory, 'train'), 2)
    self.list('two.json', _picture('a.png'))
    with self.assertRaisesRegex(
      ValueError, 'two.json: entry 1: found a.png again, .*one.json: entry 1'
    ):
      self.prepare()
    self.list('two.json', _picture('a.png', _FULL))
    with self.assertRaisesRegex(ValueError, 'two.json: entry 1: found a.png a'):
      self.prepare(train='one.json', test='two.json', shared_groups=True)

  def test_classes_have_the_order_asked_for(self):
    self.draw('a.png')
    boxes = [_FULL | {'classID': name} for name in (2, 10, 'x')]
    self.list('boxes.json', _picture('a.png', *boxes))
    directory, report = self.prepare(shares={'train': 1})
    self.assertEqual(report['classes'], ['x', '2', '10'])
    classes = ('10', 'unmet', 'x', '2')
    directory, report = self.prepare(shares={'train': 1}, classes=classes)
    self.assertEqual(report['classes'], list(classes))
    (found,) = sources.open_cases(directory, 'train').boxes
    self.assertEqual(found.labels.tolist(), [4, 1, 3])

  @parameterized.named_parameters(
    ('class', {'classes': ('b',)}, "entry 1: found a box of class 'a', expe"),
    ('twice', {'classes': ('a', 'a')}, 'expected each name once'),
    ('no_list', {'test': 'none*.json'}, r'raw: found no none\*.json, the list'),
    ('absolute', {'test': '/none*.json'}, r'raw: found no /none\*.json, the l'),
    ('no_group', {'group': 'P(.)'}, r"a.png: found no match of the group 'P\("),
    ('bad_group', {'group': 'P('}, r"found the group 'P\(', expected a regula"),
  )
  def test_a_bad_option_is_named(self, options, message):
    self.draw('a.png')
    self.list('boxes.json', _picture('a.png', _FULL | {'class': 'a'}))
    with self.assertRaisesRegex(ValueError, message):
      self.prepare(**options)

  def test_bad_lists_are_named(self):
    with self.assertRaisesRegex(ValueError, 'raw: found no list of boxes'):
      self.prepare()
    self.draw('a.png')
    self.list('boxes.json', _picture('gone.png'))
    with self.assertRaisesRegex(ValueError, 'no case that can .*: 1 missing'):
      self.prepare()
    self.list('boxes.json', _picture('a.png', _FULL, _FULL | {'class': 'a'}))
    directory, report = self.prepare()
    self.assertEqual(report['classes'], ['a'])
    boxes = [_FULL | {'class': name} for name in 'ab']
    self.list('boxes.json', _picture('a.png', _FULL, *boxes))
    with self.assertRaisesRegex(
      ValueError, 'entry 1: found a box of no class, expected one of a, b'
    ):
      self.prepare()
    self.list('trainval.json', _picture('a.png'))
    with self.assertRaisesRegex(
      ValueError, 'trainval.json: found a name that fits train and validation'
    ):
      self.prepare()

  def test_phantoms_build(self):
    directory = build.prepare(
      'boxes_json/phantom_smoke', data_dir=self.folder / 'data'
    )
    report = json.loads(
      (pathlib.Path(directory) / 'build_report.json').read_text()
    )
    self.assertEqual(report['classes'], ['solid', 'subsolid'])
    self.assertEqual(report['left_out'], {})
    self.assertEqual(report['repairs'], {})
    for split in ('train', 'validation', 'test'):
      self.assertGreater(report['splits'][split]['boxes'], 0)
    case = sources.open_cases(directory, 'train')[0]
    self.assertEqual(case.volume.voxels.shape, (1, 128, 176, 3))


if __name__ == '__main__':
  absltest.main()
