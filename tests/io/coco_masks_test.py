"""Tests of COCO's files of masks, read back by pycocotools."""

import contextlib
import io
import json
import pathlib

import numpy as np
from absl.testing import absltest
from pycocotools import coco as pycoco
from pycocotools import mask as pycoco_mask

from medzoo.io import coco_masks


def _random(seed, shape=(13, 17), number=4):
  rng = np.random.default_rng(seed)
  return rng.random((number, *shape)) < rng.random((number, 1, 1))


def _bounds(mask):
  rows, columns = np.nonzero(mask)
  return [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


class CocoMasksTest(absltest.TestCase):
  def test_round_trip(self):
    for seed in range(5):
      masks = _random(seed)
      rles = json.loads(json.dumps(coco_masks.encode(masks)))
      np.testing.assert_array_equal(
        coco_masks.decode(rles, masks.shape[1:]), masks
      )
    large = np.zeros((1, 3000, 2000), bool)
    large[0, 500:2500, 300:900] = True
    (rle,) = coco_masks.encode(large)
    self.assertLess(len(rle['counts']), 3000)
    np.testing.assert_array_equal(coco_masks.decode([rle], (3000, 2000)), large)

  def test_edges(self):
    masks = np.zeros((3, 4, 5), bool)
    masks[1] = True
    masks[2, 0, 0] = masks[2, 3, 4] = True
    rles = coco_masks.encode(masks)
    np.testing.assert_array_equal(coco_masks.decode(rles, (4, 5)), masks)
    np.testing.assert_array_equal(
      coco_masks.bounds(rles), [[0, 0, 0, 0], [0, 0, 4, 5], [0, 0, 4, 5]]
    )

  def test_nothing(self):
    rles = coco_masks.encode(np.zeros((0, 4, 5), bool))
    self.assertEqual(rles, [])
    self.assertEqual(coco_masks.decode(rles, (4, 5)).shape, (0, 4, 5))
    self.assertEqual(coco_masks.bounds(rles).shape, (0, 4))
    some = coco_masks.encode(np.ones((2, 4, 5), bool))
    self.assertEqual(coco_masks.overlaps(rles, some).shape, (0, 2))
    self.assertEqual(coco_masks.overlaps(some, rles).shape, (2, 0))

  def test_counts_by_hand(self):
    # Run lengths go down the columns and begin with those of the background.
    mask = np.array([[[0, 1, 1], [0, 0, 1]]], bool)
    (rle,) = coco_masks.encode(mask)
    self.assertEqual(rle['size'], [2, 3])
    whole = pycoco_mask.frPyObjects({'size': [2, 3], 'counts': [2, 1, 1, 2]},
                                    2, 3)  # fmt: skip
    self.assertEqual(rle['counts'], whole['counts'].decode())

  def test_bounds_and_overlaps_equal_numpy(self):
    for seed in range(5):
      first, second = _random(seed), _random(seed + 100, number=3)
      rles, others = coco_masks.encode(first), coco_masks.encode(second)
      np.testing.assert_array_equal(
        coco_masks.bounds(rles), [_bounds(mask) for mask in first]
      )
      shared = (first[:, None] & second[None]).sum((2, 3))
      union = (first[:, None] | second[None]).sum((2, 3))
      np.testing.assert_allclose(
        coco_masks.overlaps(rles, others), shared / union
      )

  def test_pycocotools_reads_them(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    masks = _random(0, number=3)
    rles = coco_masks.encode(masks)
    none = coco_masks.Objects([], np.zeros((0, 4)), np.zeros(0, np.int32))
    there = coco_masks.Objects(
      rles[:2], coco_masks.bounds(rles[:2]), np.array([2, 1], np.int32)
    )
    found = coco_masks.Objects(
      rles[2:],
      np.array([[0.1, 1, 2.5, 7]], np.float32),
      np.array([2]),
      np.array([0.25], np.float32),
    )
    empty = coco_masks.Objects(
      [], np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros(0)
    )
    classes = {1: 'right lung', 2: 'left lung'}
    coco_masks.write_document(
      folder / 'truth.json', ['a', 'b'], [(9, 9), (13, 17)], [none, there],
      classes,
    )  # fmt: skip
    coco_masks.write_results(folder / 'found.json', [empty, found])
    with contextlib.redirect_stdout(io.StringIO()):
      truth = pycoco.COCO(str(folder / 'truth.json'))
      results = truth.loadRes(str(folder / 'found.json'))
    self.assertEqual(
      truth.loadImgs(2)[0],
      {'id': 2, 'file_name': 'b', 'height': 13, 'width': 17},
    )
    self.assertEqual({i: c['name'] for i, c in truth.cats.items()}, classes)
    rows = truth.loadAnns(truth.getAnnIds(imgIds=[2]))
    self.assertLen(truth.anns, 2)
    for row, mask, label in zip(rows, masks, (2, 1), strict=False):
      np.testing.assert_array_equal(truth.annToMask(row), mask)
      y0, x0, y1, x1 = _bounds(mask)
      self.assertEqual(row['bbox'], [x0, y0, x1 - x0, y1 - y0])
      self.assertEqual(row['area'], mask.sum())
      self.assertEqual((row['category_id'], row['iscrowd']), (label, 0))
    (row,) = results.loadAnns(results.getAnnIds())
    np.testing.assert_array_equal(results.annToMask(row), masks[2])
    self.assertEqual((row['image_id'], row['score']), (2, 0.25))
    np.testing.assert_allclose(row['bbox'], [1, 0.1, 6, 2.4], rtol=1e-6)
    again = coco_masks.read_results(
      folder / 'found.json', folder / 'truth.json'
    )
    self.assertEqual(list(again), ['a', 'b'])
    self.assertEmpty(again['a'].rles)
    self.assertEqual(again['a'].corners.shape, (0, 4))
    self.assertEqual(again['b'].rles, rles[2:])
    np.testing.assert_allclose(again['b'].corners, found.corners, rtol=1e-6)
    self.assertEqual(again['b'].scores.tolist(), [0.25])
    self.assertEqual(again['b'].labels.tolist(), [2])


if __name__ == '__main__':
  absltest.main()
