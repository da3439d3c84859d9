"""The nodules of phantom chest X-rays, and what is mistaken for them.

What is mistaken is drawn without regard to whether there are nodules, so that
a bright spot alone says nothing.
"""

from collections.abc import Sequence

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_xray_body as bodies
from datasets.phantoms import chest_xray_nodule_lumps as lumps
from datasets.phantoms import chest_xray_views as views

# Diameters are log-normal, mm; more lung than this must be round a nodule.
_MEDIAN, _SIGMA, _SMALLEST, _LARGEST = 19.0, 0.3, 8.0, 30.0
_NUMBERS = (0.65, 0.22, 0.13)
# A mm of a nodule instead of lung adds this to a ray, mm of water.
_FAINTEST, _DENSEST = 1.3, 3.0


def nodules(
  body: anatomy.Body,
  all_views: Sequence[views.View],
  rng: np.random.Generator,
) -> list[lumps.Lump]:
  """Draws the nodules of a patient.

  They lie in the lungs above the diaphragm's domes and beside the spine,
  behind ribs, heart and hilum too, and within every film.

  Args:
    body: the patient.
    all_views: the films.
    rng: draws one to three.
  """
  found: list[lumps.Lump] = []
  for _ in range(1 + rng.choice(len(_NUMBERS), p=_NUMBERS)):
    diameter = _MEDIAN * np.exp(rng.normal(0, _SIGMA))
    radius = float(np.clip(diameter, _SMALLEST, _LARGEST)) / 2
    water = rng.uniform(_FAINTEST, _DENSEST)
    lobes = int(rng.integers(0, 5))
    for place in _places(body, radius, rng):
      lump = lumps.lobulated(place, radius, water, rng, lobes=lobes)
      apart = all(
        np.linalg.norm(place - other.center) > 2 * (radius + other.radius)
        for other in found
      )
      if apart and all(_is_inside(lump, view) for view in all_views):
        found.append(lump)
        break
  return found


def _places(
  body: anatomy.Body, radius: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns (n, 3) places in the lungs that a film can show, mm."""
  places = trees.spread(body, 600, 0.6 * radius, rng)
  x, _, z = places.T
  domes = np.where(x < 0, *body.domes) * body.height
  free = (abs(x) > 0.3 * body.width) & (z > domes + 0.5 * radius)
  return places[free]


def _is_inside(lump: lumps.Lump, view: views.View) -> bool:
  row, column, diameter = lumps.mark(lump, view)
  h, w = view.shape
  gap = 0.6 * diameter + 1
  return gap <= row <= h - 1 - gap and gap <= column <= w - 1 - gap


def lobe(body: anatomy.Body, place: np.ndarray) -> str:
  """Returns a place's name, such as 'upper lobe/right'."""
  side = 'left' if place[0] > 0 else 'right'
  gap = np.linalg.norm(place - anatomy.hilum(body, int(np.sign(place[0]))))
  height = place[2] / body.height
  if gap < 0.25 * body.width:
    return f'hilum/{side}'
  if height > 0.6:
    return f'upper lobe/{side}'
  if side == 'right' and height > 0.42:
    return f'middle lobe/{side}'
  return f'lower lobe/{side}'


def others(
  patient: bodies.Patient, rng: np.random.Generator
) -> list[lumps.Lump]:
  """Draws what looks like nodules on a film.

  Args:
    patient: whose.
    rng: draws.

  Returns:
    Vessels seen end-on, nipples, healed fractures of ribs, calcified ends of
    the first ribs, small calcified granulomas, and scars.
  """
  body = patient.body
  found = _end_on(body, rng)
  for share, kind in (
    (0.35, _nipples),
    (0.3, _rib_ends),
    (0.25, _granulomas),
    (0.3, _scars),
  ):
    if rng.random() < share:
      found += kind(body, rng)
  if rng.random() < 0.25:
    found += _fractures(patient, rng)
  return found


def _end_on(body: anatomy.Body, rng: np.random.Generator) -> list[lumps.Lump]:
  found = []
  for _ in range(rng.poisson(3)):
    side = rng.choice([-1, 1])
    place = anatomy.hilum(body, side)
    place = place + rng.normal(0, 0.14, 3) * body.width
    place[0] += side * 0.12 * body.width
    radius = rng.uniform(1.5, 3.5)
    radii = [radius, rng.uniform(4, 10), radius]
    found.append(lumps.ellipsoid(place, radii, 1.4))
  return found


def _nipples(body: anatomy.Body, rng: np.random.Generator) -> list[lumps.Lump]:
  x, z = rng.uniform(0.5, 0.72), rng.uniform(0.2, 0.42)
  radius, water = rng.uniform(4.0, 7.5), rng.uniform(0.8, 2.2)
  # One of the two often lies flat and is not seen.
  sides = [-1, 1] if rng.random() < 0.6 else [rng.choice([-1, 1])]
  found = []
  for side in sides:
    place = np.array([side * x, -1.35, z]) + rng.normal(0, 0.03, 3)
    place *= [body.width, body.depth, body.height]
    size = radius * rng.uniform(0.85, 1.15)
    found.append(lumps.ellipsoid(place, [size, 5.0, size], water))
  return found


def _rib_ends(body: anatomy.Body, rng: np.random.Generator) -> list[lumps.Lump]:
  size = [body.width, body.depth, body.height]
  found = []
  for side in (-1, 1):
    place = np.array([side * 0.42, -0.7, 0.78]) + rng.normal(0, 0.04, 3)
    radius, water = rng.uniform(5.0, 10.0), rng.uniform(0.8, 2.0)
    found.append(
      lumps.lobulated(place * size, radius, water, rng, lobes=3, stretch=0.35)
    )
  return found


def _granulomas(
  body: anatomy.Body, rng: np.random.Generator
) -> list[lumps.Lump]:
  places = trees.spread(body, 60, 3.0, rng)[: rng.integers(1, 4)]
  return [
    lumps.ellipsoid(place, rng.uniform(1.2, 2.5, 3), rng.uniform(2.5, 5.0))
    for place in places
  ]


def _scars(body: anatomy.Body, rng: np.random.Generator) -> list[lumps.Lump]:
  found = []
  for place in trees.spread(body, 40, 6.0, rng)[: rng.integers(1, 3)]:
    # Long and thin, seen from the edge.
    radii = [rng.uniform(10, 25), rng.uniform(5, 12), rng.uniform(0.8, 1.8)]
    angle = rng.uniform(-1.0, 1.0)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    axes = (turn / np.array(radii)[:, None])[None]
    found.append(
      lumps.Lump(place, np.zeros((1, 3)), axes, max(radii), 1.2, 0.8)
    )
  return found


def _fractures(
  patient: bodies.Patient, rng: np.random.Generator
) -> list[lumps.Lump]:
  """Draws callus on ribs, which are found as bone beside and in front."""
  body = patient.body
  z, y, x = (
    (np.arange(n) * step + start)
    for n, step, start in zip(
      patient.voxels.shape[:3],
      patient.spacing,
      patient.origin[::-1],
      strict=True,
    )
  )
  high = np.flatnonzero((z > 0.35 * body.height) & (z < 0.85 * body.height))
  front = np.flatnonzero(abs(y) < 0.8 * body.depth)
  beside = np.flatnonzero((abs(x) > 0.4 * body.width) & (abs(x) < body.width))
  bone = patient.voxels[np.ix_(high, front, beside, [bodies.WATER])][..., 0]
  at = np.argwhere(bone > 1.3)
  if not len(at):
    return []
  found = []
  for i, j, k in at[rng.integers(len(at), size=rng.integers(1, 4))]:
    place = np.array([x[beside[k]], y[front[j]], z[high[i]]])
    radii = [rng.uniform(5, 10), rng.uniform(4, 7), rng.uniform(5, 8)]
    found.append(
      lumps.ellipsoid(place, radii, rng.uniform(1.0, 2.2), rng.uniform(1, 2))
    )
  return found
