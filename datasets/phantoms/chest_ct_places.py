"""Places in a lung: inside of it, on its edge, on a vessel."""

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_ct_tubes as tubes


def direction(rng: np.random.Generator) -> np.ndarray:
  """Returns a (3,) unit vector, any way."""
  vector = rng.normal(size=3)
  return vector / np.linalg.norm(vector)


def inside(
  body: anatomy.Body, rng: np.random.Generator, depth: float
) -> np.ndarray:
  """Returns a (3,) place at about a depth, mm, or as deep as there is."""
  for trial in range(8):
    places = trees.spread(body, 100, depth * 0.8**trial, rng)
    if len(places):
      return places[0]
  return trees.spread(body, 4000, 1.0, rng)[0]


def wall(
  body: anatomy.Body, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns a place near the lung's edge, the way inwards, and its level."""
  places = trees.spread(body, 400, 0.5, rng)
  near = places[anatomy.lung_level(body, places) < 8]
  place = (near if len(near) else places)[0]
  for _ in range(3):
    normal = anatomy.lung_normal(body, place[None])[0]
    level = float(anatomy.lung_level(body, place[None])[0])
    place = place - 0.8 * (level - 1.0) * normal
  normal = anatomy.lung_normal(body, place[None])[0]
  return place, normal, float(anatomy.lung_level(body, place[None])[0])


def for_nodule(
  body: anatomy.Body,
  vessels: list[trees.Tree],
  rng: np.random.Generator,
  radius: float,
) -> np.ndarray:
  """Returns a (3,) place in the lung, on its edge, or on a vessel."""
  where = rng.random()
  if where < 0.45:
    place, normal, level = wall(body, rng)
    return place + normal * (rng.uniform(0.35, 0.9) * radius - level)
  if where < 0.7:
    tree = vessels[rng.integers(len(vessels))]
    thick = np.flatnonzero(tree.radii[:, 1] > 0.6)
    branch = tree.controls[rng.choice(thick)]
    side, up = tubes.frame(branch[2] - branch[1])
    angle = rng.uniform(0, 2 * np.pi)
    place = branch[2] + 0.9 * radius * (
      np.cos(angle) * side + np.sin(angle) * up
    )
    if anatomy.lung_level(body, place[None])[0] > 1.1 * radius:
      return place
  inner = trees.spread(body, 60, radius + 2.0, rng)
  return inner[0] if len(inner) else trees.spread(body, 400, 2.0, rng)[0]
