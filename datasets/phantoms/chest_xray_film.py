"""From what rays meet to a picture: exposure, scatter, noise, the display."""

import numpy as np
from scipy import ndimage

# Of water at 70 keV, per mm (NIST, XCOM).
WATER = 0.0193
# Width of the veil that scattered photons lay over a film, mm.
_VEIL_MM = 45.0


def transmit(thickness: np.ndarray) -> np.ndarray:
  """Returns the share of photons that pass, by Beer and Lambert's law.

  Args:
    thickness: the line integral of the attenuation, as mm of water.
  """
  return np.exp(-WATER * thickness)


def expose(
  thickness: np.ndarray, spacing: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns a picture as a detector's workstation shows it.

  Args:
    thickness: (h, w) the line integral of the attenuation, as mm of water.
    spacing: of its pixels, mm.
    rng: draws dose, scatter, window and sharpening, and makes the noise.

  Returns:
    (h, w) float32 in [0, 1], white where little passed.
  """
  primary = ndimage.gaussian_filter(
    transmit(thickness), rng.uniform(0.4, 0.9), mode='nearest'
  )
  ratio = rng.uniform(0.1, 0.6)
  veil = _blur(primary, _VEIL_MM / spacing)
  # Photons that a pixel gets without a patient.
  dose = 10 ** rng.uniform(4.3, 5.5)
  counts = rng.poisson(dose * (primary + ratio * veil))
  density = -np.log((counts + 1) / dose).astype(np.float32)
  local = _blur(density, rng.uniform(8.0, 20.0) / spacing)
  density += rng.uniform(0.3, 2.2) * (density - local)
  # Of the patient alone: the air around would take up the window.
  body = density[thickness > 30]
  low = np.percentile(body, rng.uniform(0.1, 3.0)) - rng.uniform(0.0, 0.5)
  high = np.percentile(body, rng.uniform(88.0, 99.9)) + rng.uniform(0.0, 0.6)
  picture = np.clip((density - low) / (high - low), 0, 1)
  return (picture ** rng.uniform(0.7, 1.4)).astype(np.float32)


def _blur(values: np.ndarray, width: float) -> np.ndarray:
  return ndimage.gaussian_filter(values, width, mode='nearest', truncate=2.5)
