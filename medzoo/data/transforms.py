"""Augmentation of single examples: numpy dicts in, numpy dicts out.

An example has `image` (d, h, w), `label`, `offset` (z, y, x) from the centre of
the image to that of the lesion in mm, and `diameter` in mm. What moves the
image moves the offset with it. Each transform draws from the generator it is
handed, so an example depends on the seed and its place alone, whichever thread
works on it.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

Example = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class RandomAffine(grain.transforms.RandomMap):
  """Flips, turns about z, scales and shifts, and crops to the patch.

  One trilinear interpolation does it all. The turn is about z, so along z the
  voxels of a column share their neighbours and weights, which makes this some
  ten times as fast as a general affine transform. What lies outside the cube
  continues its border; a margin wide enough never shows it.

  Attributes:
    shape: (D, H, W) of the result, voxels.
    flip: for z, y and x, whether to mirror every second example.
    rotate_rad: largest turn about z either way, radians; needs pixels that are
      square.
    scale: largest relative change of size either way, 0.1 for 0.9 to 1.1; the
      same along all axes, so that a diameter keeps its meaning.
    shift_vox: largest shift along (z, y, x) either way, voxels.
    spacing: distance of voxel centres along (z, y, x), mm.
  """

  shape: tuple[int, int, int]
  flip: tuple[bool, bool, bool]
  rotate_rad: float
  scale: float
  shift_vox: tuple[float, float, float]
  spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example at another place, angle and size."""
    sign = np.where(rng.random(3) < 0.5, -1.0, 1.0)
    sign = np.where(self.flip, sign, 1.0)
    angle = rng.uniform(-self.rotate_rad, self.rotate_rad)
    factor = 1 + rng.uniform(-self.scale, self.scale)
    shift = rng.uniform(-1, 1, 3) * self.shift_vox
    turn = np.eye(3)
    turn[1:, 1:] = [
      [np.cos(angle), -np.sin(angle)],
      [np.sin(angle), np.cos(angle)],
    ]
    # From places of the result to places of the cube, both from the centre.
    matrix = turn @ np.diag(sign) / factor
    spacing = np.array(self.spacing)
    offset = np.linalg.solve(matrix, element['offset'] / spacing - shift)
    is_lesion = element['label'] > 0
    return {
      **element,
      'image': _sample(element['image'], matrix, shift, self.shape),
      'offset': np.where(is_lesion, offset * spacing, 0).astype(np.float32),
      'diameter': np.float32(element['diameter'] * factor),
    }


@dataclasses.dataclass(frozen=True)
class RandomIntensity(grain.transforms.RandomMap):
  """Varies contrast and brightness and adds noise, as scanners do.

  Attributes:
    gain: largest relative change of contrast either way.
    bias: largest change of brightness either way, in units of the window.
    noise: largest standard deviation of white noise, in units of the window.
  """

  gain: float
  bias: float
  noise: float

  def random_map(
    self, element: Example, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns the example with other intensities, clipped to [0, 1]."""
    image = element['image'].astype(np.float32)
    image *= np.float32(1 + rng.uniform(-self.gain, self.gain))
    image += np.float32(rng.uniform(-self.bias, self.bias))
    deviation = np.float32(rng.uniform(0, self.noise))
    if deviation:
      image += deviation * rng.standard_normal(image.shape, np.float32)
    return {**element, 'image': np.clip(image, 0, 1, out=image)}


@dataclasses.dataclass(frozen=True)
class ToPatch(grain.transforms.Map):
  """Gives a cube the size, the types and the channel axis that models expect.

  The middle is cut out; what is that size already stays.

  Attributes:
    shape: (D, H, W) of the result; the cube must exceed it by an even number
      of voxels along each axis, so that its centre is kept.
  """

  shape: tuple[int, int, int]

  def map(self, element: Example) -> dict[str, np.ndarray]:
    """Returns image (D, H, W, 1), label, offset (3,) and diameter."""
    image = element['image']
    extra = np.array(image.shape) - self.shape
    if (extra < 0).any() or (extra % 2).any():
      raise ValueError(
        f'cube of {image.shape} voxels cannot be cropped to {self.shape} '
        'about its centre; expected as many voxels more on either side'
      )
    crop = tuple(
      slice(e // 2, e // 2 + n) for e, n in zip(extra, self.shape, strict=True)
    )
    return {
      'image': image[crop].astype(np.float32)[..., None],
      'label': np.int32(element['label']),
      'offset': np.asarray(element['offset'], np.float32),
      'diameter': np.float32(element['diameter']),
    }


def _sample(
  cube: np.ndarray,
  matrix: np.ndarray,
  shift: np.ndarray,
  shape: tuple[int, int, int],
) -> np.ndarray:
  """Interpolates a cube at matrix @ place + shift, from centre to centre.

  Args:
    cube: (d, h, w) voxels.
    matrix: (3, 3), without terms that mix z with y or x.
    shift: (3,) voxels.
    shape: of the result.

  Returns:
    float32 of that shape.
  """
  z, y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
  center = (np.array(cube.shape) - 1) / 2 + shift
  depth, height, width = cube.shape
  low, part = _neighbours(matrix[0, 0] * z + center[0], depth)
  planes = cube[low].astype(np.float32)
  planes += part[:, None, None] * (cube[low + (depth > 1)] - planes)
  rows = matrix[1, 1] * y[:, None] + matrix[1, 2] * x + center[1]
  columns = matrix[2, 1] * y[:, None] + matrix[2, 2] * x + center[2]
  row, down = _neighbours(rows.ravel(), height)
  column, right = _neighbours(columns.ravel(), width)
  planes = planes.reshape(len(z), -1)
  corner = row * width + column
  result = np.zeros((len(z), corner.size), np.float32)
  for dy, weight_y in ((0, 1 - down), (height > 1, down)):
    for dx, weight_x in ((0, 1 - right), (width > 1, right)):
      result += planes[:, corner + dy * width + dx] * (weight_y * weight_x)
  return result.reshape(shape)


def _neighbours(
  position: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns lower neighbour and share of the upper one, border continued."""
  position = np.clip(position, 0, size - 1)
  low = np.minimum(position.astype(np.intp), max(size - 2, 0))
  return low, (position - low).astype(np.float32)
