"""Arteries, veins and airways of the lungs, grown to fill them.

A tree is grown as lung models usually do it: ends are spread over the lung,
and from the hilum on every branch goes part of the way to the middle of its
ends, which are then divided in two. A branch's radius follows from the number
of ends that it feeds (Murray's law).
"""

import dataclasses

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_tubes as tubes

# Ends of the arterial, and of the venous, tree of a small thorax (half its
# width, mm, is the second number), and their radius, mm.
_ENDS, _ENDS_WIDTH = 1800, 68.0
_END_RADIUS = 0.45
_MURRAY = 2.75


@dataclasses.dataclass(frozen=True)
class Tree:
  """Branches of one tree.

  Attributes:
    controls: (n, 3, 3) start, handle and end of every branch, mm.
    radii: (n, 2) at its start and end, mm.
  """

  controls: np.ndarray
  radii: np.ndarray


def spread(
  body: anatomy.Body, count: int, depth: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns (n, 3) places in both lungs, at least a depth from their edge.

  Args:
    body: the patient.
    count: places tried in the box round the lungs; about a third are inside.
    depth: mm.
    rng: chooses them.
  """
  low = np.array([-body.width, -body.depth, 0.0])
  high = np.array([body.width, 1.15 * body.depth, 1.02 * body.height])
  places = low + (high - low) * rng.random((count, 3))
  return places[anatomy.lung_level(body, places.astype(np.float32)) > depth]


def grow(root: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> Tree:
  """Grows a tree.

  Args:
    root: (3,) where it begins, mm.
    ends: (n, 3) where it ends, mm.
    rng: jitters it.
  """
  branches, radii = [], []
  stack = [(root, root - ends.mean(0), ends, _radius(len(ends)))]
  while stack:
    start, heading, fed, before = stack.pop()
    here = _radius(len(fed))
    end = fed.mean(0)
    if len(fed) > 1:
      # The rest of the way is left to the next branches.
      end = start + rng.uniform(0.35, 0.55) * (end - start)
    length = np.linalg.norm(end - start)
    heading = heading / max(np.linalg.norm(heading), 1e-6)
    handle = (start + end) / 2 + 0.22 * length * heading
    handle += rng.normal(0, 0.07, 3) * length
    branches.append((start, handle, end))
    last = here if len(fed) > 1 else 0.5 * _END_RADIUS
    radii.append((min(before, 1.25 * here), last))
    if len(fed) > 1:
      for part in _divide(fed, end - start, rng):
        stack.append((end, end - handle, part, here))
  return Tree(np.array(branches), np.array(radii))


def _radius(count: int) -> float:
  """Returns the radius of a branch that feeds a number of ends, mm."""
  return _END_RADIUS * count ** (1 / _MURRAY)


def _divide(
  places: np.ndarray, heading: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Divides places in two across the direction in which they spread most."""
  if len(places) == 2:
    return places[:1], places[1:]
  offset = places - places.mean(0)
  across = heading / max(np.linalg.norm(heading), 1e-6)
  offset = offset - (offset @ across)[:, None] * across
  main = np.linalg.eigh(offset.T @ offset)[1][:, -1]
  # Branches are seldom of one size.
  order = np.argsort(offset @ main)
  cut = int(np.clip(rng.uniform(0.3, 0.7) * len(places), 1, len(places) - 1))
  return places[order[:cut]], places[order[cut:]]


def vessels(body: anatomy.Body, rng: np.random.Generator) -> list[Tree]:
  """Returns the arteries and the veins of the right and the left lung."""
  # About a third of the places that are tried are well inside of the lungs.
  tried = int(3 * _ENDS * (body.width / _ENDS_WIDTH) ** 1.6)
  trees = []
  for lift in (0.04, -0.06):
    ends = spread(body, tried, 3.0, rng)
    for side in (-1, 1):
      root = anatomy.hilum(body, side)
      root = root + [0, -0.5 * lift * body.width, lift * body.height]
      root[0] *= 0.75
      trees.append(grow(root, ends[ends[:, 0] * side > 0], rng))
  return trees


def airways(
  body: anatomy.Body, arteries: list[Tree], grain: float
) -> tuple[records.Points, records.Points]:
  """Returns walls and lumina of windpipe and bronchi.

  Bronchi run beside the arteries of about their size, as far as a scanner
  resolves them.
  """
  walls, lumina = (
    [_windpipe(body, grain, True)],
    [_windpipe(body, grain, False)],
  )
  smallest = 1.35
  for tree in arteries:
    kept = (tree.radii[:, 1] > smallest) & (tree.radii[:, 0] < 5.5)
    kept &= (anatomy.heart_level(body, tree.controls) < -6).all(1)
    controls, radii = tree.controls[kept], tree.radii[kept]
    side = np.sign(controls[:, -1, :1])
    shift = np.stack(
      [0.5 * side[:, 0], np.full(len(side), -0.6), np.full(len(side), 0.6)], -1
    )
    for i, end in enumerate((0, None, 1)):
      size = radii.mean(1) if end is None else radii[:, end]
      controls = controls.copy()
      controls[:, i] += shift * (1.8 * size + 0.5)[:, None]
    lumen = 0.7 * radii
    lumina.append(tubes.bezier(controls, lumen, -965.0, grain=grain))
    walls.append(tubes.bezier(controls, lumen + 0.5, -250.0, grain=grain))
  return tubes.join(*walls), tubes.join(*lumina)


def _windpipe(body: anatomy.Body, grain: float, wall: bool) -> records.Points:
  size = 0.085 * body.width
  split = np.array([0.0, 0.25 * body.depth, 0.6 * body.height])
  top = np.array([0.0, 0.3 * body.depth, 1.2 * body.height])
  ends = [anatomy.hilum(body, side) * [1.25, 0.9, 1.02] for side in (-1, 1)]
  lines = [(top, (top + split) / 2, split)] + [
    (split, split * 0.6 + end * 0.4 + [0, 0, 3], end) for end in ends
  ]
  radii = np.array(
    [(size, size), (0.8 * size, 0.55 * size)] + [(0.75 * size, 0.5 * size)]
  )
  hu = 20.0 if wall else -980.0
  return tubes.bezier(
    np.array(lines), radii + (1.0 if wall else 0.0), hu, grain=grain
  )


def fissures(body: anatomy.Body, rng: np.random.Generator, grain: float):
  """Returns the thin plates between the lobes."""
  clouds = []
  for side in (-1, 1):
    lean = rng.uniform(0.55, 0.75)
    size = np.array([body.width / 2, 1.4 * body.depth])
    step = 1.6 * grain
    u = np.arange(-size[0], size[0], step)
    v = np.arange(-size[1], size[1], step)
    u, v = (a.ravel() for a in np.meshgrid(u, v))
    center = np.array(
      [side * 0.55 * body.width, 0.1 * body.depth, 0.5 * body.height]
    )
    wave = 2.0 * np.sin(u * 0.08 + side) + 2.0 * np.sin(v * 0.06)
    places = center + np.stack(
      [u, v * lean, v * np.sqrt(1 - lean**2) + wave], -1
    )
    inside = anatomy.lung_level(body, places.astype(np.float32)) > 0.5
    inside &= places[:, 0] * side > 0
    places = places[inside].astype(np.float32)
    volume = np.full(len(places), 0.45 * step**2, np.float32)
    clouds.append(
      records.Points(places, volume, np.full(len(places), -450.0, np.float32))
    )
  return tubes.join(*clouds)
