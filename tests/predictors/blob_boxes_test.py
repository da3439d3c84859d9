import dataclasses

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


def _case(z, y, x, diameter) -> types.Case:
  """A scan with one ball; its lesion's centre is in voxels (z, y, x)."""
  volume = _volume(origin=(1.0, 2.0, 3.0))
  _draw(volume, z, y, x, diameter)
  nothing = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
  ball = types.Findings(np.array([[z, y, x]]), np.array([diameter]), np.ones(1))
  return types.Case(volume, 'p', ball, nothing)


def _draw(volume, z, y, x, diameter) -> None:
  """Draws a ball round a voxel."""
  at = np.indices(volume.voxels.shape) - np.reshape([z, y, x], (3, 1, 1, 1))
  steps = at * np.reshape(volume.spacing, (3, 1, 1, 1))
  volume.voxels[(steps**2).sum(0) < (diameter / 2) ** 2] = 0


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
    _draw(volume, 9, 21, 14, 8.0)
    spec = {'name': 'blob_boxes', **_SETTINGS}
    predictor = build.build('predictors', spec, {}, {})
    results = predictor({}, volume)
    self.assertEqual(list(results), ['boxes', 'detections'])
    first = results['boxes'].links == 0
    at = np.flatnonzero(first & (results['boxes'].slices == 9))
    np.testing.assert_allclose(
      results['boxes'].corners[at], [[13.5, 10.5, 29.5, 18.5]], atol=3
    )

  def test_is_tuned_for_its_boxes(self):
    """The score gets boxes in voxels of the scans, not of the filter's grid."""
    cases = [_case(9, 21, 14, 8.0), _case(12, 12, 10, 10.0)]
    calls = []

    def score(given, found):
      self.assertIs(given, cases)
      calls.append(found)
      return {1: 0.3, 2: 0.7, 3: 0.7, 4: 0.1}[len(calls)]

    grid = {'ceiling_hu': (-200.0, 100.0), 'roundness': (0.0, 1.0)}
    best = blob_boxes.tune(cases, score, grid)
    # The second of four, the first among equals; the rest are defaults.
    self.assertEqual(
      best, laplacian_of_gaussian.Settings(ceiling_hu=-200.0, roundness=1.0)
    )
    self.assertLen(calls, 4)
    for found in calls:
      self.assertLen(found, 2)
      for boxes, case in zip(found, cases, strict=True):
        self.assertIsInstance(boxes, types.BoxDetections)
        (z, y, x), diameter = case.lesions.centers[0], case.lesions.diameters[0]
        # Rows are half a millimetre apart, columns a whole one.
        reach = np.array([diameter, diameter / 2])
        at = np.array([y + 0.5, x + 0.5])
        mine = boxes.corners[(boxes.slices == z) & (boxes.links == 0)]
        np.testing.assert_allclose(
          mine, [[*(at - reach), *(at + reach)]], atol=3
        )

  def test_tuned_settings_are_those_of_the_predictor(self):
    cases = [_case(9, 21, 14, 8.0)]
    calls = []

    def score(_, found):
      calls.append(found[0])
      return -len(calls)

    best = blob_boxes.tune(cases, score, {'exponent': (2.5, 2.0)})
    self.assertEqual(best.exponent, 2.5)
    spec = {'name': 'blob_boxes', **dataclasses.asdict(best)}
    predictor = build.build('predictors', spec, {}, {})
    boxes = predictor({}, cases[0].volume)['boxes']
    for field in dataclasses.fields(boxes):
      np.testing.assert_allclose(
        getattr(boxes, field.name), getattr(calls[0], field.name)
      )


if __name__ == '__main__':
  absltest.main()
