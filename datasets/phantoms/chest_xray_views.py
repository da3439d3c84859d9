"""How a phantom stands before a film, and what the rays meet on their way.

Rays go from a point, the source, through the patient to the film. A plane of
voxels is seen from there as its shadow on any parallel plane: enlarged and
shifted, nothing else. So the planes of voxels are scaled onto the patient's
middle plane one by one and added up, and the sum is brought onto the film by
the one mapping that is left, between two planes that need not be parallel.
"""

import dataclasses

import numpy as np
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class View:
  """Where the source is and where the film.

  The film is thought at the patient's middle, where distances are true; at
  the detector they are larger by `magnification`.

  Attributes:
    projection: 'PA', with the source behind the patient, or 'AP'.
    source: (3,) x, y, z, mm.
    corner: (3,) the middle of the first row's first pixel, mm.
    right: (3,) from a column to the next, mm; towards the patient's left.
    down: (3,) from a row to the next, mm.
    shape: (h, w) pixels.
    magnification: of the detector's picture over the patient's middle.
  """

  projection: str
  source: np.ndarray
  corner: np.ndarray
  right: np.ndarray
  down: np.ndarray
  shape: tuple[int, int]
  magnification: float

  @property
  def spacing(self) -> float:
    """Distance of pixels at the patient's middle, mm."""
    return float(np.linalg.norm(self.down))

  def pixels(self, places: np.ndarray) -> np.ndarray:
    """Maps (n, 3) places, mm, to (n, 2) row and column of their shadows."""
    rays = np.asarray(places) - self.source
    # source + t ray = corner + row down + column right
    matrix = np.stack(
      np.broadcast_arrays(self.down, self.right, -rays), axis=-1
    )
    offset = np.broadcast_to(self.source - self.corner, rays.shape)
    return np.linalg.solve(matrix, offset[..., None])[..., :2, 0]


def make(
  projection: str,
  *,
  center: np.ndarray,
  extent: tuple[float, float],
  longest: int,
  angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
  distances: tuple[float, float] = (1800.0, 200.0),
) -> View:
  """Sets up a view.

  Args:
    projection: 'PA' or 'AP'.
    center: (3,) of the film, at the patient's middle, mm.
    extent: height and width of what the film shows there, mm.
    longest: pixels of the film's longest side.
    angles: by which the patient is turned about the long axis, tilted, and
      turned in the plane of the film, radians.
    distances: from source to detector, and from the centre to it, mm.

  Returns:
    The view.
  """
  turn, tilt, roll = angles
  right, back, up = _turned(turn, tilt, roll).T
  step = max(extent) / longest
  rows, columns = (max(round(e / step), 1) for e in extent)
  total, behind = distances
  away = back if projection == 'PA' else -back
  return View(
    projection,
    source=center + (total - behind) * away,
    corner=center + step * ((rows - 1) / 2 * up - (columns - 1) / 2 * right),
    right=step * right,
    down=-step * up,
    shape=(rows, columns),
    magnification=total / (total - behind),
  )


def _turned(turn: float, tilt: float, roll: float) -> np.ndarray:
  """Returns (3, 3); its columns are the film's right, back and up."""
  c, s = np.cos([turn, tilt, roll]), np.sin([turn, tilt, roll])
  about_z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
  about_x = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]])
  about_y = np.array([[c[2], 0, s[2]], [0, 1, 0], [-s[2], 0, c[2]]])
  return about_z @ about_x @ about_y


def project(
  voxels: np.ndarray,
  spacing: tuple[float, float, float],
  origin: np.ndarray,
  view: View,
) -> np.ndarray:
  """Integrates voxels along the ray to every pixel.

  Args:
    voxels: (d, h, w, c) in order z, y, x; nothing is outside of them.
    spacing: (z, y, x), mm.
    origin: (x, y, z) of the first voxel's centre, mm.
    view: source and film.

  Returns:
    (rows, columns, c) float32: integrals, in the voxels' unit times mm.
  """
  rows, columns = np.indices(view.shape, np.float32)
  pixels = view.corner + (
    rows[..., None] * view.down + columns[..., None] * view.right
  )
  rays = pixels - view.source
  # Where rays cross y = 0, the patient's middle plane.
  crossing = view.source - rays * (view.source[1] / rays[..., 1:2])
  step = 0.75 * spacing[0]
  axes = []
  for i in (2, 0):
    low, high = crossing[..., i].min(), crossing[..., i].max()
    axes.append(np.arange(low, high + 2 * step, step))
  shadow = np.zeros((len(axes[0]), len(axes[1]), voxels.shape[-1]), np.float32)
  for k in range(voxels.shape[1]):
    y = origin[1] + k * spacing[1]
    scale = 1 - y / view.source[1]
    plane = voxels[:, k]
    for axis, i in ((0, 2), (1, 0)):
      at = view.source[i] + (axes[axis] - view.source[i]) * scale
      plane = _sample(plane, (at - origin[i]) / spacing[2 - i], axis)
    shadow += plane
  shadow *= spacing[1]
  # Oblique rays pass more of every plane.
  length = np.linalg.norm(rays, axis=-1) / abs(rays[..., 1])
  at = [
    (crossing[..., i] - a[0]) / step for i, a in zip((2, 0), axes, strict=True)
  ]
  return np.stack(
    [
      length * ndimage.map_coordinates(part, at, order=1, mode='nearest')
      for part in np.moveaxis(shadow, -1, 0)
    ],
    axis=-1,
    dtype=np.float32,
  )


def _sample(values: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
  """Interpolates along an axis; beyond the ends is nothing."""
  first = np.floor(index).astype(int)
  result = 0
  for shift, weight in ((0, 1 - index + first), (1, index - first)):
    place = first + shift
    size = values.shape[axis]
    weight = np.where((place >= 0) & (place < size), weight, 0)
    weight = weight.astype(np.float32)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
    result = result + values.take(np.clip(place, 0, size - 1), axis) * weight
  return result
