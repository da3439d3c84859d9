"""From light to a stored frame: lens, sensor, field, processor, codec."""

import dataclasses
import io

import numpy as np
from PIL import Image
from PIL import ImageDraw
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class Processor:
  """What the frames of a sequence share.

  Attributes:
    field: (h, w) float32, 1 in the field, 0 in the black border.
    black: of the border, of 255.
    gains: (3,) of red, green and blue.
    gamma: of the tone curve.
    exposure: of the field's bright part, of 1.
    noise: deviation, of 255.
    sharpening: share of what a blur takes away.
    quality: of the JPEG compression.
    text: beside the field, '' for none.
  """

  field: np.ndarray
  black: float
  gains: np.ndarray
  gamma: float
  exposure: float
  noise: float
  sharpening: float
  quality: int
  text: str


def make(rng: np.random.Generator, height: int, width: int) -> Processor:
  """Draws a processor for frames of a size."""
  text = ''
  if rng.random() < 0.35:
    text = f'{rng.integers(7, 19):02d}:{rng.integers(60):02d}'
  return Processor(
    _field(rng, height, width),
    rng.choice((0, 0, 3, 10)),
    np.array([1, rng.uniform(0.85, 1.1), rng.uniform(0.7, 1.15)]),
    rng.uniform(1.7, 2.4),
    rng.uniform(0.35, 0.85),
    rng.uniform(1.5, 5.0),
    rng.uniform(0.0, 1.0),
    int(rng.integers(60, 93)),
    text,
  )


def _field(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Returns an octagon, of other margins and corners every time."""
  rows, columns = np.indices((height, width)) + 0.5
  left, right = rng.uniform(0.01, 0.14, 2) * width
  top, bottom = rng.uniform(0.01, 0.07, 2) * height
  corner = rng.uniform(0.06, 0.2) * width
  across = np.minimum(columns - left, width - right - columns)
  down = np.minimum(rows - top, height - bottom - rows)
  inside = np.minimum(np.minimum(across, down), (across + down - corner) / 1.41)
  return np.clip(inside + 0.5, 0, 1).astype(np.float32)


def develop(
  light: np.ndarray, processor: Processor, rng: np.random.Generator
) -> np.ndarray:
  """Returns a frame.

  Args:
    light: (h, w, 3) linear RGB of any unit, of any size.
    processor: of the sequence, which also gives the frame's size.
    rng: draws what differs between frames: blur, motion, noise.

  Returns:
    (height, width, 3) uint8 RGB.
  """
  height, width = processor.field.shape
  scale = width / light.shape[1]
  inside = resize(processor.field, light.shape[:2]) > 0.5
  bright = np.percentile(light[inside].mean(-1), 90)
  # Lens and sensor first: what is too bright also spreads.
  light = np.minimum(light * (processor.exposure / bright), 3.0)
  light = _blur(light, (0.6 + rng.gamma(2.0, 0.5)) / scale)
  light = light * processor.gains
  tone = 1 - np.exp(-1.3 * light)
  picture = np.clip(tone, 0, 1) ** (1 / processor.gamma)
  picture = np.stack(
    [resize(picture[..., i], (height, width)) for i in range(3)], axis=-1
  )
  if rng.random() < 0.25:
    _misalign(picture, rng, width)
  soft = _blur(picture, 1.2)
  picture += processor.sharpening * (picture - soft)
  picture = 255 * picture + rng.normal(
    0, processor.noise, (height, width, 1)
  ).astype(np.float32)
  picture += rng.normal(0, 0.5 * processor.noise, picture.shape)
  field = processor.field[..., None]
  picture = picture * field + processor.black * (1 - field)
  frame = np.clip(np.round(picture), 0, 255).astype(np.uint8)
  return _compress(_write(frame, processor), processor.quality)


def resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Returns a float32 picture in another size, by cubic interpolation."""
  picture = Image.fromarray(values.astype(np.float32))
  return np.array(picture.resize(shape[::-1], Image.Resampling.BICUBIC))


def _blur(picture: np.ndarray, width: float) -> np.ndarray:
  return ndimage.gaussian_filter(
    picture.astype(np.float32), (width, width, 0), truncate=3.0
  )


def _misalign(
  picture: np.ndarray, rng: np.random.Generator, width: int
) -> None:
  """Moves fields or colours that were taken one after the other."""
  by = max(1, round(width * rng.uniform(0.003, 0.01)))
  if rng.random() < 0.5:
    picture[1::2] = np.roll(picture[1::2], by, axis=1)
  else:
    channel = rng.integers(3)
    moved = np.roll(picture[..., channel], by, axis=rng.integers(2))
    picture[..., channel] = moved


def _write(frame: np.ndarray, processor: Processor) -> np.ndarray:
  """Writes the text into the border's corner."""
  if not processor.text:
    return frame
  picture = Image.fromarray(frame)
  ImageDraw.Draw(picture).text((2, 1), processor.text, fill=(200, 200, 200))
  outside = processor.field[..., None] == 0
  return np.where(outside, np.asarray(picture), frame)


def _compress(frame: np.ndarray, quality: int) -> np.ndarray:
  file = io.BytesIO()
  Image.fromarray(frame).save(file, 'JPEG', quality=quality)
  return np.asarray(Image.open(file))
