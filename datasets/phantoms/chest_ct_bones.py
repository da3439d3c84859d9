"""Ribs, breastbone, shoulder blades and the windpipe, as clouds of points."""

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_tubes as tubes

_PAIRS = 12


def ribs(
  body: anatomy.Body, grain: float, *, size: float = 0.055, fall: float = 0.2
) -> records.Points:
  """Returns all ribs, denser in their shells, with cartilage in front.

  Args:
    body: the patient.
    grain: distance of points, mm.
    size: their radius as a part of the chest's half width.
    fall: by how much they fall to the front, as a part of its height.
  """
  radius = size * body.width
  line, hu = [], []
  for side in (-1, 1):
    for pair in range(_PAIRS):
      centers = _rib(body, side, pair, radius, fall)
      line.append(centers)
      angle = np.linspace(0, 1, len(centers))
      hu.append(np.where(angle < 0.86, 1.0, 0.0))
  steps = np.concatenate([np.gradient(c, axis=0) for c in line])
  centers, bony = np.concatenate(line), np.concatenate(hu)
  sizes = np.full(len(centers), radius)
  shell = tubes.tube(
    centers, steps, sizes, 110 + 500 * bony, inner=0.65 * sizes, grain=grain
  )
  marrow = tubes.tube(
    centers, steps, 0.65 * sizes, 90 + 110 * bony, grain=grain
  )
  return tubes.join(shell, marrow)


def _rib(
  body: anatomy.Body, side: int, pair: int, radius: float, fall: float
) -> np.ndarray:
  """Returns (n, 3) of a rib's middle, from the spine to the front."""
  top = (1.08 - 0.085 * pair) * body.height
  count = int(3.6 * body.width / 1.5)
  along = np.linspace(0, 1, count)
  angle = np.pi * (0.12 + (0.8 - 0.03 * max(pair - 6, 0)) * along)
  # Ribs fall towards the front, the lower ones more.
  z = top - body.height * (fall + 0.012 * pair) * np.sin(0.5 * np.pi * along)
  rays = np.stack([side * np.sin(angle), np.cos(angle), 0 * angle], -1)
  low, high = np.zeros(count), np.full(count, 1.5 * body.width)
  # Bisection along each ray for the cavity's wall, then outwards.
  for _ in range(12):
    middle = (low + high) / 2
    place = rays * middle[:, None] * [1, 1, 0] + np.stack(
      [0 * z, np.full(count, 0.15 * body.depth), z], -1
    )
    inside = anatomy.cavity_level(body, place) > -(radius + 1.2)
    low, high = np.where(inside, middle, low), np.where(inside, high, middle)
  return place[low > 0.2 * body.width]


def plates(body: anatomy.Body, grain: float) -> records.Points:
  """Returns the breastbone and the shoulder blades."""
  size = 0.06 * body.width
  z = np.arange(0.3, 0.92, 0.008) * body.height
  y = np.empty_like(z)
  for i, height in enumerate(z):
    ray = np.linspace(-1.4, 0, 200) * body.depth
    level = anatomy.cavity_level(
      body, np.stack([0 * ray, ray, np.full(200, height)], -1)
    )
    y[i] = ray[np.argmax(level > -1.2 * size)]
  line = [
    np.stack([np.full_like(z, x * body.width), y, z], -1)
    for x in (-0.08, -0.03, 0.03, 0.08)
  ]
  for side in (-1, 1):
    height = np.arange(0.5, 0.98, 0.01) * body.height
    for k in range(7):
      x = side * body.width * (0.55 + 0.06 * k)
      back = body.depth * (1.07 - 0.045 * k)
      line.append(
        np.stack(
          [np.full_like(height, x), np.full_like(height, back), height], -1
        )
      )
  centers = np.concatenate(line)
  steps = np.concatenate([np.gradient(c, axis=0) for c in line])
  return tubes.tube(
    centers, steps, np.full(len(centers), size), 280.0, grain=grain
  )
