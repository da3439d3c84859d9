"""Distractors that are tubes: vessels and bronchi, swollen or winding."""

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_places as places
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_tubes as tubes


def swelling(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A piece of vessel that is thick in its middle."""
  radius = rng.uniform(1.8, 4.2)
  length = radius * rng.uniform(5.0, 7.5)
  center = places.inside(body, rng, 0.35 * length)
  along = places.direction(rng)
  side, _ = tubes.frame(along)
  bend = rng.uniform(0.0, 0.35) * length * side
  half = 0.5 * length * along
  controls = np.array([[center - half, center + bend, center + half]])
  count = int(length / grain)
  line, slope = tubes.curve(controls, count)
  t = np.linspace(-1, 1, count)
  size = np.maximum(radius * (1 - t**4), 0.7)
  hu = _blood(body, rng)
  middle = line[0][count // 2]
  cloud = tubes.tube(line[0], slope[0] / count, size, hu, grain=grain)
  return records.Distractor('swelling', middle, length, cloud, tubes.empty())


def _blood(body: anatomy.Body, rng: np.random.Generator) -> float:
  return float(body.blood + rng.normal(0, 15.0))


def winding(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A vessel coiled up within the space of a nodule."""
  size = rng.uniform(3.5, 8.0)
  radius = size * rng.uniform(0.24, 0.32)
  center = places.inside(body, rng, size + 2)
  t = np.arange(0, 1, 0.3 * grain / (2 * np.pi * size))
  turns = rng.uniform(1.3, 2.2)
  along = places.direction(rng)
  side, up = tubes.frame(along)
  angle = 2 * np.pi * turns * t
  wide = size * (0.55 + 0.35 * np.sin(5.3 * t * np.pi + rng.uniform(0, 6)))
  line = center + (
    (wide * np.cos(angle))[:, None] * side
    + (wide * np.sin(angle))[:, None] * up
    + (2.4 * size * (t - 0.5))[:, None] * along
  )
  steps = np.gradient(line, axis=0)
  cloud = tubes.tube(
    line, steps, np.full(len(t), radius), _blood(body, rng), grain=grain
  )
  return records.Distractor('winding', center, 2 * size, cloud, tubes.empty())


def beads(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A vessel with swellings in a row."""
  size = rng.uniform(1.6, 3.2)
  count = int(rng.integers(4, 7))
  pitch = size * rng.uniform(2.0, 2.4)
  length = count * pitch
  center = places.inside(body, rng, 0.4 * length)
  along = places.direction(rng)
  side, _ = tubes.frame(along)
  half = 0.5 * length * along
  bend = rng.uniform(0.1, 0.4) * length * side
  controls = np.array([[center - half, center + bend, center + half]])
  line, slope = tubes.curve(controls, int(2 * length / grain))
  way = np.cumsum(np.linalg.norm(slope[0], axis=1)) / len(slope[0])
  step = way % pitch - pitch / 2
  radius = np.sqrt(np.maximum(size**2 - step**2, 0.8**2))
  cloud = tubes.tube(
    line[0], slope[0] / len(radius), radius, _blood(body, rng), grain=grain
  )
  return records.Distractor(
    'beads', line[0][len(radius) // 2], length, cloud, tubes.empty()
  )


def branching(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """Where four to seven thick branches meet; vessel or mucus."""
  radius = rng.uniform(1.5, 3.8)
  arms = int(rng.integers(5, 9))
  center = places.inside(body, rng, 4 * radius)
  ways = np.stack([places.direction(rng) for _ in range(arms)])
  length = radius * rng.uniform(3.0, 4.5, arms)[:, None]
  bend = np.stack([places.direction(rng) for _ in range(arms)]) * 0.25 * length
  start = np.repeat(center[None], arms, 0)
  controls = np.stack(
    [start, start + 0.5 * length * ways + bend, start + length * ways], 1
  )
  radii = np.stack(
    [np.full(arms, radius), radius * rng.uniform(0.4, 0.9, arms)], 1
  )
  hu = _blood(body, rng) if rng.random() < 0.6 else rng.uniform(-40.0, 40.0)
  cloud = tubes.bezier(controls, radii, hu, grain=grain)
  return records.Distractor(
    'branching', center, 2 * float(length.max()), cloud, tubes.empty()
  )


def bronchus(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> records.Distractor:
  """A widened bronchus with a thick wall."""
  outer = rng.uniform(2.4, 4.5)
  inner = outer * rng.uniform(0.35, 0.6)
  length = outer * rng.uniform(4.0, 6.0)
  center = places.inside(body, rng, 0.5 * length)
  along = places.direction(rng)
  side, _ = tubes.frame(along)
  half = 0.5 * length * along
  controls = np.array(
    [[center - half, center + 0.2 * length * side, center + half]]
  )
  line, slope = tubes.curve(controls, int(length / grain))
  size = np.full(len(line[0]), outer)
  step = slope[0] / len(line[0])
  wall = tubes.tube(
    line[0],
    step,
    size,
    rng.uniform(-60, 40),
    inner=0.8 * inner / outer * size,
    grain=grain,
  )
  air = tubes.tube(line[0], step, size * inner / outer, -930.0, grain=grain)
  return records.Distractor(
    'bronchus', line[0][len(line[0]) // 2], length, wall, air
  )
