"""Clouds of points for tubes, plates and blobs, the small shapes of a lung."""

import numpy as np

from datasets.phantoms import chest_ct_records as records

# The clouds' density: cross section per point and step along a tube, in the
# unit of the caller's `grain`, its smallest voxel edge in mm.
_GOLDEN = np.float32(np.pi * (3 - np.sqrt(5)))


def join(*clouds: records.Points) -> records.Points:
  """Returns all clouds as one."""
  return records.Points(
    np.concatenate([cloud.positions for cloud in clouds]).astype(np.float32),
    np.concatenate([cloud.volumes for cloud in clouds]).astype(np.float32),
    np.concatenate([cloud.hu for cloud in clouds]).astype(np.float32),
  )


def curve(controls: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Samples quadratic Bezier curves at the middles of equal steps.

  Args:
    controls: (n, 3, 3) start, handle and end of each.
    count: samples of each.

  Returns:
    (n, count, 3) positions and derivatives by the parameter.
  """
  t = ((np.arange(count) + 0.5) / count).astype(np.float32)[:, None]
  start, handle, end = (controls[:, None, i] for i in range(3))
  position = (1 - t) ** 2 * start + 2 * t * (1 - t) * handle + t**2 * end
  slope = 2 * ((1 - t) * (handle - start) + t * (end - handle))
  return position, slope


def tube(
  centers: np.ndarray,
  steps: np.ndarray,
  outer: np.ndarray,
  hu: np.ndarray | float,
  *,
  inner: np.ndarray | None = None,
  grain: float,
) -> records.Points:
  """Fills a tube along a line with points.

  Args:
    centers: (n, 3) of the line, mm.
    steps: (n, 3) its direction, as long as the step to the next centre, mm.
    outer: (n,) radius, mm.
    hu: intensity, one or (n,).
    inner: (n,) radius of the lumen left free, mm.
    grain: distance of points, mm.
  """
  inner = np.zeros_like(outer) if inner is None else inner
  length = np.linalg.norm(steps, axis=1)
  area = np.pi * (outer**2 - inner**2)
  count = np.maximum(np.ceil(area / grain**2), 1).astype(int)
  owner = np.repeat(np.arange(len(centers)), count)
  rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
  share = ((rank + 0.5) / count[owner]).astype(np.float32)
  low, high = (inner**2)[owner], (outer**2)[owner]
  radius = np.sqrt(low + share * (high - low))
  angle = rank * _GOLDEN + 2.4 * owner
  side, up = frame(steps)
  positions = centers[owner] + radius[:, None] * (
    np.cos(angle)[:, None] * side[owner] + np.sin(angle)[:, None] * up[owner]
  )
  volumes = (area * length / count)[owner]
  intensity = np.broadcast_to(np.asarray(hu, np.float32), len(centers))[owner]
  return records.Points(
    positions.astype(np.float32),
    volumes.astype(np.float32),
    intensity.astype(np.float32),
  )


def frame(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns two (n, 3) unit vectors perpendicular to each other and to it."""
  unit = directions / np.maximum(
    np.linalg.norm(directions, axis=-1, keepdims=True), 1e-6
  )
  helper = np.where(abs(unit[..., 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
  side = np.cross(unit, helper)
  side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
  return side, np.cross(unit, side)


def bezier(
  controls: np.ndarray, radii: np.ndarray, hu: float, *, grain: float
) -> records.Points:
  """Fills tubes along Bezier curves, each tapering to its end.

  Args:
    controls: (n, 3, 3) start, handle and end, mm.
    radii: (n, 2) at start and end, mm.
    hu: intensity.
    grain: distance of points, mm.
  """
  if not len(controls):
    return empty()
  length = np.linalg.norm(np.diff(controls, axis=1), axis=-1).sum(1)
  counts = np.maximum(np.ceil(length / grain), 2).astype(int)
  parts = []
  # Curves of about one length share a call; a few calls do for thousands.
  group = np.ceil(np.log2(counts)).astype(int)
  for value in np.unique(group):
    chosen = group == value
    count = int(counts[chosen].max())
    center, slope = curve(controls[chosen], count)
    t = (np.arange(count) + 0.5) / count
    radius = radii[chosen, :1] * (1 - t) + radii[chosen, 1:] * t
    parts.append(
      tube(
        center.reshape(-1, 3),
        slope.reshape(-1, 3) / count,
        radius.ravel(),
        hu,
        grain=grain,
      )
    )
  return join(*parts)


def empty() -> records.Points:
  """Returns a cloud of nothing."""
  return records.Points(
    np.zeros((0, 3), np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.float32),
  )


def fill(
  extent: np.ndarray, grain: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns (n, 3) points of a regular lattice over a box round 0, mm.

  Args:
    extent: (3,) half the box, mm.
    grain: distance of points, mm.
    rng: shifts the lattice.
  """
  shift = rng.random(3) - 0.5
  axes = [
    (np.arange(-np.ceil(e / grain) - 1, np.ceil(e / grain) + 2) + s) * grain
    for e, s in zip(extent, shift, strict=True)
  ]
  mesh = np.meshgrid(*axes, indexing='ij')
  return np.stack(mesh, -1).reshape(-1, 3).astype(np.float32)
