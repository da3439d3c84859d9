"""Tests of the second stage on a whole scan."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.losses import hybrid
from medzoo.predictors import nodules

_SHAPE = (9, 12, 12)


class _Oracle(nn.Module):
  """Says where the brightness of its cube lies; sure if there is any."""

  @nn.compact
  def __call__(self, x, *, train):
    x = x[..., 0]
    mass = x.sum((1, 2, 3)) + 1e-6
    axes = jnp.meshgrid(
      *(jnp.arange(n) - (n - 1) / 2 for n in _SHAPE), indexing='ij'
    )
    place = jnp.stack([(x * a).sum((1, 2, 3)) / mass for a in axes], -1)
    diameter = jnp.full(len(x), 6.0)
    logits = jnp.stack([jnp.zeros(len(x)), jnp.where(mass > 1, 3.0, -3.0)], -1)
    return {
      'logits': logits,
      'regression': hybrid.encode(place, diameter, _SHAPE),
    }


def _predictor(passes: int) -> nodules.Nodules:
  return nodules.Nodules(
    {'screening': _Oracle(), 'reduction': _Oracle()},
    {
      'spacing': (1.0, 1.0, 1.0),
      'window': {'name': 'window', 'low': 0.0, 'high': 1.0},
      'region': 'none',
    },
    screening={
      'tile': (4, 4, 4),
      'threshold': 0.5,
      'radius_mm': 3.0,
      'max_candidates': 9,
    },
    shape=_SHAPE,
    batch_size=2,
    passes=passes,
    radius_mm=4.0,
  )


def _volume() -> types.Volume:
  voxels = np.zeros((20, 30, 30), np.float32)
  voxels[9:12, 13:16, 16:19] = 1
  return types.Volume(voxels, (1.0, 1.0, 1.0), origin=(5.0, -8.0, 100.0))


def _found(volume: types.Volume, index: list) -> types.Detections:
  n = len(index)
  return types.Detections(
    volume.index_to_world(np.array(index, float).reshape(-1, 3)),
    np.full(n, np.nan),
    np.ones(n),
    np.ones(n, int),
  )


class NodulesTest(absltest.TestCase):
  def test_moves_and_sizes_each_candidate_and_merges_doubles(self):
    volume = _volume()
    # Two near the lesion, one on nothing.
    found = _found(volume, [[8, 12, 15.4], [12, 16, 18], [3, 25, 5]])
    reduced = _predictor(2).reduce({}, volume, found)
    self.assertLen(reduced, 2)
    np.testing.assert_allclose(
      volume.world_to_index(reduced.centers[0]), [10, 14, 17], atol=0.05
    )
    self.assertAlmostEqual(reduced.diameters[0], 6, places=3)
    self.assertAlmostEqual(reduced.scores[0], 1 / (1 + np.exp(-3)), places=5)
    self.assertLess(reduced.scores[1], 0.1)

  def test_no_candidates(self):
    volume = _volume()
    self.assertEmpty(
      _predictor(1).reduce({}, volume, _found(volume, [])).scores
    )

  def test_a_candidate_at_the_rim(self):
    volume = _volume()
    reduced = _predictor(1).reduce({}, volume, _found(volume, [[0, 0, 29]]))
    self.assertTrue(np.isfinite(reduced.centers).all())


if __name__ == '__main__':
  absltest.main()
