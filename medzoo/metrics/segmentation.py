"""How well one outlined object agrees with another, pixel by pixel.

The definitions are those of Maier-Hein et al., Metrics reloaded, Nature Methods
21 (2024). Masks are arrays of any rank and may not be read as images: nothing
here knows what is left or right.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy import spatial


def dice(a: np.ndarray, b: np.ndarray) -> float:
  """Returns twice the shared pixels over the sum of both masks' pixels.

  Args:
    a: bool mask.
    b: bool mask of the same shape.

  Returns:
    In [0, 1]; NaN where both are empty.
  """
  shared, total = _counts(a, b)
  return 2 * shared / total if total else np.nan


def iou(a: np.ndarray, b: np.ndarray) -> float:
  """Returns shared pixels over those in either; see `dice`."""
  shared, total = _counts(a, b)
  return shared / (total - shared) if total else np.nan


def hausdorff(
  a: np.ndarray,
  b: np.ndarray,
  spacing: Sequence[float] | None = None,
  percentile: float = 95.0,
) -> float:
  """Returns the 95th-percentile Hausdorff distance of two surfaces.

  Args:
    a: bool mask.
    b: bool mask of the same shape.
    spacing: distance of neighbouring pixels along each axis; None for 1.
    percentile: 100 for the Hausdorff distance itself.

  Returns:
    As `apart` gives it, in units of the spacing.

  Raises:
    ValueError: the shapes differ.
  """
  _check(a, b)
  steps = 1.0 if spacing is None else np.asarray(spacing, float)
  return apart(surface(a) * steps, surface(b) * steps, percentile)


def surface(mask: np.ndarray) -> np.ndarray:
  """Returns the pixels of a mask that touch what is not of it.

  Args:
    mask: bool.

  Returns:
    (n, rank) index coordinates of the pixels that share an edge with the
    background or with the border of the image.
  """
  mask = np.asarray(mask, bool)
  return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def apart(
  first: np.ndarray, second: np.ndarray, percentile: float = 95.0
) -> float:
  """Returns the percentile of the distances between two sets of points.

  From each point of either set runs the distance to the nearest of the other;
  of the two percentiles, one a direction, the larger is taken. So do Metrics
  reloaded, MONAI and DeepMind's surface-distance; MedPy pools the two
  directions first.

  Args:
    first: (n, rank) points.
    second: (m, rank) points.
    percentile: of the distances.

  Returns:
    NaN where either set is empty.
  """
  if not len(first) or not len(second):
    return np.nan
  return max(
    np.percentile(spatial.KDTree(there).query(here)[0], percentile)
    for here, there in ((first, second), (second, first))
  )


def _counts(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
  """Counts the pixels that two masks share, and those of both together."""
  _check(a, b)
  shared = np.count_nonzero(np.logical_and(a, b))
  return shared, np.count_nonzero(a) + np.count_nonzero(b)


def _check(a: np.ndarray, b: np.ndarray) -> None:
  if a.shape != b.shape:
    raise ValueError(f'masks of {a.shape} and {b.shape}: expected equal shapes')
