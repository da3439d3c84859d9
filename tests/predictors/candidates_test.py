"""Tests of whole-scan screening."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.models import candidate_screening
from medzoo.predictors import candidates


def _network() -> tuple:
  model = candidate_screening.CandidateScreening(widths=(3, 3, 4, 6))
  x = jnp.zeros((1, 15, 30, 30, 1))
  variables = model.init(jax.random.key(0), x, train=False)
  apply = jax.jit(
    lambda x: jax.nn.softmax(model.apply(variables, x, train=False)['logits'])
  )
  return model, variables, lambda x: np.asarray(apply(jnp.asarray(x)))


class ScreenTilesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model, cls.variables, apply = _network()
    cls.apply = staticmethod(apply)
    rng = np.random.default_rng(0)
    cls.image = rng.random((9, 37, 42), np.float32)

  def one_pass(self) -> np.ndarray:
    """Pads by half the receptive field and goes through the network once."""
    padded = np.pad(self.image, [(7, 7), (14, 15), (14, 15)])
    return self.apply(padded[None, ..., None])[0]

  @parameterized.parameters([(16, 32, 32)], [(3, 5, 7)], [(1, 4, 9)])
  def test_equals_one_pass_at_any_tile_size(self, tile):
    region = np.ones(self.image.shape, bool)
    scores = candidates.screen_tiles(self.apply, self.image, region, tile)
    expected = self.one_pass()
    self.assertEqual(scores.shape, (9, 19, 21, 2))
    d, h, w, _ = expected.shape
    np.testing.assert_allclose(scores[:d, :h, :w], expected, atol=1e-5)

  def test_searches_only_in_the_region(self):
    region = np.zeros(self.image.shape, bool)
    region[4, 20, 21] = True
    scores = candidates.screen_tiles(self.apply, self.image, region, (4, 8, 8))
    inside = np.argwhere(scores[..., 0] < 1)
    np.testing.assert_array_equal(inside, [[4, 10, 10]])
    np.testing.assert_allclose(
      scores[4, 10, 10], self.one_pass()[4, 10, 10], atol=1e-5
    )

  def test_an_empty_region_has_no_foreground(self):
    region = np.zeros(self.image.shape, bool)
    scores = candidates.screen_tiles(self.apply, self.image, region, (4, 8, 8))
    self.assertEqual(scores[..., 1:].max(), 0)

  @parameterized.parameters([(4, 4, 4)], [(3, 5, 7)], [(1, 1, 1)])
  def test_tiles_cover_what_is_set_once_and_are_fewer_than_a_grid(self, tile):
    rng = np.random.default_rng(1)
    mask = np.zeros((23, 19, 31), bool)
    mask[5:12, 3:10, 2:9] = mask[6:20, 9:17, 14:30] = True
    mask &= rng.random(mask.shape) < 0.9
    times = np.zeros(np.add(mask.shape, tile), int)
    tiles = list(candidates.cover(mask, tile))
    for start in tiles:
      place = tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True))
      times[place] += 1
    inside = times[tuple(slice(n) for n in mask.shape)]
    self.assertTrue((inside[mask] == 1).all())
    self.assertLessEqual(times.max(), 1)
    parts = [
      np.unique(i // n) for i, n in zip(np.nonzero(mask), tile, strict=True)
    ]
    self.assertLessEqual(len(tiles), np.prod([len(p) for p in parts]))

  def test_nothing_to_cover_takes_no_tile(self):
    self.assertEmpty(list(candidates.cover(np.zeros((3, 4), bool), (2, 2))))

  def test_a_cell_is_centred_where_its_receptive_field_is(self):
    cells = np.argwhere(np.ones((9, 19, 21), bool))
    centers = candidates.cell_to_index(cells)
    np.testing.assert_array_equal(centers[0], [0, 0.5, 0.5])
    np.testing.assert_array_equal(centers[-1], [8, 36.5, 40.5])
    # A network that averages its receptive field finds an impulse there.
    image = np.zeros((21, 61, 61), np.float32)
    image[10, 30, 30] = 1

    def mean(x):
      size = np.asarray(x.shape[1:4]) - candidate_screening.RECEPTIVE_FIELD
      shape = size // candidate_screening.STRIDE + 1
      out = np.zeros((1, *shape, 2), np.float32)
      for k in np.ndindex(*shape):
        z, y, xx = np.asarray(k) * candidate_screening.STRIDE
        out[(0, *k)][1] = x[0, z : z + 15, y : y + 30, xx : xx + 30].mean()
      return out

    scores = candidates.screen_tiles(
      mean, image, np.ones(image.shape, bool), (4, 8, 8)
    )[..., 1]
    lit = candidates.cell_to_index(np.argwhere(scores > 0))
    # z and x of an odd and an even window; the impulse lies at their middle.
    np.testing.assert_allclose(
      (lit.min(0) + lit.max(0)) / 2, [10, 29.5, 29.5], atol=1
    )
    reach = np.abs(lit - [10, 30, 30]).max(0)
    np.testing.assert_array_less(reach, [7.5, 15.01, 15.01])


class PeaksTest(absltest.TestCase):
  def test_finds_separate_maxima_best_first(self):
    scores = np.zeros((9, 9, 9))
    scores[2, 2, 2], scores[2, 2, 3], scores[6, 6, 6] = 0.6, 0.5, 0.9
    cells = candidates.find_peaks(scores, 0.1, np.array([1, 1, 1]))
    np.testing.assert_array_equal(cells, [[6, 6, 6], [2, 2, 2]])

  def test_a_plateau_is_centred(self):
    scores = np.zeros((15, 15, 15))
    scores[5:8, 6:9, 7:10] = 0.8
    scores[5, 6, 7] = 0.81
    cells = candidates.find_peaks(scores, 0.1, np.array([2, 2, 2]))
    refined = candidates.refine_peaks(scores, cells)
    np.testing.assert_allclose(refined[0], [6, 7, 8], atol=0.1)


class CandidateScreeningTest(absltest.TestCase):
  def test_finds_the_ball_a_trained_filter_would(self):
    model, variables, _ = _network()
    predictor = candidates.CandidateScreening(
      {'screening': model},
      dict(
        spacing=(1.0, 1.0, 1.0),
        window=dict(name='window', low=-1000.0, high=400.0),
        region='none',
      ),
      tile=(8, 16, 16),
      threshold=0.0,
      radius_mm=5.0,
      max_candidates=7,
    )
    rng = np.random.default_rng(1)
    volume = types.Volume(
      voxels=rng.integers(-1000, 400, (12, 40, 40), np.int16),
      spacing=(2.0, 0.8, 0.8),
      origin=(-100.0, 50.0, 7.0),
    )
    found = predictor({'screening': variables}, volume)['candidates']
    self.assertLen(found, 7)
    self.assertTrue((np.diff(found.scores) <= 0).all())
    index = volume.world_to_index(found.centers)
    self.assertTrue((index > -1).all() and (index < [12, 40, 40]).all())
    gaps = np.linalg.norm(found.centers[:, None] - found.centers, axis=-1)
    self.assertGreater(gaps[np.triu_indices(7, 1)].min(), 5.0)


if __name__ == '__main__':
  absltest.main()
