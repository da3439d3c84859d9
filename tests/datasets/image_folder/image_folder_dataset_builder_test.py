import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets import build
from datasets import cases
from medzoo.data import sources
from tests.io import dicom_maker
from tests.io import radiographs_test

_ALL = {'shares': {'train': 1}}


def _pixels(seed=0, shape=(8, 6), dtype=np.uint8):
  high = np.iinfo(dtype).max + 1
  return np.random.default_rng(seed).integers(0, high, shape, dtype)


class ImageFolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def save(self, name, pixels=None):
    path = self.raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels() if pixels is None else pixels).save(path)

  def prepare(self, **options):
    directory = build.prepare(
      'image_folder',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = pathlib.Path(directory, 'build_report.json').read_text()
    return directory, json.loads(report)

  def read(self, **options):
    """Returns the cases by key, and the report."""
    directory, report = self.prepare(**(_ALL | options))
    found = sources.open_cases(directory, 'all')
    return dict(zip(found.keys, found, strict=True)), report

  def splits(self, directory):
    return {
      split: sources.open_cases(directory, split).keys
      for split in sources.split_names(directory)
    }

  def test_pictures_keep_their_colours(self):
    colours, greys = _pixels(1, (8, 6, 3)), _pixels(2)
    deep = _pixels(3, dtype=np.uint16)
    self.save('polyps/sub/a.png', colours)
    self.save('polyps/b.bmp', greys)
    self.save('mucosa/c.tif', deep)
    dicom_maker.save(
      radiographs_test.film(_pixels(4).astype(np.uint16)),
      self.raw / 'mucosa/d.dcm',
    )
    (self.raw / 'mucosa/notes.txt').write_text('x')
    found, report = self.read()
    self.assertEqual(
      {key: case.label for key, case in found.items()},
      {
        'mucosa/c.tif': 0,
        'mucosa/d.dcm': 0,
        'polyps/b.bmp': 1,
        'polyps/sub/a.png': 1,
      },
    )
    for key, expected in (
      ('polyps/sub/a.png', colours),
      ('polyps/b.bmp', greys),
      ('mucosa/c.tif', deep),
    ):
      np.testing.assert_array_equal(found[key].volume.voxels, expected[None])
    self.assertEqual(found['polyps/b.bmp'].volume.voxels.dtype, np.uint8)
    film = found['mucosa/d.dcm'].volume.voxels[0].astype(int)
    self.assertEqual((film.min(), film.max()), (0, 32767))
    self.assertEqual(report['classes'], ['polyps'])
    self.assertEqual(report['background'], 'mucosa')
    self.assertIn('looked for, is polyps, and not mucosa', str(report))
    self.assertIn(
      'groups are 1 DICOM patients and 3 pictures by themselves',
      report['notes'],
    )

  def test_the_positive_folder_is_chosen(self):
    self.save('abnormal/a.png')
    self.save('normal/b.png')
    found, report = self.read(positive='abnormal')
    self.assertEqual([x.label for x in found.values()], [1, 0])
    self.assertEqual(report['classes'], ['abnormal'])
    self.assertNotIn('looked for', str(report['notes']))
    found, _ = self.read(positive='normal')
    self.assertEqual([x.label for x in found.values()], [0, 1])
    with self.assertRaisesRegex(
      ValueError, "positive 'x', expected one of abn"
    ):
      self.read(positive='x')

  def test_what_is_called_normal_is_not_looked_for(self):
    self.save('nodule/a.png')
    self.save('Normal/b.png')
    found, report = self.read()
    self.assertEqual(
      {key: case.label for key, case in found.items()},
      {'nodule/a.png': 1, 'Normal/b.png': 0},
    )
    self.assertEqual(
      (report['background'], report['classes']), ('Normal', ['nodule'])
    )

  def test_three_classes_and_more_go_by_the_alphabet(self):
    for name in ('small', 'none', 'nodule', 'non_nodule'):
      self.save(f'{name}/a.png')
    found, report = self.read()
    self.assertEqual(
      {key: case.label for key, case in found.items()},
      {
        'nodule/a.png': 0,
        'non_nodule/a.png': 1,
        'none/a.png': 2,
        'small/a.png': 3,
      },
    )
    self.assertEqual(report['background'], 'nodule')
    self.assertEqual(report['classes'], ['non_nodule', 'none', 'small'])
    self.assertIn(
      'classes from 0 on, by the alphabet: nodule, non_nodule, none, small',
      report['notes'],
    )
    with self.assertRaisesRegex(
      ValueError,
      "positive 'none' and the classes nodule, non_nodule, none, small, "
      'expected it with two classes only; leave it out$',
    ):
      self.read(positive='none')

  def test_kerass_folders_are_splits(self):
    for split in ('train', 'val', 'Test'):
      for name in ('polyps', 'non_polyps'):
        self.save(f'{split}/{name}/{split}.png')
    directory, _ = self.prepare()
    self.assertEqual(
      self.splits(directory),
      {
        'train': ['train/non_polyps/train.png', 'train/polyps/train.png'],
        'validation': ['val/non_polyps/val.png', 'val/polyps/val.png'],
        'test': ['Test/non_polyps/Test.png', 'Test/polyps/Test.png'],
      },
    )
    found = sources.open_cases(directory, 'all')
    self.assertEqual(found.labels, [0, 1] * 3)

  @parameterized.parameters('group', 'patients.csv')
  def test_no_patient_is_on_both_sides(self, how):
    lines = ['file,patient']
    for i in range(30):
      for k in range(1 + i % 3):
        name = f'{"ab"[i % 5 == 0]}/P{i}_{k}.png'
        self.save(name)
        lines.append(f'{name},P{i}')
    options = {}
    if how == 'group':
      options = {'group': r'/(P\d+)_'}
    else:
      self.save('a/unknown.png')
      (self.raw / how).write_text('\n'.join([*lines, 'a/gone.png,Q']))
    directory, report = self.prepare(**options)
    met = {}
    for split, keys in self.splits(directory).items():
      part = sources.open_cases(directory, split)
      self.assertEqual(set(part.labels), {0, 1})
      for key, group in zip(keys, part.groups, strict=True):
        patient = key[2:].partition('_')[0]
        self.assertEqual(group, cases.pseudonym(patient))
        met.setdefault(patient, set()).add(split)
    self.assertLen(met, 30)
    self.assertEqual({len(x) for x in met.values()}, {1})
    expected = {} if options else {'missing': 1, 'no_patient': 1}
    self.assertEqual(report['left_out'], expected)

  def test_a_tables_splits_are_kept(self):
    for name in 'ab':
      for i in range(2):
        self.save(f'{name}/{i}.png')
    (self.raw / 'patients.csv').write_text(
      'file,patient,split\na/0.png,p,train\nb/0.png,p,train\n'
      'a/1.png,q,test\nb/1.png,r,validation\n'
    )
    self.assertEqual(
      self.splits(self.prepare()[0]),
      {
        'train': ['a/0.png', 'b/0.png'],
        'validation': ['b/1.png'],
        'test': ['a/1.png'],
      },
    )

  def test_folders_that_part_a_patient_are_refused(self):
    for split in ('train', 'test'):
      for name in 'ab':
        self.save(f'{split}/{name}/p1.png')
    with self.assertRaisesRegex(
      ValueError, 'p1.png: found it in train, expected test, where test/a/p1'
    ):
      self.prepare(group=r'(p\d)')

  def test_two_sources_of_splits_are_refused(self):
    self.save('train/a/0.png')
    self.save('train/b/0.png')
    (self.raw / 'patients.csv').write_text(
      'file,patient,split\ntrain/a/0.png,p,train\ntrain/b/0.png,p,train\n'
    )
    with self.assertRaisesRegex(ValueError, 'splits by folders and by a table'):
      self.prepare()

  @parameterized.named_parameters(
    ('one', ['a/0.png'], r'found pictures of 1 classes \(a\), expected a fold'),
    ('none', ['0.png'], r'0 classes \(none\)'),
    ('mixed', ['a/0.png', 'train/b/0.png'], 'folders a, train, expected eit'),
    ('within', ['train/a/0.png', 'test/a/1.png'], r'1 classes \(a\)'),
  )
  def test_an_unclear_layout_is_refused(self, names, message):
    for name in names:
      self.save(name)
    with self.assertRaisesRegex(ValueError, message):
      self.prepare()

  def test_what_is_amiss_is_left_out(self):
    for name in ('a/0.png', 'b/0.png', 'b/broken.png', 'beside.png'):
      self.save(name)
    path = self.raw / 'b/broken.png'
    path.write_bytes(path.read_bytes()[:40])
    (self.raw / 'b/text.dcm').write_text('no film')
    found, report = self.read()
    self.assertEqual(set(found), {'a/0.png', 'b/0.png'})
    self.assertEqual(
      {x['series']: x['code'] for x in report['left_out_cases']},
      {
        'beside.png': 'no_class',
        'b/broken.png': 'unreadable',
        'b/text.dcm': 'not_dicom',
      },
    )


if __name__ == '__main__':
  absltest.main()
