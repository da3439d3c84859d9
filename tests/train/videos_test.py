"""Tests of applying a model to videos, with a predictor that is told."""

import csv
import fractions
import json
import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest
from PIL import Image

from medzoo.data import drawing
from medzoo.io import video
from medzoo.train import build
from medzoo.train import inputs
from medzoo.train import predict
from medzoo.train import videos
from tests.train import frame_cases

try:
  import av
except ImportError:
  av = None


class _Told:
  """Finds a box in bright frames, and an unsure one in all."""

  stages = ()

  def __call__(self, variables, volume):
    del variables
    rows = [((30, 40, 40, 50), 0.2)]
    if volume.voxels.mean() > 100:
      rows.insert(0, ((4, 8, 24, 40), 0.75))
    return {'windows': frame_cases.found(rows)}


class NamesTest(absltest.TestCase):
  def test_stems(self):
    names = ['a.mp4', 'b.mp4', 'b.avi', 'c/b.mov']
    self.assertEqual(
      list(videos.stems(names).values()), ['a', 'b.mp4', 'b.avi', 'c/b']
    )

  def test_what_is_a_video(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    for name in ('a.MP4', 'b/c.mkv', 'd.png', 'a.annotated.mp4'):
      path = root / name
      path.parent.mkdir(exist_ok=True)
      path.touch()
    found, skipped = inputs.find_videos(root)
    self.assertEqual([name for name, _ in found], ['a.MP4', 'b/c.mkv'])
    self.assertEqual([s.series for s in skipped], ['a.annotated.mp4'])
    readers, skipped = inputs.find(root, ('pictures', 'videos'), [])
    self.assertEqual([name for name, _ in readers], ['d.png'])
    self.assertEmpty(skipped)


@absltest.skipIf(av is None, 'PyAV is not installed')
class VideosTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path)
    self.input, self.output, model = root / 'in', root / 'out', root / 'model'
    self.input.mkdir()
    model.mkdir()
    config = {
      'stages': {'order': ()},
      'evaluation': {'protocol': 'windows', 'predictor': {}},
      'preprocess': {},
    }
    facts = {'config': config, 'threshold': 0.5, 'classes': ['polyp']}
    (model / 'config.json').write_text(json.dumps(facts))
    self.model = model
    told = mock.patch.object(build, 'build', lambda *_: _Told())
    self.enter_context(told)

  def save(self, name, number=10, shape=(48, 64), rate=25):
    """A video that is bright from its fifth frame on."""
    with video.Writer(self.input / name, fractions.Fraction(rate)) as writer:
      for i in range(number):
        writer.write(np.full((*shape, 3), 140 if i >= 4 else 60, np.uint8))

  def predict(self, source=None):
    told = predict.predict([self.model], source or self.input, self.output)
    return told, json.loads((self.output / 'detections.json').read_text())

  def test_a_video(self):
    self.save('clip.mp4', rate='30000/1001')
    told, found = self.predict(self.input / 'clip.mp4')
    speed = found.pop('frames_per_second')
    self.assertGreater(speed, 1)
    self.assertEqual(
      found,
      {
        'case': 'clip.mp4',
        'model': found['model'],
        'threshold': 0.5,
        'frame': 'pixels',
        'frames': 10,
        'frames_expected': 10,
        'frames_with_detections': 6,
        'video': 'clip.annotated.mp4',
        'table': 'clip.csv',
        'skipped': [],
      },
    )
    self.assertStartsWith(told, 'clip.mp4: 6 of 10 frames have something abov')
    self.assertIn('clip.annotated.mp4', told)
    self.assertEqual(
      sorted(path.name for path in self.output.iterdir()),
      ['clip.annotated.mp4', 'clip.csv', 'detections.json'],
    )
    with (self.output / 'clip.csv').open(newline='') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([int(row['frame']) for row in rows], list(range(4, 10)))
    self.assertEqual(
      rows[0],
      {
        'frame': '4',
        'time_s': '0.133',
        **{'x0': '8.0', 'y0': '4.0', 'x1': '40.0', 'y1': '24.0'},
        'score': '0.7500',
      },
    )

  def test_the_annotated_video(self):
    self.save('clip.mp4')
    self.predict()
    path = self.output / 'clip.annotated.mp4'
    facts = video.read_facts(path)
    # Eight times as large, so that scores can be read.
    self.assertEqual((facts.rate, facts.size), (25, (384, 512)))
    frames = list(video.read_frames(path))
    self.assertLen(frames, 10)
    for i, frame in enumerate(frames):
      left = frame.pixels[100:180, 8 * 8 : 8 * 8 + 2].mean((0, 1))
      drawn = np.abs(left - drawing.GREEN).max() < 60
      self.assertEqual(drawn, i >= 4)

  def test_a_folder_of_both(self):
    self.save('clip.mp4')
    self.save('clip.avi')
    Image.new('RGB', (64, 48), (140, 140, 140)).save(self.input / 'a.png')
    (self.input / 'broken.mov').write_bytes(b'no video')
    told, found = self.predict()
    cases = {case['case']: case for case in found['cases']}
    self.assertEqual(list(cases), ['a.png', 'clip.avi', 'clip.mp4'])
    self.assertLen(cases['a.png']['detections'], 1)
    self.assertEqual(cases['clip.avi']['table'], 'clip.avi.csv')
    self.assertEqual([s['series'] for s in found['skipped']], ['broken.mov'])
    self.assertIn('broken.mov: skipped, ', told)
    names = [path.name for path in self.output.iterdir()]
    self.assertNotIn('.partial', ' '.join(names))
    self.assertNotIn('broken', ' '.join(names))

  def test_its_own_videos_are_not_looked_at(self):
    self.save('clip.mp4')
    self.output = self.input
    self.predict()
    _, found = self.predict()
    self.assertEqual(found['case'], 'clip.mp4')
    self.assertIn('clip.annotated.mp4', [s['series'] for s in found['skipped']])

  def test_a_broken_video_alone(self):
    (self.input / 'a.mp4').write_bytes(b'no video')
    with self.assertRaisesRegex(
      ValueError, 'no case that can be read: .*a.mp4'
    ):
      self.predict()


if __name__ == '__main__':
  absltest.main()
