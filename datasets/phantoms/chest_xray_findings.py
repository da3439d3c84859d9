"""What changes a film at large: fluid in a chest, dense and hazy lungs."""

import numpy as np
from scipy import ndimage

from datasets.phantoms import chest_ct_anatomy as anatomy

# What each eight patients have, in an order of their own.
KINDS = (
  *('none', 'none', 'none', 'consolidation', 'diffuse'),
  *('effusion', 'effusion', 'one_lung'),
)


def fluid(
  body: anatomy.Body,
  places: np.ndarray,
  finding: str,
  sides: tuple[int, ...],
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns by which share fluid has taken the lung's place.

  An effusion's surface rises towards the wall of the chest; in a chest with
  one lung it fills a whole side.
  """
  share = np.zeros(places.shape[:-1], np.float32)
  if finding not in ('effusion', 'one_lung'):
    return share
  x, _, z = np.moveaxis(places, -1, 0)
  wall = np.maximum(anatomy.cavity_level(body, places), 0)
  for side in sides:
    if finding == 'one_lung':
      share[side * x > 0] = 1
      continue
    dome = body.domes[(side + 1) // 2]
    top = body.height * (dome + rng.uniform(-0.08, 0.22))
    rise = body.height * rng.uniform(0.1, 0.25)
    surface = top + rise * np.exp(-wall / (0.05 * body.width))
    level = np.clip((surface - z) / 4 + 0.5, 0, 1)
    share = np.where(side * x > 0, level, share)
  return share


def dense(
  body: anatomy.Body,
  places: np.ndarray,
  hu: np.ndarray,
  finding: str,
  sides: tuple[int, ...],
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the lungs' HU with consolidations, or many hazy patches."""
  if finding not in ('consolidation', 'diffuse'):
    return hu
  x, y, z = np.moveaxis(places, -1, 0)
  noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), 3)
  noise /= noise.std()
  share = np.zeros_like(hu)
  for side in sides:
    if finding == 'diffuse':
      part = np.clip(0.8 * noise + rng.uniform(-0.6, 0.6), 0, 1)
    else:
      center = np.array([0.6 * side * body.width, 0, 0.5 * body.height])
      center += rng.uniform(-0.3, 0.3, 3) * body.width
      axes = rng.uniform(0.2, 0.5, 3) * body.width
      part = anatomy.ellipsoid(places, center, axes) / 15 + 0.5 * noise
      part = np.clip(part, 0, 1)
    share = np.where(side * x > 0, part, share)
  target = rng.uniform(-250, 20) if finding == 'consolidation' else -350.0
  return hu + share * (target - hu)
