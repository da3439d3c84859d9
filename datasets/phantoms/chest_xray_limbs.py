"""Neck, shoulders, arms and breasts of phantom chest X-rays."""

import functools

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_tubes as tubes


def outline_level(
  body: anatomy.Body, positions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Level of the skin with neck, arms and breasts.

  Args:
    body: the patient.
    positions: (..., 3), mm.
    rng: decides on breasts and their size.

  Returns:
    (...) mm, positive inside.
  """
  x, y, z = np.moveaxis(positions, -1, 0)
  w = body.width
  slope = np.exp(-((abs(x) / (0.62 * w)) ** 1.5))
  torso = np.minimum(
    anatomy.body_level(body, positions),
    0.75 * ((0.98 + 0.3 * slope) * body.height - z),
  )
  neck = 0.43 * w + 0.4 * body.fat - np.hypot(x, y - 0.3 * body.depth)
  levels = [torso, neck]
  mirrored = np.stack([abs(x), y, z], -1)
  for start, end, radius in _arm(body):
    levels.append(_capsule(mirrored, start, end, radius + body.fat))
  if rng.random() < 0.5:
    size = rng.uniform(0.28, 0.45) * w
    center = np.array([0.55 * w, -1.1 * body.depth, 0.25 * body.height])
    axes = size * np.array([1.1, 0.9, 1.0])
    levels.append(anatomy.ellipsoid(mirrored, center, axes))
  return functools.reduce(np.maximum, levels)


def _arm(body: anatomy.Body) -> list[tuple[np.ndarray, np.ndarray, float]]:
  """Returns start, end and radius of the left shoulder and upper arm, mm."""
  joint = _joint(body)
  inner = joint * [0.6, 1.0, 1.0]
  elbow = joint + np.array([0.35 * body.width, 0.0, -0.9 * body.height])
  return [
    (inner, joint, 0.24 * body.width),
    (joint, elbow, 0.22 * body.width),
  ]


def _joint(body: anatomy.Body) -> np.ndarray:
  """Returns where the left upper arm begins, mm."""
  return np.array([1.3 * body.width, 0.25 * body.depth, 0.86 * body.height])


def _capsule(
  positions: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float
) -> np.ndarray:
  """Returns the level of what is nearer to a line than a radius."""
  line = end - start
  offset = positions - np.float32(start)
  along = np.clip(offset @ np.float32(line / (line @ line)), 0, 1)
  offset -= along[..., None] * np.float32(line)
  return np.float32(radius) - np.sqrt((offset**2).sum(-1))


def bones(body: anatomy.Body, grain: float) -> records.Points:
  """Returns collarbones and upper arms, denser in their shells."""
  clouds = []
  w, d, h = body.width, body.depth, body.height
  for side in (-1, 1):
    mirror = np.array([side, 1, 1])
    joint = _joint(body)
    inner = [0.13 * w, -0.62 * d, 0.84 * h]
    bend = [0.68 * w, -0.4 * d, 0.92 * h]
    outer = [1.18 * w, 0.1 * d, 0.95 * h]
    collar = np.array(
      [
        [inner, [0.4 * w, -0.75 * d, 0.87 * h], bend],
        [bend, [0.95 * w, -0.05 * d, 0.97 * h], outer],
      ]
    )
    clouds += _bone(collar * mirror, 0.055 * w, grain)
    _, elbow, _ = _arm(body)[1]
    shaft = np.array([[joint, (joint + elbow) / 2, elbow]])
    clouds += _bone(shaft * mirror, 0.08 * w, grain)
    clouds.append(_head(joint * [0.95, 1, 1] * mirror, 0.16 * w, grain))
  return tubes.join(*clouds)


def _bone(
  controls: np.ndarray, radius: float, grain: float
) -> list[records.Points]:
  """Returns shell and marrow along curves."""
  length = np.linalg.norm(np.diff(controls, axis=1), axis=-1).sum(1).max()
  center, slope = tubes.curve(controls, max(int(length / grain), 2))
  center, step = center.reshape(-1, 3), slope.reshape(-1, 3) / slope.shape[1]
  size = np.full(len(center), radius)
  return [
    tubes.tube(center, step, size, 1100.0, inner=0.6 * size, grain=grain),
    tubes.tube(center, step, 0.6 * size, 200.0, grain=grain),
  ]


def _head(center: np.ndarray, radius: float, grain: float) -> records.Points:
  """Returns the ball on top of an upper arm."""
  rays = tubes.fill(np.full(3, radius), grain, np.random.default_rng(0))
  rays = rays[np.linalg.norm(rays, axis=1) < radius]
  count = len(rays)
  return records.Points(
    (rays + center).astype(np.float32),
    np.full(count, grain**3, np.float32),
    np.full(count, 300.0, np.float32),
  )
