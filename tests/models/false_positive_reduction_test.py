import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.models import candidate_screening
from medzoo.models import false_positive_reduction

_NARROW = dict(widths=(3, 4, 5, 4, 6), hidden=7, regression_hidden=5)
_SHAPE = (18, 32, 36, 1)


def _shapes(model, shape):
  return jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x, train=False),
    jax.ShapeDtypeStruct((2, *shape), jnp.float32),
  )


class FalsePositiveReductionTest(parameterized.TestCase):
  @parameterized.parameters(
    # The branch: 269,568 x 128 + 128 and 128 x 4 + 4.
    (False, 8_094_658), (True, 8_094_658 + 34_505_348)
  )  # fmt: skip
  def test_parameters_as_keras_counts_them(self, regression, expected):
    model = false_positive_reduction.FalsePositiveReduction(
      regression=regression
    )
    outputs, variables = _shapes(model, (25, 60, 60, 1))
    count = sum(a.size for a in jax.tree.leaves(variables))
    self.assertEqual(count, expected)
    self.assertEqual(outputs['logits'].shape, (2, 2))
    self.assertEqual('regression' in outputs, regression)

  def test_sizes_are_arguments(self):
    model = false_positive_reduction.FalsePositiveReduction(
      num_classes=3, regression_pool=(2, 2, 2), **_NARROW
    )
    outputs, variables = _shapes(model, _SHAPE)
    self.assertEqual(outputs['logits'].shape, (2, 3))
    self.assertEqual(outputs['regression'].shape, (2, 4))
    # After C4 6 x 4 x 6 voxels of 4 channels are left.
    hidden = variables['params']['regression_hidden']['kernel']
    self.assertEqual(hidden.shape, (3 * 2 * 3 * 4, 5))

  def test_starts_from_the_screening_network(self):
    screening = candidate_screening.CandidateScreening()
    _, source = _shapes(screening, (15, 30, 30, 1))
    model = false_positive_reduction.FalsePositiveReduction()
    _, target = _shapes(model, (25, 60, 60, 1))
    for kind in ('params', 'batch_stats'):
      for name in ('c1', 'c2', 'c3'):
        self.assertEqual(source[kind][name], target[kind][name])

  def test_training_step_is_finite(self):
    x = jax.random.uniform(jax.random.key(1), (2, *_SHAPE))
    model = false_positive_reduction.FalsePositiveReduction(
      regression_pool=(2, 2, 2), **_NARROW
    )
    variables = jax.jit(lambda key: model.init(key, x, train=False))(
      jax.random.key(0)
    )

    def loss(params):
      outputs, state = model.apply(
        variables | {'params': params}, x, train=True, mutable=['batch_stats']
      )
      return sum((a**2).sum() for a in outputs.values()), state

    found = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
    for leaf in jax.tree.leaves(found):
      self.assertEqual(leaf.dtype, jnp.float32)
      self.assertTrue(np.isfinite(leaf).all())
      self.assertTrue(np.any(leaf))


if __name__ == '__main__':
  absltest.main()
