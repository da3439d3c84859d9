"""Tests of the reader of Keras's weights, on files written as Keras does."""

import pathlib

import h5py
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.weights import keras_files
from tests import keras_reference

_SHAPES = {
  'conv1/kernel': (3, 3, 1, 2),
  'conv1/bias': (2,),
  'bn_conv1/gamma': (2,),
  'bn_conv1/beta': (2,),
  'bn_conv1/moving_mean': (2,),
  'bn_conv1/moving_variance': (2,),
  'rpn_conv_shared/kernel': (3, 3, 2, 4),
  'rpn_conv_shared/bias': (4,),
  'rpn_class_raw/kernel': (1, 1, 4, 6),
}


class KerasFilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'model.h5'
    self.arrays = keras_reference.draw(_SHAPES)

  def _assert_read(self, arrays):
    found = keras_files.read(self.path)
    self.assertSameElements(found, arrays)
    for name, array in arrays.items():
      self.assertEqual(found[name].dtype, array.dtype, name)
      np.testing.assert_array_equal(found[name], array, name)

  def _write(self, arrays):
    """Writes arrays by their paths."""
    with h5py.File(self.path, 'w') as file:
      file.attrs['layer_names'] = [b'a']
      for name, array in arrays.items():
        file[name] = array

  @parameterized.parameters(False, True)
  def test_weights_alone_and_a_whole_model(self, whole):
    keras_reference.write(self.path, self.arrays, whole=whole)
    self._assert_read(self.arrays)

  @parameterized.parameters('', '_1')
  def test_names_of_keras_1(self, suffix):
    keras_reference.write_keras_1(self.path, self.arrays, suffix)
    self._assert_read(self.arrays)

  def test_a_layer_is_its_group_whatever_its_variables_are_called(self):
    x = np.arange(3, dtype=np.float16)
    self._write(
      {
        'conv1/conv1_1/kernel:0': x,
        'bn/time_distributed/batch_norm_7/gamma': x,
        'model/model/one/kernel:0': x,
        'model/model/two/kernel:0': x,
        'plain/kernel:0': x,
      }
    )
    names = 'conv1/kernel', 'bn/gamma', 'one/kernel', 'two/kernel'
    self._assert_read(dict.fromkeys((*names, 'plain/kernel'), x))

  def test_a_long_list_of_layers_is_split(self):
    with h5py.File(self.path, 'w') as file:
      file.attrs['layer_names0'] = [b'a']
      file['a/a/kernel:0'] = np.ones(3)
    self._assert_read({'a/kernel': np.ones(3)})

  def test_two_layers_of_one_name(self):
    x = np.ones(3)
    self._write({'two/forward/cell/kernel': x, 'two/backward/cell/kernel': x})
    with self.assertRaisesRegex(ValueError, 'two arrays cell/kernel'):
      keras_files.read(self.path)

  def test_no_link_is_followed(self):
    other = self.path.with_name('other.h5')
    with h5py.File(other, 'w') as file:
      file['secret'] = np.ones(3)
    keras_reference.write(self.path, self.arrays)
    with h5py.File(self.path, 'a') as file:
      file['conv1/away'] = h5py.ExternalLink(str(other), 'secret')
    self._assert_read(self.arrays)

  @parameterized.parameters(
    (b'', 'found OSError'),
    (b'\x80\x02}q\x00.', 'found OSError'),
    (None, 'found FileNotFoundError'),
  )
  def test_no_such_file(self, content, message):
    if content is not None:
      self.path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, f'model.h5: {message}') as caught:
      keras_files.read(self.path)
    self.assertIn('expected weights that Keras wrote', str(caught.exception))

  def test_hdf5_without_weights(self):
    with h5py.File(self.path, 'w') as file:
      # As Keras 3 writes .weights.h5.
      file['layers/conv2d/vars/0'] = np.ones(3)
    with self.assertRaisesRegex(ValueError, 'no list of layers'):
      keras_files.read(self.path)
    self._write({})
    with self.assertRaisesRegex(ValueError, 'no arrays'):
      keras_files.read(self.path)

  def test_arrays_that_keras_does_not_write(self):
    self._write({'a/a/kernel:0': 'text'})
    with self.assertRaisesRegex(ValueError, 'a/kernel holds no numbers'):
      keras_files.read(self.path)
    with h5py.File(self.path, 'w') as file:
      file.attrs['layer_names'] = [b'a']
      # Few bytes that claim terabytes.
      file.create_dataset('a/a/kernel:0', (1 << 40,), np.float32)
    with self.assertRaisesRegex(ValueError, 'a/kernel is compressed or absent'):
      keras_files.read(self.path)

  def test_a_damaged_file_is_named(self):
    keras_reference.write(self.path, self.arrays)
    whole = self.path.read_bytes()
    for size in range(0, len(whole) - 1, 997):
      self.path.write_bytes(whole[:size])
      with self.assertRaisesRegex(ValueError, 'model.h5: found'):
        keras_files.read(self.path)

  def test_a_changed_byte_never_does_more_than_fail(self):
    rng = np.random.default_rng(0)
    keras_reference.write(self.path, self.arrays)
    whole = self.path.read_bytes()
    failed = 0
    for _ in range(200):
      content = bytearray(whole)
      content[rng.integers(len(content))] = rng.integers(256)
      self.path.write_bytes(content)
      try:
        keras_files.read(self.path)
      except ValueError:
        failed += 1
    self.assertBetween(failed, 1, 199)


if __name__ == '__main__':
  absltest.main()
