"""Small solid shapes in a phantom patient, and their shadows on films.

A lump is ellipsoids in each other, and its shadow the length of every ray
within it: added to the rays' integrals, before photons are counted, it is
seen through ribs, vessels and heart as a nodule is.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from datasets.phantoms import chest_xray_views as views

# Rays on each side of a pixel.
_FINER = 3


@dataclasses.dataclass(frozen=True)
class Lump:
  """Ellipsoids that overlap.

  Attributes:
    center: (3,) x, y, z, mm.
    offsets: (n, 3) of the ellipsoids' middles from it, mm.
    axes: (n, 3, 3) turn and stretch offsets from them onto a unit sphere.
    radius: of the whole, mm.
    water: what a mm of it adds to a ray, mm of water.
    margin: width of its edge, mm.
  """

  center: np.ndarray
  offsets: np.ndarray
  axes: np.ndarray
  radius: float
  water: float
  margin: float


def ellipsoid(
  center: np.ndarray, radii: np.ndarray, water: float, margin: float = 0.5
) -> Lump:
  """Returns a lump of one ellipsoid with radii along x, y and z, mm."""
  return Lump(
    np.asarray(center),
    np.zeros((1, 3)),
    np.diag(1 / np.asarray(radii))[None],
    float(max(radii)),
    water,
    margin,
  )


def lobulated(
  center: np.ndarray,
  radius: float,
  water: float,
  rng: np.random.Generator,
  *,
  lobes: int,
  stretch: float = 0.15,
) -> Lump:
  """Draws an ellipsoid with smaller ones on its surface.

  Args:
    center: (3,) mm.
    radius: of the whole in the mean over all directions, mm.
    water: see `Lump`.
    rng: draws it.
    lobes: how many smaller ones.
    stretch: standard deviation of the axes' logarithms.
  """
  core = radius * (0.85 if lobes else 1.0)
  out = rng.normal(size=(lobes, 3))
  out /= np.linalg.norm(out, axis=1, keepdims=True)
  sizes = np.array([core, *(rng.uniform(0.4, 0.65, lobes) * radius)])
  offsets = np.concatenate([np.zeros((1, 3)), out * 0.65 * radius])
  scale = np.exp(rng.normal(0, stretch, (lobes + 1, 3)))
  turn = np.linalg.qr(rng.normal(size=(lobes + 1, 3, 3)))[0]
  axes = turn / (sizes[:, None] * scale)[..., None]
  margin = radius * rng.uniform(0.08, 0.3)
  return Lump(np.asarray(center), offsets, axes, radius, water, margin)


def mark(lump: Lump, view: views.View) -> tuple[float, float, float]:
  """Returns row, column and diameter of a lump's shadow, pixels."""
  side = lump.center + lump.radius * view.right / view.spacing
  middle, edge = view.pixels(np.stack([lump.center, side]))
  return *middle.tolist(), 2 * float(np.linalg.norm(edge - middle))


def draw(lumps: Sequence[Lump], view: views.View) -> np.ndarray:
  """Returns (h, w) float32: what lumps add to each ray, mm of water."""
  thickness = np.zeros(view.shape, np.float32)
  for lump in lumps:
    row, column, diameter = mark(lump, view)
    reach = 0.9 * diameter + 4 * lump.margin / view.spacing + 2
    low = np.floor([row - reach, column - reach]).astype(int)
    high = np.ceil([row + reach, column + reach]).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, view.shape)
    if (high <= low).any():
      continue
    shadow = lump.water * _lengths(lump, view, low, high)
    shadow = ndimage.gaussian_filter(
      shadow, lump.margin / view.spacing, mode='nearest'
    )
    thickness[low[0] : high[0], low[1] : high[1]] += shadow
  return thickness


def _lengths(
  lump: Lump, view: views.View, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
  """Returns each pixel's mean length of rays within a lump, mm."""
  rows, columns = (
    (np.arange((b - a) * _FINER) + 0.5) / _FINER - 0.5 + a
    for a, b in zip(low, high, strict=True)
  )
  rays = view.corner - view.source + columns[None, :, None] * view.right
  rays = rays + rows[:, None, None] * view.down
  rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
  enter = np.full(rays.shape[:2], np.inf)
  leave = np.full(rays.shape[:2], -np.inf)
  for offset, axes in zip(lump.offsets, lump.axes, strict=True):
    # |start + t step| = 1, where an ellipsoid is the unit sphere.
    start = axes @ (view.source - lump.center - offset)
    step = np.einsum('...i,ki->...k', rays, axes)
    square = (step**2).sum(-1)
    middle = -np.einsum('...k,k->...', step, start) / square
    half = middle**2 - (start @ start - 1) / square
    hit = half > 0
    half = np.sqrt(np.maximum(half, 0))
    enter = np.where(hit, np.minimum(enter, middle - half), enter)
    leave = np.where(hit, np.maximum(leave, middle + half), leave)
  length = np.where(leave > enter, leave - enter, 0.0)
  h, w = high - low
  return length.reshape(h, _FINER, w, _FINER).mean((1, 3))
