"""Augmentation of slices with boxes: numpy dicts in, numpy dicts out.

An example is what `slice_store.SliceStore` gives. What moves the image moves
its boxes with it.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

from medzoo.data import pictures
from medzoo.data import slices

Example = Mapping[str, np.ndarray]
_LISTS = ('boxes', 'ignored')


@dataclasses.dataclass(frozen=True)
class RandomView(grain.transforms.RandomMap):
  """Mirrors and scales the image, and shows a part of it.

  The part is one round a box to find, wherever in the part it may come to lie,
  or any part of an image without such boxes. Boxes are cut at its frame, and
  left out if their middles leave it.

  Attributes:
    shape: (h, w) of the part, at most the image's, pixels.
    flip: whether every second image is mirrored, left to right.
    scale: largest relative change of size either way, 0.1 for 0.9 to 1.1.
    shift_px: how far the part may leave the image, (y, x) pixels.
  """

  shape: tuple[int, int]
  flip: bool
  scale: float
  shift_px: tuple[float, float]

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example seen otherwise."""
    image, shape = element['image'], np.array(self.shape, float)
    mirrored = self.flip and rng.random() < 0.5
    factor = 1 + rng.uniform(-self.scale, self.scale)
    center = self._center(element, rng)
    image = slices.resize(
      image[None], center, np.full(2, 1 / factor), self.shape
    )[0]
    moved = {
      name: (element[name] - np.tile(center, 2)) * factor
      + np.tile(shape, 2) / 2
      for name in _LISTS
    }
    if mirrored:
      image = image[:, ::-1]
      moved = {
        name: pictures.mirror_corners(x, shape[1]) for name, x in moved.items()
      }
    inside = {name: _inside(x, shape) for name, x in moved.items()}
    cut = {
      name: np.clip(x, 0, np.tile(shape, 2))[inside[name]]
      for name, x in moved.items()
    }
    return {
      **cut,
      'image': image,
      'labels': element['labels'][inside['boxes']],
    }

  def _center(self, element: Example, rng: np.random.Generator) -> np.ndarray:
    """Chooses the middle (y, x) of the part."""
    size, half = np.array(element['image'].shape[:2]), np.array(self.shape) / 2
    slack = np.array(self.shift_px, float)
    low, high = half - slack, size - half + slack
    boxes = element['boxes']
    if len(boxes):
      # Off the frame by a fifth of the part.
      y0, x0, y1, x1 = boxes[rng.integers(len(boxes))]
      middle = np.array([y0 + y1, x0 + x1]) / 2
      low = np.maximum(low, np.minimum(middle - 0.6 * half, high))
      high = np.minimum(high, np.maximum(middle + 0.6 * half, low))
    return rng.uniform(low, high)


@dataclasses.dataclass(frozen=True)
class ToFloat(grain.transforms.Map):
  """Turns 8-bit images into float32 in [0, 1]; what is float stays."""

  def map(self, element: Example) -> dict[str, np.ndarray]:
    """Returns the example with another image."""
    image = element['image']
    if image.dtype == np.uint8:
      image = image.astype(np.float32) / np.float32(255)
    return {**element, 'image': image}


@dataclasses.dataclass(frozen=True)
class PadBoxes(grain.transforms.Map):
  """Gives every example as many boxes, those in excess without extent.

  Attributes:
    boxes: to find; the label of what is none is 0.
    ignored: neither right nor wrong.
  """

  boxes: int
  ignored: int

  def map(self, element: Example) -> dict[str, np.ndarray]:
    """Returns `image`, `boxes` (boxes, 4), `labels` and `ignored`."""
    result = {'image': element['image']}
    for name, size in (('boxes', self.boxes), ('ignored', self.ignored)):
      missing = size - len(element[name])
      padded = np.pad(element[name], ((0, missing), (0, 0)))
      result[name] = padded.astype(np.float32)
    missing = self.boxes - len(element['labels'])
    result['labels'] = np.pad(element['labels'], (0, missing)).astype(np.int32)
    return result


def _inside(corners: np.ndarray, shape: np.ndarray) -> np.ndarray:
  middle = (corners[:, :2] + corners[:, 2:]) / 2
  return ((middle > 0) & (middle < shape)).all(-1)
