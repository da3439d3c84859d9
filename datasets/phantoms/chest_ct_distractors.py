"""What looks like a nodule on a slice, or to a blob filter, and is none.

All of it has the intensity and the size of nodules, but none is a compact
solid lump: vessels that swell, wind or divide, plugged and thickened bronchi,
scars, plaques on the pleura, cysts, and patches of fine mesh.
"""

import dataclasses

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_nodules as nodules
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_ct_tubes as tubes


@dataclasses.dataclass(frozen=True)
class Distractor:
  """One of them.

  Attributes:
    kind: its name.
    center: (3,) in the patient, mm.
    extent: its longest diameter, mm.
    tissue: its cloud.
    air: what is hollow in it.
  """

  kind: str
  center: np.ndarray
  extent: float
  tissue: records.Points
  air: records.Points


def place_all(
  body: anatomy.Body,
  taken: list[nodules.Nodule],
  rng: np.random.Generator,
  count: int,
  grain: float,
) -> list[Distractor]:
  """Draws a patient's distractors, clear of the nodules.

  Args:
    body: the patient.
    taken: nodules to stay away from.
    rng: draws them.
    count: how many.
    grain: distance of points, mm.
  """
  found: list[Distractor] = []
  # Every kind in its share, in any order.
  kinds = [name for name, (_, share) in _MAKERS.items() for _ in range(share)]
  for name in rng.permutation(kinds * -(-count // len(kinds)))[:count]:
    for _ in range(10):
      made = _MAKERS[str(name)][0](body, rng, grain)
      if _is_clear(made, taken, found):
        found.append(made)
        break
  return found


def _is_clear(
  made: Distractor, taken: list[nodules.Nodule], found: list[Distractor]
) -> bool:
  """Whether there is lung between a distractor and all else."""
  gaps = [
    np.linalg.norm(made.center - n.center) - 1.3 * n.radius for n in taken
  ]
  gaps += [
    np.linalg.norm(made.center - d.center) - 0.4 * d.extent for d in found
  ]
  return min(gaps, default=np.inf) > 0.5 * made.extent + 4


def _make(
  kind: str,
  center: np.ndarray,
  extent: float,
  tissue: records.Points,
  air: records.Points | None = None,
) -> Distractor:
  return Distractor(kind, center, extent, tissue, air or tubes.empty())


def _inside(
  body: anatomy.Body, rng: np.random.Generator, depth: float
) -> np.ndarray:
  for trial in range(8):
    places = trees.spread(body, 100, depth * 0.8**trial, rng)
    if len(places):
      return places[0]
  return trees.spread(body, 4000, 1.0, rng)[0]


def _direction(rng: np.random.Generator) -> np.ndarray:
  vector = rng.normal(size=3)
  return vector / np.linalg.norm(vector)


def _swelling(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A piece of vessel that is thick in its middle."""
  radius = rng.uniform(1.8, 4.2)
  length = radius * rng.uniform(5.0, 7.5)
  center = _inside(body, rng, 0.35 * length)
  along = _direction(rng)
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
  return _make('swelling', middle, length, cloud)


def _blood(body: anatomy.Body, rng: np.random.Generator) -> float:
  return float(body.blood + rng.normal(0, 15.0))


def _winding(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A vessel coiled up within the space of a nodule."""
  size = rng.uniform(3.5, 8.0)
  radius = size * rng.uniform(0.24, 0.32)
  center = _inside(body, rng, size + 2)
  t = np.arange(0, 1, 0.3 * grain / (2 * np.pi * size))
  turns = rng.uniform(1.3, 2.2)
  along = _direction(rng)
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
  return _make('winding', center, 2 * size, cloud)


def _branching(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """Where four to seven thick branches meet; vessel or mucus."""
  radius = rng.uniform(1.5, 3.8)
  arms = int(rng.integers(5, 9))
  center = _inside(body, rng, 4 * radius)
  ways = np.stack([_direction(rng) for _ in range(arms)])
  length = radius * rng.uniform(3.0, 4.5, arms)[:, None]
  bend = np.stack([_direction(rng) for _ in range(arms)]) * 0.25 * length
  start = np.repeat(center[None], arms, 0)
  controls = np.stack(
    [start, start + 0.5 * length * ways + bend, start + length * ways], 1
  )
  radii = np.stack(
    [np.full(arms, radius), radius * rng.uniform(0.4, 0.9, arms)], 1
  )
  hu = _blood(body, rng) if rng.random() < 0.6 else rng.uniform(-40.0, 40.0)
  cloud = tubes.bezier(controls, radii, hu, grain=grain)
  return _make('branching', center, 2 * float(length.max()), cloud)


def _bronchus(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A widened bronchus with a thick wall."""
  outer = rng.uniform(2.4, 4.5)
  inner = outer * rng.uniform(0.35, 0.6)
  length = outer * rng.uniform(4.0, 6.0)
  center = _inside(body, rng, 0.5 * length)
  along = _direction(rng)
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
  return _make('bronchus', line[0][len(line[0]) // 2], length, wall, air)


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
  places = (
    center + height[:, None] * normal + local[:, 1:2] * side + local[:, 2:] * up
  )
  volume = np.full(len(places), grain**3, np.float32)
  return records.Points(
    places.astype(np.float32), volume, np.full(len(places), hu, np.float32)
  )


def _scar(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """One to three bands of scar through one place."""
  center = _inside(body, rng, 5.0)
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
        _direction(rng),
        half,
        rng.uniform(0.5, 2.0),
        rng.uniform(-80, 60),
        grain,
        rng,
      )
    )
  return _make('scar', center, longest, tubes.join(*sheets))


def _plaque(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A flat thickening of the pleura."""
  place, normal, level = nodules.wall(body, rng)
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
  return _make('plaque', center, 2 * half[2], cloud)


def _cavity(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A sac of air with a thick wall."""
  radius = rng.uniform(3.8, 9.5)
  center = _inside(body, rng, radius + 2)
  inner = radius * rng.uniform(0.36, 0.6)
  local = tubes.fill(np.full(3, 1.2 * radius), grain, rng)
  stretch = rng.uniform(0.9, 1.1, 3)
  # The wall is thicker on one side.
  shift = 0.4 * (radius - inner) * _direction(rng)
  hole = np.linalg.norm((local - shift) * stretch, axis=1) - inner
  wall = np.linalg.norm(local * stretch, axis=1) < radius
  wall &= hole > -0.5 * grain
  return _make(
    'cavity',
    center,
    2 * radius,
    _filled(center, local[wall], rng.uniform(-60, 50), grain),
    _filled(center, local[hole < 0], -950.0, grain),
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


def _cluster(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """Plugged ends of one bronchus, like buds on a twig, close together."""
  size = rng.uniform(1.6, 3.3)
  center = _inside(body, rng, 3.5 * size)
  buds: list[np.ndarray] = []
  for place in center + 2.0 * size * rng.normal(size=(120, 3)):
    gaps = [np.linalg.norm(place - bud) for bud in buds]
    if 2.1 * size < min(gaps, default=3 * size) < 3.2 * size:
      buds.append(place)
  count = int(rng.integers(5, 10))
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
  return _make('cluster', middle, extent + 2 * size, tubes.join(*clouds))


def _beads(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A vessel with swellings in a row."""
  size = rng.uniform(1.6, 3.2)
  count = int(rng.integers(4, 7))
  pitch = size * rng.uniform(2.0, 2.4)
  length = count * pitch
  center = _inside(body, rng, 0.4 * length)
  along = _direction(rng)
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
  return _make('beads', line[0][len(radius) // 2], length, cloud)


def _mesh(
  body: anatomy.Body, rng: np.random.Generator, grain: float
) -> Distractor:
  """A patch of thickened fine structure."""
  size = rng.uniform(5.0, 10.0)
  center = _inside(body, rng, size)
  knots = center + size * rng.normal(0, 0.45, (int(14 * size), 3))
  other = knots[rng.permutation(len(knots))]
  near = np.linalg.norm(knots - other, axis=1) < 1.4 * size
  start, end = knots[near], other[near]
  controls = np.stack(
    [start, (start + end) / 2 + rng.normal(0, 1, start.shape), end], 1
  )
  radii = np.full((len(start), 2), rng.uniform(0.5, 0.9))
  cloud = tubes.bezier(controls, radii, rng.uniform(-80, 40), grain=grain)
  return _make('mesh', center, 2 * size, cloud)


# By name, what makes a distractor and its share.
_MAKERS = {
  'cluster': (_cluster, 4),
  'beads': (_beads, 2),
  'cavity': (_cavity, 4),
  'branching': (_branching, 3),
  'swelling': (_swelling, 1),
  'winding': (_winding, 2),
  'bronchus': (_bronchus, 1),
  'scar': (_scar, 2),
  'plaque': (_plaque, 2),
  'mesh': (_mesh, 2),
}
