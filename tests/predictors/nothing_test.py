import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.predictors import nothing


class NothingTest(absltest.TestCase):
  def test_finds_nothing(self):
    volume = types.Volume(np.zeros((2, 3, 4)), (1.0, 1.0, 1.0))
    found = nothing.Predictor({}, {})({}, volume)
    self.assertEqual(
      {name: (type(x), len(x)) for name, x in found.items()},
      {'detections': (types.Detections, 0), 'boxes': (types.BoxDetections, 0)},
    )
    self.assertEqual(found['boxes'].corners.shape, (0, 4))
    self.assertEqual(found['detections'].centers.shape, (0, 3))


if __name__ == '__main__':
  absltest.main()
