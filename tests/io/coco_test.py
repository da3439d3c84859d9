"""Tests of COCO's files, read back by pycocotools."""

import contextlib
import io
import pathlib

import numpy as np
from absl.testing import absltest
from pycocotools import coco as pycoco

from medzoo.io import coco


class CocoTest(absltest.TestCase):
  def test_pycocotools_reads_them(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    images, labels = np.array([1, 0]), np.array([3, 1], np.int32)
    corners = np.array([[1.0, 2.0, 4.5, 8.0], [0.1, 0, 1, 0.3]])
    coco.write_truth(
      folder / 'truth.json',
      ['a/0', 'a/1', 'b/0'],
      images,
      corners,
      labels,
      np.array([True, False]),
    )
    scores = np.array([0.25, 0.5], np.float32)
    coco.write_results(folder / 'found.json', images, corners, labels, scores)
    with contextlib.redirect_stdout(io.StringIO()):
      truth = pycoco.COCO(str(folder / 'truth.json'))
      found = truth.loadRes(str(folder / 'found.json'))
    names = {i: truth.loadImgs(i)[0]['file_name'] for i in truth.getImgIds()}
    self.assertEqual(list(names.values()), ['a/0', 'a/1', 'b/0'])
    self.assertEqual(truth.getCatIds(), [1, 3])
    for loaded in (truth, found):
      rows = loaded.loadAnns(loaded.getAnnIds())
      self.assertEqual([names[r['image_id']] for r in rows], ['a/1', 'a/0'])
      self.assertEqual([r['category_id'] for r in rows], [3, 1])
      self.assertEqual(rows[0]['bbox'], [2, 1, 6, 3.5])
      self.assertEqual(rows[0]['area'], 21)
    crowd = [row['iscrowd'] for row in truth.loadAnns(truth.getAnnIds())]
    self.assertEqual(crowd, [1, 0])
    scores = [row['score'] for row in found.loadAnns(found.getAnnIds())]
    self.assertEqual(scores, [0.25, 0.5])


if __name__ == '__main__':
  absltest.main()
