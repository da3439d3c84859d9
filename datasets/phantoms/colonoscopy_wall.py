"""The colon's wall: a bent tube with haustral folds, and what colours it.

Lengths are radii of the tube, about 25 mm. The tube runs along z, from where
the camera is; a table over z and the angle round the tube holds how far the
wall is from the middle, another one what share of the light it gives back.
"""

import dataclasses

import numpy as np
from scipy import ndimage

# Rows of the tables along z, columns round the tube.
_SHAPE = (512, 384)
_FIRST, _LAST = -1.0, 6.0
_STEP = (_LAST - _FIRST) / (_SHAPE[0] - 1)
# Of healthy mucosa, of its vessels, and of what is left of meals.
_MUCOSA = np.array([0.62, 0.23, 0.12])
_BLOOD = np.array([0.72, 0.35, 0.40])
_DEBRIS = np.array([[0.50, 0.29, 0.05], [0.28, 0.14, 0.04], [0.60, 0.42, 0.16]])


@dataclasses.dataclass(frozen=True)
class Wall:
  """A piece of colon.

  Attributes:
    radius: (rows, columns) float32, from the middle to the wall.
    albedo: (rows, columns, 3) float32, linear RGB in [0, 1].
    mucosa: (3,) albedo of its mucosa in the mean.
    bend: (2,) the middle is at (x, y) = bend * z^2.
  """

  radius: np.ndarray
  albedo: np.ndarray
  mucosa: np.ndarray
  bend: np.ndarray

  def place(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where points are in the tables and how far from the middle.

    Args:
      points: (n, 3) of (x, y, z).

    Returns:
      (2, n) rows and columns, and (n,) distances.
    """
    x, y, z = points.T
    x = x - self.bend[0] * z * z
    y = y - self.bend[1] * z * z
    rows = np.clip((z - _FIRST) / _STEP, 0, _SHAPE[0] - 1)
    columns = np.arctan2(y, x) * (_SHAPE[1] / (2 * np.pi))
    return np.stack([rows, columns]), np.hypot(x, y)

  def distance(self, points: np.ndarray) -> np.ndarray:
    """Returns how far (n, 3) points are inside the wall, along the radius."""
    places, distances = self.place(points)
    return _look_up(self.radius, places) - distances

  def color(self, points: np.ndarray) -> np.ndarray:
    """Returns the (n, 3) albedo at points on the wall."""
    places, _ = self.place(points)
    channels = [_look_up(self.albedo[..., i], places) for i in range(3)]
    return np.stack(channels, axis=-1)

  def point(self, z: float, angle: float) -> np.ndarray:
    """Returns the point (3,) of the wall at a z and an angle."""
    row, column = (z - _FIRST) / _STEP, angle * _SHAPE[1] / (2 * np.pi)
    radius = _look_up(self.radius, np.array([[row], [column]]))[0]
    x, y = radius * np.array([np.cos(angle), np.sin(angle)]) + self.bend * z * z
    return np.array([x, y, z])


def _look_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
  return ndimage.map_coordinates(
    table, places, np.float32, order=1, mode='grid-wrap', prefilter=False
  )


def make(rng: np.random.Generator) -> Wall:
  """Draws a piece of colon."""
  z = _FIRST + _STEP * np.arange(_SHAPE[0], dtype=np.float32)[:, None]
  angle = np.arange(_SHAPE[1], dtype=np.float32) * (2 * np.pi / _SHAPE[1])
  three = np.cos(3 * (angle - rng.uniform(0, 2 * np.pi)))
  radius = 1 + rng.uniform(-0.02, 0.12) * three
  radius = radius + rng.uniform(0.02, 0.06) * noise(rng, _SHAPE, 48)
  radius += 0.006 * noise(rng, _SHAPE, 10)
  _add_folds(radius, z, angle, rng)
  for _ in range(rng.integers(6, 18)):
    _add_bump(radius, z, angle, rng)
  mucosa = _MUCOSA * rng.uniform((0.85, 0.7, 0.6), (1.1, 1.25, 1.5))
  albedo = _paint(mucosa, rng)
  if rng.random() < 0.45:
    _add_debris(radius, albedo, z, angle, rng)
  return Wall(
    radius.astype(np.float32),
    np.clip(albedo, 0.02, 0.98).astype(np.float32),
    mucosa,
    rng.normal(0, 0.06, 2),
  )


def noise(
  rng: np.random.Generator, shape: tuple[int, ...], width: float
) -> np.ndarray:
  """Returns periodic float32 noise of mean 0 and deviation 1.

  Args:
    rng: draws it.
    shape: of the result.
    width: of its structures, as pixels.
  """
  # Wide structures are made of few pixels.
  step = max(1.0, width / 2)
  few = [max(4, round(side / step)) for side in shape]
  white = rng.standard_normal(few, np.float32)
  smooth = ndimage.gaussian_filter(white, width / step, mode='wrap')
  smooth -= smooth.mean()
  smooth /= smooth.std()
  if tuple(few) == tuple(shape):
    return smooth
  factors = [side / n for side, n in zip(shape, few, strict=True)]
  return ndimage.zoom(
    smooth, factors, order=1, mode='grid-wrap', grid_mode=True
  )


def _turn(angle: np.ndarray, center: float) -> np.ndarray:
  """Returns angles from a center, in [-pi, pi)."""
  return (angle - center + np.pi) % (2 * np.pi) - np.pi


def _add_folds(
  radius: np.ndarray,
  z: np.ndarray,
  angle: np.ndarray,
  rng: np.random.Generator,
) -> None:
  """Adds rings of three crescents, which end in bulges now and then."""
  depth = rng.uniform(0.12, 0.34)
  first = rng.uniform(0, 2 * np.pi)
  place = rng.uniform(0.35, 0.9)
  while place < _LAST:
    width = rng.uniform(0.06, 0.13)
    height = np.zeros_like(angle)
    for k in range(3):
      away = _turn(angle, first + 2.1 * k + rng.normal(0, 0.2))
      extent = rng.uniform(0.6, 1.25)
      crescent = np.clip(1 - (away / extent) ** 2, 0, 1) ** 0.7
      if rng.random() < 0.4:
        end = rng.choice((-1, 1)) * 0.85 * extent
        crescent += np.exp(-(((away - end) / 0.13) ** 2)) * rng.uniform(0.4, 1)
      height = np.maximum(height, crescent * depth * rng.uniform(0.4, 1.2))
    wave = place + 0.12 * np.sin(angle - rng.uniform(0, 2 * np.pi))
    wave += 0.05 * np.sin(3 * angle - rng.uniform(0, 2 * np.pi))
    rows = np.abs(z[:, 0] - place) < 0.2 + 4 * width
    radius[rows] -= height * np.exp(-(((z[rows] - wave) / width) ** 2))
    place += rng.uniform(0.3, 0.9)


def _add_bump(
  radius: np.ndarray,
  z: np.ndarray,
  angle: np.ndarray,
  rng: np.random.Generator,
) -> None:
  """Adds a bump of healthy mucosa, often long like the end of a fold."""
  short = np.exp(rng.uniform(np.log(0.06), np.log(0.25)))
  long = short * rng.uniform(1.0, 2.5)
  turn = rng.uniform(0, np.pi)
  place = rng.uniform(0.4, 3.0)
  rows = np.abs(z[:, 0] - place) < 0.6
  along = z[rows] - place
  across = _turn(angle, rng.uniform(0, 2 * np.pi))
  one = np.cos(turn) * across + np.sin(turn) * along
  other = np.cos(turn) * along - np.sin(turn) * across
  level = (one / long) ** 2 + (other / short) ** 2
  radius[rows] -= short * rng.uniform(0.25, 1.1) * np.exp(-(level**1.5))


def _add_debris(
  radius: np.ndarray,
  albedo: np.ndarray,
  z: np.ndarray,
  angle: np.ndarray,
  rng: np.random.Generator,
) -> None:
  """Adds ragged lumps of stool, with crumbs round them."""
  color = _DEBRIS[rng.integers(len(_DEBRIS))] * rng.uniform(0.8, 1.1)
  ragged = noise(rng, _SHAPE, 5)
  for _ in range(rng.integers(1, 6)):
    size = rng.uniform(0.05, 0.22)
    along = z - rng.uniform(0.3, 3.5)
    across = _turn(angle, rng.uniform(0, 2 * np.pi))
    away = np.sqrt(along**2 + across**2) / size
    share = np.clip((1 - away + 0.3 * ragged) / 0.25, 0, 1)
    radius -= 0.4 * size * share * np.sqrt(np.clip(1.4 - away, 0, 1))
    shade = 1 + 0.15 * ragged
    albedo += share[..., None] * (color * shade[..., None] - albedo)


def _paint(mucosa: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns the albedo of mucosa with redder patches and vessels.

  A vessel runs where smooth noise is zero, which makes curves that join.
  """
  patches = noise(rng, _SHAPE, 32)
  fine = rng.uniform(0.03, 0.09) * noise(rng, _SHAPE, 2.5)
  fine += rng.uniform(0.02, 0.07) * noise(rng, _SHAPE, 6)
  albedo = mucosa * (1 + fine[..., None] * np.array([0.6, 1.2, 1.2]))
  albedo = albedo * (1 - patches[..., None] * np.array([0.03, 0.10, 0.10]))
  contrast = rng.uniform(0.5, 1.3)
  for width, line in ((30, 0.09), (14, 0.12), (8, 0.18)):
    course = np.abs(noise(rng, _SHAPE, width)) / line
    seen = np.clip(0.3 + noise(rng, _SHAPE, 2 * width), 0, 1)
    vessel = contrast * seen * np.exp(-(course**2))
    albedo *= 1 - vessel[..., None] * (1 - _BLOOD)
  return albedo
