"""Bubbles on the wall, which are painted over the picture."""

import numpy as np

from datasets.phantoms import colonoscopy_camera as cameras
from datasets.phantoms import colonoscopy_scene as scenes


def draw(rng: np.random.Generator, scene: scenes.Scene) -> np.ndarray:
  """Draws foam: (bubbles, 4) of places on the wall and radii."""
  bubbles = []
  for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
    z, angle = rng.uniform(0.4, 2.2), rng.uniform(0, 2 * np.pi)
    spread = rng.uniform(0.03, 0.25)
    for _ in range(rng.integers(3, 25)):
      place = scene.wall.point(
        z + rng.normal(0, spread), angle + rng.normal(0, spread)
      )
      bubbles.append([*place, np.exp(rng.normal(np.log(0.025), 0.4))])
  return np.array(bubbles).reshape(-1, 4)


def paint(
  picture: np.ndarray,
  bubbles: np.ndarray,
  camera: cameras.Camera,
  reach: np.ndarray,
) -> None:
  """Paints bubbles that nothing hides.

  Args:
    picture: (h, w, 3) float, changed in place.
    bubbles: as `draw` returns them.
    camera: what sees them.
    reach: (h, w) distances to the surface.
  """
  height, width = reach.shape
  away = np.linalg.norm(bubbles[:, :3] - camera.origin, axis=1)
  middles = (camera.project(bubbles[:, :3]) + [1, height / width]) * width / 2
  sizes = bubbles[:, 3] / away / camera.half_angle * width / 2
  for (x, y), size, far in zip(middles, sizes, away, strict=True):
    if not (0 <= x < width and 0 <= y < height and 1.2 < size < 0.1 * width):
      continue
    if reach[int(y), int(x)] < 0.93 * far:
      continue
    top, left = max(int(y - size - 2), 0), max(int(x - size - 2), 0)
    part = picture[top : int(y + size + 3), left : int(x + size + 3)]
    rows, columns = np.indices(part.shape[:2])
    down, right = rows + top - y, columns + left - x
    apart = np.hypot(down, right) / size
    rim = np.exp(-(((apart - 0.9) * size / 1.0) ** 2))
    # Light comes through on the far side, the near side is darker.
    tilt = np.clip((down + right) / (1.4 * size), -1, 1)
    inside = np.clip((1 - apart) * size, 0, 1)
    part *= 1 + inside[..., None] * (0.10 + 0.22 * tilt[..., None])
    level = part.mean()
    spot = np.hypot(down + 0.35 * size, right + 0.35 * size) / (0.2 * size)
    part += level * (0.45 * rim + 1.6 * np.exp(-(spot**2)))[..., None]
