"""Tests of reading and writing videos."""

import fractions
import pathlib
import sys
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.io import video

try:
  import av
except ImportError:
  av = None


def frames(number=12, shape=(48, 64)):
  """Grey frames, brighter and brighter, with a red corner at the upper left."""
  made = []
  for i in range(number):
    pixels = np.full((*shape, 3), 60 + 3 * i, np.uint8)
    pixels[: shape[0] // 2, : shape[1] // 2] = (200, 30, 30)
    made.append(pixels)
  return made


class NamesTest(absltest.TestCase):
  def test_suffixes(self):
    self.assertTrue(video.is_video_file('folder/A.MP4'))
    self.assertFalse(video.is_video_file(pathlib.Path('a.png')))

  def test_without_pyav(self):
    with (
      mock.patch.dict(sys.modules, {'av': None}),
      self.assertRaisesRegex(ValueError, r"pip install -e '.\[video\]'"),
    ):
      next(video.read_frames('a.mp4'))


@absltest.skipIf(av is None, 'PyAV is not installed')
class VideoTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'a.mp4'

  def write(self, made, rate=25):
    with video.Writer(self.path, fractions.Fraction(rate)) as writer:
      for pixels in made:
        writer.write(pixels)

  @parameterized.parameters(((48, 64),), ((47, 65),), ((288, 384),))
  def test_there_and_back(self, shape):
    made = frames(shape=shape)
    self.write(made)
    found = list(video.read_frames(self.path))
    self.assertLen(found, 12)
    height, width = shape
    for i, (frame, pixels) in enumerate(zip(found, made, strict=True)):
      self.assertAlmostEqual(frame.seconds, i / 25, places=3)
      even = height + height % 2, width + width % 2, 3
      self.assertEqual(frame.pixels.shape, even)
      apart = np.abs(frame.pixels[:height, :width].astype(float) - pixels)
      self.assertLess(apart.mean(), 4)
    facts = video.read_facts(self.path)
    self.assertEqual(facts, video.Facts(25, even[:2], 12))

  def test_players_take_it(self):
    self.write(frames())
    with av.open(str(self.path)) as container:
      stream = container.streams.video[0]
      self.assertEqual(stream.codec_context.pix_fmt, 'yuv420p')
      self.assertIn(stream.codec_context.name, ('h264', 'mpeg4'))
      self.assertAlmostEqual(float(stream.duration * stream.time_base), 0.48)

  def test_another_codec(self):
    with mock.patch.object(av, 'codecs_available', {'mpeg4'}):
      self.write(frames(), rate='30000/1001')
    self.assertLen(list(video.read_frames(self.path)), 12)
    facts = video.read_facts(self.path)
    self.assertAlmostEqual(float(facts.rate), 29.97, places=2)

  def test_frames_come_one_by_one(self):
    self.write(frames(60))
    stream = video.read_frames(self.path)
    first = next(stream)
    self.assertEqual(first.seconds, 0)
    stream.close()

  def test_a_turned_camera(self):
    self.write(frames(2))
    data = bytearray(self.path.read_bytes())
    # The matrix of the track's header, 16.16: right becomes down, a quarter
    # clockwise, as phones that are held upright note it.
    at = data.index(b'tkhd') + 44
    one, w = 1 << 16, 1 << 30
    matrix = np.array([0, one, 0, -one, 0, 0, 0, 0, w], '>i4')
    data[at : at + 36] = matrix.tobytes()
    self.path.write_bytes(data)
    frame = next(video.read_frames(self.path))
    self.assertEqual(frame.pixels.shape, (64, 48, 3))
    # The red corner is now at the upper right.
    red = frame.pixels[..., 0] > 150
    self.assertEqual(
      [red[8, 8], red[8, 40], red[56, 8], red[56, 40]], [0, 1, 0, 0]
    )
    self.assertEqual(video.read_facts(self.path).size, (64, 48))

  def test_broken_files(self):
    self.path.write_bytes(b'no video')
    with self.assertRaisesRegex(ValueError, 'a.mp4: found what cannot be deco'):
      next(video.read_frames(self.path))
    with self.assertRaisesRegex(ValueError, 'b.mp4: found what'):
      video.read_facts(self.path.with_name('b.mp4'))
    self.write(frames(60))
    data = self.path.read_bytes()
    self.path.write_bytes(data[: len(data) // 2])
    with self.assertRaisesRegex(ValueError, 'a.mp4: found what'):
      list(video.read_frames(self.path))

  def test_damaged_frames_are_passed_over(self):
    rng = np.random.default_rng(0)
    self.write(rng.integers(0, 256, (60, 48, 64, 3), np.uint8))
    data = bytearray(self.path.read_bytes())
    # What the frames lie in goes before what says where they are.
    start = (data.index(b'mdat') + data.index(b'moov')) // 2
    data[start : start + 3000] = bytes(range(250)) * 12
    self.path.write_bytes(data)
    found = list(video.read_frames(self.path))
    self.assertBetween(len(found), 20, 60)
    self.assertEqual(video.read_facts(self.path).frames, 60)

  def test_odd_rates_become_the_nearest(self):
    for rate, nearest in (('90000', 1000), ('1/5000', 1 / 1000)):
      self.write(frames(3), rate=rate)
      self.assertLen(list(video.read_frames(self.path)), 3)
      facts = video.read_facts(self.path)
      self.assertAlmostEqual(float(facts.rate) / nearest, 1, places=2)

  def test_sound_alone(self):
    path = self.path.with_suffix('.wav')
    with av.open(str(path), 'w') as container:
      stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
      sound = av.AudioFrame.from_ndarray(
        np.zeros((1, 800), np.int16), layout='mono'
      )
      sound.rate = 8000
      container.mux(stream.encode(sound))
      container.mux(stream.encode())
    with self.assertRaisesRegex(ValueError, 'found no pictures'):
      next(video.read_frames(path))

  def test_sizes_must_not_change(self):
    with (
      self.assertRaisesRegex(ValueError, 'found a frame of 50 x 64'),
      video.Writer(self.path, fractions.Fraction(25)) as writer,
    ):
      writer.write(np.zeros((48, 64, 3), np.uint8))
      writer.write(np.zeros((50, 64, 3), np.uint8))


if __name__ == '__main__':
  absltest.main()
