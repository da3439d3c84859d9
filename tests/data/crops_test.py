import dataclasses

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from sklearn import metrics

from medzoo import types
from medzoo.data import crops
from medzoo.ops import boxes as boxes_lib

_NOTHING = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
_FIELD = (6, 10, 90, 118)


class _Frames:
  """Frames as `sources.Cases` gives them."""

  def __init__(self, cases):
    self._cases = cases
    self.keys = [case.volume.series_uid for case in cases]
    self.groups = [case.group for case in cases]
    self.decoded = 0

  def __len__(self):
    return len(self._cases)

  def __getitem__(self, index):
    self.decoded += 1
    return self._cases[index]

  def subset(self, indices):
    return _Frames([self._cases[i] for i in indices])


def _frame(key, polyps, group='g', field=_FIELD, shape=(96, 128)):
  """Returns a frame; polyps are corners."""
  seed = sum(key.encode())
  pixels = np.zeros((*shape, 3), np.uint8)
  y0, x0, y1, x1 = field
  pixels[y0:y1, x0:x1] = np.random.default_rng(seed).integers(
    60, 250, (y1 - y0, x1 - x0, 3)
  )
  masks = np.zeros((len(polyps), *shape), bool)
  for mask, (y0, x0, y1, x1) in zip(masks, polyps, strict=True):
    mask[y0:y1, x0:x1] = True
  volume = types.Volume(pixels[None], (None,) * 3, series_uid=key)
  labels = np.ones(len(masks), np.int32)
  return types.Case(
    volume, group, _NOTHING, _NOTHING, masks=types.Masks(masks, labels)
  )


def _random_frames(count=24, seed=0):
  rng = np.random.default_rng(seed)
  cases = []
  for i in range(count):
    size = rng.integers(8, 50, 2)
    start = rng.integers([6, 10], [90, 118] - size)
    polyps = [[*start, *(start + size)]] * (i % 6 != 5)
    cases.append(_frame(f'f{i}', polyps, f'g{i // 4}'))
  return _Frames(cases)


def _described(cut):
  """Returns where every crop lies, by name."""
  return {
    key: tuple(corners.tolist())
    for key, corners in zip(cut.keys, cut.corners, strict=True)
  }


class CropsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.frames = _random_frames()
    self.cut = crops.Crops(self.frames, margin=0.1, seed=0)

  def test_mucosa_never_touches_a_polyp_and_lies_in_the_field(self):
    masks = {case.volume.series_uid: case.masks.masks for case in self.frames}
    for key, label, (y0, x0, y1, x1) in zip(
      self.cut.keys, self.cut.labels, self.cut.corners, strict=True
    ):
      layers = masks[key.split('/')[0]][:, y0:y1, x0:x1]
      self.assertEqual(layers.any(), label == 1, key)
      self.assertTrue((np.array([y0, x0]) >= _FIELD[:2]).all())
      self.assertTrue((np.array([y1, x1]) <= _FIELD[2:]).all())

  def test_height_and_width_say_nothing_of_the_class(self):
    corners = np.array(self.cut.corners)
    sides = corners[:, 2:] - corners[:, :2]
    labels = np.array(self.cut.labels)
    polyps, mucosa = (sorted(map(tuple, sides[labels == x])) for x in (1, 0))
    self.assertEqual(polyps, mucosa)
    for values in (*sides.T, sides.prod(axis=1), sides[:, 0] / sides[:, 1]):
      self.assertAlmostEqual(metrics.roc_auc_score(labels, values), 0.5)

  def test_crops_are_pieces_of_their_frames(self):
    frames = {case.volume.series_uid: case for case in self.frames}
    for case, (y0, x0, y1, x1), key, label, group in zip(
      self.cut,
      self.cut.corners,
      self.cut.keys,
      self.cut.labels,
      self.cut.groups,
      strict=True,
    ):
      frame = frames[key.split('/')[0]]
      np.testing.assert_array_equal(
        case.volume.voxels, frame.volume.voxels[:, y0:y1, x0:x1]
      )
      self.assertEqual(case.volume.origin, (x0, y0, 0))
      self.assertEqual(case.volume.series_uid, key)
      self.assertEqual((case.label, case.group), (label, group))
      self.assertEqual(group, frame.group)
      self.assertRegex(key, r'^f\d+/(mucosa|polyp)_0' if label else '/mucosa_')

  def test_places_depend_on_the_seed_but_not_on_the_order(self):
    order = np.random.default_rng(1).permutation(len(self.frames))
    shuffled = crops.Crops(self.frames.subset(order), margin=0.1, seed=0)
    self.assertEqual(_described(shuffled), _described(self.cut))
    self.assertEqual(shuffled.counts, self.cut.counts)
    other = crops.Crops(self.frames, margin=0.1, seed=1)
    self.assertNotEqual(_described(other), _described(self.cut))

  def test_a_frame_keeps_its_mucosa_when_others_come(self):
    few = crops.Crops(self.frames.subset(range(8)), margin=0.1, seed=0)
    own = [
      (key, tuple(corners))
      for key, corners, place in zip(
        few.keys, few.corners, few._places, strict=True
      )
      if place.source in ('', 'same_frame')
    ]
    everything = _described(self.cut)
    self.assertNotEmpty(own)
    for key, corners in own:
      self.assertEqual(everything[key], corners)

  def test_mucosa_lies_anywhere_there_is_room(self):
    frames = _Frames([_frame(f'f{i}', [(40, 50, 56, 66)]) for i in range(150)])
    cut = crops.Crops(frames, margin=0.0, seed=0)
    starts = np.array(cut.corners)[np.array(cut.labels) == 0, :2]
    # Places are those of the field less those that meet the polyp.
    allowed = [
      (y, x)
      for y in range(6, 75)
      for x in range(10, 103)
      if not (24 < y < 56 and 34 < x < 66)
    ]
    mean, spread = np.mean(allowed, axis=0), np.std(allowed, axis=0)
    error = spread / np.sqrt(len(starts))
    self.assertLess((np.abs(starts.mean(axis=0) - mean) / error).max(), 4)
    self.assertLess(np.abs(starts.std(axis=0) / spread - 1).max(), 0.2)

  def test_without_room_mucosa_is_from_the_sequence_then_from_the_view(self):
    huge, small = (10, 14, 80, 100), (8, 56, 30, 74)
    frames = _Frames(
      [
        _frame('a', [huge], 'g'),
        _frame('b', [], 'g'),
        _frame('c', [huge], 'h'),
        _frame('d', [small], 'h'),
      ]
    )
    cut = crops.Crops(frames, margin=0.0, seed=0)
    found = dict(zip(cut.keys, cut.groups, strict=True))
    self.assertEqual(
      found,
      {
        'a/polyp_0': 'g',
        'b/mucosa_0': 'g',
        'b/mucosa_1': 'g',
        'c/polyp_0': 'h',
        'd/polyp_0': 'h',
        'd/mucosa_0': 'h',
      },
    )
    self.assertEqual(
      cut.counts,
      {
        'polyp': 3,
        'mucosa': 3,
        'same_frame': 1,
        'same_sequence': 1,
        'same_view': 1,
        'left_out': 0,
      },
    )

  def test_with_room_nowhere_the_polyp_is_left_out(self):
    frames = _Frames(
      [_frame('a', [(6, 10, 88, 110)]), _frame('b', [(10, 20, 30, 40)])]
    )
    cut = crops.Crops(frames, margin=0.1, seed=0)
    self.assertEqual(cut.keys, ['b/polyp_0', 'b/mucosa_0'])
    self.assertEqual(cut.left_out, ['a/polyp_0'])
    self.assertEqual(cut.counts['left_out'], 1)

  @parameterized.named_parameters(
    ('no_margin', 0.0, (30, 40, 50, 70), (30, 40, 50, 70)),
    ('margin', 0.1, (30, 40, 50, 70), (28, 37, 52, 73)),
    ('at_the_edge', 0.25, (6, 10, 26, 30), (6, 10, 31, 35)),
    ('beyond_the_edge', 0.0, (2, 4, 26, 40), (6, 10, 26, 40)),
    ('tiny', 0.0, (40, 40, 44, 46), (34, 35, 50, 51)),
    ('tiny_in_a_corner', 0.0, (86, 114, 90, 118), (74, 102, 90, 118)),
    ('in_the_dark', 0.0, (90, 30, 96, 60), (80, 30, 96, 60)),
  )
  def test_crops_of_polyps_worked_by_hand(self, margin, polyp, expected):
    cut = crops.Crops(_Frames([_frame('a', [polyp])]), margin=margin, seed=0)
    self.assertEqual(_described(cut)['a/polyp_0'], expected)

  def test_polyps_of_one_frame_all_keep_their_distance(self):
    polyps = [(10, 14, 40, 40), (50, 80, 80, 110), (20, 70, 36, 90)]
    frames = _Frames([_frame(f'f{i}', polyps) for i in range(20)])
    cut = crops.Crops(frames, margin=0.0, seed=0)
    self.assertLen(cut, 120)
    corners, labels = np.array(cut.corners), np.array(cut.labels)
    overlaps = boxes_lib.iou(
      corners[labels == 0].astype(float), np.array(polyps, float)
    )
    self.assertEqual(overlaps.max(), 0)

  def test_the_border_shows_in_mucosa_as_in_polyps(self):
    frames = [
      _frame(f'f{i}', [(20 + i, 9, 50 + i, 40)], f'g{i}') for i in range(20)
    ]
    for case in frames:
      # The field is an octagon, and the polyps stand at its left edge.
      y, x = np.indices((96, 128))
      for u, v in ((y, x), (95 - y, x), (y, 127 - x), (95 - y, 127 - x)):
        case.volume.voxels[0][u + v < 40] = 0
    cut = crops.Crops(_Frames(frames), margin=0.1, seed=0)
    dark = np.array([(x.volume.voxels.max(-1) < 30).mean() for x in cut])
    labels = np.array(cut.labels)
    # A few pixels of chance apart, as mucosa that is just as black is rare.
    self.assertLess(abs(metrics.roc_auc_score(labels, dark) - 0.5), 0.15)
    self.assertLess(dark[labels == 0].max(), dark[labels == 1].max() + 0.01)

  def test_parts_and_frames_are_not_read_twice(self):
    indices = [3, 2, 8]
    part = self.cut.subset(indices)
    self.assertEqual(part.keys, [self.cut.keys[i] for i in indices])
    self.assertEqual(part.counts['polyp'] + part.counts['mucosa'], 3)
    self.assertLen(self.cut.keys, len(self.cut))
    frames = self.frames.subset(range(2))
    cut = crops.Crops(frames, margin=0.0, seed=0)
    self.assertEqual(frames.decoded, 2)
    self.assertLen(list(cut), 4)
    self.assertEqual(frames.decoded, 4)

  def test_frames_without_masks_are_refused(self):
    case = dataclasses.replace(_frame('a', []), masks=None)
    with self.assertRaisesRegex(ValueError, 'a: found a frame without masks'):
      crops.Crops(_Frames([case]), margin=0.0, seed=0)
    with self.assertRaisesRegex(ValueError, 'found a margin of -1'):
      crops.Crops(self.frames, margin=-1, seed=0)


if __name__ == '__main__':
  absltest.main()
