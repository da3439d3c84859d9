"""From surfaces to light: the lamp beside the lens, gloss, liquid."""

import numpy as np
from scipy import ndimage

from datasets.phantoms import colonoscopy_camera as cameras
from datasets.phantoms import colonoscopy_scene as scenes

# Cells of the scene's grain in a radius of the colon.
_GRAIN = 42.0
_POOL = np.array([0.46, 0.27, 0.09], np.float32)


def shade(
  scene: scenes.Scene,
  camera: cameras.Camera,
  view: scenes.View,
  gloss: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the light that every pixel gets.

  Args:
    scene: what is seen.
    camera: with the lamp beside it.
    view: what its pixels see.
    gloss: how bright reflections are, how sharp, and how rough the surface.

  Returns:
    (n, 3) linear RGB of any unit, and (n,) bool, what is under liquid.
  """
  points = view.points
  grain = _grain(scene, view)
  normals = _normals(scene, points)
  albedo = _albedo(scene, view, grain)
  under = np.zeros(len(points), bool)
  if scene.pool is not None:
    depth = points @ scene.pool[:3].astype(np.float32) - scene.pool[3]
    under = depth > 0
    share = (1 - np.exp(-12 * np.maximum(depth, 0)))[:, None]
    albedo = albedo * (1 - share) + _POOL * share
    normals[under] = -scene.pool[:3]
  lamp = camera.origin + 0.06 * camera.axes[:, 0]
  way = (lamp - points).astype(np.float32)
  away = np.sqrt(_dot(way, way))
  way /= away[:, None]
  facing = np.maximum(_dot(_unit(normals + 0.06 * grain), way), 0)
  strength, sharpness, rough = gloss
  mirror = _dot(_unit(normals + rough * grain), _unit(way - view.rays))
  mirror = np.maximum(mirror, 0)
  forward = view.rays @ camera.axes[:, 2].astype(np.float32)
  arriving = (0.35 + 0.65 * forward) / (0.25 + away * away)
  light = albedo * (arriving * (0.3 + 0.7 * facing))[:, None]
  spots = strength * np.minimum(arriving, 3) * mirror**sharpness
  return light + spots[:, None], under


def _normals(scene: scenes.Scene, points: np.ndarray) -> np.ndarray:
  """Returns unit vectors that point off the surface."""
  step = 0.02
  here = scene.distance(points)
  slopes = np.empty_like(points)
  for axis in range(3):
    moved = points.copy()
    moved[:, axis] += step
    slopes[:, axis] = scene.distance(moved) - here
  return _unit(slopes)


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  return np.einsum('ij,ij->i', one, other)


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / (np.sqrt(_dot(vectors, vectors)) + 1e-9)[:, None]


def _grain(scene: scenes.Scene, view: scenes.View) -> np.ndarray:
  """Returns the fine relief (n, 3), finer or coarser on polyps."""
  scale = np.full(len(view.points), _GRAIN, np.float32)
  for polyp, share in zip(scene.polyps, view.shares, strict=True):
    scale[share > 0.5] *= polyp.texture[1]
  places = (view.points * scale[:, None]).T
  return np.stack(
    [
      ndimage.map_coordinates(
        scene.grain[..., i],
        places,
        np.float32,
        order=1,
        mode='grid-wrap',
        prefilter=False,
      )
      for i in range(3)
    ],
    axis=-1,
  )


def _albedo(
  scene: scenes.Scene, view: scenes.View, grain: np.ndarray
) -> np.ndarray:
  albedo = scene.wall.color(view.points)
  for polyp, share in zip(scene.polyps, view.shares, strict=True):
    # Pits take away green and blue, as blood does.
    pattern = polyp.texture[0] * grain[:, :1]
    own = polyp.albedo * (1 + pattern * np.array([0.5, 1.0, 1.0]))
    albedo = albedo + share[:, None] * (own - albedo)
  return np.clip(albedo, 0.02, 0.98)
