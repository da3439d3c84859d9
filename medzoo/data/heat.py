"""Heat maps laid over pictures, for people to look at."""

import numpy as np

from medzoo.data import pictures

# Of a picture's values, percent, so that single pixels do not dim the rest.
_TOP = 99.5
_OPACITY = 0.7


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """Lays a heat map over a picture.

  What is warm turns red and, where it is warmest, yellow; what is below 0
  turns blue; the nearer to 0, the less the picture is covered. Values count
  relative to the 99.5th percentile of their magnitudes.

  Args:
    pixels: (h, w) or, in colour, (h, w, 3) uint8.
    heat: (a, b) float of any scale, which spans the picture from edge to edge.

  Returns:
    (h, w, 3) uint8; the picture itself where all is 0.
  """
  picture = np.array(pixels, np.float32)
  if picture.ndim == 2:
    picture = np.repeat(picture[..., None], 3, -1)
  heat = np.asarray(heat, np.float32)
  magnitude = np.abs(heat)
  top = np.percentile(magnitude, _TOP) or magnitude.max()
  if not top:
    return picture.astype(np.uint8)
  heat = np.clip(heat / top, -1, 1)
  heat = pictures.resize(heat[None], picture.shape[:2])[0]
  warm, cold = np.maximum(heat, 0), np.maximum(-heat, 0)
  colour = 255 * np.stack(
    [heat > 0, np.where(heat > 0, warm**2, 0.4), heat <= 0], -1
  )
  share = _OPACITY * np.maximum(warm, cold)[..., None]
  mixed = (1 - share) * picture + share * colour
  return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
