import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from pycocotools import mask as rle

from datasets import build
from datasets import cases
from medzoo.data import sources
from medzoo.io import lung_masks
from tests import real_data
from tests.io import dicom_maker
from tests.io import radiographs_test

_SHAPE = (40, 50)
# The patient's right lung, on the film's left, is the larger one.
_RIGHT, _LEFT = np.zeros((2, *_SHAPE), bool)
_RIGHT[5:36, 6:21] = True
_LEFT[8:34, 28:42] = True
_ALL = {'shares': {'train': 1}}


def _greys(seed=0, shape=_SHAPE):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class LungCxrTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    self.raw.mkdir()

  def save(self, name, pixels, **options):
    path = self.raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)

  def save_sides(self, name, right=_RIGHT, left=_LEFT, folders=()):
    for folder, mask in zip(
      folders or ('rightMask', 'leftMask'), (right, left), strict=True
    ):
      self.save(f'{folder}/{name}.png', mask * np.uint8(255))

  def save_coco(self, categories, pictures, name='masks.json'):
    """Writes run lengths; pictures are name -> (category's number, mask)s."""
    images, annotations = [], []
    for number, (picture, objects) in enumerate(pictures.items(), 1):
      entry = {'id': number, 'file_name': picture}
      images.append(entry | dict(zip(('height', 'width'), _SHAPE, strict=True)))
      for category, mask in objects:
        coded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotations.append(
          {
            'image_id': number,
            'category_id': category,
            'segmentation': coded | {'counts': coded['counts'].decode()},
            'bbox': [0, 0, 1, 1],
          }
        )
    path = self.raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [{'id': i, 'name': x} for i, x in enumerate(categories)]
    path.write_text(
      json.dumps(
        {'images': images, 'annotations': annotations, 'categories': names}
      )
    )

  def table(self, *lines, name='patients.csv'):
    (self.raw / name).write_text('\n'.join(lines) + '\n')

  def prepare(self, **options):
    directory = build.prepare(
      'lung_cxr',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = pathlib.Path(directory, 'build_report.json').read_text()
    return directory, json.loads(report)

  def read(self, **options):
    """Returns the cases by key, and the report."""
    directory, report = self.prepare(**_ALL, **options)
    return {
      case.volume.series_uid: case
      for case in sources.open_cases(directory, 'all')
    }, report

  def assert_lungs(self, case, right=_RIGHT, left=_LEFT):
    self.assertEqual(case.masks.labels.tolist(), [1, 2])
    np.testing.assert_array_equal(case.masks.masks, [right, left])

  def left_out(self, report):
    return {
      x['series']: f'{x["code"]}: {x["detail"]}'
      for x in report['left_out_cases']
    }

  @parameterized.parameters(
    ('rightMask', 'leftMask'),
    ('masks/Right', 'masks/Left'),
    ('ManualMask/right_mask', 'ManualMask/left_mask'),
    ('RIGHT LUNG', 'LEFT LUNG'),
  )
  def test_masks_of_either_side_are_read(self, *folders):
    self.save('images/a.png', _greys(1))
    self.save('images/sub/b.jpg', _greys(2))
    self.save_sides('a', folders=folders)
    self.save_sides('sub/b', left=_LEFT & False, folders=folders)
    found, report = self.read()
    self.assertEqual(list(found), ['images/a.png', 'images/sub/b.jpg'])
    a, b = found.values()
    np.testing.assert_array_equal(a.volume.voxels, _greys(1)[None])
    self.assertEqual(a.volume.spacing, (None, None, None))
    self.assert_lungs(a)
    self.assertEqual(b.masks.labels.tolist(), [1])
    np.testing.assert_array_equal(b.masks.masks, [_RIGHT])
    self.assertEqual(report['classes'], ['right lung', 'left lung'])
    self.assertEqual(report['splits']['train']['masks'], 3)
    self.assertEqual(report['left_out'], {})
    self.assertEqual(report['notes'], ['groups are 2 pictures by themselves'])

  def test_label_images_are_read(self):
    labels = (_RIGHT + 2 * _LEFT).astype(np.uint8)
    palette = Image.fromarray(labels, 'P')
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for name in 'abc':
      self.save(f'{name}.png', _greys())
    self.save('masks/a.png', labels)
    palette.save(self.raw / 'masks/b_mask.png')
    self.save('masks/c.png', _RIGHT.astype(np.uint8))
    found, report = self.read()
    self.assert_lungs(found['a.png'])
    self.assert_lungs(found['b.png'])
    self.assertEqual(found['c.png'].masks.labels.tolist(), [1])
    self.assertEqual(report['left_out'], {})

  @parameterized.parameters(1, 255)
  def test_whole_masks_are_split(self, value):
    whole = (_RIGHT | _LEFT) * np.uint8(value)
    for name in 'ab':
      self.save(f'images/{name}.png', _greys())
    self.save('masks/a.png', whole)
    touching = whole.copy()
    touching[20, 20:29] = value
    self.save('masks/b.png', touching)
    found, report = self.read()
    self.assert_lungs(found['images/a.png'])
    self.assertStartsWith(
      self.left_out(report)['images/b.png'], 'one_component: found one piece'
    )
    note = 'masks are of 0 and 1 only: taken for both lungs'
    self.assertEqual(note in report['notes'], value == 1)

  def test_sides_follow_a_flip_of_films_and_masks(self):
    right, left = _LEFT[:, ::-1], _RIGHT[:, ::-1]
    self.save('images/a.png', _greys()[:, ::-1])
    self.save('masks/a.png', (_RIGHT | _LEFT)[:, ::-1])
    found, _ = self.read()
    self.assert_lungs(found['images/a.png'], right, left)
    # Labels that say otherwise are doubted, unless they are meant so.
    self.save('masks/a.png', (_RIGHT + 2 * _LEFT).astype(np.uint8)[:, ::-1])
    with self.assertRaisesRegex(ValueError, 'left out: 1 mirrored'):
      self.read()
    found, _ = self.read(sides='image')
    self.assert_lungs(found['images/a.png'], right, left)
    found, _ = self.read(mirrored=True)
    self.assert_lungs(found['images/a.png'], left, right)

  @parameterized.named_parameters(
    ('sides', ('heart', 'Lung RIGHT', 'left lung'), (1, 2), {}),
    ('given', ('Left', 'RL', 'LL'), (1, 2), {'right': 'RL', 'left': 'LL'}),
    ('one_category', ('heart', 'lungs'), (1, 1), {}),
  )
  def test_coco_is_read(self, categories, numbers, options):
    for name in 'ab':
      self.save(f'images/{name}.png', _greys())
    self.save_coco(
      categories,
      {
        'a.png': [
          (numbers[1], _LEFT),
          (0, _RIGHT | _LEFT),
          (numbers[0], _RIGHT),
        ],
        'b.png': [(0, _RIGHT)],
      },
    )
    found, report = self.read(**options)
    self.assert_lungs(found['images/a.png'])
    self.assertStartsWith(self.left_out(report)['images/b.png'], 'no_mask:')
    self.assertIn(f'masks.json: passed over {categories[0]}', report['notes'])

  def test_cocos_outlines_of_a_side_are_united(self):
    self.save('a.png', _greys())
    upper = _RIGHT & (np.arange(_SHAPE[0]) < 20)[:, None]
    self.save_coco(
      ('right', 'left'),
      {'a.png': [(0, upper), (1, _LEFT), (0, _RIGHT & ~upper)]},
    )
    found, _ = self.read()
    self.assert_lungs(found['a.png'])

  def test_a_list_that_names_a_missing_film_leaves_it_out(self):
    self.save('a.png', _greys())
    both = [(0, _RIGHT), (1, _LEFT)]
    self.save_coco(('right', 'left'), {'gone.png': both, 'a.png': both})
    self.table('file,patient', 'a.png,p', 'lost.png,q')
    found, report = self.read()
    self.assertEqual(list(found), ['a.png'])
    self.assertEqual(report['left_out'], {'missing': 2})
    told = self.left_out(report)
    self.assertEndsWith(told['gone.png'], 'masks.json: images entry 1 names it')
    self.assertEndsWith(told['lost.png'], 'patients.csv:3 names it')

  def test_masks_go_before_lists(self):
    self.save('images/a.png', _greys())
    self.save_sides('a')
    self.save_coco(('right', 'left'), {'a.png': [(0, _RIGHT)]})
    found, report = self.read()
    self.assert_lungs(found['images/a.png'])
    self.assertIn('masks.json is unread: masks go before it', report['notes'])
    found, _ = self.read(kind='coco')
    self.assertEqual(found['images/a.png'].masks.labels.tolist(), [1])

  def test_odd_films_are_read_or_left_out_each_for_itself(self):
    deep = radiographs_test.film(
      _greys(1).astype(np.uint16) * 16, ImagerPixelSpacing=[0.2, 0.3]
    )
    dicom_maker.save(deep, self.raw / 'images/deep.dcm')
    deep.PhotometricInterpretation = 'MONOCHROME1'
    dicom_maker.save(deep, self.raw / 'images/turned.dcm')
    self.save('images/colour.png', _greys(2, (*_SHAPE, 3)))
    self.save('images/large.png', np.zeros((4000, 5000), np.uint8))
    self.save('images/broken.jpg', _greys(3))
    broken = self.raw / 'images/broken.jpg'
    broken.write_bytes(broken.read_bytes()[:300])
    self.save('images/half.png', _greys(4, (20, 25)))
    self.save('images/other.png', _greys(5, (40, 40)))
    self.save('images/single.png', _greys(6))
    self.save('images/alone.png', _greys(7))
    names = ('deep', 'turned', 'colour', 'large', 'broken', 'half', 'other')
    for name in (*names, 'gone'):
      self.save_sides(name)
    self.save_sides('single', right=_RIGHT & False)
    found, report = self.read()
    self.assertEqual(
      list(found),
      [
        f'images/{name}'
        for name in (
          *('colour.png', 'deep.dcm', 'half.png', 'large.png'),
          *('single.png', 'turned.dcm'),
        )
      ],
    )
    deep, turned = found['images/deep.dcm'], found['images/turned.dcm']
    self.assert_lungs(deep)
    self.assertEqual(deep.volume.voxels.dtype, np.int16)
    self.assertEqual(deep.volume.spacing, (None, 0.2, 0.3))
    both = deep.volume.voxels.astype(int) + turned.volume.voxels
    self.assertLessEqual(np.abs(both - 32767).max(), 1)
    self.assertEqual(
      found['images/colour.png'].volume.voxels.shape, (1, *_SHAPE)
    )
    large, half = found['images/large.png'], found['images/half.png']
    self.assertEqual(large.masks.masks.shape, (2, 4000, 5000))
    np.testing.assert_array_equal(
      large.masks.masks[:, 50::100, 50::100], [_RIGHT, _LEFT]
    )
    np.testing.assert_array_equal(
      half.masks.masks, [_RIGHT[1::2, 1::2], _LEFT[1::2, 1::2]]
    )
    self.assertEqual(half.volume.repairs, ('masks_resized',))
    self.assertEqual(found['images/single.png'].masks.labels.tolist(), [2])
    told = self.left_out(report)
    self.assertEqual(
      report['left_out'],
      {'missing': 2, 'no_mask': 1, 'mask_size': 1, 'unreadable': 1},
    )
    self.assertIn('broken.jpg: found what cannot', told['images/broken.jpg'])
    self.assertIn('40 x 50 pixels, expected 40 x 40', told['images/other.png'])
    self.assertStartsWith(told['images/alone.png'], 'no_mask: found none')
    self.assertEqual(
      told['leftMask/gone.png'], 'missing: found no film of this mask'
    )
    for line in told.values():
      self.assertNotIn('\n', line)

  def test_a_mask_of_one_side_alone_is_no_mask(self):
    for name in 'ab':
      self.save(f'images/{name}.png', _greys())
      self.save_sides(name)
    (self.raw / 'leftMask/b.png').unlink()
    found, report = self.read()
    self.assertEqual(list(found), ['images/a.png'])
    self.assertStartsWith(
      self.left_out(report)['images/b.png'], 'no_mask: found none in leftMask'
    )

  def test_names_that_leave_doubts_are_left_out(self):
    for name in ('a.png', 'b.png', 'b.jpg', 'c.png'):
      self.save(f'images/{name}', _greys())
    for name in ('a', 'b', 'c_mask', 'c-label'):
      self.save(f'masks/{name}.png', _RIGHT | _LEFT)
    found, report = self.read()
    self.assertEqual(list(found), ['images/a.png'])
    self.assertEqual(report['left_out'], {'ambiguous_mask': 3})

  def test_films_without_masks_are_kept_where_asked_for(self):
    for name in 'ab':
      self.save(f'images/{name}.png', _greys())
    self.save('masks/a.png', _RIGHT | _LEFT)
    _, report = self.read()
    self.assertEqual(report['left_out'], {'no_mask': 1})
    found, _ = self.read(unlabelled=True)
    self.assert_lungs(found['images/a.png'])
    self.assertIsNone(found['images/b.png'].masks)
    (self.raw / 'masks/a.png').unlink()
    with self.assertRaisesRegex(ValueError, 'left out: 2 no_mask'):
      self.read()
    found, _ = self.read(unlabelled=True)
    self.assertLen(found, 2)

  def films(self, patients):
    """Writes films by patient, and returns the lines of a table."""
    lines = []
    for patient, count in patients.items():
      for i in range(count):
        name = f'{patient}_{i}.png'
        self.save(f'images/{name}', _greys())
        self.save(f'masks/{name}', _RIGHT | _LEFT)
        lines.append(f'{name},{patient}')
    return lines

  def test_films_without_masks_are_for_training_only(self):
    lines = self.films({f'p{i}': 4 for i in range(10)} | {'q': 1})
    for name in (*(f'p{i}' for i in range(10)), 'q'):
      (self.raw / f'masks/{name}_0.png').unlink()
    self.table('file,patient', *lines)
    directory, report = self.prepare(unlabelled=True)
    splits = {
      key: split
      for split in ('train', 'validation', 'test')
      for key in sources.open_cases(directory, split).keys
    }
    scored = 0
    for i in range(10):
      split = splits[f'images/p{i}_1.png']
      expected = split if split == 'train' else None
      self.assertEqual(splits.get(f'images/p{i}_0.png'), expected)
      scored += expected is None
    self.assertEqual(splits['images/q_0.png'], 'train')
    self.assertBetween(scored, 2, 4)
    self.assertEqual(report['left_out'], {'no_mask': scored})

  @parameterized.parameters('patients.csv', 'attribution.csv', '')
  def test_no_patient_is_on_both_sides(self, name):
    lines = self.films({f'p{i}': 1 + i % 3 for i in range(12)})
    options = {}
    if name:
      self.table('url,file,patient', *(f'x,{x}' for x in lines), name=name)
    else:
      options = {'group': r'/(p\d+)_'}
    directory, report = self.prepare(**options)
    self.assertRegex(report['notes'][-1], r'\b12\b')
    met = {}
    for split in ('train', 'validation', 'test'):
      part = sources.open_cases(directory, split)
      for key, group in zip(part.keys, part.groups, strict=True):
        patient = key.removeprefix('images/').partition('_')[0]
        self.assertEqual(group, cases.pseudonym(patient))
        met.setdefault(patient, set()).add(split)
    self.assertLen(met, 12)
    self.assertEqual({len(x) for x in met.values()}, {1})

  def test_a_tables_splits_are_kept(self):
    # As phantoms are written.
    for name in ('a.png', 'b.png', 'c.png'):
      self.save(f'images/{name}', _greys())
    dicom_maker.save(radiographs_test.film(_greys()), self.raw / 'images/d.dcm')
    for name in 'abcd':
      self.save_sides(name)
    self.table(
      'file,patient,split',
      *('a.png,p,test', 'b.png,q,train', 'c.png,q,train', 'd.dcm,r,val'),
    )
    directory, _ = self.prepare()
    self.assertEqual(
      {
        split: sources.open_cases(directory, split).keys
        for split in sources.split_names(directory)
      },
      {
        'train': ['images/b.png', 'images/c.png'],
        'validation': ['images/d.dcm'],
        'test': ['images/a.png'],
      },
    )

  def test_films_that_the_table_lacks_are_left_out(self):
    lines = self.films({'p': 2, 'q': 1})
    self.table('file,patient', *lines[:2])
    found, report = self.read()
    self.assertLen(found, 2)
    self.assertEqual(report['left_out'], {'no_patient': 1})

  def test_dicom_says_whose_a_film_is(self):
    for name, patient in (('a', 'p'), ('b', 'p'), ('c', 'q')):
      header = radiographs_test.film(_greys(), PatientID=patient)
      dicom_maker.save(header, self.raw / f'images/{name}.dcm')
      self.save(f'masks/{name}.png', _RIGHT | _LEFT)
    found, report = self.read()
    a, b, c = (case.group for case in found.values())
    self.assertEqual(a, b)
    self.assertNotEqual(a, c)
    self.assertEqual(report['notes'][-1], 'groups are 2 DICOM patients')

  @parameterized.named_parameters(
    ('split', ['p_0.png,p,dev'], "csv:2: found file 'p_0.png', .*'dev'"),
    ('patient', ['p_0.png,,train'], r"csv:2: .* patient '' and"),
    (
      'again',
      ['p_0.png,p,', 'p_0.png,q,'],
      'csv:3: found p_0.png again, .*patients.csv:2',
    ),
    (
      'both_sides',
      ['p_0.png,p,train', 'p_1.png,p,test'],
      "csv:3: found split 'test', expected 'train' as .*csv:2",
    ),
    (
      'some',
      ['p_0.png,p,train', 'p_1.png,p,train', 'q_0.png,q,'],
      'csv:4: found no split, expected one as other',
    ),
  )
  def test_a_bad_table_is_named(self, lines, message):
    self.films({'p': 2, 'q': 1})
    self.table('file,patient,split', *lines)
    with self.assertRaisesRegex(ValueError, message):
      self.prepare()

  def test_a_table_with_other_columns_is_refused(self):
    self.films({'p': 1})
    self.table('file;patient', 'p_0.png;p')
    with self.assertRaisesRegex(ValueError, r"columns \['file;patient'\], exp"):
      self.prepare()

  def test_two_tables_are_refused(self):
    lines = self.films({'p': 1})
    for name in ('patients.csv', 'attribution.csv'):
      self.table('file,patient', *lines, name=name)
    with self.assertRaisesRegex(ValueError, 'raw: found patients in patients'):
      self.prepare()

  @parameterized.named_parameters(
    ('one_side', ['images/a.png', 'leftMask/a.png'], {}, 'only leftMask, exp'),
    (
      'two_kinds',
      ['a.png', 'masks/a.png', 'leftMask/a.png', 'rightMask/a.png'],
      {},
      'found masks in masks and of either lung, .* option kind',
    ),
    (
      'two_folders',
      ['images/a.png', 'b/masks/a.png', 'masks/a.png'],
      {},
      'found masks in b/masks and masks, expected one',
    ),
    ('no_films', ['masks/a.png'], {}, 'raw: found no films, expected'),
    ('no_folder', ['a.png'], {'images': 'b'}, 'raw: found no folder b, expec'),
    ('no_coco', ['a.png'], {'kind': 'coco'}, "no masks of the kind 'coco'"),
    ('kind', ['a.png'], {'kind': 'none'}, "found kind 'none', expected one of"),
    ('sides', ['a.png'], {'sides': 'x'}, "found sides 'x', expected one of pa"),
    (
      'group',
      ['a.png', 'masks/a.png'],
      {'group': '^(P.)'},
      'a.png: found no match of the group',
    ),
  )
  def test_an_unclear_layout_is_refused(self, names, options, message):
    for name in names:
      self.save(name, _RIGHT | _LEFT)
    with self.assertRaisesRegex(ValueError, message):
      self.prepare(**options)

  @parameterized.named_parameters(
    ('sides', ('right lung', 'right upper lung', 'left lung'), {}),
    ('one_side', ('right lung', 'heart'), {}),
    ('none', ('heart', 'aorta'), {}),
    ('given', ('right', 'left'), {'right': 'R', 'left': 'L'}),
    ('half', ('right', 'left'), {'right': 'right'}),
  )
  def test_unclear_categories_are_refused(self, categories, options):
    self.save('a.png', _greys())
    self.save_coco(categories, {'a.png': [(0, _RIGHT)]})
    with self.assertRaisesRegex(ValueError, 'masks.json: found the .*expected'):
      self.prepare(**options)

  def test_a_film_in_two_lists_is_refused(self):
    self.save('a.png', _greys())
    for name in ('one.json', 'two.json'):
      self.save_coco(('right', 'left'), {'a.png': [(0, _RIGHT)]}, name)
    with self.assertRaisesRegex(
      ValueError, 'two.json: images entry 1: found a.png again, .*one.json'
    ):
      self.prepare()


class RealFilmsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.raw = real_data.folder('cxr_lungs')

  def prepare(self, **options):
    return build.prepare(
      'lung_cxr',
      manual_dir=self.raw,
      data_dir=self.create_tempdir().full_path,
      **options,
    )

  def test_masks_lists_and_the_split_agree(self):
    directory = self.prepare()
    films = sources.open_cases(directory, 'all')
    self.assertLen(films, 60)
    self.assertLen(set(films.groups), 32)
    lists = sources.open_cases(self.prepare(kind='coco'), 'all')
    self.assertEqual(lists.keys, films.keys)
    for key, listed, film in zip(films.keys, lists, films, strict=True):
      name = pathlib.Path(key).stem
      path = self.raw / f'masks/{name}.png'
      labels = np.asarray(Image.open(path))
      np.testing.assert_array_equal(
        film.masks.masks, [labels == 1, labels == 2]
      )
      np.testing.assert_array_equal(listed.volume.voxels, film.volume.voxels)
      both = (listed.masks.masks & film.masks.masks).sum(axis=(1, 2))
      either = (listed.masks.masks | film.masks.masks).sum(axis=(1, 2))
      self.assertGreater((both / either).min(), 0.96)
      split = lung_masks.split(labels > 0)
      self.assertGreater((split.masks == film.masks.masks).mean(), 0.999)


if __name__ == '__main__':
  absltest.main()
