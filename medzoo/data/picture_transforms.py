"""Augmentation of films with masks: numpy dicts in, numpy dicts out.

An example is what `picture_store.PictureStore` gives. What moves the image
moves its masks and nothing else has to be moved: boxes and labels are made of
the masks at the end, by `ToExample`. The film always lies in the upper left
corner with zeros round it, as `pictures.prepare` puts it.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np
from PIL import Image

from medzoo.data import lung_shapes
from medzoo.data import pictures

Example = Mapping[str, np.ndarray]

# A lung of which less than this share is still in the film is not looked for.
_LEAST_LEFT = 0.1


@dataclasses.dataclass(frozen=True)
class RandomFilm(grain.transforms.RandomMap):
  """Turns, shears, scales, shifts and crops a film, as positioning does.

  One bilinear interpolation of image and masks does it all, and what is left
  after cropping fills the network's frame as a film of that size would. A lung
  of which less than a tenth is left becomes absent.

  Attributes:
    rotate_deg: largest turn either way, degrees.
    shear: largest shift of a row either way per row from the middle.
    scale: largest relative change of size either way, 0.1 for 0.9 to 1.1.
    shift: largest shift along y and x either way, of the film's sides.
    crop: most that is cut off at each side of every second film, of the
      film's height or width.
    flip: whether every second film is mirrored, left to right, and its lungs
      change their labels, as those of a patient with situs inversus.
  """

  rotate_deg: float
  shear: float
  scale: float
  shift: float
  crop: float
  flip: bool = False

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example seen otherwise."""
    shape, size = element['image'].shape, element['sizes'].astype(float)
    if self.flip and rng.random() < 0.5:
      element = mirrored(element)
    cut = rng.uniform(0, self.crop, 4) * (rng.random() < 0.5)
    low, high = cut[:2] * size, (1 - cut[2:]) * size
    factor = (np.array(shape) / (high - low)).min()
    inner = np.clip(np.round((high - low) * factor), 1, shape).astype(int)
    # From places (y, x) of the result to those of the part, then of the film.
    matrix, offset = np.diag((high - low) / inner), low
    turn, shift = self._draw(size, rng)
    middle = size / 2
    offset = turn @ (offset - middle) + middle + shift
    rows, columns = element['sizes']
    layers = [element['image'], *(255 * element['masks'])]
    planes = np.stack([x[:rows, :columns] for x in layers], -1)
    moved = np.zeros((*shape, 3), np.uint8)
    moved[: inner[0], : inner[1]] = _sample(
      planes, turn @ matrix, offset, inner
    )
    masks = (moved[..., 1:] > 127).transpose(2, 0, 1).astype(np.uint8)
    # In pixels of the result, as sizes have changed.
    before = element['masks'].sum((1, 2)) / abs(np.linalg.det(turn @ matrix))
    masks[masks.sum((1, 2)) < _LEAST_LEFT * before] = 0
    return {
      'image': np.ascontiguousarray(moved[..., 0]),
      'masks': masks,
      'sizes': inner.astype(np.int32),
    }

  def _draw(
    self, size: np.ndarray, rng: np.random.Generator
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns a matrix of (y, x) about the middle, and a shift, pixels."""
    angle = np.deg2rad(rng.uniform(-self.rotate_deg, self.rotate_deg))
    cos, sin = np.cos(angle), np.sin(angle)
    shear = np.array([[1, 0], [rng.uniform(-self.shear, self.shear), 1]])
    factor = 1 + rng.uniform(-self.scale, self.scale)
    turn = np.array([[cos, -sin], [sin, cos]]) @ shear / factor
    return turn, rng.uniform(-self.shift, self.shift, 2) * size


@dataclasses.dataclass(frozen=True)
class RandomExposure(grain.transforms.RandomMap):
  """Varies gamma, contrast and brightness of a film, and adds noise.

  Attributes:
    gamma: most that the exponent varies, 0.5 for 1 / 1.5 to 1.5.
    contrast: largest relative change either way.
    brightness: largest change either way, of the range of greys.
    noise: largest standard deviation of white noise, of the range of greys.
  """

  gamma: float
  contrast: float
  brightness: float
  noise: float

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example with other greys; zeros round the film stay."""
    limit = np.log1p(self.gamma)
    exponent = np.exp(rng.uniform(-limit, limit))
    gain = 1 + rng.uniform(-self.contrast, self.contrast)
    bias = rng.uniform(-self.brightness, self.brightness)
    levels = (np.arange(256) / 255) ** exponent
    levels = 255 * ((levels - 0.5) * gain + 0.5 + bias)
    rows, columns = element['sizes']
    film = levels.astype(np.float32)[element['image'][:rows, :columns]]
    deviation = np.float32(255 * rng.uniform(0, self.noise))
    if deviation:
      film += deviation * rng.standard_normal(film.shape, np.float32)
    image = np.zeros_like(element['image'])
    image[:rows, :columns] = np.clip(np.rint(film), 0, 255)
    return {**element, 'image': image}


@dataclasses.dataclass(frozen=True)
class RandomCover(grain.transforms.RandomMap):
  """Lays grey rectangles over a film; what they cover is lung all the same.

  Attributes:
    most: rectangles at most; how many, chance decides.
    side: longest side of one, of the film's height or width.
  """

  most: int
  side: float

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example with parts of the image hidden."""
    image, size = element['image'].copy(), element['sizes']
    for _ in range(rng.integers(self.most + 1)):
      middle = rng.uniform(0, size)
      half = rng.uniform(0, self.side / 2, 2) * size
      (y0, x0), (y1, x1) = (
        np.clip(np.round(end), 0, size).astype(int)
        for end in (middle - half, middle + half)
      )
      image[y0:y1, x0:x1] = rng.integers(256)
    return {**element, 'image': image}


@dataclasses.dataclass(frozen=True)
class ToExample(grain.transforms.Map):
  """Gives a film the types that tasks expect, and its masks boxes."""

  def map(self, element: Example) -> dict[str, np.ndarray]:
    """Returns what a task of lungs trains on.

    Returns:
      `image` (h, w, 1) float32 in [0, 1]; `masks` (2, h, w) uint8, of the
      right and the left lung, empty where it is absent; `boxes` (2, 4)
      float32 of the masks, y0, x0, y1, x1, half-open, pixels, and `labels`
      (2,) int32, both 0 where it is absent; `sizes` (2,) int32, height and
      width of the part that is film.
    """
    masks = element['masks']
    there = masks.any((1, 2))
    return {
      'image': element['image'].astype(np.float32)[..., None] / np.float32(255),
      'masks': masks,
      'boxes': lung_shapes.boxes_of(masks),
      'labels': np.where(there, lung_shapes.LABELS, 0).astype(np.int32),
      'sizes': element['sizes'].astype(np.int32),
    }


def mirrored(element: Example) -> dict[str, np.ndarray]:
  """Mirrors a film left to right.

  Its right lung is then where a standard film shows the left one, so the two
  change their labels.
  """
  width = int(element['sizes'][1])
  return {
    **element,
    'image': pictures.mirror(element['image'], width),
    'masks': pictures.mirror(element['masks'][::-1], width),
  }


def _sample(
  planes: np.ndarray, matrix: np.ndarray, offset: np.ndarray, size: np.ndarray
) -> np.ndarray:
  """Interpolates planes at matrix @ place + offset; 0 beyond them.

  Args:
    planes: (h, w, 3) uint8.
    matrix: (2, 2), of places (y, x) in half-open coordinates.
    offset: (2,) pixels.
    size: (h, w) of the result.
  """
  (yy, yx), (xy, xx) = matrix
  image = Image.fromarray(planes)
  return np.asarray(
    image.transform(
      (int(size[1]), int(size[0])),
      Image.Transform.AFFINE,
      (xx, xy, offset[1], yx, yy, offset[0]),
      Image.Resampling.BILINEAR,
    )
  )
