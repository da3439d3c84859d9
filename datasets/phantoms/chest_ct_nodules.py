"""The nodules of a phantom lung: their shapes, tissues and places."""

import dataclasses

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_places
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_ct_tubes as tubes

# LUNA16's diameters have a median of 6.4 mm; below 6 mm on slices of 2.5 mm
# nothing but luck tells a nodule from a vessel, so these are larger.
_MEDIAN, _SIGMA, _SMALLEST, _LARGEST = 11.0, 0.33, 3.5, 30.0
_KINDS = ('solid', 'part_solid', 'ground_glass')
_SHARES = (0.78, 0.12, 0.10)
# Chances that 4, 3, 2 or 1 of the readers find a nodule, and one below 3 mm.
_AGREEMENT = ((0.74, 0.2, 0.05, 0.01), (0.1, 0.2, 0.3, 0.4))


@dataclasses.dataclass(frozen=True)
class Nodule:
  """A nodule: a sphere, stretched, with bumps, and perhaps spicules.

  Attributes:
    kind: 'solid', 'part_solid', 'ground_glass' or 'micro'.
    center: (3,) in the patient, mm.
    radius: of the sphere that its lobes rise from, mm.
    volume_radius: of the sphere of its volume, mm.
    axes: (3, 3) turns and stretches offsets onto those of a unit sphere.
    bumps: (n, 3) unit directions of its lobes.
    heights: (n,) of them, parts of the radius.
    spicules: (n, 3) directions in which thin strands leave it.
    hu: intensity of its densest part.
    margin: width of its edge, mm.
    hollow: radius of an air bubble inside, mm; mostly 0.
    inward: (3,) unit vector from the pleura into the lung.
    depth: of the centre under the pleura, mm; what reaches beyond is cut.
    readers: how many readers are going to find it.
  """

  kind: str
  center: np.ndarray
  radius: float
  volume_radius: float
  axes: np.ndarray
  bumps: np.ndarray
  heights: np.ndarray
  spicules: np.ndarray
  hu: float
  margin: float
  hollow: float
  inward: np.ndarray
  depth: float
  readers: int

  def level(self, positions: np.ndarray) -> np.ndarray:
    """Returns (...) about the distance from the surface, + inside, mm."""
    offset = np.einsum('...i,ki->...k', positions - self.center, self.axes)
    length = np.linalg.norm(offset, axis=-1)
    unit = offset / np.maximum(length, 1e-6)[..., None]
    swell = np.zeros(length.shape)
    for bump, height in zip(self.bumps, self.heights, strict=True):
      near = np.einsum('...i,i->...', unit, bump)
      swell += height * np.exp(5.0 * (near - 1))
    level = self.radius * (1 + swell) - length
    if self.hollow:
      bubble = np.linalg.norm(positions - self.center, axis=-1) - self.hollow
      level = np.minimum(level, bubble)
    inside = np.einsum('...i,i->...', positions - self.center, self.inward)
    return np.minimum(level, inside + self.depth + 0.5)


def draw(
  body: anatomy.Body,
  rng: np.random.Generator,
  place: np.ndarray,
  diameter: float,
  kind: str,
) -> Nodule:
  """Draws a nodule of a given size and kind.

  Args:
    body: whose it is.
    rng: draws the rest.
    place: (3,) its centre, mm.
    diameter: mm.
    kind: 'solid', 'part_solid', 'ground_glass' or 'micro'.
  """
  lobes = 0 if kind == 'micro' else int(rng.integers(2, 6))
  stretch = np.exp(rng.normal(0, 0.1, 3))
  stretch /= np.prod(stretch) ** (1 / 3)
  spiky = kind != 'ground_glass' and diameter > 6 and rng.random() < 0.25
  hu = {
    'solid': rng.uniform(-120.0, 40.0),
    'part_solid': rng.uniform(-80.0, 20.0),
    'ground_glass': rng.uniform(-500.0, -360.0),
    'micro': rng.uniform(-50.0, 200.0),
  }[kind]
  if kind == 'solid' and rng.random() < 0.05:
    hu = rng.uniform(250.0, 500.0)
  hollow = rng.random() < 0.06 and kind == 'solid' and diameter > 11
  nodule = Nodule(
    kind=kind,
    center=place,
    radius=diameter / 2,
    volume_radius=diameter / 2,
    axes=(_turn(rng) / stretch[:, None]),
    bumps=_directions(rng, lobes),
    heights=rng.uniform(0.12, 0.4, lobes),
    spicules=_directions(rng, int(rng.integers(7, 15)) if spiky else 0),
    hu=hu,
    margin=rng.uniform(0.4, 1.2) if kind != 'ground_glass' else 1.5,
    hollow=diameter * rng.uniform(0.07, 0.1) if hollow else 0.0,
    inward=anatomy.lung_normal(body, place[None])[0],
    depth=float(anatomy.lung_level(body, place[None])[0]),
    readers=int(rng.choice([4, 3, 2, 1], p=_AGREEMENT[kind == 'micro'])),
  )
  return _normalised(nodule, rng)


def grow(nodule: Nodule, factor: float) -> Nodule:
  """Returns a nodule with all of its lengths multiplied."""
  return dataclasses.replace(
    nodule,
    radius=factor * nodule.radius,
    volume_radius=factor * nodule.volume_radius,
    hollow=factor * nodule.hollow,
    depth=factor * nodule.depth,
    center=nodule.center + (factor - 1) * nodule.depth * nodule.inward,
  )


def _normalised(nodule: Nodule, rng: np.random.Generator) -> Nodule:
  """Scales a nodule to its volume, whatever lobes add and the pleura cuts."""
  solid = dataclasses.replace(nodule, hollow=0.0)
  wanted = nodule.volume_radius
  step = wanted / 6
  for _ in range(3):
    extent = np.full(3, 1.8 * solid.radius)
    lattice = tubes.fill(extent, step, rng) + solid.center
    volume = (solid.level(lattice) > 0).sum() * step**3
    radius = (volume / (4 / 3 * np.pi)) ** (1 / 3)
    solid = dataclasses.replace(solid, radius=solid.radius * wanted / radius)
  return dataclasses.replace(nodule, radius=solid.radius)


def _turn(rng: np.random.Generator) -> np.ndarray:
  q, r = np.linalg.qr(rng.normal(size=(3, 3)))
  return q * np.sign(np.diag(r))


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
  vectors = rng.normal(size=(count, 3))
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def points(
  nodule: Nodule, grain: float, rng: np.random.Generator
) -> tuple[records.Points, records.Points]:
  """Returns what is ground glass and what is solid in a nodule.

  Args:
    nodule: it.
    grain: distance of points, mm.
    rng: shifts their lattice.

  Returns:
    Two clouds. The first lets vessels show through, the second does not.
  """
  reach = np.full(3, 1.9 * nodule.radius + nodule.margin)
  grain = min(grain, nodule.radius / 3)
  places = tubes.fill(reach, grain, rng) + nodule.center.astype(np.float32)
  level = nodule.level(places)
  glass = _cloud(places, level, nodule, grain, nodule.hu)
  if nodule.kind == 'ground_glass':
    return glass, tubes.empty()
  if nodule.kind == 'part_solid':
    glass = _cloud(places, level, nodule, grain, -520.0)
    core = _cloud(
      places, level - 0.42 * nodule.radius, nodule, grain, nodule.hu
    )
    return glass, core
  return tubes.empty(), tubes.join(glass, _spicules(nodule, grain))


def _cloud(
  places: np.ndarray,
  level: np.ndarray,
  nodule: Nodule,
  grain: float,
  hu: float,
) -> records.Points:
  share = np.clip(level / nodule.margin + 0.5, 0, 1)
  kept = share > 0
  volume = (share[kept] * grain**3).astype(np.float32)
  intensity = np.full(len(volume), hu, np.float32)
  return records.Points(places[kept], volume, intensity)


def _spicules(nodule: Nodule, grain: float) -> records.Points:
  if not len(nodule.spicules):
    return tubes.empty()
  start = nodule.center + 0.8 * nodule.radius * nodule.spicules
  end = nodule.center + 1.9 * nodule.radius * nodule.spicules
  bend = 0.2 * nodule.radius * np.roll(nodule.spicules, 1, axis=0)
  controls = np.stack([start, (start + end) / 2 + bend, end], 1)
  radii = np.tile([0.09 * nodule.radius + 0.3, 0.25], (len(start), 1))
  return tubes.bezier(controls, radii, nodule.hu, grain=grain)


def place_all(
  body: anatomy.Body,
  vessels: list[trees.Tree],
  rng: np.random.Generator,
  count: int,
) -> list[Nodule]:
  """Draws the nodules of a patient, none touching another.

  Args:
    body: the patient.
    vessels: some nodules sit on them.
    rng: draws them.
    count: of nodules that are meant to be found; a few faint ones, which one
      or two readers see, and some below 3 mm come on top.
  """
  found: list[Nodule] = []
  largest = min(_LARGEST, 0.36 * body.width)
  for _ in range(count):
    diameter = np.exp(rng.normal(np.log(_MEDIAN), _SIGMA))
    diameter = float(np.clip(diameter, _SMALLEST, largest))
    kind = str(rng.choice(_KINDS, p=_SHARES))
    if kind != 'solid':
      diameter = min(max(diameter * 1.3, 6.0), largest)
    _try(found, body, vessels, rng, diameter, kind)
  for _ in range(rng.poisson(0.5)):
    if _try(found, body, vessels, rng, rng.uniform(4, 6), 'ground_glass'):
      faint = dataclasses.replace(
        found[-1], hu=-640.0, readers=int(rng.integers(1, 3))
      )
      found[-1] = faint
  for _ in range(rng.poisson(1.5)):
    _try(found, body, vessels, rng, rng.uniform(1.8, 2.8), 'micro')
  return found


def _try(
  found: list[Nodule],
  body: anatomy.Body,
  vessels: list[trees.Tree],
  rng: np.random.Generator,
  diameter: float,
  kind: str,
) -> bool:
  """Appends a nodule where there is room for one."""
  for _ in range(40):
    place = chest_ct_places.for_nodule(body, vessels, rng, diameter / 2)
    gaps = [
      np.linalg.norm(place - n.center) - 1.2 * n.radius - 0.6 * diameter
      for n in found
    ]
    if min(gaps, default=np.inf) > 6:
      found.append(draw(body, rng, place, diameter, kind))
      return True
  return False
