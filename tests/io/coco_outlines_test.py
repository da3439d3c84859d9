import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from pycocotools import mask as rle

from medzoo.io import coco_outlines

_SHAPE = (60, 64)
_MASK = np.zeros(_SHAPE, bool)
_MASK[4:50, 3:20] = _MASK[9:30, 11:27] = True


def _coded(mask):
  coded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
  return coded | {'counts': coded['counts'].decode()}


def _runs(mask):
  """Counts run lengths by hand, down columns and from 0."""
  flat = mask.ravel(order='F').astype(int)
  ends = np.flatnonzero(np.diff(flat)) + 1
  runs = np.diff([0, *ends, flat.size]).tolist()
  return {'size': list(mask.shape), 'counts': [0] * int(flat[0]) + runs}


class CocoOutlinesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'masks.json'

  def write(self, *segmentations, **changes):
    document = {
      'categories': [{'id': 7, 'name': 'Right Lung'}],
      'images': [{'id': 3, 'file_name': 'a\\b.png', 'height': 60, 'width': 64}],
      'annotations': [
        {'id': 1, 'image_id': 3, 'category_id': 7, 'segmentation': x}
        for x in segmentations
      ],
    }
    self.path.write_text(json.dumps(document | changes))

  def fill(self, *segmentations):
    self.write(*segmentations)
    ((picture,), _) = coco_outlines.read(self.path)
    return [coco_outlines.fill(x, picture) for x in picture.outlines]

  def test_what_is_written_is_read(self):
    self.write([[1, 1, 9, 1, 9, 5]], {'size': [60, 64], 'counts': [3840]})
    self.assertTrue(coco_outlines.is_list(self.path))
    (picture,), categories = coco_outlines.read(self.path)
    self.assertEqual(categories, ['Right Lung'])
    self.assertEqual((picture.name, picture.shape), ('a/b.png', (60, 64)))
    self.assertEqual([x.category for x in picture.outlines], categories * 2)
    self.assertEqual(picture.place, f'{self.path}: images entry 1')

  def test_polygons_are_filled_and_united(self):
    square = [10, 20, 30, 20, 30, 28, 10, 28]
    (found,) = self.fill([square, [40, 0, 44, 0, 44, 3, 40, 3]])
    expected = np.zeros(_SHAPE, bool)
    expected[20:28, 10:30] = expected[0:3, 40:44] = True
    np.testing.assert_array_equal(found, expected)

  def test_run_lengths_are_read_in_both_forms(self):
    rough = np.random.default_rng(0).random(_SHAPE) < 0.4
    for mask in (_MASK, ~_MASK, rough, np.zeros(_SHAPE, bool)):
      for found in self.fill(_coded(mask), _runs(mask)):
        np.testing.assert_array_equal(found, mask)

  @parameterized.named_parameters(
    ('beyond', {'size': [60, 64], 'counts': [5, 9000]}, 'of 9005 pixels'),
    ('short', {'size': [60, 64], 'counts': [5, 90]}, 'of 95 pixels and'),
    ('size', _runs(_MASK[:, :9]), r'size \[60, 9\], expected those of 60 x 64'),
    ('text', {'size': [60, 64], 'counts': '~~~~~'}, 'run lengths of'),
    ('signs', {'size': [60, 64], 'counts': 'é?OOO'}, 'run lengths of'),
    (
      'cut',
      _coded(_MASK) | {'counts': _coded(_MASK)['counts'][:-3]},
      'run lengths of',
    ),
  )
  def test_broken_run_lengths_are_named(self, segmentation, message):
    with self.assertRaisesRegex(ValueError, f'images entry 1: .*{message}'):
      self.fill(segmentation)

  @parameterized.parameters(
    ([],),
    ('text',),
    ([[1, 2, 3, 4]],),
    ([[1, 2, 3, 4, 5, 6, 7]],),
    ([[1, 2, 3, 4, 5, 1e9]],),
    ([[1, 2, 3, 4, 5, True]],),
    ({'counts': [1]},),
    ({'size': [60, 64], 'counts': ''},),
    ({'size': [60, 64], 'counts': [1, 'a']},),
    ({'size': [60, 64], 'counts': [1, -1]},),
  )
  def test_bad_outlines_are_named(self, segmentation):
    self.write([[1, 1, 9, 1, 9, 5]], segmentation)
    with self.assertRaisesRegex(
      ValueError, 'masks.json: annotations entry 2: found .*, expected'
    ):
      coco_outlines.read(self.path)

  @parameterized.named_parameters(
    ('no_list', {'images': 3}, "found no list 'images', expected COCO"),
    ('no_object', {'images': [3]}, 'images entry 1: found 3, expected an obj'),
    ('no_name', {'images': [{'id': 3}]}, 'images entry 1: found file_name No'),
    (
      'no_size',
      {'images': [{'id': 3, 'file_name': 'a', 'height': 0, 'width': 9}]},
      'images entry 1: found 0 x 9 pixels',
    ),
    ('twice', {'images': [{'id': 3}] * 2}, 'entry 2: found id 3 again'),
    ('stray', {'categories': []}, 'annotations entry 1: found image_id 3 and'),
    ('id', {'categories': [{'id': True, 'name': 'a'}]}, 'found id True, expec'),
  )
  def test_bad_files_are_named(self, changes, message):
    self.write([[1, 1, 9, 1, 9, 5]], **changes)
    with self.assertRaisesRegex(ValueError, f'masks.json: .*{message}'):
      coco_outlines.read(self.path)

  def test_other_files_are_no_lists(self):
    self.path.write_text('[{"images": 1, "annotations": 2}]')
    self.assertFalse(coco_outlines.is_list(self.path))
    self.path.write_text('{"images":')
    self.assertFalse(coco_outlines.is_list(self.path))
    with self.assertRaisesRegex(
      ValueError, 'masks.json: found what is no JSON'
    ):
      coco_outlines.read(self.path)


if __name__ == '__main__':
  absltest.main()
