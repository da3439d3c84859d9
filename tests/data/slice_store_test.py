"""Tests of the training slices on disk, and of batches of them."""

import pathlib
import pickle
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import pipeline
from medzoo.data import slice_store
from medzoo.data import slice_transforms
from tests.data import phantom_cases

# 24 by 40 voxels of 1 mm by 0.5 mm in pixels of 1 mm: the scan's upper left
# corner is at (4, 2) of the picture.
_PREPROCESS = {
  'shape': (32, 24),
  'pixel_mm': 1.0,
  'window': {'name': 'window', 'low': 0.0, 'high': 255.0},
  'region': 'none',
}
_LENGTHS = {'a': 5, 'b': 1, 'c': 7}
# Of scan and slice: corners in voxels, label, whether ignored. Not in order.
_ROWS = {
  'a': (
    (4, (0, 0, 8, 8), 1, False),
    (2, (2, 10, 12, 20), 2, False),
    (2, (5, 6, 9, 10), 1, True),
    (0, (8, 8, 10, 10), 1, True),
    (2, (20, 30, 24, 40), 1, False),
  ),
  'b': (),
  'c': ((6, (1, 2, 3, 4), 1, False), (1, (3, 4, 5, 6), 1, True)),
}


def _boxes(rows):
  return types.Boxes(
    np.array([row[0] for row in rows], np.int32),
    np.array([row[1] for row in rows], float).reshape(-1, 4),
    np.array([row[2] for row in rows], np.int32),
    np.array([row[3] for row in rows], bool),
    np.arange(len(rows), dtype=np.int32),
  )


def _gray(name, z):
  """What every slice shows, each another gray."""
  return 1 + 20 * 'abc'.index(name) + z


def _case(name, boxes):
  grays = [_gray(name, z) for z in range(_LENGTHS[name])]
  voxels = np.array(grays, np.int16)[:, None, None] + np.zeros(
    (1, 24, 40), np.int16
  )
  volume = types.Volume(voxels, (2.0, 1.0, 0.5), series_uid=name)
  nothing = phantom_cases.findings()
  return types.Case(volume, 'p', nothing, nothing, boxes)


def _picture(name, channels):
  volume = types.Volume(
    np.full((1, 32, 24, *channels), 9, np.uint8), (None, 1, 1), series_uid=name
  )
  nothing = phantom_cases.findings()
  return types.Case(volume, 'p', nothing, nothing, _boxes([]))


def _cases():
  return [_case(name, _boxes(rows)) for name, rows in _ROWS.items()]


def _same(first, second):
  for a, b in zip(first, second, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


class SliceStoreTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'x' / 'train'

  def store(self, every=1, cases=None):
    slice_store.derive(
      cases or _cases(), self.folder, every=every, preprocess=_PREPROCESS
    )
    return slice_store.SliceStore(self.folder)

  @parameterized.parameters(1, 2, 3)
  def test_every_slice_with_its_neighbours_and_boxes(self, every):
    store = self.store(every)
    expected = [(n, z) for n in 'abc' for z in range(0, _LENGTHS[n], every)]
    self.assertLen(store, len(expected))
    for index, (name, z) in enumerate(expected):
      example = store[index]
      self.assertEqual(example['image'].shape, (32, 24, 3))
      self.assertEqual(example['image'].dtype, np.uint8)
      around = [max(z - 1, 0), z, min(z + 1, _LENGTHS[name] - 1)]
      self.assertEqual(
        example['image'][16, 12].tolist(), [_gray(name, k) for k in around]
      )
      rows = [row for row in _ROWS[name] if row[0] == z]
      kept = [row for row in rows if not row[3]]
      for key, some in (
        ('boxes', kept),
        ('ignored', [row for row in rows if row[3]]),
      ):
        # In pixels of twice a voxel's width, from the picture's corner.
        corners = np.array([row[1] for row in some], float).reshape(-1, 4)
        corners = corners / (1, 2, 1, 2) + (4, 2, 4, 2)
        np.testing.assert_allclose(example[key], corners)
      self.assertEqual(example['labels'].tolist(), [row[2] for row in kept])
      self.assertEqual(bool(store.positive[index]), bool(kept))
    self.assertLen(store.positive, len(expected))
    self.assertEqual((store.most_boxes, store.most_ignored), (2, 1))

  def test_without_any_box(self):
    store = self.store(cases=[_case('b', _boxes([]))])
    self.assertEqual(store.positive.tolist(), [False])
    self.assertEqual((store.most_boxes, store.most_ignored), (1, 1))
    self.assertEqual(store[0]['boxes'].shape, (0, 4))

  def test_another_process_opens_the_file_itself(self):
    store = self.store(every=2)
    data = pickle.dumps(store)
    self.assertLess(len(data), 1000)
    copy = pickle.loads(data)
    _same(list(map(copy.__getitem__, range(len(copy)))), list(store))

  def test_pictures_in_color_keep_their_channels(self):
    cases = [_picture('x', (3,)), _picture('y', ())]
    cases[0].volume.voxels[..., 1] = 70
    store = self.store(cases=cases)
    colors = [example['image'][5, 5].tolist() for example in store]
    self.assertEqual(colors, [[9, 70, 9], [9, 9, 9]])

  @parameterized.named_parameters(
    ('no_boxes', lambda: [*_cases(), _case('a', None)], 'a: .*no boxes'),
    ('nothing', list, 'no case'),
    (
      'scans_and_pictures',
      lambda: [*_cases(), _picture('x', (3,))],
      r'of \(32, 24\) and of \(32, 24, 3\)',
    ),
  )
  def test_refuses(self, cases, message):
    with self.assertRaisesRegex(ValueError, message):
      slice_store.derive(cases(), self.folder, every=1, preprocess=_PREPROCESS)
    self.assertFalse(self.folder.exists())
    # What is left of it is in nobody's way.
    self.assertLen(self.store(), sum(_LENGTHS.values()))


class BatchesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    folder = pathlib.Path(temporary.name) / 'slices'
    slice_store.derive(_cases(), folder, every=1, preprocess=_PREPROCESS)
    cls.store = slice_store.SliceStore(folder)

  def batches(self, share=0.5, workers=0, flip=True):
    return pipeline.train_batches(
      self.store,
      batch_size=8,
      positive_share=share,
      transforms=[
        slice_transforms.RandomView((32, 24), flip, 0.1, (1.0, 1.0)),
        slice_transforms.ToFloat(),
        slice_transforms.PadBoxes(2, 1),
      ],
      seed=3,
      workers=workers,
    )

  @parameterized.parameters((0.25, 2), (0.5, 4), (1.0, 8), (0.0, 0))
  def test_every_batch_has_its_share(self, share, positives):
    """Slices with a box to find are told by their gray."""
    batches = self.batches(share)
    found = {_gray('a', 2), _gray('a', 4), _gray('c', 6)}
    for _ in range(10):
      batch = next(batches)
      self.assertEqual(batch['image'].shape, (8, 32, 24, 3))
      grays = np.rint(255 * batch['image'][:, 16, 12, 1]).astype(int)
      self.assertEqual(np.isin(grays, list(found)).sum(), positives)

  def test_all_slices_take_part(self):
    batches = self.batches(0.5)
    grays = set()
    # 10 without a lesion, of which every batch has 4.
    for _ in range(3):
      image = next(batches)['image']
      grays.update(np.rint(255 * image[:, 16, 12, 1]).astype(int).tolist())
    self.assertEqual(
      grays, {_gray(name, z) for name, n in _LENGTHS.items() for z in range(n)}
    )

  @parameterized.parameters(0, 1)
  def test_state_resumes_to_the_bit(self, workers):
    batches = self.batches(workers=workers)
    for _ in range(3):
      next(batches)
    state = batches.get_state()
    expected = [next(batches) for _ in range(4)]
    again = self.batches(workers=workers)
    again.set_state(state)
    _same([next(again) for _ in range(4)], expected)
    with self.assertRaises(AssertionError):
      _same([next(self.batches())], expected[:1])


if __name__ == '__main__':
  absltest.main()
