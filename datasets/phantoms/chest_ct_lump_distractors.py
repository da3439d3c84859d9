"""Distractors that are no tubes: scars, plaques, sacs and buds."""

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_places as places
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_tubes as tubes


def scar(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """One to three bands of scar through one place."""
  center = places.inside(body, rng, 5.0)
  sheets, longest = [], 0.0
  for _ in range(rng.integers(1, 4)):
    half = (
      rng.uniform(1.0, 2.2),
      rng.uniform(4.0, 7.0),
      rng.uniform(7.0, 13.0),
    )
    longest = max(longest, 2 * half[2])
    sheets.append(
      _sheet(
        center,
        places.direction(rng),
        half,
        rng.uniform(0.5, 2.0),
        rng.uniform(-80, 60),
        grain,
        rng,
      )
    )
  return records.Distractor(
    'scar', center, longest, tubes.join(*sheets), tubes.empty()
  )


def plaque(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A flat thickening of the pleura."""
  place, normal, level = places.wall(body, rng)
  center = place - level * normal
  half = (
    rng.uniform(1.5, 3.0),
    rng.uniform(8.0, 12.0),
    rng.uniform(10.0, 16.0),
  )
  hu = rng.uniform(-40, 80)
  if rng.random() < 0.2:
    hu = rng.uniform(200, 500)
  cloud = _sheet(center, normal, half, 0.0, hu, grain, rng)
  return records.Distractor('plaque', center, 2 * half[2], cloud, tubes.empty())


def _sheet(
  center: np.ndarray,
  normal: np.ndarray,
  half: tuple[float, float, float],
  wave: float,
  hu: float,
  grain: float,
  rng: np.random.Generator,
) -> records.Points:
  """Fills a wavy elliptical plate; half its (thickness, width, length)."""
  side, up = tubes.frame(normal)
  turn = rng.uniform(0, np.pi)
  side, up = (
    np.cos(turn) * side + np.sin(turn) * up,
    np.cos(turn) * up - np.sin(turn) * side,
  )
  reach = np.array([half[0] + 0.5, half[1], half[2]])
  local = tubes.fill(reach, grain, rng)
  across = (local[:, 1] / half[1]) ** 2 + (local[:, 2] / half[2]) ** 2
  thick = half[0] * np.sqrt(np.maximum(1 - across, 0))
  kept = (abs(local[:, 0]) < thick) & (across < 1)
  local = local[kept]
  height = local[:, 0] + wave * np.sin(local[:, 2] * 2.5 / half[2])
  positions = (
    center + height[:, None] * normal + local[:, 1:2] * side + local[:, 2:] * up
  )
  volume = np.full(len(positions), grain**3, np.float32)
  return records.Points(
    positions.astype(np.float32),
    volume,
    np.full(len(positions), hu, np.float32),
  )


def cavity(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A sac of air with a thick wall."""
  radius = rng.uniform(4.2, 9.0)
  center = places.inside(body, rng, radius + 2)
  # Slices of 2.5 mm shall still show the hole.
  inner = max(radius * rng.uniform(0.3, 0.45), 1.8)
  local = tubes.fill(np.full(3, 1.2 * radius), grain, rng)
  stretch = rng.uniform(0.9, 1.1, 3)
  # The wall is thicker on one side.
  shift = 0.4 * (radius - inner) * places.direction(rng)
  hole = np.linalg.norm((local - shift) * stretch, axis=1) - inner
  wall = np.linalg.norm(local * stretch, axis=1) < radius
  wall &= hole > -0.5 * grain
  return records.Distractor(
    'cavity',
    center,
    2 * radius,
    _filled(center, local[wall], rng.uniform(-60, 50), grain),
    _filled(center, local[hole < 0], -950.0, grain),
  )


def cluster(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """Plugged ends of one bronchus, like buds on a twig, close together."""
  size = rng.uniform(1.4, 2.1)
  center = places.inside(body, rng, 3.5 * size)
  buds: list[np.ndarray] = []
  for place in center + 2.0 * size * rng.normal(size=(120, 3)):
    gaps = [np.linalg.norm(place - bud) for bud in buds]
    if 2.1 * size < min(gaps, default=2.5 * size) < 2.8 * size:
      buds.append(place)
  count = int(rng.integers(8, 14))
  middle = np.mean(buds[:count], axis=0)
  hu = rng.uniform(-40, 60)
  clouds = []
  for bud in buds[:count]:
    radius = size * rng.uniform(0.8, 1.2)
    local = tubes.fill(np.full(3, radius), grain, rng)
    kept = np.linalg.norm(local, axis=1) < radius
    clouds.append(_filled(bud, local[kept], hu, grain))
    twig = np.array([[middle, (middle + bud) / 2 + rng.normal(0, 1, 3), bud]])
    radii = np.array([[0.9, 0.6]])
    clouds.append(tubes.bezier(twig, radii, hu, grain=grain))
  extent = 2 * max(np.linalg.norm(bud - middle) for bud in buds[:count])
  return records.Distractor(
    'cluster', middle, extent + 2 * size, tubes.join(*clouds), tubes.empty()
  )


def _filled(
  center: np.ndarray, local: np.ndarray, hu: float, grain: float
) -> records.Points:
  """Makes a cloud of lattice points round a place."""
  count = len(local)
  return records.Points(
    (local + center).astype(np.float32),
    np.full(count, grain**3, np.float32),
    np.full(count, hu, np.float32),
  )
