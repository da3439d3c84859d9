"""Whom a phantom chest X-ray shows: the chest CTs' anatomy, at film's detail.

To the thorax of the CTs come neck, shoulders, arms, collarbones, breasts and
gas below the diaphragm, and what changes a film at large: fluid in the chest,
dense lungs, a chest with one lung. Places are those of `chest_ct_anatomy`.
"""

import dataclasses
import functools

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_bones as bones
from datasets.phantoms import chest_ct_grid as grids
from datasets.phantoms import chest_ct_tissues as tissues
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_ct_tubes as tubes
from datasets.phantoms import chest_xray_findings as findings
from datasets.phantoms import chest_xray_limbs as limbs

# The kinds of substance that are told apart.
WATER, RIGHT, LEFT, HIDING = range(4)
_FLUID_HU = 15.0
_BONE_GAIN = 1.2
_ENLARGED = 1.35


@dataclasses.dataclass(frozen=True)
class Patient:
  """A patient, as voxels.

  Attributes:
    body: the proportions.
    finding: what changes the film at large, see `make`.
    sides: -1 the right, 1 the left lung: those that the finding is in.
    voxels: (d, h, w, 4) float32 in order z, y, x; `WATER`: attenuation, where
      water has 1; `RIGHT`, `LEFT`: the share of aerated lung; `HIDING`: of
      what ends a lung on films, see `_hiding_level`.
    spacing: (z, y, x), mm.
    origin: (x, y, z) of the first voxel's centre, mm.
  """

  body: anatomy.Body
  finding: str
  sides: tuple[int, ...]
  voxels: np.ndarray
  spacing: tuple[float, float, float]
  origin: np.ndarray


def make(rng: np.random.Generator, finding: str, voxel: float) -> Patient:
  """Draws a patient.

  Args:
    rng: draws.
    finding: one of `chest_xray_findings.KINDS`, or 'cardiomegaly'; any other
      is none.
    voxel: edge in the plane of films, mm.

  Returns:
    The patient.
  """
  body = _draw(rng)
  if finding == 'cardiomegaly':
    body = dataclasses.replace(body, heart=_ENLARGED * body.heart)
  sides = tuple(rng.permutation([-1, 1]).tolist())
  # Fluid and dense lungs are often on both sides.
  if finding == 'one_lung' or rng.random() < 0.5:
    sides = sides[:1]
  low = np.array([-1.75 * body.width, -1.75 * body.depth, -0.45 * body.height])
  high = np.array([1.75 * body.width, 1.5 * body.depth, 1.3 * body.height])
  spacing = (voxel, 2 * voxel, voxel)
  shape = tuple(np.ceil((high - low)[::-1] / spacing).astype(int).tolist())
  grid = grids.Grid(shape, spacing, low, np.eye(3), np.zeros(3))
  voxels = _render(body, grid, rng, finding, sides)
  return Patient(body, finding, sides, voxels, spacing, low)


def _draw(rng: np.random.Generator) -> anatomy.Body:
  """Draws an adult; nobody breathes in as deeply as another."""
  width = rng.uniform(118.0, 150.0)
  left = rng.uniform(0.14, 0.27)
  return dataclasses.replace(
    anatomy.make_body(rng, width),
    height=width * rng.uniform(1.5, 2.05),
    fat=width * rng.uniform(0.04, 0.25),
    heart=rng.uniform(0.85, 1.2),
    domes=(left + rng.uniform(0.02, 0.1), left),
    blood=45.0,
  )


def _render(
  body: anatomy.Body,
  grid: grids.Grid,
  rng: np.random.Generator,
  finding: str,
  sides: tuple[int, ...],
) -> np.ndarray:
  """Returns the voxels of `Patient`."""
  edge = grid.spacing[0]
  lattice = grids.Lattice(grid, (2.4 * edge,) * 3)
  places = lattice.positions

  def share(level: np.ndarray) -> np.ndarray:
    return grids.cover(lattice.refine(level), edge)

  image = lattice.refine(tissues.tissue(body, places, rng)) + 1000
  image *= share(limbs.outline_level(body, places, rng))
  image -= 1000
  image += share(_gas_level(body, places, rng)) * (-950 - image)
  for cloud in (
    bones.ribs(body, edge, size=0.046, fall=rng.uniform(0.42, 0.58)),
    bones.plates(body, edge),
    limbs.bones(body, edge),
  ):
    grids.add(image, grid, cloud)
  lung_level = np.minimum(
    anatomy.lung_level(body, places), _apex_level(body, places)
  )
  lungs = share(lung_level)
  fluid = lattice.refine(findings.fluid(body, places, finding, sides, rng))
  hu = tissues.parenchyma(body, places, rng)
  hu = lattice.refine(findings.dense(body, places, hu, finding, sides, rng))
  image += lungs * (hu + fluid * (_FLUID_HU - hu) - image)
  arteries, veins = _vessels(body, rng)
  for tree in (*arteries, *veins):
    cloud = tubes.bezier(tree.controls, tree.radii, body.blood, grain=edge)
    grids.add(image, grid, cloud)
  for cloud in trees.airways(body, arteries, edge):
    grids.add(image, grid, cloud)
  aerated = lungs * (1 - fluid)
  hiding = share(_hiding_level(body, places, lung_level)) + lungs * fluid
  x = grid.origin[0] + np.arange(grid.shape[2]) * grid.spacing[2]
  return np.stack(
    [_attenuation(image), aerated * (x < 0), aerated * (x >= 0), hiding],
    axis=-1,
    dtype=np.float32,
  )


def _attenuation(hu: np.ndarray) -> np.ndarray:
  """Returns the attenuation where water's is 1.

  Films are made with softer rays than CTs are, in which bone gains on water.
  """
  return 1 + hu / 1000 + _BONE_GAIN * np.maximum(hu - 100, 0) / 1000


def _apex_level(body: anatomy.Body, places: np.ndarray) -> np.ndarray:
  """Level of what the rounded tops of both lungs leave of the cavity."""
  x, _, z = np.moveaxis(places, -1, 0)
  aside = abs(x) / body.width - 0.34
  # Outwards the cavity is narrow enough.
  aside = aside / np.where(aside < 0, 0.37, 0.8)
  up = np.maximum(z / body.height - 0.7, 0) / 0.28
  level = (1 - np.hypot(aside, up)) * np.float32(0.37 * body.width)
  return np.where(up > 0, level, body.width)


def _hiding_level(
  body: anatomy.Body, places: np.ndarray, lung_level: np.ndarray
) -> np.ndarray:
  """Level of what ends a lung on films: the mediastinum, and the belly.

  Readers outline lungs through heart and hilum, down to the diaphragm's dome;
  so heart and hila are not part of it, whatever lies below the dome is.
  """
  cavity = anatomy.cavity_level(body, places)
  below = np.minimum(cavity, -anatomy.diaphragm_level(body, places))
  hila = [
    anatomy.ellipsoid(
      places,
      anatomy.hilum(body, side),
      np.array([0.09, 0.13, 0.24]) * body.width,
    )
    for side in (-1, 1)
  ]
  others = functools.reduce(
    np.maximum, [lung_level, anatomy.heart_level(body, places), *hila]
  )
  return np.maximum(below, np.minimum(cavity, -others))


def _vessels(
  body: anatomy.Body, rng: np.random.Generator
) -> tuple[list[trees.Tree], list[trees.Tree]]:
  """Returns the arteries and veins that films resolve, by lung."""
  parts = []
  for lift in (0.04, -0.06):
    ends = trees.spread(body, 1800, 4.0, rng)
    grown = []
    for side in (-1, 1):
      root = anatomy.hilum(body, side) + [0, 0, lift * body.width]
      tree = trees.grow(root, ends[ends[:, 0] * side > 0], rng)
      # Few ends would feed on thin stems.
      grown.append(dataclasses.replace(tree, radii=1.8 * tree.radii))
    parts.append(grown)
  return parts[0], parts[1]


def _gas_level(
  body: anatomy.Body, places: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Level of gas in stomach and bowel."""
  top = body.domes[1] * body.height
  size = rng.uniform(0.1, 0.24) * body.width
  levels = [
    anatomy.ellipsoid(
      places,
      np.array([0.45 * body.width, 0.0, top - 14 - size]),
      np.array([1.4, 1.3, 1.0]) * size,
    )
  ]
  for _ in range(rng.integers(0, 7)):
    center = [
      rng.uniform(-0.7, 0.9) * body.width,
      rng.uniform(-0.5, 0.2) * body.depth,
      rng.uniform(-0.5, -0.05) * body.height,
    ]
    axes = rng.uniform(0.05, 0.14, 3) * body.width
    levels.append(anatomy.ellipsoid(places, np.array(center), axes))
  return functools.reduce(np.maximum, levels)
