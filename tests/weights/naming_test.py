"""Tests of filling a model from tensors that torch named."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.weights import naming


def _target():
  def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)

  return {
    'params': {
      'c1': {
        'conv': {'kernel': leaf(3, 5, 1, 4), 'bias': leaf(4)},
        'norm': {'scale': leaf(4), 'bias': leaf(4)},
      },
      'head': {'kernel': leaf(4, 2), 'bias': leaf(2)},
    },
    'batch_stats': {'c1': {'norm': {'mean': leaf(4), 'var': leaf(4)}}},
  }


def _tensors():
  rng = np.random.default_rng(0)
  shapes = {
    'c1.conv.weight': (4, 1, 3, 5),
    'c1.conv.bias': (4,),
    'c1.norm.weight': (4,),
    'c1.norm.bias': (4,),
    'c1.norm.running_mean': (4,),
    'c1.norm.running_var': (4,),
    'head.weight': (2, 4),
    'head.bias': (2,),
  }
  tensors = {n: rng.random(s, np.float32) for n, s in shapes.items()}
  return tensors | {'c1.norm.num_batches_tracked': np.int64(7)}


class NamingTest(absltest.TestCase):
  def test_fills_and_turns_kernels(self):
    tensors = _tensors()
    tensors['c1.norm.weight'] = tensors['c1.norm.weight'].astype(jnp.bfloat16)
    found = naming.fill(_target(), tensors, '.'.join)
    kernel = found['params']['c1']['conv']['kernel']
    self.assertEqual(kernel[2, 3, 0, 1], tensors['c1.conv.weight'][1, 0, 2, 3])
    np.testing.assert_array_equal(
      found['params']['head']['kernel'], tensors['head.weight'].T
    )
    np.testing.assert_array_equal(
      found['batch_stats']['c1']['norm']['var'], tensors['c1.norm.running_var']
    )
    scale = found['params']['c1']['norm']['scale']
    self.assertEqual(scale.dtype, np.float32)
    np.testing.assert_array_equal(scale, tensors['c1.norm.weight'])
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), found)
    self.assertEqual(
      shapes, jax.tree.map(lambda a: (a.shape, a.dtype), _target())
    )

  def test_one_error_lists_everything(self):
    tensors = _tensors()
    del tensors['c1.conv.bias'], tensors['c1.norm.running_mean']
    tensors['head.weight'] = tensors['head.weight'].T
    tensors['c1.norm.weight'] = np.zeros(4, np.int8)
    tensors |= {'aux1.weight': np.zeros(3), 'fc.bias': np.zeros(3)}
    with self.assertRaises(ValueError) as caught:
      naming.fill(_target(), tensors, '.'.join)
    self.assertEqual(
      str(caught.exception),
      'the weights do not fit the model: '
      '2 missing: c1.conv.bias, c1.norm.running_mean; '
      '2 extra: aux1.weight, fc.bias; '
      '2 misshapen: c1.norm.weight (found int8 (4,), expected float32 (4,)), '
      'head.weight (found float32 (4, 2), expected float32 (2, 4))',
    )

  def test_ignored_layers_on_either_side(self):
    tensors = _tensors() | {'aux1.fc.weight': np.zeros(3)}
    tensors['head.weight'] = np.zeros((1000, 4), np.float32)
    target = _target()
    target['params']['head']['bias'] = np.full(2, 5, np.float32)
    found = naming.fill(target, tensors, '.'.join, ignore=('aux1', 'head'))
    self.assertIs(
      found['params']['head']['bias'], target['params']['head']['bias']
    )
    np.testing.assert_array_equal(
      found['params']['c1']['conv']['bias'], tensors['c1.conv.bias']
    )
    with self.assertRaisesRegex(ValueError, '1 extra: aux1.fc.weight'):
      naming.fill(target, tensors, '.'.join, ignore=('aux', 'head'))
    with self.assertRaisesRegex(ValueError, '1 ignored but not there: aux$'):
      naming.fill(target, _tensors(), '.'.join, ignore=('aux',))


if __name__ == '__main__':
  absltest.main()
