"""The tissues of a phantom thorax: their Hounsfield units, by place."""

import numpy as np
from scipy import ndimage

from datasets.phantoms import chest_ct_anatomy as anatomy

FAT, MUSCLE, BONE, SKIN = -100.0, 45.0, 350.0, 10.0


def tissue(
  body: anatomy.Body, positions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Returns the (d, h, w) HU of the body without lungs, ribs and vessels.

  Args:
    body: the patient.
    positions: (d, h, w, 3) of a lattice, mm.
    rng: parts the muscles by fat.
  """
  skin = anatomy.body_level(body, positions)
  cavity = anatomy.cavity_level(body, positions)
  hu = np.where(skin < body.fat, FAT, MUSCLE).astype(np.float32)
  hu[skin < 2.0] = SKIN
  # Muscles lie in layers, with fat between them.
  wall = (cavity < 0) & (skin >= body.fat)
  ripple = ndimage.gaussian_filter(
    rng.standard_normal(skin.shape, np.float32), (4.0, 2.0, 2.0)
  )
  layers = np.sin(0.9 * cavity) + ripple / (0.6 * ripple.std())
  hu[wall & (layers > 1.6)] = FAT
  inside = cavity > 0
  above = anatomy.diaphragm_level(body, positions) > 0
  hu[inside & above] = -40.0
  liver = np.where(positions[..., 0] < 0.25 * body.width, 60.0, 30.0)
  hu[inside & ~above] = (liver + 0.3 * max(body.blood - 50, 0))[inside & ~above]
  blood = np.maximum(
    anatomy.heart_level(body, positions), anatomy.aorta_level(body, positions)
  )
  hu[(blood > 0) & above] = 45.0
  hu[(blood > 1.0) & above] = body.blood
  _add_spine(body, positions, hu)
  return hu


def _add_spine(
  body: anatomy.Body, positions: np.ndarray, hu: np.ndarray
) -> None:
  """Sets the intensities of the vertebrae, in place."""
  x, y, z = np.moveaxis(positions, -1, 0)
  spine = anatomy.spine_center(body, z)
  x, y = x - spine[..., 0], y - spine[..., 1]
  size = 0.2 * body.width
  vertebra = anatomy.ellipsoid(
    np.stack([x, y], -1), np.zeros(2), np.array([size, 0.85 * size])
  )
  disc = abs((z / (0.115 * body.height)) % 1 - 0.5) > 0.42
  hu[vertebra > 0] = np.where(disc, 90.0, 420.0)[vertebra > 0]
  hu[(vertebra > 2.0) & ~disc] = 190.0
  canal = 0.42 * size - np.hypot(x, y - 1.25 * size)
  arch = 0.75 * size - np.hypot(x, y - 1.3 * size)
  process = np.minimum(0.14 * size - abs(x), 1.1 * size - abs(y - 2.3 * size))
  wings = np.minimum(
    0.22 * size - abs(y - 1.2 * size - 0.3 * abs(x)), 1.7 * size - abs(x)
  )
  bone = np.maximum(np.maximum(arch, process), wings) > 0
  hu[bone & ~disc] = BONE
  hu[canal > 0] = 20.0


def parenchyma(
  body: anatomy.Body, positions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Returns the (d, h, w) HU of lung tissue at a lattice's positions."""
  y, z = positions[..., 1] / body.depth, positions[..., 2] / body.height
  level = anatomy.lung_level(body, positions)
  hu = body.parenchyma + body.gradient * (0.5 * y + 0.15 * (0.5 - z))
  # The lowest part of the back is collapsed a little.
  below = np.exp(-np.maximum(level, 0) / 5.0) * np.clip(y, 0, 1) ** 2
  hu += body.gradient * below
  shape = hu.shape
  for cell, strength in ((1, 14.0), (5, 16.0)):
    small = [-(-n // cell) for n in shape]
    noise = rng.standard_normal(small).astype(np.float32)
    for axis in range(3):
      noise = np.repeat(noise, cell, axis)
    hu += strength * noise[: shape[0], : shape[1], : shape[2]]
  return hu.astype(np.float32)
