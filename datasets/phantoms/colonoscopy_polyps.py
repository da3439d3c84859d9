"""Polyps: unions of ellipsoids that grow out of the wall."""

import dataclasses

import numpy as np

from datasets.phantoms import colonoscopy_wall as walls

KINDS = ('sessile', 'flat', 'pedunculated', 'lobed')


@dataclasses.dataclass(frozen=True)
class Polyp:
  """A polyp.

  Attributes:
    center: (3,) a point within.
    radius: of its widest part.
    reach: from the center to its farthest point.
    centers: (lobes, 3) of its ellipsoids.
    axes: (lobes, 3, 3) unit vectors, as columns.
    radii: (lobes, 3) along them.
    albedo: (3,) in the mean.
    texture: how strong and how fine its own pattern is, two numbers.
    seam: width of the rounded seam with the wall.
  """

  center: np.ndarray
  radius: float
  reach: float
  centers: np.ndarray
  axes: np.ndarray
  radii: np.ndarray
  albedo: np.ndarray
  texture: tuple[float, float]
  seam: float

  def distance(self, points: np.ndarray) -> np.ndarray:
    """Returns how far (n, 3) points are outside of it, about."""
    result = np.sqrt(_squares(points - self.center)) - self.reach
    near = np.flatnonzero(result < self.radius)
    result[near] = self._near_distance(points[near])
    return result

  def _near_distance(self, points: np.ndarray) -> np.ndarray:
    result = None
    for center, axes, radii in zip(
      self.centers, self.axes, self.radii, strict=True
    ):
      scaled = (points - center) @ (axes / radii)
      level = np.sqrt(_squares(scaled)) + np.float32(1e-6)
      slope = np.sqrt(_squares(scaled / radii)) + np.float32(1e-6)
      one = level * (level - 1) / slope
      result = one if result is None else join(result, one, 0.2 * self.radius)
    return result


def _squares(vectors: np.ndarray) -> np.ndarray:
  return np.einsum('ij,ij->i', vectors, vectors)


def join(one: np.ndarray, other: np.ndarray, width: float) -> np.ndarray:
  """Returns the distance to a union with a rounded seam.

  Args:
    one: distances to a solid.
    other: to another one.
    width: of the seam.
  """
  overlap = np.maximum(width - np.abs(one - other), 0)
  return np.minimum(one, other) - overlap * overlap / (4 * width)


def make(
  kind: str,
  wall: walls.Wall,
  z: float,
  angle: float,
  radius: float,
  rng: np.random.Generator,
) -> Polyp:
  """Draws a polyp.

  Args:
    kind: one of `KINDS`.
    wall: what it grows on.
    z: of its foot.
    angle: of its foot, round the tube.
    radius: of its widest part.
    rng: draws the rest.
  """
  foot = wall.point(z, angle)
  inward = -np.array([np.cos(angle), np.sin(angle), 0])
  inward += rng.normal(0, 0.25, 3)
  inward /= np.linalg.norm(inward)
  frame = _frame(inward, rng)
  lobes = _LOBES[kind](radius, rng)
  centers = np.array([foot + frame @ x for x, _ in lobes], np.float32)
  radii = np.array([radii for _, radii in lobes], np.float32)
  shift = rng.normal(0, (0.04, 0.07, 0.07)) + rng.normal(0, 0.04)
  return Polyp(
    centers[0],
    radius,
    float((np.linalg.norm(centers - centers[0], axis=1) + radii.max(1)).max()),
    centers,
    # Small lobes have directions of their own.
    np.array(
      [frame if i < 2 else _frame(inward, rng) for i in range(len(lobes))],
      np.float32,
    ),
    radii,
    np.clip(wall.mucosa * (1 + shift), 0.05, 0.95),
    (rng.uniform(0.13, 0.35), rng.uniform(0.5, 1.1)),
    radius * rng.uniform(0.25, 0.8),
  )


def _frame(inward: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns unit vectors as columns, the third inward."""
  first = np.cross(inward, rng.standard_normal(3))
  first /= np.linalg.norm(first)
  return np.stack([first, np.cross(inward, first), inward], axis=1)


def _sessile(radius: float, rng: np.random.Generator) -> list:
  height = radius * rng.uniform(0.3, 0.7)
  sides = radius * np.array([1, rng.uniform(0.5, 1.0)])
  return [
    (np.array([0, 0, 0.35 * height]), np.array([*sides, height])),
    *_knobs(radius, height, rng.integers(1, 5), rng),
  ]


def _flat(radius: float, rng: np.random.Generator) -> list:
  height = radius * rng.uniform(0.2, 0.35)
  sides = radius * np.array([1.1, rng.uniform(0.6, 1.0)])
  return [
    (np.array([0, 0, 0.2 * height]), np.array([*sides, height])),
    *_knobs(radius, 0.6 * height, rng.integers(2, 6), rng),
  ]


def _pedunculated(radius: float, rng: np.random.Generator) -> list:
  length = radius * rng.uniform(0.9, 1.6)
  lean = radius * rng.uniform(-0.5, 0.5, 2)
  head = radius * np.array([1, rng.uniform(0.75, 1), rng.uniform(0.7, 1)])
  thin = radius * rng.uniform(0.3, 0.45)
  top = np.array([*lean, length])
  return [
    (top, head),
    (top / 2, np.array([thin, thin, 0.75 * length])),
    *(
      (top + place, size)
      for place, size in _knobs(radius, head[2], rng.integers(1, 4), rng)
    ),
  ]


def _lobed(radius: float, rng: np.random.Generator) -> list:
  lobes = []
  for _ in range(rng.integers(4, 8)):
    place = radius * np.append(rng.uniform(-0.65, 0.65, 2), 0)
    size = radius * rng.uniform(0.35, 0.6)
    place[2] = size * rng.uniform(0.3, 0.8)
    lobes.append((place, size * rng.uniform(0.8, 1.1, 3)))
  return lobes


def _knobs(
  radius: float, height: float, count: int, rng: np.random.Generator
) -> list:
  """Returns small lobes near the surface of a larger one."""
  knobs = []
  for _ in range(count):
    turn, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.2)
    place = np.array([np.cos(turn), np.sin(turn), 0]) * np.cos(rise) * radius
    place[2] = np.sin(rise) * height
    knobs.append((0.75 * place, radius * rng.uniform(0.25, 0.45, 3)))
  return knobs


_LOBES = {
  'sessile': _sessile,
  'flat': _flat,
  'pedunculated': _pedunculated,
  'lobed': _lobed,
}
