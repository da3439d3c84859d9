"""Tests of what stages train on."""

import dataclasses
import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest

from medzoo.data import slice_store
from medzoo.train import build
from medzoo.train import feeds
from medzoo.train import stages
from tests.train import slice_cases


def _labelled(*labels):
  """The first scan, with these classes for its boxes; the first is ignored."""
  case = slice_cases.scans()[0]
  boxes = dataclasses.replace(case.boxes, labels=np.array(labels, np.int32))
  return slice_cases.Cases([dataclasses.replace(case, boxes=boxes)])


class SlicesTest(absltest.TestCase):
  def make(self, training, validation, num_classes):
    detector = {
      'model': {'num_classes': num_classes},
      'data': {
        'feed': 'slices',
        'validate_every': 1,
        'view': {'flip': True, 'scale': 0.1, 'shift_px': (1.0, 1.0)},
        'intensity': {'gain': 0.1, 'bias': 0.05, 'noise': 0.01},
      },
    }
    preprocess = {
      'shape': (32, 32),
      'pixel_mm': 1.0,
      'window': {'name': 'window', 'low': -1000.0, 'high': 400.0},
      'region': 'none',
    }
    run = stages.Run(
      config={'stages': {'detector': detector}, 'preprocess': preprocess},
      folder=pathlib.Path(self.create_tempdir().full_path),
      name='',
      cases={'train': training, 'validation': validation},
      inputs='',
      writer=mock.Mock(),
    )
    return feeds.make(run, 'detector')

  def test_the_model_has_all_classes(self):
    for three in ((9, 1, 3), (9, 3, 1)):
      with self.subTest(three):
        feed = self.make(_labelled(*three), _labelled(9, 1, 2), 4)
        self.assertIsInstance(feed.training, slice_store.SliceStore)
        self.assertEqual(feed.training.highest_label, 3)
        self.assertEqual(feed.validation.highest_label, 2)

  def test_a_class_too_many_names_both_keys(self):
    one, three = _labelled(9, 1, 1), _labelled(9, 1, 3)
    for training, validation in ((three, one), (one, three)):
      with self.assertRaises(build.ConfigError) as caught:
        self.make(training, validation, 3)
      message = str(caught.exception)
      self.assertIn('stages.detector.model.num_classes: found 3', message)
      self.assertIn('expected 4', message)
      self.assertIn('dataset.options.classes', message)
      self.assertNotIn('\n', message)

  def test_without_boxes_there_is_no_class(self):
    nothing = slice_cases.scans().subset([2])
    self.assertEqual(self.make(nothing, nothing, 2).training.highest_label, 0)


if __name__ == '__main__':
  absltest.main()
