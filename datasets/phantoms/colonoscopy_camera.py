"""The tip of the colonoscope: where it is, and what its rays meet."""

import dataclasses
from collections.abc import Callable

import numpy as np

# Farther than this, in radii of the colon, nothing is lit.
FAR = 6.0
# Steps per ray at most, and how near to a surface, as share of the way, it
# has met it.
_STEPS, _NEAR = 40, 0.0015


@dataclasses.dataclass(frozen=True)
class Camera:
  """A wide-angle camera: angles grow in proportion to pixels.

  Attributes:
    origin: (3,) where it is.
    axes: (3, 3) columns point right, down and forward in the image.
    half_angle: from the middle to the left or right edge, radians.
  """

  origin: np.ndarray
  axes: np.ndarray
  half_angle: float

  def rays(self, height: int, width: int) -> np.ndarray:
    """Returns the unit directions (height * width, 3) of all pixels."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    u = (columns + 0.5) * (2 / width) - 1
    v = (rows + 0.5) * (2 / width) - height / width
    away = np.hypot(u, v) + 1e-6
    angle = away * self.half_angle
    sine = np.sin(angle) / away
    local = np.stack([u * sine, v * sine, np.cos(angle)], axis=-1)
    return local.reshape(-1, 3) @ self.axes.T.astype(np.float32)

  def project(self, points: np.ndarray) -> np.ndarray:
    """Returns where (n, 3) points are seen.

    Returns:
      (n, 2) right and down of the middle, 1 at the left and right edge.
    """
    local = (points - self.origin) @ self.axes
    away = np.hypot(local[:, 0], local[:, 1])
    angle = np.arctan2(away, local[:, 2])
    return local[:, :2] * (angle / (away + 1e-9) / self.half_angle)[:, None]

  def moved(self, by: np.ndarray, turns: np.ndarray) -> 'Camera':
    """Returns the camera elsewhere.

    Args:
      by: (3,) how far, in the world.
      turns: (3,) radians round the image's axes.
    """
    return dataclasses.replace(
      self, origin=self.origin + by, axes=self.axes @ _rotation(turns)
    )


def make(rng: np.random.Generator) -> Camera:
  """Draws a camera near z = 0 that looks along the colon, more or less."""
  turns = np.append(rng.normal(0, 0.5, 2), rng.uniform(-np.pi, np.pi))
  return Camera(
    np.append(rng.uniform(-0.28, 0.28, 2), rng.uniform(-0.1, 0.1)),
    _rotation(turns),
    rng.uniform(0.95, 1.2),
  )


def _rotation(turns: np.ndarray) -> np.ndarray:
  result = np.eye(3)
  for axis, turn in enumerate(turns):
    one, other = [i for i in range(3) if i != axis]
    step = np.eye(3)
    step[one, one] = step[other, other] = np.cos(turn)
    step[other, one] = np.sin(turn)
    step[one, other] = -np.sin(turn)
    result = result @ step
  return result


def march(
  distance: Callable[[np.ndarray], np.ndarray],
  origin: np.ndarray,
  rays: np.ndarray,
  start: np.ndarray,
) -> np.ndarray:
  """Follows rays to the surface that they meet (sphere tracing).

  Args:
    distance: of (n, 3) points from the surface, negative behind it; it may
      overstate, as steps take half of it.
    origin: (3,) of all rays.
    rays: (n, 3) unit vectors.
    start: (n,) distances that are not behind the surface.

  Returns:
    (n,) float32 distances, `FAR` at most.
  """
  origin = origin.astype(np.float32)
  reached = start.astype(np.float32)
  active = np.arange(len(rays))
  before, there = reached, None
  for _ in range(_STEPS):
    here = reached[active]
    left = distance(origin + here[:, None] * rays[active])
    # Rays that pass close by must not be stuck there.
    step = np.where(left > 0, np.maximum(0.5 * left, 0.01 * here), 0.5 * left)
    if there is not None:
      # Close to the surface a secant takes fewer steps.
      slope = (left - there) / np.where(here == before, 1, here - before)
      close = (np.abs(left) < 0.05) & (slope < -0.15)
      secant = left / np.where(close, -slope, 1)
      step = np.where(close, np.clip(secant, -0.06, 0.06), step)
    after = np.clip(here + step, 0.02, FAR)
    reached[active] = after
    goes_on = (np.abs(left) > _NEAR * here) & (after < FAR)
    active, before, there = active[goes_on], here[goes_on], left[goes_on]
    if not len(active):
      break
  return reached
