"""Augmentation of pictures with a class: numpy dicts in, numpy dicts out.

An example is what `labelled_store.LabelledStore` gives: an image of one or
three channels in the upper left corner, zeros round it where `sizes` says so.
`picture_transforms.RandomExposure`, for grey ones, and `RandomCover` take it
too.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np
from PIL import Image
from PIL import ImageFilter

Example = Mapping[str, np.ndarray]

# Luminance and the two chrominances of NTSC, from red, green and blue.
_TO_YIQ = np.array(
  [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)


@dataclasses.dataclass(frozen=True)
class RandomPicture(grain.transforms.RandomMap):
  """Mirrors, turns, shears, scales and shifts a picture.

  One bilinear interpolation does it all; beyond its edges the picture is
  reflected. CNN4CRCPolyps had shear 0.2, zoom 0.2, both flips and 90 degrees,
  and repeated the outermost pixels instead.

  Attributes:
    horizontal_flip: whether every second picture is mirrored, left to right.
    vertical_flip: whether every second one is mirrored, top to bottom.
    quarter_turns: whether it is turned by a multiple of 90 degrees as well.
    rotate_deg: largest turn either way, degrees.
    shear: largest shift of a row either way per row from the middle.
    zoom: largest relative change of size either way, 0.2 for 0.8 to 1.2, of
      height and width each on its own.
    shift: largest shift along y and x either way, of the picture's sides.
  """

  horizontal_flip: bool
  vertical_flip: bool
  quarter_turns: bool
  rotate_deg: float
  shear: float
  zoom: float
  shift: float

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example seen otherwise; zeros round the picture stay."""
    size = np.array(element['sizes'])
    rows, columns = size
    matrix = self._draw(rng)
    shift = rng.uniform(-self.shift, self.shift, 2) * size
    offset = size / 2 + shift - matrix @ (size / 2)
    image = np.zeros_like(element['image'])
    image[:rows, :columns] = _sample(
      element['image'][:rows, :columns], matrix, offset
    )
    return {**element, 'image': image}

  def _draw(self, rng: np.random.Generator) -> np.ndarray:
    """Returns a matrix of (y, x) about the middle, from result to picture."""
    flips = np.array([self.vertical_flip, self.horizontal_flip])
    signs = np.where(flips & (rng.random(2) < 0.5), -1, 1)
    angle = np.deg2rad(rng.uniform(-self.rotate_deg, self.rotate_deg))
    angle += np.pi / 2 * (rng.integers(4) if self.quarter_turns else 0)
    cos, sin = np.cos(angle), np.sin(angle)
    shear = np.array([[1, 0], [rng.uniform(-self.shear, self.shear), 1]])
    factors = 1 + rng.uniform(-self.zoom, self.zoom, 2)
    return np.array([[cos, -sin], [sin, cos]]) @ shear * (signs / factors)


@dataclasses.dataclass(frozen=True)
class RandomColour(grain.transforms.RandomMap):
  """Varies the light and the colours of a picture, blurs it and adds noise.

  Attributes:
    brightness: largest change either way, of the range of levels.
    contrast: largest relative change either way.
    saturation: largest relative change either way.
    hue_deg: largest turn of hues either way, degrees.
    noise: largest standard deviation of white noise, of the range of levels.
    blur: largest standard deviation of a Gaussian filter, pixels.
  """

  brightness: float
  contrast: float
  saturation: float
  hue_deg: float
  noise: float
  blur: float

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example in other colours; zeros round the picture stay.

    Raises:
      ValueError: the image is not in colour.
    """
    if element['image'].shape[-1] != 3:
      raise ValueError(
        f'found an image of {element["image"].shape[-1]} channels, expected '
        'red, green and blue'
      )
    rows, columns = element['sizes']
    inner = np.ascontiguousarray(element['image'][:rows, :columns])
    blur = ImageFilter.GaussianBlur(rng.uniform(0, self.blur))
    levels = np.asarray(Image.fromarray(inner).filter(blur), np.float32)
    levels = levels @ self._draw(rng).T.astype(np.float32)
    gain = 1 + rng.uniform(-self.contrast, self.contrast)
    bias = 255 * rng.uniform(-self.brightness, self.brightness)
    levels = levels * np.float32(gain) + np.float32(127.5 * (1 - gain) + bias)
    deviation = np.float32(255 * rng.uniform(0, self.noise))
    if deviation:
      levels += deviation * rng.standard_normal(levels.shape, np.float32)
    image = np.zeros_like(element['image'])
    image[:rows, :columns] = np.clip(np.rint(levels), 0, 255)
    return {**element, 'image': image}

  def _draw(self, rng: np.random.Generator) -> np.ndarray:
    """Returns a matrix of (r, g, b) that leaves luminance as it is."""
    angle = np.deg2rad(rng.uniform(-self.hue_deg, self.hue_deg))
    factor = 1 + rng.uniform(-self.saturation, self.saturation)
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ


@dataclasses.dataclass(frozen=True)
class ToExample(grain.transforms.Map):
  """Gives pictures, and codes, the form that tasks expect."""

  def map(self, element: Example) -> dict[str, np.ndarray]:
    """Returns what a task of pictures trains on.

    Returns:
      `image` (h, w, c) float32, of 8-bit images in [0, 1], codes as they are;
      `label` () int32.
    """
    image = element['image']
    if image.dtype == np.uint8:
      image = image.astype(np.float32) / np.float32(255)
    return {'image': image, 'label': np.int32(element['label'])}


def _sample(
  pixels: np.ndarray, matrix: np.ndarray, offset: np.ndarray
) -> np.ndarray:
  """Interpolates pixels at matrix @ place + offset, reflected at the edges.

  Args:
    pixels: (h, w, c) uint8 of one or three channels.
    matrix: (2, 2), of places (y, x) in half-open coordinates.
    offset: (2,) pixels.
  """
  size = np.array(pixels.shape[:2])
  corners = size * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
  reached = corners @ matrix.T + offset
  # One more, as an interpolation looks at its neighbours.
  before = np.ceil(np.maximum(-reached.min(0), 0)).astype(int) + 1
  after = np.ceil(np.maximum(reached.max(0) - size, 0)).astype(int) + 1
  padding = [*zip(before, after, strict=True), (0, 0)]
  padded = np.pad(pixels, padding, mode='symmetric')
  channels = pixels.shape[2]
  image = Image.fromarray(padded[..., 0] if channels == 1 else padded)
  (yy, yx), (xy, xx) = matrix
  y, x = offset + before
  moved = image.transform(
    (int(size[1]), int(size[0])),
    Image.Transform.AFFINE,
    (xx, xy, x, yx, yy, y),
    Image.Resampling.BILINEAR,
  )
  return np.asarray(moved).reshape(pixels.shape)
