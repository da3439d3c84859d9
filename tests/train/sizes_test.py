"""Tests of the sizes that the report tells."""

from absl.testing import absltest

from experiments import nodule3d
from medzoo.train import sizes


class SizesTest(absltest.TestCase):
  def test_of_cubes(self):
    self.assertEqual(
      sizes.describe(nodule3d.get_config('luna16').to_dict()),
      {
        'voxel spacing, mm': (1.0, 1.0, 1.0),
        'screening: patch, voxels': (15, 30, 30),
        'screening: channels': (32, 32, 64, 250),
        'screening: batch': 64,
        'screening: starts from': 'random weights',
        'reduction: patch, voxels': (25, 60, 60),
        'reduction: channels': (32, 32, 64, 64, 128),
        'reduction: batch': 32,
        'reduction: starts from': 'screening',
      },
    )

  def test_of_slices(self):
    encoder = {'name': 'small_encoder', 'widths': (8, 16)}
    model = {'name': 'cnn_lstm', 'encoder': encoder, 'units': 64, 'steps': 3}
    fit = {
      'kind': 'fit',
      'data': {},
      'model': model,
      'batch_size': 4,
      'init_from': ({'weights': 'somewhere/googlenet.pth', 'to': 'encoder'},),
    }
    config = {
      'preprocess': {'shape': (256, 352), 'pixel_mm': 1.0, 'region': 'lung'},
      'stages': {'order': ('detector',), 'detector': fit},
    }
    self.assertEqual(
      sizes.describe(config),
      {
        'picture, pixels': (256, 352),
        'pixel, mm': 1.0,
        'detector: units': 64,
        'detector: boxes a cell': 3,
        'detector: encoder': 'small_encoder',
        'detector: encoder channels': (8, 16),
        'detector: batch': 4,
        'detector: starts from': 'googlenet.pth',
      },
    )


if __name__ == '__main__':
  absltest.main()
