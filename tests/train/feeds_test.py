"""Tests of what fit stages train on."""

import dataclasses
import pathlib
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.data import pictures
from medzoo.models import cnn_lstm
from medzoo.models import small_encoder
from medzoo.tasks import sequence_detection
from medzoo.train import build
from medzoo.train import feeds
from medzoo.train import mapping
from medzoo.train import stages
from tests.data import film_cases
from tests.train import slice_cases

_SPEC = {
  'batch_size': 4,
  'model': {'num_classes': 3},
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

  def test_a_class_too_many_names_both_keys(self):
    for split, place in (('train', 2), ('validation', 0)):
      with self.subTest(split):
        self.setUp()
        labels = self.run_.cases[split][0].boxes.labels
        # That of a box to ignore does not count.
        labels[:] = np.where(self.run_.cases[split][0].boxes.ignored, 9, 2)
        feeds.make(self.run_, 'detector')
        self.setUp()
        self.run_.cases[split][0].boxes.labels[place] = 3
        with self.assertRaises(build.ConfigError) as caught:
          feeds.make(self.run_, 'detector')
        message = str(caught.exception)
        self.assertIn('stages.detector.model.num_classes: found 3', message)
        self.assertIn('expected 4', message)
        self.assertIn('dataset.options.classes', message)
        self.assertNotIn('\n', message)

  def test_an_unknown_feed_is_named(self):
    data = {**_SPEC['data'], 'feed': 'slides'}
    self.run_.config['stages']['detector'] = {**_SPEC, 'data': data}
    with self.assertRaisesRegex(
      build.ConfigError,
      r"^stages\.detector\.data\.feed: found 'slides', expected one of "
      'codes, labelled, patches, pictures, slices$',
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


_FILMS = {
  'kind': 'fit',
  'batch_size': 3,
  'data': {
    'feed': 'pictures',
    'positive_share': 1.0,
    'film': {
      'rotate_deg': 5.0,
      'shear': 0.05,
      'scale': 0.1,
      'shift': 0.05,
      'crop': 0.1,
      'flip': True,
    },
    'exposure': {
      'gamma': 0.3,
      'contrast': 0.1,
      'brightness': 0.05,
      'noise': 0.01,
    },
    'cover': {'most': 0, 'side': 0.2},
    'workers': 0,
  },
}


class PicturesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    cases = [
      film_cases.film('a'),
      film_cases.film('b', (90, 130)),
      film_cases.film('c', (64, 64), labels=(2,)),
      film_cases.film('d', labels=()),
    ]
    self.run_ = stages.Run(
      config={
        'seed': 0,
        'preprocess': {'shape': (64, 64), 'equalize': True},
        'stages': {
          'order': ('unet', 'heads'),
          'unet': _FILMS,
          'heads': _FILMS,
        },
      },
      folder=pathlib.Path(self.create_tempdir().full_path),
      name='',
      cases={
        'train': film_cases.Cases(cases),
        'validation': film_cases.Cases(cases),
      },
      inputs='',
      writer=mock.Mock(),
    )

  def test_films_are_what_tasks_expect(self):
    batches = feeds.make(self.run_, 'unet').batches(_FILMS, 0)
    labels = set()
    for _ in range(8):
      batch = next(batches)
      self.assertEqual(
        {name: (x.shape, x.dtype) for name, x in batch.items()},
        {
          'image': ((3, 64, 64, 1), np.float32),
          'masks': ((3, 2, 64, 64), np.uint8),
          'boxes': ((3, 2, 4), np.float32),
          'labels': ((3, 2), np.int32),
          'sizes': ((3, 2), np.int32),
          'valid': ((3,), np.bool_),
        },
      )
      there = batch['masks'].any((2, 3))
      np.testing.assert_array_equal(batch['labels'], there * np.array([1, 2]))
      self.assertLessEqual(batch['image'].max(), 1)
      labels.update(map(tuple, batch['labels'].tolist()))
    # A mirrored film with a left lung alone has a right one alone.
    self.assertEqual(labels, {(1, 2), (0, 2), (1, 0), (0, 0)})

  def test_left_stays_the_patients_left(self):
    """Through preparing, augmenting and finishing, mirrored or not.

    A film shows the patient's left lung on its right. The films' lungs are
    told by their greys, which cross when a film is mirrored.
    """
    batches = feeds.make(self.run_, 'unet').batches(_FILMS, 0)
    mirrored = as_they_are = 0
    for _ in range(8):
      batch = next(batches)
      for i in np.flatnonzero((batch['labels'] > 0).all(1)):
        right, left = batch['masks'][i] > 0
        self.assertLess(np.nonzero(right)[1].mean(), np.nonzero(left)[1].mean())
        self.assertLess(batch['boxes'][i, 0, 1], batch['boxes'][i, 1, 1])
        image = batch['image'][i, :, :, 0]
        dark_is_right = np.median(image[right]) < np.median(image[left])
        # The dark lung is the larger one too, so masks follow their lungs.
        self.assertEqual(right.sum() > left.sum(), dark_is_right)
        as_they_are += dark_is_right
        mirrored += not dark_is_right
    self.assertGreater(min(mirrored, as_they_are), 3)

  def test_sides_are_kept_unless_flipping_is_asked_for(self):
    film = {**_FILMS['data']['film'], 'flip': False}
    spec = {**_FILMS, 'data': {**_FILMS['data'], 'film': film}}
    self.run_.config['stages']['unet'] = spec
    batches = feeds.make(self.run_, 'unet').batches(spec, 0)
    for _ in range(8):
      batch = next(batches)
      for i in np.flatnonzero((batch['labels'] > 0).all(1)):
        image = batch['image'][i, :, :, 0]
        right, left = batch['masks'][i] > 0
        self.assertLess(np.median(image[right]), np.median(image[left]))

  def test_validation_is_what_prediction_sees(self):
    feed = feeds.make(self.run_, 'unet')
    first, second = feed.eval_batches(_FILMS)
    self.assertEqual(second['valid'].tolist(), [True, False, False])
    for i, case in enumerate(self.run_.cases['validation'][:3]):
      picture = pictures.prepare(case.volume, **self.run_.config['preprocess'])
      np.testing.assert_allclose(
        first['image'][i, :, :, 0], picture.pixels / 255, atol=1e-6
      )
      self.assertEqual(first['sizes'][i].tolist(), list(picture.inner))

  def test_a_film_without_masks_is_an_error_without_a_stage_for_it(self):
    cases = self.run_.cases['train']
    cases[1] = dataclasses.replace(cases[1], masks=None)
    with self.assertRaisesRegex(ValueError, '^b: found no masks'):
      feeds.make(self.run_, 'unet')

  def test_what_a_stage_labelled_is_trained_on(self):
    """Films that it set aside, and all others without masks, are not."""
    stages_ = self.run_.config['stages']
    stages_['order'] = ('unet', 'pseudo', 'heads')
    stages_['pseudo'] = {'kind': 'pseudo'}
    stages_['heads'] = {
      **_FILMS,
      'data': {**_FILMS['data'], 'pseudo': 'pseudo'},
    }
    cases = self.run_.cases['train']
    known = cases[0].masks
    for i in (0, 1):
      cases[i] = dataclasses.replace(cases[i], masks=None)
    self.assertLen(feeds.make(self.run_, 'unet').training, 2)
    folder = self.run_.folder / 'pseudo'
    (folder / 'outputs').mkdir(parents=True)
    (folder / 'kept.json').write_text('["a"]')
    with mock.patch.object(mapping, 'read_all') as read:
      lungs = types.MaskDetections(
        known.masks, np.zeros((2, 4)), np.ones(2), known.labels
      )
      read.return_value = {
        key: mapping.Output(key, {'lungs': lungs}, 0.0) for key in 'ab'
      }
      feed = feeds.make(self.run_, 'heads')
    self.assertLen(feed.training, 3)
    self.assertLen(feed.validation, 4)
    picture = pictures.prepare(
      cases[0].volume, **self.run_.config['preprocess']
    )
    np.testing.assert_array_equal(
      feed.training[0]['masks'], picture.place(known.masks) >= 0.5
    )

  def test_stages_share_the_examples(self):
    feed = feeds.make(self.run_, 'unet')
    self.run_.cases.clear()
    again = feeds.make(self.run_, 'heads')
    self.assertEqual(self.run_.writer.log.call_count, 2)
    for index in range(4):
      jax.tree.map(
        np.testing.assert_array_equal,
        again.training[index],
        feed.training[index],
      )


if __name__ == '__main__':
  absltest.main()
