import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from jax import lax

from medzoo.models import candidate_screening

_NARROW = (3, 4, 5, 6)


@functools.cache
def _variables(model):
  """Parameters, with running averages other than zeros and ones."""
  x = jnp.zeros((1, *candidate_screening.RECEPTIVE_FIELD, 1))
  init = jax.jit(lambda key: model.init(key, x, train=False))
  variables = init(jax.random.key(0))
  rng = np.random.default_rng(0)
  averages = jax.tree.map(
    lambda a: rng.uniform(0.5, 1, a.shape).astype(np.float32),
    variables['batch_stats'],
  )
  return variables | {'batch_stats': averages}


class CandidateScreeningTest(parameterized.TestCase):
  def test_parameters_as_keras_counts_them(self):
    model = candidate_screening.CandidateScreening()
    variables = jax.eval_shape(
      lambda: model.init(
        jax.random.key(0), jnp.zeros((1, 15, 30, 30, 1)), train=False
      )
    )
    count = sum(a.size for a in jax.tree.leaves(variables))
    self.assertEqual(count, 2_364_000)
    self.assertSetEqual(
      set(variables['params']), {'c1', 'c2', 'c3', 'c4', 'c5'}
    )

  @parameterized.parameters(
    ((15, 30, 30), (1, 1, 1)),
    ((16, 31, 32), (2, 1, 2)),
    ((30, 94, 94), (16, 33, 33)),
    ((15, 33, 35), (1, 2, 3)),
  )
  def test_output_shape(self, shape, cells):
    self.assertEqual(candidate_screening.output_shape(shape), cells)
    model = candidate_screening.CandidateScreening(
      num_classes=3, widths=_NARROW
    )
    outputs, _ = jax.eval_shape(
      lambda x: model.init_with_output(jax.random.key(0), x, train=False),
      jax.ShapeDtypeStruct((2, *shape, 1), jnp.float32),
    )
    self.assertEqual(outputs['logits'].shape, (2, *cells, 3))

  def test_too_small_a_volume(self):
    model = candidate_screening.CandidateScreening(widths=_NARROW)
    with self.assertRaisesRegex(ValueError, r'14, 30, 30\) voxels is small'):
      model.init(jax.random.key(0), jnp.zeros((1, 14, 30, 30, 1)), train=False)

  def test_tiles_equal_one_pass(self):
    model = candidate_screening.CandidateScreening(widths=_NARROW)
    variables = _variables(model)
    scan = jax.random.uniform(jax.random.key(5), (1, 20, 41, 50, 1))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)['logits'])
    whole = apply(scan)
    self.assertGreater(np.ptp(whole), 1e-2)
    tile = (18, 34, 40)
    cells = candidate_screening.output_shape(tile)
    for first in ((0, 0, 0), (2, 3, 5), (1, 2, 4)):
      corner = np.multiply(first, candidate_screening.STRIDE)
      part = apply(lax.dynamic_slice(scan, (0, *corner, 0), (1, *tile, 1)))
      expected = lax.dynamic_slice(whole, (0, *first, 0), (1, *cells, 2))
      np.testing.assert_allclose(part, expected, atol=1e-5)

  def test_cell_to_index_on_an_impulse(self):
    """The voxels a cell depends on are centred where the map says."""
    model = candidate_screening.CandidateScreening(widths=_NARROW)
    # A linear stand-in of the same geometry: every tap and channel 1, and no
    # rectifier at work, so that nothing hides a dependence.
    variables = jax.tree.map(jnp.abs, _variables(model))
    x = jnp.ones((1, 17, 34, 36, 1))

    @jax.jit
    @jax.grad
    def influence(x, place):
      return model.apply(variables, x, train=False)['logits'][
        0, place[0], place[1], place[2], 0
      ]

    for place in ((0, 0, 0), (2, 2, 3), (1, 0, 2)):
      seen = np.argwhere(np.asarray(influence(x, place))[0, ..., 0])
      low, high = seen.min(0), seen.max(0)
      np.testing.assert_array_equal(
        high - low + 1, candidate_screening.RECEPTIVE_FIELD
      )
      np.testing.assert_array_equal(
        (low + high) / 2, candidate_screening.cell_to_index(np.array(place))
      )

  def test_cell_to_index_worked_by_hand(self):
    found = candidate_screening.cell_to_index(np.array([[0, 0, 0], [3, 1, 2]]))
    np.testing.assert_array_equal(found, [[7, 14.5, 14.5], [10, 16.5, 18.5]])

  def test_bfloat16_is_close(self):
    wide = candidate_screening.CandidateScreening(widths=_NARROW)
    narrow = candidate_screening.CandidateScreening(
      widths=_NARROW, dtype=jnp.bfloat16
    )
    variables = _variables(wide)
    x = jax.random.uniform(jax.random.key(5), (4, 15, 30, 30, 1))
    a, b = (
      jax.jit(functools.partial(m.apply, train=False))(variables, x)['logits']
      for m in (wide, narrow)
    )
    self.assertEqual(b.dtype, jnp.float32)
    self.assertLess(np.abs(a - b).max(), 0.05 * np.abs(a).max())


if __name__ == '__main__':
  absltest.main()
