import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from datasets import build
from datasets import cases as cases_lib
from datasets.cvc_clinicdb import sequences
from medzoo.data import crops
from medzoo.data import sources
from medzoo.io import images
from tests import real_data

_SHAPE = (60, 80)
_ALL = {'shares': {'train': 1}}
# The last frames of CVC-ClinicDB's sequences, as the data's own notes say.
_ENDS = (
  *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
  *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)


def _colours(seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*_SHAPE, 3), np.uint8)


def _mask(*boxes):
  mask = np.zeros(_SHAPE, np.uint8)
  for y0, x0, y1, x1 in boxes:
    mask[y0:y1, x0:x1] = 255
  return mask


_POLYP = (10, 10, 30, 40)


class CvcClinicdbTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.raw = self.folder / 'raw'
    for name in ('Original', 'Ground Truth'):
      (self.raw / name).mkdir(parents=True)

  def save(self, name, pixels=None, mask=None, endings=('png', 'png')):
    """Writes a frame and its mask; False leaves one out."""
    pixels = _colours() if pixels is None else pixels
    mask = _mask(_POLYP) if mask is None else mask
    for folder, array, ending in zip(
      ('Original', 'Ground Truth'), (pixels, mask), endings, strict=True
    ):
      if array is not False:
        path = self.raw / folder / f'{name}.{ending}'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(path)

  def table(self, *lines):
    (self.raw / 'sequences.csv').write_text('\n'.join(lines) + '\n')

  def prepare(self, **options):
    directory = build.prepare(
      'cvc_clinicdb',
      manual_dir=self.raw,
      data_dir=self.folder / 'data',
      **options,
    )
    report = pathlib.Path(directory, 'build_report.json').read_text()
    return directory, json.loads(report)

  def read(self, **options):
    """Returns the cases by key, and the report."""
    directory, report = self.prepare(**{**_ALL, **options})
    return {
      case.volume.series_uid: case
      for case in sources.open_cases(directory, 'all')
    }, report

  def left_out(self, report):
    return {
      x['series']: f'{x["code"]}: {x["detail"]}'
      for x in report['left_out_cases']
    }

  @parameterized.product(
    frame=('png', 'tif', 'jpg', 'TIFF'), mask=('png', 'tif', 'bmp')
  )
  def test_frames_and_masks_of_any_ending_are_joined(self, frame, mask):
    pixels = np.full((*_SHAPE, 3), [200, 90, 30], np.uint8)
    self.save('7', pixels, endings=(frame, mask))
    found, report = self.read()
    (case,) = found.values()
    self.assertEqual(case.volume.series_uid, '7')
    self.assertEqual(case.volume.spacing, (None, None, None))
    self.assertLessEqual(
      np.abs(case.volume.voxels[0].astype(int) - pixels).max(), 2
    )
    self.assertEqual(case.masks.labels.tolist(), [1])
    np.testing.assert_array_equal(case.masks.masks[0], _mask(_POLYP) > 0)
    self.assertIsNone(case.label)
    self.assertEqual(report['classes'], ['polyp'])

  def test_every_connected_piece_is_a_polyp(self):
    mask = _mask((5, 5, 15, 15), (15, 15, 25, 25), (40, 50, 50, 60))
    self.save('1', mask=mask)
    self.save('2', mask=_mask())
    found, report = self.read()
    # The first two touch at a corner, so they are one.
    self.assertEqual(found['1'].masks.labels.tolist(), [1, 1])
    self.assertEqual(
      found['1'].masks.masks.sum(axis=(1, 2)).tolist(), [200, 100]
    )
    np.testing.assert_array_equal(found['1'].masks.masks.any(axis=0), mask > 0)
    self.assertEqual(found['2'].masks.masks.shape, (0, *_SHAPE))
    self.assertEqual(report['splits']['train']['masks'], 2)

  def test_masks_are_cut_at_half_and_specks_dropped(self):
    large = np.kron(_mask(_POLYP), np.ones((4, 4), np.uint8))
    large[large > 0] = 200
    large[50:52, 200:206] = 127
    large[3, 3:17] = 255
    large[30, 3:19] = 255
    pixels = np.kron(_colours(), np.ones((4, 4, 1), np.uint8))
    self.save('1', pixels, large)
    found, report = self.read()
    # Of 240 x 320 pixels 0.02 % are 15.4: 14 are a speck, 16 a polyp.
    self.assertEqual(
      found['1'].masks.masks.sum(axis=(1, 2)).tolist(), [16, 9600]
    )
    self.assertEqual(found['1'].volume.repairs, ('specks',))
    self.assertEqual(report['repairs'], {'specks': 1})

  def test_greys_become_colours_and_coloured_masks_masks(self):
    self.save('1', _colours()[..., 0], np.stack([_mask(_POLYP)] * 3, axis=-1))
    found, _ = self.read()
    np.testing.assert_array_equal(
      found['1'].volume.voxels[0], np.stack([_colours()[..., 0]] * 3, axis=-1)
    )
    self.assertLen(found['1'].masks, 1)

  def test_what_cannot_be_used_is_left_out_and_said(self):
    self.save('1')
    self.save('2', mask=False)
    self.save('3', pixels=False)
    self.save('4', mask=_mask(_POLYP)[:-1])
    self.save('5', mask=_mask(_POLYP) // 255)
    self.save('6')
    self.save('7', mask=np.zeros((600, 800), np.uint8))
    (self.raw / 'Original/6.png').write_text('broken')
    tiny = np.zeros((300, 400), np.uint8)
    tiny[2, 2] = 255
    self.save('8', np.zeros((300, 400, 3), np.uint8), tiny)
    found, report = self.read()
    self.assertEqual(list(found), ['1'])
    reasons = self.left_out(report)
    for key, reason in {
      '2': r'no_mask: .*Original/2.png: found no picture of this name',
      '3': r'missing: .*Ground Truth/3.png: found no picture of this name',
      '4': r'size_mismatch: .*4.png: found \(59, 80\) .* \(60, 80\)',
      '5': r'dark_mask: .*5.png: found values up to 1, expected 0 and 255',
      '6': r'unreadable: .*6.png: found what cannot be read',
      '7': r'size_mismatch: ',
      '8': r'only_specks: .*found pieces of up to 1 pixels',
    }.items():
      self.assertRegex(reasons[key], reason)
    self.assertLen(reasons, 7)

  def test_numbers_are_those_of_the_published_sequences(self):
    keys = [str(i) for i in range(1, 613)]
    found = sequences.find(self.raw, keys, ungrouped=False)
    changes = [
      i
      for i in range(1, 612)
      if found.groups[str(i)] != found.groups[str(i + 1)]
    ]
    self.assertEqual((*changes, 612), _ENDS)
    self.assertLen(set(found.groups.values()), 29)
    self.assertEqual(
      found.notes,
      (
        'groups are 29 sequences of CVC-ClinicDB, by the numbers of the frames',
      ),
    )

  def test_neighbours_stay_on_one_side(self):
    for i in range(20, 160, 5):
      self.save(str(i), mask=_mask())
    directory, report = self.prepare(
      shares={'train': 2, 'validation': 1, 'test': 1}
    )
    sides = {
      split: set(sources.open_cases(directory, split).groups)
      for split in report['splits']
    }
    self.assertLen(sides, 3)
    self.assertLen(set.union(*sides.values()), sum(map(len, sides.values())))

  def test_a_table_of_sequences_goes_before_the_numbers(self):
    for name in ('1', '2', '3', '30'):
      self.save(name)
    self.table(
      'file,sequence,split',
      '1,a,train',
      '2.png,b,val',
      '30.tif,a,train',
      '9,b,validation',
    )
    directory, report = self.prepare()
    self.assertEqual(sources.open_cases(directory, 'train').keys, ['1', '30'])
    validation = sources.open_cases(directory, 'validation')
    self.assertEqual(validation.keys, ['2'])
    self.assertEqual(validation.groups, [cases_lib.pseudonym('b')])
    reasons = self.left_out(report)
    self.assertRegex(reasons['3'], 'no_sequence: .*sequences.csv: found no row')
    self.assertRegex(reasons['9'], 'missing: .*sequences.csv:5 names it')
    self.assertEqual(
      report['notes'], ['groups are 2 sequences of sequences.csv']
    )

  def test_frames_in_folders_are_known_by_their_paths(self):
    self.save('a/1')
    self.save('b/1')
    self.table('file,sequence', 'a/1,x', 'b/1.png,y')
    found, _ = self.read()
    self.assertEqual(list(found), ['a/1', 'b/1'])
    self.assertNotEqual(found['a/1'].group, found['b/1'].group)

  def test_without_sequences_one_has_to_say_so(self):
    self.save('frame_1')
    self.save('frame_2')
    with self.assertRaisesRegex(
      ValueError, 'found no sequences.csv, .* or the option ungrouped'
    ):
      self.read()
    found, report = self.read(ungrouped=True)
    self.assertLen({case.group for case in found.values()}, 2)
    self.assertIn('frames by themselves', report['notes'][0])

  @parameterized.named_parameters(
    (
      'columns',
      ['file,group', '1,a'],
      r"found the columns \['file', 'group'\]",
    ),
    ('nothing', ['file,sequence', '1,'], "csv:2: found file '1', sequence ''"),
    ('split', ['file,sequence,split', '1,a,dev'], "csv:2: .*split 'dev'"),
    ('again', ['file,sequence', '1,a', '1,b'], 'csv:3: found 1 again'),
    ('both', ['file,sequence', '1.png,a', '1.tif,b'], 'csv:3: found 1 again'),
    (
      'torn',
      ['file,sequence,split', '1,a,train', '2,a,test'],
      "csv:3: found split 'test', expected 'train' as .*csv:2",
    ),
    (
      'half',
      ['file,sequence,split', '1,a,train', '2,b,'],
      'csv:3: found no split, expected one as other rows have',
    ),
  )
  def test_tables_at_fault_are_refused(self, lines, message):
    self.save('1')
    self.save('2')
    self.table(*lines)
    with self.assertRaisesRegex(ValueError, message):
      self.prepare()

  def test_layouts_at_fault_are_refused(self):
    self.save('1')
    self.save('1', endings=('jpg', 'png'))
    with self.assertRaisesRegex(ValueError, '1.png: found 1.jpg beside it'):
      self.prepare()
    (self.raw / 'Ground Truth').rename(self.raw / 'masks')
    (self.raw / 'Original/1.jpg').unlink()
    with self.assertRaisesRegex(ValueError, 'Ground Truth: found no such fold'):
      self.prepare()

  def test_a_changed_byte_gives_another_dataset(self):
    self.save('1', endings=('bmp', 'png'))
    first, _ = self.prepare(**_ALL)
    path = self.raw / 'Original/1.bmp'
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    self.assertNotEqual(self.prepare(**_ALL)[0], first)


class RealFramesTest(absltest.TestCase):
  def test_published_tiffs_agree_with_their_jpegs(self):
    tiffs = real_data.folder('cvc_clinicdb_tif')
    copies = real_data.folder('cvc_clinicdb')
    for number in (1, 100, 200, 300):
      frame = images.read(tiffs / f'Original/{number}.tif').astype(int)
      (copy,) = (copies / 'Original').glob(f'{number}.*')
      error = np.abs(frame - images.read(copy))
      self.assertLess(error.mean(axis=(0, 1)).max(), 1.5)
      self.assertLess(error.max(), 25)
      mask = images.read(tiffs / f'Ground Truth/{number}.tif')
      copy = images.read(copies / f'Ground Truth/{number}.png')
      np.testing.assert_array_equal(mask > 127, copy > 127)

  def test_published_frames(self):
    published = real_data.folder('cvc_clinicdb')
    folder = pathlib.Path(self.create_tempdir().full_path)
    names = {path.stem: path for path in (published / 'Original').iterdir()}
    found = sequences.find(published, list(names), ungrouped=False)
    self.assertLen(found.groups, 447)
    self.assertLen(set(found.groups.values()), 21)
    # Around the eight frames with several polyps, and some with specks.
    kept = [
      str(i) for i in (14, 15, 21, 22, *range(62, 104, 2), 71, 73, 75, 77)
    ]
    for name in ('Original', 'Ground Truth'):
      (folder / 'raw' / name).mkdir(parents=True)
      for path in (published / name).iterdir():
        if path.stem in kept:
          (folder / 'raw' / name / path.name).symlink_to(path)
    directory = build.prepare(
      'cvc_clinicdb',
      manual_dir=folder / 'raw',
      data_dir=folder / 'data',
      **_ALL,
    )
    cases = sources.open_cases(directory, 'all')
    self.assertLen(cases, len(kept))
    several = [case.volume.series_uid for case in cases if len(case.masks) > 1]
    self.assertEqual(sorted(several), [str(i) for i in range(70, 78)])
    specks = [x.volume.series_uid for x in cases if x.volume.repairs]
    self.assertEqual(sorted(specks), ['14', '88'])
    cut = crops.Crops(cases, margin=0.0, seed=0)
    corners, labels = np.array(cut.corners), np.array(cut.labels)
    polyps, mucosa = (
      sorted(map(tuple, corners[labels == x, 2:] - corners[labels == x, :2]))
      for x in (1, 0)
    )
    self.assertEqual(polyps, mucosa)
    # The field of these frames is about 250 x 300 pixels, up to row 280.
    self.assertGreaterEqual(corners[:, :2].min(axis=0).min(), 10)
    self.assertLessEqual(corners[:, 2].max(), 281)
    self.assertLessEqual(corners[:, 3].max(), 361)
    # Of a polyp that fills nearly all of the field there is no other place.
    self.assertEqual(cut.left_out, ['22/polyp_0'])
    self.assertEqual(cut.counts['polyp'], sum(len(x.masks) for x in cases) - 1)
    self.assertGreater(cut.counts['same_frame'], 30)


if __name__ == '__main__':
  absltest.main()
