import json
import os
import pathlib
import struct

import numpy as np
from absl.testing import absltest
from tensorboardX.proto import event_pb2

from medzoo.train import writers


def _events(folder):
  """Reads event files as TensorBoard would, without it."""
  events = []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      (size,) = struct.unpack('<Q', data[:8])
      events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return events


class WriterTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.workdir = pathlib.Path(self.create_tempdir().full_path) / 'run'
    self.writer = writers.Writer(self.workdir, echo=False)

  def _rows(self):
    return writers.read_rows(self.workdir / 'metrics.jsonl')

  def test_scalars(self):
    self.writer.scalars('a', 3, {'loss': np.float32(0.5), 'auc': float('nan')})
    self.writer.close()
    text = (self.workdir / 'metrics.jsonl').read_text()
    self.assertEqual(
      json.loads(text), {'stage': 'a', 'step': 3, 'loss': 0.5, 'auc': None}
    )
    _, event = _events(self.workdir / 'tensorboard' / 'a')
    self.assertEqual(event.step, 3)
    self.assertEqual(event.summary.value[0].tag, 'loss')
    self.assertEqual(event.summary.value[0].simple_value, 0.5)

  def test_image(self):
    pixels = np.zeros((4, 6, 3), np.uint8)
    self.writer.image('a', 1, 'montage', pixels)
    self.writer.close()
    _, event = _events(self.workdir / 'tensorboard' / 'a')
    image = event.summary.value[0].image
    self.assertEqual((image.height, image.width), (4, 6))

  def test_log(self):
    self.writer.log('one')
    self.writer.log('two')
    lines = (self.workdir / 'log.txt').read_text().splitlines()
    self.assertRegex(lines[0], r'^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d one$')
    self.assertEndsWith(lines[1], ' two')

  def test_truncate_forgets_the_later_rows_of_the_stage(self):
    for stage, step in (('a', 1), ('a', 2), ('b', 9), ('a', 3)):
      self.writer.scalars(stage, step, {'loss': step})
    with (self.workdir / 'metrics.jsonl').open('a') as file:
      file.write('{"stage": "a", "st')
    self.writer.close()
    again = writers.Writer(self.workdir, echo=False)
    again.truncate('a', 1)
    again.scalars('a', 2, {'loss': 5.0})
    again.close()
    rows = [(row['stage'], row['step'], row['loss']) for row in self._rows()]
    self.assertEqual(rows, [('a', 1, 1.0), ('b', 9, 9.0), ('a', 2, 5.0)])
    starts = [
      event.step
      for event in _events(self.workdir / 'tensorboard' / 'a')
      if event.HasField('session_log')
    ]
    self.assertEqual(starts, [2])

  def test_truncate_of_nothing(self):
    self.writer.truncate('a', 0)
    self.assertEmpty(list(self.workdir.iterdir()))

  def test_full_disk_names_the_file(self):
    if not os.path.exists('/dev/full'):
      self.skipTest('no /dev/full')
    (self.workdir / 'metrics.jsonl').symlink_to('/dev/full')
    with self.assertRaisesRegex(OSError, 'No space left.*metrics.jsonl'):
      self.writer.scalars('a', 1, {'loss': 1.0})


if __name__ == '__main__':
  absltest.main()
