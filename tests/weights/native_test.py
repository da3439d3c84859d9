"""Tests of our own parameter files and of copying modules."""

import pathlib

import jax
import numpy as np
from absl.testing import absltest

from medzoo.weights import native


def _variables(seed: int, width: int = 3) -> dict:
  rng = np.random.default_rng(seed)
  return {
    'params': {
      'c1': {'conv': {'kernel': rng.random((2, width), np.float32)}},
      'c2': {'bias': rng.random(width, np.float32)},
    },
    'batch_stats': {'c1': {'norm': {'mean': rng.random(width, np.float32)}}},
  }


class NativeTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'm.safetensors'

  def test_round_trip(self):
    native.save(self.path, _variables(0), {'a': [1, 'b']})
    variables, facts = native.load(self.path)
    self.assertEqual(facts, {'a': [1, 'b']})
    np.testing.assert_array_equal(
      variables['params']['c1']['conv']['kernel'],
      _variables(0)['params']['c1']['conv']['kernel'],
    )
    self.assertEqual(
      native.load(self.path)[0].keys(), {'params', 'batch_stats'}
    )

  def test_a_foreign_file_is_named(self):
    self.path.write_bytes(b'no tensors at all')
    with self.assertRaisesRegex(ValueError, 'm.safetensors'):
      native.load(self.path)

  def test_graft_copies_parameters_and_statistics_of_a_module(self):
    new, old = _variables(0), _variables(1)
    result = native.graft(new, old, ('c1',))
    np.testing.assert_array_equal(
      result['params']['c1']['conv']['kernel'],
      old['params']['c1']['conv']['kernel'],
    )
    np.testing.assert_array_equal(
      result['batch_stats']['c1']['norm']['mean'],
      old['batch_stats']['c1']['norm']['mean'],
    )
    np.testing.assert_array_equal(
      result['params']['c2']['bias'], new['params']['c2']['bias']
    )

  def test_graft_of_everything_under_a_prefix(self):
    target = {part: {'encoder': tree} for part, tree in _variables(0).items()}
    result = native.graft(target, _variables(1), (), to='encoder')
    np.testing.assert_array_equal(
      result['params']['encoder']['c2']['bias'],
      _variables(1)['params']['c2']['bias'],
    )

  def test_part(self):
    variables = _variables(0)
    whole = {part: {'encoder': tree} for part, tree in variables.items()}
    found = native.part(whole, 'encoder')
    self.assertEqual(jax.tree.structure(found), jax.tree.structure(variables))
    np.testing.assert_array_equal(
      native.part(whole, 'encoder/c1')['params']['conv']['kernel'],
      variables['params']['c1']['conv']['kernel'],
    )
    with self.assertRaisesRegex(ValueError, "no module 'decoder'"):
      native.part(whole, 'decoder')

  def test_graft_is_strict(self):
    with self.assertRaisesRegex(ValueError, "no module 'c9'"):
      native.graft(_variables(0), _variables(1), ('c9',))
    with self.assertRaisesRegex(ValueError, 'expected \\(2, 3\\)'):
      native.graft(_variables(0), _variables(1, width=4), ('c1',))


if __name__ == '__main__':
  absltest.main()
