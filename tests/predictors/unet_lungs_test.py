"""Tests of the U-Net's lungs, with networks whose maps are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.models import unet
from medzoo.predictors import unet_lungs
from medzoo.train import build
from tests.data import film_cases

_PREPROCESS = {'shape': (64, 64), 'equalize': False}


class _ByGrey(nn.Module):
  """Tells the lungs of `film_cases` by their greys, but for the strip."""

  @nn.compact
  def __call__(self, x, *, train):
    gain = self.param('gain', nn.initializers.ones, ())
    right = (film_cases.RIGHT_LUNG + film_cases.BODY) / 2 / 255 - x
    left = x - (film_cases.LEFT_LUNG + film_cases.BODY) / 2 / 255
    logits = 60 * gain * jnp.concatenate([right, left], -1)
    return {'logits': logits.at[:, :, :5].set(-100)}


def _dice(a, b):
  return 2 * (a & b).sum() / (a.sum() + b.sum())


class UnetLungsTest(parameterized.TestCase):
  def predictor(self, **options):
    return build.build(
      'predictors',
      {'name': 'unet_lungs', **options},
      {'unet': _ByGrey(), 'other': _ByGrey()},
      _PREPROCESS,
    )

  def variables(self, gain=1.0):
    return {'unet': {'params': {'gain': jnp.float32(gain)}}}

  @parameterized.parameters(
    ((120, 100), (1, 2)),
    ((300, 420), (2, 1)),
    ((40, 32), (1, 2)),
    ((200, 200), (2,)),
    ((200, 200), ()),
  )
  def test_finds_them_at_the_films_own_size(self, shape, labels):
    case = film_cases.film(shape=shape, labels=labels)
    found = self.predictor()(self.variables(), case.volume)
    self.assertEqual(list(found), ['lungs'])
    lungs = found['lungs']
    self.assertIsInstance(lungs, types.MaskDetections)
    self.assertEqual(lungs.masks.shape, (len(labels), *shape))
    self.assertCountEqual(lungs.labels.tolist(), labels)
    self.assertTrue((np.diff(lungs.scores) <= 0).all())
    for label, truth in zip(case.masks.labels, case.masks.masks, strict=True):
      i = lungs.labels.tolist().index(label)
      self.assertGreater(_dice(lungs.masks[i], truth), 0.93)
      self.assertBetween(lungs.scores[i], 0.8, 1)
      rows, columns = np.nonzero(lungs.masks[i])
      np.testing.assert_array_equal(
        lungs.corners[i],
        [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1],
      )

  def test_the_score_is_the_mean_probability(self):
    case = film_cases.film()
    predictor = self.predictor()
    found = predictor(self.variables(), case.volume)['lungs']
    maps = predictor.probabilities(self.variables(), case.volume)
    self.assertEqual(maps.shape, (2, 120, 100))
    for mask, label, score in zip(
      found.masks, found.labels, found.scores, strict=True
    ):
      self.assertAlmostEqual(maps[label - 1][mask].mean(), score, places=5)

  def test_both_views_count_half(self):
    case = film_cases.film(shape=(400, 300))
    variables = self.variables(0.02)
    alone = self.predictor().probabilities(variables, case.volume)
    both = self.predictor(mirror=True).probabilities(variables, case.volume)
    # It tells the sides by their greys, wherever they lie, so each answer of
    # the mirrored film is the other side's. The strip is at both edges then.
    expected = np.broadcast_to(alone.mean(0), alone.shape)
    np.testing.assert_allclose(
      both[..., 45:-45], expected[..., 45:-45], atol=0.01
    )

  def test_options(self):
    case = film_cases.film()
    self.assertEqual(self.predictor(stage='other').stages, ('other',))
    self.assertEqual(self.predictor().stages, ('unet',))
    # Probabilities below .6 everywhere.
    lungs = self.predictor(threshold=0.6)(self.variables(0.02), case.volume)
    self.assertEmpty(lungs['lungs'].labels)
    lungs = self.predictor(threshold=0.5)(self.variables(0.02), case.volume)
    self.assertLen(lungs['lungs'].labels, 2)

  def test_takes_the_real_network(self):
    model = unet.UNet((4, 4), norm='group', groups=2)
    predictor = unet_lungs.UnetLungs({'unet': model}, _PREPROCESS)
    init = jax.jit(
      lambda key: model.init(key, jnp.zeros((1, 64, 64, 1)), train=False)
    )
    variables = init(jax.random.key(0, impl='rbg'))
    maps = predictor.probabilities(
      {'unet': variables}, film_cases.film().volume
    )
    self.assertEqual(maps.shape, (2, 120, 100))
    self.assertTrue(((maps > 0) & (maps < 1)).all())


if __name__ == '__main__':
  absltest.main()
