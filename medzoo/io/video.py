"""Video files, frame by frame, through PyAV, which is FFmpeg.

Only a frame or two are in memory at a time. Sound is left out.
"""

import contextlib
import dataclasses
import fractions
import os
import types
from collections.abc import Iterator

import numpy as np

SUFFIXES = (
  *('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv'),
  *('.mts', '.m2ts', '.ts', '.flv', '.ogv', '.3gp'),
)

# Where a file does not say how many frames a second it has.
_USUAL_RATE = fractions.Fraction(25)
# What can be written.
_RATES = fractions.Fraction(1, 1000), fractions.Fraction(1000)
# Both play everywhere; not every build of FFmpeg has the first.
_CODECS = {
  'libx264': {'preset': 'veryfast', 'crf': '20'},
  'mpeg4': {'qscale': '3'},
}


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a file says of its pictures.

  Attributes:
    rate: frames a second, on average.
    size: (h, w) as it is to be shown.
    frames: how many there are, or should be by the video's length.
  """

  rate: fractions.Fraction
  size: tuple[int, int]
  frames: int


@dataclasses.dataclass(frozen=True)
class Frame:
  """One picture of a video.

  Attributes:
    pixels: (h, w, 3) uint8, red, green and blue, turned as it is to be shown.
    seconds: from the start of the video.
  """

  pixels: np.ndarray
  seconds: float


def is_video_file(path: str | os.PathLike[str]) -> bool:
  """Whether the name ends as a video's does."""
  return os.fspath(path).lower().endswith(SUFFIXES)


def read_facts(path: str | os.PathLike[str]) -> Facts:
  """Reads how large and how fast a video is.

  Raises:
    ValueError: as `read_frames`.
  """
  with _opened(path) as stream:
    rate = _rate(stream)
    # In FFmpeg's own unit, microseconds; not every file says how long it is.
    seconds = (stream.container.duration or 0) / 1e6
    frames = stream.frames or round(seconds * rate)
  frame = next(read_frames(path))
  return Facts(rate, frame.pixels.shape[:2], frames)


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
  """Decodes a video while it is asked for frames.

  Frames that are damaged are passed over.

  Args:
    path: the file.

  Yields:
    Its frames in the order in which they are shown.

  Raises:
    ValueError: PyAV is not installed, or the file is missing, broken, or has
      no picture.
  """
  number, start = 0, None
  with _opened(path) as stream:
    rate = _rate(stream)
    for frame in _decode(stream):
      pixels = frame.to_ndarray(format='rgb24')
      # Cameras note how a picture was held; quarter turns, counterclockwise.
      pixels = np.rot90(pixels, round(frame.rotation / 90))
      seconds = float(number / rate) if frame.time is None else frame.time
      # Not all clocks begin at 0.
      start = seconds if start is None else start
      yield Frame(np.ascontiguousarray(pixels), seconds - start)
      number += 1
  if not number:
    raise ValueError(f'{path}: found no frame, expected a video')


class Writer:
  """Writes an MP4 file that browsers and viewers play.

  A context manager; the file is whole when it is left.
  """

  def __init__(self, path: str | os.PathLike[str], rate: fractions.Fraction):
    """Opens the file.

    Args:
      path: the file.
      rate: frames a second, 0.001 to 1,000; others become the nearest.

    Raises:
      ValueError: PyAV is not installed.
    """
    self._av = _import()
    self._path = path
    # Some codecs take no finer rates.
    rate = min(max(fractions.Fraction(rate), _RATES[0]), _RATES[1])
    self._rate = rate.limit_denominator(1001)
    self._container = self._av.open(os.fspath(path), 'w', format='mp4')
    self._stream = None

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *_: object) -> None:
    try:
      if self._stream is not None:
        self._container.mux(self._stream.encode())
    finally:
      self._container.close()

  def write(self, pixels: np.ndarray) -> None:
    """Adds a frame.

    Args:
      pixels: (h, w, 3) uint8, all of one size. Colours are kept at half the
        resolution, so odd sizes get a repeat of their last row or column.

    Raises:
      ValueError: the size is another than that of the first.
    """
    height, width = pixels.shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    pixels = np.pad(pixels, even, mode='edge')
    if self._stream is None:
      self._stream = self._add_stream(*pixels.shape[:2])
    size = self._stream.height, self._stream.width
    if pixels.shape[:2] != size:
      raise ValueError(
        f'{self._path}: found a frame of {height} x {width}, expected '
        f'{size[0]} x {size[1]} as the first'
      )
    frame = self._av.VideoFrame.from_ndarray(pixels, format='rgb24')
    self._container.mux(self._stream.encode(frame))

  def _add_stream(self, height: int, width: int):
    codec = next(c for c in _CODECS if c in self._av.codecs_available)
    stream = self._container.add_stream(
      codec, rate=self._rate, options=_CODECS[codec]
    )
    stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
    return stream


def _import() -> types.ModuleType:
  try:
    import av
  except ImportError:
    raise ValueError(
      'found no PyAV, which reads and writes videos; install it with: '
      "pip install -e '.[video]'"
    ) from None
  return av


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator:
  """Yields the stream of pictures, and turns FFmpeg's faults into one line."""
  av = _import()
  try:
    with av.open(os.fspath(path)) as container:
      if not container.streams.video:
        raise ValueError(f'{path}: found no pictures, expected a video')
      stream = container.streams.video[0]
      stream.thread_type = 'AUTO'
      yield stream
  except av.FFmpegError as error:
    raise ValueError(
      f'{path}: found what cannot be decoded, expected a video: '
      f'{error.strerror}'
    ) from None


def _decode(stream) -> Iterator:
  """Yields the frames of the packets that can be decoded."""
  av = _import()
  for packet in stream.container.demux(stream):
    try:
      frames = packet.decode()
    except av.error.InvalidDataError:
      continue
    yield from frames


def _rate(stream) -> fractions.Fraction:
  return stream.average_rate or stream.guessed_rate or _USUAL_RATE
