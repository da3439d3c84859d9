import pathlib
from unittest import mock

import tensorflow_datasets as tfds
from absl.testing import absltest
from array_record.python import array_record_data_source
from array_record.python import array_record_module

from datasets import shards


class ShardsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.template = tfds.core.ShardedFileTemplate(
      data_dir=self.folder,
      dataset_name='name',
      split='train',
      filetype_suffix='array_record',
    )

  def test_records_keep_their_order_over_shards(self):
    records = [bytes([i]) * 10 for i in range(7)]
    with mock.patch.object(shards, '_SHARD_BYTES', 25):
      info = shards.write(iter(records), self.template)
    self.assertEqual(info.shard_lengths, [3, 3, 1])
    self.assertEqual(info.num_bytes, 70)
    paths = sorted(self.folder.iterdir())
    self.assertEqual(
      [path.name for path in paths],
      [f'name-train.array_record-0000{i}-of-00003' for i in range(3)],
    )
    with array_record_data_source.ArrayRecordDataSource(paths) as source:
      self.assertEqual([source[i] for i in range(7)], records)

  def test_a_full_disk_is_an_os_error(self):
    writer = mock.Mock()
    writer.write.side_effect = RuntimeError('No space left on device; writing')
    with (
      mock.patch.object(
        array_record_module, 'ArrayRecordWriter', return_value=writer
      ),
      self.assertRaisesRegex(OSError, 'cannot be written: No space left on de'),
    ):
      shards.write([b'record'], self.template)


if __name__ == '__main__':
  absltest.main()
