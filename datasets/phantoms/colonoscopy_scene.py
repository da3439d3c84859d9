"""A piece of colon with its polyps, and what a camera sees of it."""

import dataclasses

import numpy as np
from scipy import ndimage

from datasets.phantoms import colonoscopy_camera as cameras
from datasets.phantoms import colonoscopy_polyps as polyps
from datasets.phantoms import colonoscopy_wall as walls

# Share of sequences with so many polyps: none, one, two.
_COUNTS = (0.15, 0.68, 0.17)
# Share of sessile, flat, pedunculated and lobed ones.
_KINDS = (0.36, 0.36, 0.12, 0.16)
# Sides of a polyp's box, as share of the frame's width, 30 to 200 of 384.
_SMALLEST, _LARGEST = 0.08, 0.52


@dataclasses.dataclass(frozen=True)
class Scene:
  """What is in front of the camera.

  Attributes:
    wall: the colon.
    polyps: on it.
    pool: (4,) how deep a point p under the residual liquid is: pool[:3] @ p -
      pool[3]; None without any.
    grain: (n, n, n, 3) periodic noise for the surface's fine relief.
  """

  wall: walls.Wall
  polyps: tuple[polyps.Polyp, ...]
  pool: np.ndarray | None
  grain: np.ndarray

  def distance(self, points: np.ndarray) -> np.ndarray:
    """Returns how far (n, 3) points are from any surface."""
    result = self.wall.distance(points)
    for polyp in self.polyps:
      own = polyp.distance(points)
      result = polyps.join(result, own, polyp.seam)
    return result

  def shares(self, points: np.ndarray) -> np.ndarray:
    """Returns to which share points on the surface are of every polyp.

    Args:
      points: (n, 3).

    Returns:
      (polyps, n) in [0, 1]; a half on the border with the wall.
    """
    wall = self.wall.distance(points)
    return np.array(
      [
        np.clip(0.5 + (wall - x.distance(points)) / x.seam, 0, 1)
        for x in self.polyps
      ]
    ).reshape(len(self.polyps), len(points))


@dataclasses.dataclass(frozen=True)
class View:
  """What a camera sees.

  Attributes:
    rays: (n, 3) unit vectors of the pixels.
    reach: (n,) distances to the surface.
    points: (n, 3) where they meet it.
    shares: (polyps, n) as `Scene.shares`.
  """

  rays: np.ndarray
  reach: np.ndarray
  points: np.ndarray
  shares: np.ndarray


def look(scene: Scene, camera: cameras.Camera, height: int, width: int) -> View:
  """Returns what every pixel of a frame sees."""
  few = height // 3, width // 3
  near = glance(scene, camera, *few).reach.reshape(few)
  # Rays start a little before what those around them meet.
  near = 0.96 * ndimage.minimum_filter(near, 3)
  rows, columns = np.indices((height, width)) // 3
  start = near[np.minimum(rows, few[0] - 1), np.minimum(columns, few[1] - 1)]
  return _see(scene, camera, camera.rays(height, width), start.ravel())


def glance(
  scene: Scene, camera: cameras.Camera, height: int, width: int
) -> View:
  """Returns what the pixels of a small frame see."""
  rays = camera.rays(height, width)
  return _see(scene, camera, rays, np.full(len(rays), 0.05, np.float32))


def _see(
  scene: Scene, camera: cameras.Camera, rays: np.ndarray, start: np.ndarray
) -> View:
  reach = cameras.march(scene.distance, camera.origin, rays, start)
  points = camera.origin.astype(np.float32) + reach[:, None] * rays
  return View(rays, reach, points, scene.shares(points))


def make(
  rng: np.random.Generator,
) -> tuple[Scene, cameras.Camera]:
  """Draws a scene, and a camera that sees its polyps."""
  wall = walls.make(rng)
  grain = np.stack([walls.noise(rng, (40,) * 3, 1.2) for _ in range(3)], -1)
  scene = Scene(wall, (), None, grain)
  camera = cameras.make(rng)
  while scene.distance(camera.origin[None])[0] < 0.4:
    camera = dataclasses.replace(camera, origin=0.8 * camera.origin)
  for _ in range(rng.choice(len(_COUNTS), p=_COUNTS)):
    scene = _grow(scene, camera, rng)
  if rng.random() < 0.15:
    angle = rng.uniform(0, 2 * np.pi)
    down = np.array([np.cos(angle), np.sin(angle), 0])
    scene = dataclasses.replace(
      scene, pool=np.append(down, rng.uniform(0.78, 0.92))
    )
  return scene, camera


def _grow(
  scene: Scene, camera: cameras.Camera, rng: np.random.Generator
) -> Scene:
  """Adds a polyp that the camera sees, unless there is hardly a place."""
  for _ in range(30):
    z, angle = rng.uniform(0.45, 2.3), rng.uniform(-np.pi, np.pi)
    foot = scene.wall.point(z, angle)
    seen = camera.project(foot[None])[0]
    if abs(seen[0]) > 0.62 or abs(seen[1]) > 0.5:
      continue
    side = np.exp(rng.uniform(np.log(1.3 * _SMALLEST), np.log(0.9 * _LARGEST)))
    away = np.linalg.norm(foot - camera.origin)
    radius = side * camera.half_angle * away
    apart = [
      np.linalg.norm(foot - x.center) > 1.6 * (radius + x.radius)
      for x in scene.polyps
    ]
    if radius > 0.6 or not all(apart):
      continue
    kind = str(rng.choice(polyps.KINDS, p=_KINDS))
    polyp = polyps.make(kind, scene.wall, z, angle, radius, rng)
    grown = dataclasses.replace(scene, polyps=(*scene.polyps, polyp))
    if _is_seen(grown, camera):
      return grown
  return scene


def _is_seen(scene: Scene, camera: cameras.Camera) -> bool:
  """Tells whether all polyps are seen, of fair sizes."""
  height, width = 36, 48
  if scene.distance(camera.origin[None])[0] < 0.3:
    return False
  for share in glance(scene, camera, height, width).shares:
    mask = share.reshape(height, width) > 0.5
    sides = mask.any(0).sum(), mask.any(1).sum()
    if min(sides) < 2 or not _SMALLEST < max(sides) / width < _LARGEST:
      return False
  return True
