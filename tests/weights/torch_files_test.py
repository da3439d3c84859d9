"""Tests of the reader of checkpoints, on files that torch wrote."""

import os
import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import safetensors.flax
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.weights import torch_files

_GOLDEN = pathlib.Path(__file__).parent / 'golden'


class _Evil:
  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return os.system, (f'touch {self.mark}',)


class TorchFilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def _zip(self, data, storage=bytes(16), compression=zipfile.ZIP_STORED):
    path = self.folder / 'model.pth'
    with zipfile.ZipFile(path, 'w', compression) as archive:
      archive.writestr('model/data.pkl', data)
      archive.writestr('model/byteorder', b'little')
      archive.writestr('model/data/0', storage)
    return path

  @parameterized.parameters('zip.pth', 'nested.pth', 'legacy.pth')
  def test_what_torch_wrote(self, name):
    found = torch_files.read(_GOLDEN / name)
    numbers = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / np.float32(7)
    expected = {
      'plain': numbers,
      'half': numbers.astype(np.float16),
      'bfloat16': numbers.astype(jnp.bfloat16),
      'double': numbers.astype(float),
      'transposed': numbers.transpose(2, 0, 1),
      'slice': numbers[1, 1:, ::2],
      'parameter': numbers[0],
      'scalar': np.float32(3.5),
      'empty': np.zeros((0, 3), np.float32),
      'whole': np.arange(3),
      'yes': np.array([True, False]),
    }
    self.assertSameElements(found, expected)
    for key, value in expected.items():
      self.assertEqual(found[key].dtype, value.dtype, key)
      np.testing.assert_array_equal(found[key], value, key)

  def test_safetensors(self):
    path = self.folder / 'model.safetensors'
    values = jnp.arange(6.0).reshape(2, 3)
    tensors = {
      't': values,
      'half': values.astype(jnp.float16),
      'bfloat16': values.astype(jnp.bfloat16),
    }
    safetensors.flax.save_file(tensors, path)
    found = torch_files.read(path)
    self.assertSameElements(found, tensors)
    for name, value in tensors.items():
      self.assertEqual(found[name].dtype, value.dtype)
      np.testing.assert_array_equal(found[name], value)

  @parameterized.parameters(True, False)
  def test_code_is_refused_by_name(self, zipped):
    mark = self.folder / 'mark'
    data = pickle.dumps({'weight': _Evil(mark)}, 2)
    if zipped:
      path = self._zip(data)
    else:
      path = self.folder / 'model.pth'
      path.write_bytes(data)
    with self.assertRaisesRegex(ValueError, r'model.pth: asks for \w+.system'):
      torch_files.read(path)
    self.assertFalse(mark.exists())

  @parameterized.parameters(
    (b'cbuiltins\neval\n.', 'builtins.eval'),
    (b'ctorch\nload\n.', 'torch.load'),
    (b'ctorch._utils\n_rebuild_tensor_v2.__globals__\n.', '__globals__'),
    (b'\x80\x04\x8c\x0bcollections\x8c\x06_sys.x\x93.', 'collections._sys.x'),
  )
  def test_other_names_are_refused(self, data, name):
    with self.assertRaisesRegex(ValueError, f'asks for .*{name}'):
      torch_files.read(self._zip(data))

  def test_a_whole_module_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'asks for torch.nn.modules.linear'):
      torch_files.read(_GOLDEN / 'module.pth')

  @parameterized.parameters(
    ('I1', '(I4', '(I1'),  # Beyond the end, by the offset.
    ('I0', '(I5', '(I1'),
    ('I0', '(I2', '(I4'),
    ('I0', '(I999999999', '(I0'),  # Few bytes that claim gigabytes.
    ('I-1', '(I1', '(I1'),
    ('I3', '(I4', '(I-1'),
  )
  def test_a_tensor_beyond_its_storage(self, offset, shape, strides):
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    rebuild = b'ctorch._utils\n_rebuild_tensor_v2\n('
    sizes = f'{offset}\n{shape}\nt{strides}\nt'.encode()
    data = b"(dS't'\n" + rebuild + storage + sizes + b'I00\nNtRs.'
    with self.assertRaisesRegex(ValueError, 't reaches beyond its storage'):
      torch_files.read(self._zip(data))

  def test_that_tensor_inside_its_storage(self):
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    data = (
      b"(dS't'\nctorch._utils\n_rebuild_tensor_v2\n("
      + storage
      + b'I1\n(I3\nt(I1\ntI00\nNtRs.'
    )
    values = np.arange(4, dtype='<f4')
    found = torch_files.read(self._zip(data, values.tobytes()))
    np.testing.assert_array_equal(found['t'], [1, 2, 3])
    with self.assertRaisesRegex(ValueError, 'is compressed'):
      torch_files.read(self._zip(data, values.tobytes(), zipfile.ZIP_DEFLATED))

  def test_damaged_files_are_named(self):
    whole = (_GOLDEN / 'zip.pth').read_bytes()
    legacy = (_GOLDEN / 'legacy.pth').read_bytes()
    path = self.folder / 'model.pth'
    contents = [legacy[:n] for n in range(0, len(legacy) - 1, 7)]
    contents += [whole[:1000], b'text']
    for content in contents:
      path.write_bytes(content)
      with self.assertRaisesRegex(ValueError, 'model.pth: found'):
        torch_files.read(path)
    other = self.folder / 'model.safetensors'
    other.write_bytes(b'no tensors at all')
    with self.assertRaisesRegex(ValueError, 'model.safetensors: found'):
      torch_files.read(other)

  @parameterized.parameters('zip.pth', 'legacy.pth')
  def test_a_changed_byte_never_does_more_than_fail(self, name):
    rng = np.random.default_rng(0)
    whole = (_GOLDEN / name).read_bytes()
    path = self.folder / 'model.pth'
    failed = 0
    for _ in range(300):
      content = bytearray(whole)
      content[rng.integers(len(content))] = rng.integers(256)
      path.write_bytes(content)
      try:
        torch_files.read(path)
      except ValueError:
        failed += 1
    self.assertBetween(failed, 50, 290)

  def test_a_file_that_is_not_there(self):
    with self.assertRaisesRegex(ValueError, 'none.pth: found FileNotFound'):
      torch_files.read(self.folder / 'none.pth')

  @parameterized.parameters(
    ({'epoch': 3}, "'epoch' is no tensor"),
    ([1, 2], 'a list instead of a state dict'),
  )
  def test_no_state_dict(self, value, message):
    with self.assertRaisesRegex(ValueError, message):
      torch_files.read(self._zip(pickle.dumps(value, 2)))


if __name__ == '__main__':
  absltest.main()
