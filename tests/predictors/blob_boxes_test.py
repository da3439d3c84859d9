import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.predictors import blob_boxes
from medzoo.predictors import laplacian_of_gaussian
from medzoo.predictors import linking
from medzoo.train import build

_SETTINGS = {
  'ceiling_hu': -200.0,
  'exponent': 2.0,
  'roundness': 1.0,
  'min_diameter_mm': 3.0,
}


def _found(centers, diameters) -> types.Detections:
  n = len(diameters)
  return types.Detections(
    np.array(centers, float).reshape(-1, 3),
    np.array(diameters, float),
    np.linspace(5, 4, n),
    np.ones(n, int),
  )


def _volume(**grid) -> types.Volume:
  voxels = np.full((20, 40, 30), -900, np.int16)
  return types.Volume(voxels, (2.0, 0.5, 1.0), modality='CT', **grid)


class CrossSectionsTest(absltest.TestCase):
  def test_worked_by_hand(self):
    volume = _volume()
    center = volume.index_to_world([7, 20, 15])
    boxes = blob_boxes.cross_sections(_found(center, [10.0]), volume)
    # Two slices away are 4 mm: the section's radius there is 3 mm.
    self.assertEqual(boxes.slices.tolist(), [5, 6, 7, 8, 9])
    np.testing.assert_allclose(boxes.corners[2], [10.5, 10.5, 30.5, 20.5])
    np.testing.assert_allclose(boxes.corners[0], [14.5, 12.5, 26.5, 18.5])
    np.testing.assert_allclose(boxes.corners[4], boxes.corners[0])
    self.assertEqual(boxes.scores.tolist(), [5] * 5)

  def test_what_leaves_the_scan_is_cut_off(self):
    volume = _volume()
    centers = volume.index_to_world([[0, 0, 15], [5, 60, 15], [19, 20, 29]])
    found = _found(centers, [5.0, 9.0, 3.0])
    boxes = blob_boxes.cross_sections(found, volume)
    self.assertEqual(boxes.slices.tolist(), [0, 1, 19])
    self.assertEqual(boxes.links.tolist(), [0, 0, 2])
    np.testing.assert_allclose(boxes.corners[0], [0, 13, 5.5, 18])
    np.testing.assert_allclose(boxes.corners[2], [17.5, 28, 23.5, 30])

  def test_linking_gives_the_spheres_back(self):
    direction = np.array([[1.0, 2, 2], [2, 1, -2], [2, -2, 1]]) / 3
    volume = _volume(origin=(3.0, -7.0, 50.0), direction=direction)
    index = [[6.3, 14.2, 9.7], [13.0, 25.0, 18.0]]
    found = _found(volume.index_to_world(index), [8.0, 9.0])
    boxes = blob_boxes.cross_sections(found, volume)
    links, lesions = linking.link(
      boxes, volume, min_overlap=0.5, reach_mm=0.0, share=0.0
    )
    np.testing.assert_array_equal(links, boxes.links)
    np.testing.assert_allclose(
      volume.world_to_index(lesions.centers), index, atol=0.25
    )
    np.testing.assert_allclose(lesions.diameters, found.diameters, atol=0.2)

  def test_no_spheres(self):
    boxes = blob_boxes.cross_sections(_found([], []), _volume())
    self.assertEqual(boxes.corners.shape, (0, 4))


class BlobBoxesTest(absltest.TestCase):
  def test_boxes_of_what_the_filter_finds(self):
    volume = _volume(origin=(1.0, 2.0, 3.0))
    z, y, x = np.ogrid[:20, :40, :30]
    square = (2 * (z - 9)) ** 2 + (0.5 * (y - 21)) ** 2 + (x - 14) ** 2
    volume.voxels[square < 4.0**2] = 0
    spec = {'name': 'blob_boxes', **_SETTINGS}
    predictor = build.build('predictors', spec, {}, {})
    results = predictor({}, volume)
    self.assertEqual(list(results), ['boxes', 'detections'])
    first = results['boxes'].links == 0
    at = np.flatnonzero(first & (results['boxes'].slices == 9))
    np.testing.assert_allclose(
      results['boxes'].corners[at], [[13.5, 10.5, 29.5, 18.5]], atol=3
    )

  def test_is_tuned_as_the_filter(self):
    module = build.module('predictors', 'blob_boxes')
    self.assertIs(module.tune, laplacian_of_gaussian.tune)


if __name__ == '__main__':
  absltest.main()
