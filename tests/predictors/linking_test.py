import itertools
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from medzoo import types
from medzoo.data import sources
from medzoo.predictors import linking
from tests import real_data

_OPTIONS = {'min_overlap': 0.5, 'reach_mm': 0.0, 'share': 1.0}


def _boxes(rows, scores=None, labels=None, suppressed=None):
  """Boxes of rows of slice, y0, x0, y1, x1."""
  table = np.array(rows, float).reshape(-1, 5)
  n = len(table)
  return types.BoxDetections(
    slices=table[:, 0].astype(np.int32),
    corners=table[:, 1:],
    scores=np.ones(n) if scores is None else np.array(scores, float),
    labels=np.ones(n, np.int32) if labels is None else np.array(labels),
    steps=np.zeros(n, np.int32),
    suppressed=np.zeros(n, bool) if suppressed is None else suppressed,
    links=np.full(n, -1, np.int32),
  )


def _volume(spacing=(2.0, 1.0, 1.0), shape=(20, 64, 64), **grid):
  return types.Volume(np.zeros(shape, np.int16), spacing, **grid)


def _linked(boxes, volume=None, **changes):
  options = {**_OPTIONS, **changes}
  return linking.link(boxes, volume or _volume(), **options)


def _slow_links(boxes, min_overlap, reach):
  """Pairs of linked boxes, by trying every matching of two slices."""

  def overlap(a, b):
    (s, t, u, v), (w, x, y, z) = boxes.corners[[a, b]]
    shared = max(min(u, y) - max(s, w), 0) * max(min(v, z) - max(t, x), 0)
    sizes = (u - s) * (v - t), (y - w) * (z - x)
    same = boxes.labels[a] == boxes.labels[b]
    fits = same and shared / min(sizes) >= min_overlap
    return shared / (sum(sizes) - shared) if fits else 0

  links = []
  for gap in range(1, reach + 1):
    for z in range(boxes.slices.max()):
      lower, upper = (
        [
          i
          for i in np.flatnonzero((boxes.slices == at) & ~boxes.suppressed)
          if all(pair[end] != i for pair in links)
        ]
        for end, at in ((0, z), (1, z + gap))
      )
      # None stands for no partner.
      choices = itertools.permutations(upper + [None] * len(lower), len(lower))
      best = max(
        choices,
        key=lambda chosen: sum(
          overlap(a, b)
          for a, b in zip(lower, chosen, strict=True)
          if b is not None
        ),
        default=(),
      )
      links += [
        (a, b)
        for a, b in zip(lower, best, strict=True)
        if b is not None and overlap(a, b)
      ]
  return links


class LinkTest(parameterized.TestCase):
  def test_equals_the_slow_rule(self):
    rng = np.random.default_rng(0)
    sizes = []
    for trial in range(60):
      slices = np.repeat(np.arange(6), rng.integers(0, 4, 6))
      n = len(slices) + 1
      low = rng.uniform(0, 6, (n, 2))
      rows = np.column_stack(
        [np.append(slices, 5), low, low + rng.uniform(3, 12, (n, 2))]
      )
      boxes = _boxes(
        rows,
        rng.uniform(0, 1, n),
        rng.choice([1, 1, 1, 2], n),
        rng.random(n) < 0.1,
      )
      reach = 1 + trial % 3
      links, lesions = _linked(boxes, min_overlap=0.4, reach_mm=2.0 * reach)
      same = np.eye(n, dtype=bool)
      for a, b in _slow_links(boxes, 0.4, reach):
        same[a, b] = same[b, a] = True
      same = np.linalg.matrix_power(same.astype(float), n) > 0
      kept = ~boxes.suppressed
      np.testing.assert_array_equal(links < 0, ~kept)
      np.testing.assert_array_equal(
        (links[:, None] == links)[kept][:, kept], same[kept][:, kept]
      )
      self.assertEqual(set(links[kept]), set(range(len(lesions))))
      self.assertTrue((np.diff(lesions.scores) <= 0).all())
      self.assertTrue(((lesions.scores >= 0) & (lesions.scores <= 1)).all())
      for i, label in enumerate(lesions.labels):
        part = links == i
        self.assertEqual(set(boxes.labels[part]), {label})
        self.assertLen(set(boxes.slices[part]), part.sum())
        sizes.append(part.sum())
    self.assertGreater(np.mean(np.array(sizes) > 2), 0.1)

  def test_a_pole_is_linked_though_its_iou_is_low(self):
    boxes = _boxes([[3, 10, 10, 16, 16], [4, 12, 12, 14, 14]])
    self.assertEqual(_linked(boxes)[0].tolist(), [0, 0])

  def test_the_best_total_overlap_and_not_the_best_first(self):
    # The first box lies on both above; the second only on the left one.
    boxes = _boxes(
      [
        [0, 0, 4, 10, 14],
        [0, 0, 0, 10, 7],
        [1, 0, 3, 10, 13],
        [1, 0, 7, 10, 17],
      ]
    )
    links, _ = _linked(boxes, min_overlap=0.4)
    self.assertEqual(links[0], links[3])
    self.assertEqual(links[1], links[2])
    self.assertNotEqual(links[0], links[1])

  @parameterized.parameters((0.0, 2), (3.9, 2), (4.0, 1), (20.0, 1))
  def test_a_missed_slice(self, reach_mm, count):
    boxes = _boxes([[5, 8, 8, 12, 12], [7, 8, 8, 12, 12], [8, 8, 8, 12, 12]])
    self.assertLen(_linked(boxes, reach_mm=reach_mm)[1], count)

  def test_of_a_near_and_a_far_one_the_near_is_linked(self):
    boxes = _boxes([[5, 0, 0, 9, 9], [6, 2, 2, 9, 9], [7, 0, 0, 9, 9]])
    self.assertLen(_linked(boxes, reach_mm=9.0)[1], 1)

  def test_classes_and_suppressed_boxes_stay_apart(self):
    boxes = _boxes(
      [[z, 8, 8, 12, 12] for z in (1, 2, 3)],
      labels=[1, 2, 2],
      suppressed=np.array([False, False, True]),
    )
    links, lesions = _linked(boxes)
    self.assertEqual(links[2], -1)
    self.assertEqual(sorted(links[:2]), [0, 1])
    self.assertEqual(sorted(lesions.labels), [1, 2])

  @parameterized.parameters(
    # Eight mm promise four slices of 2 mm.
    ((0.3, 0.9, 0.6), 1.0, 1.8 / 4),
    ((0.3, 0.9, 0.6), 0.5, 1.5 / 2),
    ((0.3, 0.9, 0.6), 0.375, (0.9 + 0.5 * 0.6) / 1.5),
    ((0.3, 0.9, 0.6), 0.0, 0.9),
    ((0.9,), 1.0, 0.9 / 4),
    ((0.5, 0.5, 0.5, 0.5, 0.5, 0.5), 1.0, 0.5),
    ((0.0, 0.0), 1.0, 0.0),
  )
  def test_score(self, scores, share, expected):
    rows = [[z, 8, 8, 16, 16] for z in range(len(scores))]
    _, lesions = _linked(_boxes(rows, scores), share=share)
    np.testing.assert_allclose(lesions.scores, [expected])
    np.testing.assert_allclose(lesions.diameters, [8.0])

  def test_center_is_weighted(self):
    rows = [[0, 0, 0, 2, 2], [1, 0, 0, 4, 4]]
    _, lesions = _linked(_boxes(rows, [0.8, 0.4]))
    # Weights are 3.2 and 6.4; the middles are 0.5 and 1.5 in index coordinates.
    np.testing.assert_allclose(lesions.centers, [[3.5 / 3, 3.5 / 3, 4 / 3]])

  def test_nothing_to_link(self):
    links, lesions = _linked(_boxes([]))
    self.assertEmpty(links)
    self.assertEqual(lesions.centers.shape, (0, 3))
    picture = _volume((None, 1.0, 1.0), (1, 64, 64))
    links, lesions = _linked(_boxes([[0, 1, 1, 5, 5]]), picture)
    self.assertEqual(links.tolist(), [-1])
    self.assertEmpty(lesions)


class LesionTest(parameterized.TestCase):
  @parameterized.product(
    spacing=[(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (1.0, 0.6, 0.9)],
    oblique=[False, True],
  )
  def test_a_sphere_has_its_place_and_size(self, spacing, oblique):
    direction = np.eye(3)
    if oblique:
      # An orthonormal matrix that mixes all axes and turns one round.
      direction = np.array([[1.0, 2, 2], [2, 1, -2], [2, -2, 1]]) / 3
    volume = _volume(
      spacing, (24, 48, 56), origin=(-40.0, 12.0, 7.5), direction=direction
    )
    for index, radius in (((11, 22, 30), 6.9), ((9.4, 20.3, 26.8), 4.0)):
      center = volume.index_to_world(np.array(index))
      grid = np.argwhere(np.ones(volume.voxels.shape, bool))
      gap = np.linalg.norm(volume.index_to_world(grid) - center, axis=-1)
      inside = grid[gap < radius]
      rows = [
        [z, *part.min(0)[1:], *(part.max(0)[1:] + 1)]
        for z in np.unique(inside[:, 0])
        for part in [inside[inside[:, 0] == z]]
      ]
      links, lesions = _linked(_boxes(rows), volume)
      self.assertEqual(set(links), {0})
      voxel = max(spacing[1:])
      np.testing.assert_allclose(lesions.diameters, [2 * radius], atol=voxel)
      away = volume.world_to_index(lesions.centers[0]) - index
      # Where the centre is a voxel's the sphere is as far to either side.
      tolerance = 1e-6 if radius == 6.9 else 0.5
      np.testing.assert_allclose(away, 0, atol=tolerance)
      self.assertBetween(lesions.scores[0], 0.8, 1)

  def test_true_boxes_of_real_patients_link_to_their_nodules(self):
    raw = real_data.folder('lidc_idri')
    truth = real_data.folder('luna16') / 'annotations.csv'
    published = {}
    for line in truth.read_text().splitlines()[1:]:
      series, *values = line.split(',')
      published.setdefault(series, []).append([float(v) for v in values])
    found = 0
    with tempfile.TemporaryDirectory() as folder:
      directory = build.prepare(
        'lidc_idri', manual_dir=raw, data_dir=pathlib.Path(folder)
      )
      cases = sources.open_cases(directory, 'all')
      for i, key in enumerate(cases.keys):
        case, expected = cases[i], np.array(published[key])
        kept = ~case.boxes.ignored
        rows = np.column_stack([case.boxes.slices, case.boxes.corners])
        links, lesions = _linked(_boxes(rows[kept]), case.volume)
        self.assertLen(lesions, len(expected))
        gap = np.linalg.norm(lesions.centers[:, None] - expected[:, :3], axis=2)
        nearest = gap.argmin(axis=0)
        self.assertLess(gap.min(axis=0).max(), 2.0)
        self.assertLen(set(nearest), len(expected))
        ratio = lesions.diameters[nearest] / expected[:, 3]
        self.assertBetween(ratio.min(), 1, 1.5)
        self.assertBetween(ratio.max(), 1, 1.5)
        self.assertGreater(lesions.scores.min(), 0.75)
        findings = case.boxes.findings[kept]
        np.testing.assert_array_equal(
          links[:, None] == links, findings[:, None] == findings
        )
        found += len(lesions)
    self.assertEqual(found, 4)


if __name__ == '__main__':
  absltest.main()
