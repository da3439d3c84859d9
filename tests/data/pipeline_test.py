import pathlib
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import labelled_store
from medzoo.data import labelled_transforms
from medzoo.data import patches
from medzoo.data import pipeline
from medzoo.data import transforms
from tests.data import phantom_cases

_SHAPE = (9, 12, 12)


def _same(first, second):
  for a, b in zip(first, second, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


class PipelineTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    folder = pathlib.Path(temporary.name) / 'patches'
    cases = [
      phantom_cases.case(name, [(14, 30, 30)] if name != 'c' else [])
      for name in 'abc'
    ]
    patches.derive(
      cases,
      folder,
      shape=_SHAPE,
      margin=(1, 2, 2),
      window={'name': 'window', 'low': -1000.0, 'high': 0.0},
      spacing=(1.0, 1.0, 1.0),
      region='none',
      shifted=4,
      shift_mm=4.0,
      random_per_scan=2,
      hard=None,
      hard_per_scan=0,
      seed=0,
    )
    cls.store = patches.PatchStore(folder)

  def _batches(self, **changes):
    affine = transforms.RandomAffine(
      shape=_SHAPE,
      flip=(True, True, True),
      rotate_rad=0.1,
      scale=0.1,
      shift_vox=(1.0, 1.0, 1.0),
    )
    values = {
      'batch_size': 8,
      'positive_share': 0.25,
      'transforms': [
        affine,
        transforms.RandomIntensity(0.1, 0.05, 0.01),
        transforms.ToPatch(_SHAPE),
      ],
      'seed': 0,
    }
    return pipeline.train_batches(self.store, **(values | changes))

  def test_shapes_and_share(self):
    batches = self._batches()
    for _ in range(5):
      batch = next(batches)
      self.assertEqual(batch['image'].shape, (8, *_SHAPE, 1))
      self.assertEqual(batch['image'].dtype, np.float32)
      self.assertEqual(batch['label'].dtype, np.int32)
      self.assertEqual(batch['offset'].shape, (8, 3))
      self.assertEqual(batch['diameter'].dtype, np.float32)
      self.assertTrue(batch['valid'].all())
      self.assertEqual(batch['label'].sum(), 2)

  @parameterized.parameters(1, 2)
  def test_every_cube_once_a_round(self, process_count):
    """10 positives in 5 batches of 2; no process sees another's."""
    rounds = []
    for round_ in range(2):
      seen = []
      for process in range(process_count):
        batches = self._batches(
          transforms=[transforms.ToPatch(_SHAPE)],
          process_index=process,
          process_count=process_count,
          positive_share=0.5,
          batch_size=4,
        )
        for number in range(10):
          batch = next(batches)
          if number // 5 == round_:
            seen += batch['offset'][batch['label'] > 0].tolist()
      rounds.append(seen)
      positives = np.flatnonzero(self.store.labels)
      expected = [self.store[int(i)]['offset'].tolist() for i in positives]
      self.assertCountEqual(seen, expected)
    self.assertNotEqual(rounds[0], rounds[1])

  @parameterized.parameters(
    (0.5, [4, 4, 4]), (0.25, [7.2, 2.4, 2.4]), (1.0, [0, 6, 6])
  )  # fmt: skip
  def test_kinds_of_positives_have_the_same_share_each(self, share, expected):
    self.store = labelled_store.CodeStore(
      np.arange(100.0)[:, None], np.repeat([0, 1, 2], [80, 15, 5])
    )
    batches = self._batches(
      transforms=[labelled_transforms.ToExample()],
      positive_share=share,
      batch_size=12,
    )
    counts = sum(
      np.bincount(next(batches)['label'], minlength=3) for _ in range(20)
    )
    np.testing.assert_allclose(counts / 20, expected, atol=0.2)

  @parameterized.parameters(0, 1)
  def test_state_resumes_to_the_bit(self, workers):
    batches = self._batches(workers=workers)
    for _ in range(7):
      next(batches)
    state = batches.get_state()
    expected = [next(batches) for _ in range(6)]
    again = self._batches(workers=workers)
    again.set_state(state)
    _same([next(again) for _ in range(6)], expected)
    _same(expected[-1:], [self._nth(13)])

  def _nth(self, number):
    batches = self._batches()
    for _ in range(number - 1):
      next(batches)
    return next(batches)

  def test_seed_decides(self):
    _same([self._nth(2)], [self._nth(2)])
    other = next(self._batches(seed=1))
    self.assertFalse((other['image'] == self._nth(1)['image']).all())

  def test_augmentation_differs_each_time(self):
    batches = self._batches(positive_share=1.0, batch_size=10)
    first, second = next(batches)['image'], next(batches)['image']
    for image in first:
      self.assertFalse((image == second).all(axis=(1, 2, 3, 4)).any())

  def test_without_augmentation_the_middle(self):
    batch = next(
      self._batches(
        transforms=[transforms.ToPatch(_SHAPE)],
        positive_share=1.0,
        batch_size=10,
      )
    )
    images = [x['image'][1:-1, 2:-2, 2:-2] for x in self.store]
    for image in batch['image'][..., 0]:
      self.assertTrue(any((image == other).all() for other in images))

  @parameterized.parameters(
    ({'batch_size': 8, 'process_count': 3}, 'shared evenly'),
    ({'batch_size': 99, 'process_count': 11, 'process_index': 10}, 'positive'),
  )
  def test_refuses(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      self._batches(**changes)

  def test_eval_is_in_order_and_padded(self):
    batches = pipeline.eval_batches(
      self.store, batch_size=8, transforms=[transforms.ToPatch(_SHAPE)]
    )
    for _ in range(2):
      found = list(batches)
      self.assertLen(found, -(-len(self.store) // 8))
      valid = np.concatenate([batch['valid'] for batch in found])
      self.assertEqual(valid.sum(), len(self.store))
      self.assertTrue(valid[: len(self.store)].all())
      labels = np.concatenate([batch['label'] for batch in found])
      np.testing.assert_array_equal(labels[valid], self.store.labels)
      for batch in found:
        self.assertEqual(batch['image'].shape, (8, *_SHAPE, 1))
      np.testing.assert_array_equal(
        found[0]['image'][3, ..., 0], self.store[3]['image'][1:-1, 2:-2, 2:-2]
      )


if __name__ == '__main__':
  absltest.main()
