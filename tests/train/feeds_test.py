"""Tests of what fit stages train on."""

import pathlib
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest

from medzoo.models import cnn_lstm
from medzoo.models import small_encoder
from medzoo.tasks import sequence_detection
from medzoo.train import build
from medzoo.train import feeds
from medzoo.train import stages
from tests.train import slice_cases

_SPEC = {
  'batch_size': 4,
  'data': {
    'feed': 'slices',
    'positive_share': 0.25,
    'validate_every': 4,
    'view': {
      'shape': (64, 64),
      'flip': True,
      'scale': 0.1,
      'shift_px': (4.0, 4.0),
    },
    'intensity': {'gain': 0.1, 'bias': 0.05, 'noise': 0.01},
    'workers': 0,
  },
}
# Pixels of 2 mm, two voxels of the scans.
_PREPROCESS = {
  'shape': (64, 64),
  'pixel_mm': 2.0,
  'window': {'name': 'window', 'low': -1000.0, 'high': 400.0},
  'region': 'none',
}


def _cases():
  """Those of `slice_cases`, with a second nodule on one slice of 'a'."""
  cases = slice_cases.scans()
  for case in cases:
    grays = np.arange(len(case.volume.voxels)) * 100 - 900
    case.volume.voxels[:] = grays[:, None, None]
  cases[0].boxes.slices[:] = 7, 3, 3
  cases[0].boxes.corners[2] = slice_cases.FOUND
  return cases


class FeedsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    cases = _cases()
    self.run_ = stages.Run(
      config={
        'seed': 0,
        'preprocess': _PREPROCESS,
        'stages': {'detector': _SPEC},
      },
      folder=pathlib.Path(self.create_tempdir().full_path),
      name='',
      cases={
        'train': slice_cases.Cases(cases[:1]),
        'validation': slice_cases.Cases(cases[1:]),
      },
      inputs='',
      writer=mock.Mock(),
    )

  def test_an_unknown_feed_is_named(self):
    data = {**_SPEC['data'], 'feed': 'slides'}
    self.run_.config['stages']['detector'] = {**_SPEC, 'data': data}
    with self.assertRaisesRegex(
      build.ConfigError,
      r"^stages\.detector\.data\.feed: found 'slides', expected one of "
      'patches, slices$',
    ):
      feeds.make(self.run_, 'detector')

  def test_slices_are_what_the_task_expects(self):
    feed = feeds.make(self.run_, 'detector')
    self.assertLen(feed.training, 10)
    self.assertEqual(feed.training.positive.sum(), 1)
    batches = feed.batches(_SPEC, 0)
    for _ in range(5):
      batch = next(batches)
      self.assertEqual(
        {name: (x.shape, x.dtype) for name, x in batch.items()},
        {
          'image': ((4, 64, 64, 3), np.float32),
          'boxes': ((4, 2, 4), np.float32),
          'labels': ((4, 2), np.int32),
          'ignored': ((4, 1, 4), np.float32),
          'valid': ((4,), np.bool_),
        },
      )
      self.assertBetween(batch['image'].min(), 0, batch['image'].max())
      self.assertLessEqual(batch['image'].max(), 1)
      sizes = (batch['boxes'][..., 2:] - batch['boxes'][..., :2]).max(-1)
      np.testing.assert_array_equal(sizes > 0, batch['labels'] > 0)
      self.assertEqual((batch['labels'] > 0).any(-1).sum(), 1)

  def test_validation_is_not_augmented(self):
    feed = feeds.make(self.run_, 'detector')
    first, second = (
      list(feed.eval_batches(_SPEC)),
      list(feed.eval_batches(_SPEC)),
    )
    for one, other in zip(first, second, strict=True):
      jax.tree.map(np.testing.assert_array_equal, one, other)
    joined = {
      name: np.concatenate([batch[name] for batch in first])
      for name in first[0]
    }
    # Every fourth slice of 10 and of 5, then padding.
    self.assertEqual(joined['valid'].tolist(), [True] * 5 + [False] * 3)
    grays = joined['image'][:5, 32, 32, 1] * 1400 - 1000
    np.testing.assert_allclose(grays, [-900, -500, -100, -900, -500], atol=3)
    self.assertFalse(joined['labels'].any())
    self.assertFalse(joined['image'][:, :6].any())

  def test_examples_are_derived_once(self):
    feed = feeds.make(self.run_, 'detector')
    self.run_.cases.clear()
    again = feeds.make(self.run_, 'detector')
    self.assertEqual(self.run_.writer.log.call_count, 2)
    for index in range(10):
      jax.tree.map(
        np.testing.assert_array_equal,
        again.training[index],
        feed.training[index],
      )
    boxes = feed.training[3]['boxes']
    # Two voxels a pixel, in a frame of 7 pixels.
    self.assertEqual(boxes.tolist(), [[12, 12, 17, 17], [32, 32, 37, 37]])
    self.assertEqual(feed.training[7]['ignored'].tolist(), [[22, 22, 27, 27]])

  def test_a_task_takes_them(self):
    batch = next(feeds.make(self.run_, 'detector').batches(_SPEC, 0))
    encoder = small_encoder.SmallEncoder((4, 4, 4, 4), 16, 4)
    model = cnn_lstm.CnnLstm(
      encoder, coarse_channels=4, fine_channels=4, context_from=2
    )
    task = sequence_detection.SequenceDetection(model, max_boxes=8)

    def losses(key, batch):
      variables = task.init(key, batch)
      loss, (terms, _) = task.loss(variables, batch, key, train=True)
      return loss, terms, task.predict(variables, batch)['boxes']

    # Shapes and types are enough, so nothing is compiled.
    loss, _, boxes = jax.eval_shape(losses, jax.random.key(0), batch)
    self.assertEqual((loss.shape, loss.dtype), ((), np.float32))
    self.assertEqual(boxes.shape[::2], (4, 4))


if __name__ == '__main__':
  absltest.main()
