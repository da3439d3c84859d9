"""The large shapes of a phantom thorax, as functions of the place.

Positions are in the patient: x to the left, y to the back, z to the head, mm,
the origin on the midline at the height of the lowest recess of the lungs.
A *level* is about the distance from a surface in mm, positive inside; sums of
simple shapes, so only near the surface is it a true distance.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Body:
  """The proportions of one patient.

  Attributes:
    width: half the width of the thoracic cavity, mm.
    depth: half its depth, mm.
    height: of the lungs, from the lowest recess to the top, mm.
    fat: thickness under the skin, mm.
    heart: size of the heart, 1 is usual.
    domes: height of the right and left diaphragm, parts of the lungs'.
    bend: sideways curve of the spine, mm.
    parenchyma: mean intensity of the lungs, HU.
    gradient: by how much the back of the lungs is denser, HU.
    blood: intensity of heart and vessels, HU.
  """

  width: float
  depth: float
  height: float
  fat: float
  heart: float
  domes: tuple[float, float]
  bend: float
  parenchyma: float
  gradient: float
  blood: float


def make_body(rng: np.random.Generator, width: float) -> Body:
  """Draws a patient whose thoracic cavity has the given half width, mm."""
  left = rng.uniform(0.16, 0.24)
  contrast = rng.random() < 0.6
  return Body(
    width=width,
    depth=width * rng.uniform(0.66, 0.76),
    height=width * rng.uniform(1.75, 2.0),
    fat=width * rng.uniform(0.04, 0.15),
    heart=rng.uniform(0.88, 1.12),
    domes=(left + rng.uniform(0.03, 0.08), left),
    bend=width * rng.uniform(-0.04, 0.04),
    parenchyma=rng.uniform(-885.0, -835.0),
    gradient=rng.uniform(20.0, 80.0),
    blood=rng.uniform(120.0, 260.0) if contrast else rng.uniform(30.0, 55.0),
  )


def _soft_min(*levels: np.ndarray, radius: float) -> np.ndarray:
  """Returns the least level, with the seam rounded over a radius."""
  result = levels[0]
  for level in levels[1:]:
    overlap = np.maximum(radius - abs(result - level), 0)
    result = np.minimum(result, level) - overlap**2 / (4 * radius)
  return result


def ellipsoid(
  positions: np.ndarray, center: np.ndarray, axes: np.ndarray
) -> np.ndarray:
  """Returns the level of an ellipsoid; an infinite axis makes a cylinder."""
  scaled = (positions - np.float32(center)) / np.float32(axes)
  return (1 - np.sqrt((scaled**2).sum(-1))) * np.float32(min(axes))


def cavity_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of the ribcage's inside.

  Args:
    body: the patient.
    positions: (..., 3), mm.

  Returns:
    (...) mm.
  """
  x, y, z = np.moveaxis(positions, -1, 0)
  t = z / body.height
  narrowed = np.clip((t - 0.2) / 0.82, 0, 1) ** 2.4
  wide = body.width * np.sqrt(np.maximum(1 - narrowed, 1e-4))
  deep = body.depth * np.sqrt(np.maximum(1 - 0.9 * narrowed, 1e-4))
  middle = 0.22 * body.depth * np.clip(t, 0, 1) ** 2
  outline = (abs(x / wide) ** 2.3 + abs((y - middle) / deep) ** 2.3) ** (
    1 / 2.3
  )
  sides = (1 - outline) * np.minimum(wide, deep)
  return _soft_min(sides, (1.02 - t) * body.height * 0.9, radius=6.0)


def spine_center(body: Body, z: np.ndarray) -> np.ndarray:
  """Returns (..., 2) x, y of the vertebral bodies' middle at heights z, mm."""
  t = np.asarray(z) / body.height
  x = body.bend * np.sin(np.pi * np.clip(t, 0, 1))
  # The thoracic spine bows backwards.
  y = body.depth * (0.82 + 0.16 * np.sin(np.pi * np.clip(t, -0.2, 1.2)))
  return np.stack([x, y], -1)


def heart_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of the heart, (...) mm, at (..., 3) positions."""
  turned = np.asarray(positions, np.float32) - np.float32(
    [0.16 * body.width, -0.22 * body.depth, 0.3 * body.height]
  )
  # The long axis points to the left, forwards and down.
  turn = np.float32(
    [[0.85, -0.36, -0.38], [0.39, 0.92, 0.0], [0.35, -0.15, 0.92]]
  )
  axes = np.float32([0.56 * body.width, 0.42 * body.width, 0.43 * body.width])
  return ellipsoid(turned @ turn.T, np.zeros(3), axes * body.heart)


def aorta_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of the descending aorta and the arch."""
  x, y, z = np.moveaxis(positions, -1, 0)
  radius = 0.115 * body.width
  top = 0.7 * body.height
  spine = spine_center(body, z)
  descending = radius - np.hypot(
    x - spine[..., 0] - 0.2 * body.width, y - spine[..., 1] + 0.2 * body.depth
  )
  descending = np.minimum(descending, top - z)
  # The arch runs from the front of the midline to the left of the spine.
  along = np.clip((y + 0.25 * body.depth) / (0.9 * body.depth), 0, 1)
  arch = radius - np.sqrt(
    (x - (0.02 + 0.13 * along) * body.width) ** 2
    + (z - top - 0.5 * radius * np.sin(np.pi * along)) ** 2
    + np.maximum(abs(y - 0.2 * body.depth) - 0.45 * body.depth, 0) ** 2
  )
  ascending = np.minimum(
    1.15 * radius - np.hypot(x + 0.1 * body.width, y + 0.22 * body.depth),
    np.minimum(top - z, z - 0.3 * body.height),
  )
  return np.maximum(np.maximum(descending, arch), ascending)


def _middle(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of the mediastinum's soft tissue without heart and aorta."""
  x, y, z = np.moveaxis(positions, -1, 0)
  t = z / body.height
  wide = body.width * (0.24 + 0.1 * np.clip(t - 0.75, 0, 1))
  core = ellipsoid(
    np.stack([x / wide, (y - 0.12 * body.depth) / (0.62 * body.depth)], -1),
    np.zeros(2),
    np.ones(2),
  ) * np.float32(0.24 * body.width)
  front = 0.035 * body.width - abs(x) + 0.1 * np.maximum(-y, 0)
  front = np.minimum(front, 0.35 * body.depth - y)
  spine = spine_center(body, z)
  back = ellipsoid(
    np.stack([x - spine[..., 0], y - spine[..., 1]], -1),
    np.zeros(2),
    np.array([0.25 * body.width, 0.3 * body.width]),
  )
  hila = [
    ellipsoid(
      positions, hilum(body, side), np.array([0.09, 0.13, 0.24]) * body.width
    )
    for side in (-1, 1)
  ]
  return np.max([core, front, back, *hila], axis=0)


def hilum(body: Body, side: int) -> np.ndarray:
  """Returns the (x, y, z) from which vessels enter a lung; 1 is the left."""
  return np.array(
    [
      side * 0.26 * body.width,
      0.16 * body.depth,
      (0.5 + 0.025 * side) * body.height,
    ]
  )


def diaphragm_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of what lies above the diaphragm."""
  x, y, z = np.moveaxis(positions, -1, 0)
  tops = np.where(x < 0, *body.domes) * body.height
  far = ((abs(x) - 0.42 * body.width) / (0.75 * body.width)) ** 2 + (
    (y + 0.2 * body.depth) / (1.05 * body.depth)
  ) ** 2
  return (z - tops * (1 - far)) * np.float32(0.8)


def lung_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of both lungs, (...) mm, at (..., 3) positions."""
  return _soft_min(
    cavity_level(body, positions),
    -heart_level(body, positions),
    -aorta_level(body, positions),
    -_middle(body, positions),
    diaphragm_level(body, positions),
    radius=5.0,
  )


def lung_normal(body: Body, positions: np.ndarray) -> np.ndarray:
  """Returns (n, 3) unit vectors into the lungs, by finite differences."""
  step = np.eye(3) * 0.5
  slope = np.stack(
    [
      lung_level(body, positions + d) - lung_level(body, positions - d)
      for d in step
    ],
    -1,
  )
  return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)


def body_level(body: Body, positions: np.ndarray) -> np.ndarray:
  """Level of the skin, (...) mm, at (..., 3) positions."""
  x, y, z = np.moveaxis(positions, -1, 0)
  t = z / body.height
  shoulders = 1 + 0.16 * np.clip((t - 0.75) / 0.3, 0, 1) ** 2
  wide = (1.13 * body.width + body.fat) * shoulders
  deep = 1.22 * body.depth + body.fat
  outline = (
    abs(x / wide) ** 2.5 + abs((y - 0.1 * body.depth) / deep) ** 2.5
  ) ** 0.4
  # The back lies flat on the table.
  return _soft_min((1 - outline) * deep, back(body) - y, radius=12.0)


def back(body: Body) -> float:
  """Returns the y of the patient's flat back, mm."""
  return 1.36 * body.depth + 0.8 * body.fat
