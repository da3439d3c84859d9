"""Tests of mapping a predictor over cases."""

import dataclasses
import pathlib

import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.train import mapping


class _Cases(list):
  """Volumes under names."""

  @property
  def keys(self) -> list[str]:
    return [case.volume.series_uid for case in self]


def _case(name: str) -> types.Case:
  none = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
  volume = types.Volume(np.zeros((2, 2, 2)), (1, 1, 1), series_uid=name)
  return types.Case(volume, name, none, none)


class MappingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'outputs'
    self.seen = []

  def predict(self, variables, volume):
    self.seen.append(volume.series_uid)
    if volume.series_uid == variables.get('fails'):
      raise KeyboardInterrupt
    found = types.Detections(
      np.array([[1.0, 2.0, 3.0]]),
      np.array([np.nan]),
      np.array([0.1]),
      np.ones(1),
    )
    boxes = types.BoxDetections(
      slices=np.array([3, 4], np.int32),
      corners=np.array([[0.1, 2, 3, 4], [5, 6, 7, 8]]),
      scores=np.array([0.9, 0.2], np.float32),
      labels=np.ones(2, np.int32),
      steps=np.array([0, 4], np.int32),
      suppressed=np.array([False, True]),
      links=np.array([0, -1], np.int32),
    )
    nothing = types.Detections(np.zeros((0, 3)), *[np.zeros(0)] * 3)
    return {'candidates': found, 'boxes': boxes, 'nothing': nothing}

  def map(self, names: str, inputs: str = 'a', **variables) -> dict:
    cases = _Cases(_case(name) for name in names)
    return mapping.map_cases(
      self.predict,
      variables,
      [(cases, i) for i in range(len(cases))],
      self.folder,
      inputs,
      title='test',
      log=lambda line: None,
    )

  def test_outputs_come_back(self):
    outputs = self.map('xy')
    self.assertEqual(list(outputs), ['x', 'y'])
    np.testing.assert_array_equal(
      outputs['x'].marks('candidates'), [[1.0, 2.0, 3.0, 0.1]]
    )
    self.assertEqual(mapping.read_all(self.folder).keys(), {'x', 'y'})

  def test_each_kind_comes_back_as_it_was(self):
    given = self.predict({}, _case('x').volume)
    found = self.map('x')['x'].detections
    self.assertEqual(list(found), list(given))
    for name, expected in given.items():
      self.assertIs(type(found[name]), type(expected))
      for field in dataclasses.fields(expected):
        ours, theirs = (getattr(o, field.name) for o in (found[name], expected))
        np.testing.assert_array_equal(ours, theirs)
        self.assertEqual((ours.dtype, ours.shape), (theirs.dtype, theirs.shape))

  def test_an_interrupted_map_goes_on(self):
    with self.assertRaises(KeyboardInterrupt):
      self.map('xyz', fails='y')
    self.map('xyz')
    self.assertEqual(self.seen, ['x', 'y', 'y', 'z'])

  def test_other_inputs_start_anew(self):
    self.map('x')
    self.map('x', inputs='b')
    self.assertEqual(self.seen, ['x', 'x'])

  def test_the_fingerprint_follows_weights_and_facts(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'w'
    path.write_bytes(b'1')
    first = mapping.fingerprint([path], {'a': 1})
    self.assertEqual(first, mapping.fingerprint([path], {'a': 1}))
    self.assertNotEqual(first, mapping.fingerprint([path], {'a': 2}))
    path.write_bytes(b'2')
    self.assertNotEqual(first, mapping.fingerprint([path], {'a': 1}))


if __name__ == '__main__':
  absltest.main()
