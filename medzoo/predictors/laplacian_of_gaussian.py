"""A hand-written nodule detector, the baseline that a network has to beat.

Bright blobs of every size inside the lungs, found by the scale-normalised
Laplacian of Gaussian (Lindeberg 1998), tubes and sheets held down by the
eigenvalues of the Hessian as in the dot filters of Li et al. 2003. It has no
trained variables; `tune` picks its few settings on the training split.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage
from scipy import spatial

from medzoo import types
from medzoo.data import lungs
from medzoo.data import volumes

# The response to a ball peaks at sigma = radius / sqrt(3).
_DIAMETER_PER_SIGMA = 2 * 3**0.5
# Nodules of 3 to 30 mm in steps of a third; each group on a grid about as fine
# as its smallest sigma.
_DIAMETERS_MM = {
  1: (3.0, 4.0, 5.3),
  2: (7.0, 9.3, 12.4),
  4: (16.5, 22.0, 30.0),
}
_FLOOR_HU = -1000.0
_PAD_MM = 16
# Local maxima kept of each size before they are ranked, to bound the work.
_MAX_BLOBS = 4000
_MAX_DETECTIONS = 300


@dataclasses.dataclass(frozen=True)
class Settings:
  """What `tune` chooses.

  Attributes:
    ceiling_hu: intensities above it are cut off, so that bone and contrast
      agent do not outshine soft tissue.
    exponent: of sigma in the normalisation; 2 treats all sizes alike, more
      favours large blobs.
    roundness: exponent of the ratio of weakest to strongest curvature, by which
      a response is multiplied; 0 leaves tubes and sheets alone.
    min_diameter_mm: smallest blob that is looked for.
  """

  ceiling_hu: float = -200.0
  exponent: float = 2.0
  roundness: float = 1.0
  min_diameter_mm: float = 3.0


# What `tune` tries: every combination.
GRID = {
  'ceiling_hu': (-400.0, -100.0, 200.0),
  'exponent': (1.5, 2.0, 2.5),
  'roundness': (0.0, 0.5, 1.0, 2.0),
  'min_diameter_mm': (3.0, 4.0, 5.3),
}


@dataclasses.dataclass(frozen=True)
class _Blobs:
  """Local maxima of one scan at every size.

  Attributes:
    index: (n, 3) place, index (z, y, x) of the 1 mm grid.
    diameter: (n,) mm.
    response: (n,) minus sigma^2 times the Laplacian, in units of the window.
    roundness: (n,) weakest over strongest curvature, in [0, 1].
  """

  index: np.ndarray
  diameter: np.ndarray
  response: np.ndarray
  roundness: np.ndarray


def predict(volume: types.Volume, *, settings: Settings) -> types.Detections:
  """Finds bright blobs in the lungs of a CT.

  Args:
    volume: CT as it was acquired, Hounsfield units.
    settings: what `tune` chose.

  Returns:
    Up to 300 detections by falling score, with class 1. Scores compare between
    scans but are no probabilities. Within the radius of a surer one, and
    within 3 mm, none is kept.
  """
  volume, mask = _searched(volume)
  return _rank(_find(volume, mask, settings.ceiling_hu), volume, settings)


def tune(
  cases: Sequence[types.Case],
  score: Callable[[Sequence[types.Case], Sequence[types.Detections]], float],
  grid: Mapping[str, Sequence[float]] = GRID,
) -> Settings:
  """Chooses settings on training cases.

  The filters are run once for each ceiling, the other settings only rank what
  they found.

  Args:
    cases: scans of the training split.
    score: says how good detections are, one set a case, CPM say; higher is
      better.
    grid: values to try of each setting; what it leaves out keeps its default.

  Returns:
    The best combination, the first among equals.
  """
  choices = [
    Settings(**dict(zip(grid, values, strict=True)))
    for values in itertools.product(*grid.values())
  ]
  found = {settings.ceiling_hu: [] for settings in choices}
  volumes_at_1mm = []
  for index in range(len(cases)):
    volume, mask = _searched(cases[index].volume)
    for ceiling, blobs in found.items():
      blobs.append(_find(volume, mask, ceiling))
    # Only its place in the world is needed from here on.
    empty = np.zeros((0, 0, 0), np.float32)
    volumes_at_1mm.append(dataclasses.replace(volume, voxels=empty))
  best, highest = choices[0], -np.inf
  for settings in choices:
    detections = [
      _rank(blobs, volume, settings)
      for blobs, volume in zip(
        found[settings.ceiling_hu], volumes_at_1mm, strict=True
      )
    ]
    value = score(cases, detections)
    if value > highest:
      best, highest = settings, value
  return best


def _searched(volume: types.Volume) -> tuple[types.Volume, np.ndarray]:
  """Returns the lungs' surroundings at 1 mm, and where in them to search."""
  volume = volumes.resample(volume, (1.0, 1.0, 1.0))
  mask = lungs.search_region(volume, 'lung')
  box = ndimage.find_objects(mask.astype(np.uint8))[0]
  box = tuple(
    slice(max(b.start - _PAD_MM, 0), min(b.stop + _PAD_MM, n))
    for b, n in zip(box, mask.shape, strict=True)
  )
  origin = volume.index_to_world(np.array([b.start for b in box]))
  cut = dataclasses.replace(
    volume, voxels=volume.voxels[box], origin=tuple(origin.tolist())
  )
  return cut, mask[box]


def _find(volume: types.Volume, mask: np.ndarray, ceiling_hu: float) -> _Blobs:
  """Returns the local maxima of the Laplacian at each size."""
  image = np.clip(volume.voxels, _FLOOR_HU, ceiling_hu)
  image -= _FLOOR_HU
  image /= ceiling_hu - _FLOOR_HU
  blur = 0.0
  step = 1
  found = []
  for next_step, diameters in _DIAMETERS_MM.items():
    thin = (slice(None, None, next_step // step),) * 3
    image, mask, step = image[thin], mask[thin], next_step
    for diameter in diameters:
      sigma = diameter / _DIAMETER_PER_SIGMA
      image = ndimage.gaussian_filter(
        image, (sigma**2 - blur**2) ** 0.5 / step, mode='nearest', truncate=3
      )
      blur = sigma
      index, response, roundness = _maxima(image, mask, (sigma / step) ** 2)
      size = np.full(len(index), diameter)
      found.append((index * step, size, response, roundness))
  return _Blobs(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _maxima(
  image: np.ndarray, mask: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns place, response and roundness of a blurred image's bright blobs."""
  response = np.zeros_like(image)
  inner = response[1:-1, 1:-1, 1:-1]
  inner += 6 * image[1:-1, 1:-1, 1:-1]
  for axis in range(3):
    for side in (slice(None, -2), slice(2, None)):
      place = [slice(1, -1)] * 3
      place[axis] = side
      inner -= image[tuple(place)]
  inner *= scale
  peak = response == ndimage.maximum_filter(response, 3)
  index = np.argwhere(peak & mask & (response > 0))
  values = response[tuple(index.T)]
  index = index[np.argsort(-values, kind='stable')[:_MAX_BLOBS]]
  return index, response[tuple(index.T)], _roundness(image, index)


def _roundness(image: np.ndarray, index: np.ndarray) -> np.ndarray:
  """Returns weakest over strongest curvature at inner voxels, 1 for a ball."""
  hessian = np.zeros((len(index), 3, 3))
  unit = np.eye(3, dtype=int)

  def at(offset: np.ndarray) -> np.ndarray:
    return image[tuple((index + offset).T)].astype(float)

  for a in range(3):
    hessian[:, a, a] = at(unit[a]) + at(-unit[a]) - 2 * at(0 * unit[a])
    for b in range(a):
      both, across = unit[a] + unit[b], unit[a] - unit[b]
      mixed = at(both) + at(-both) - at(across) - at(-across)
      hessian[:, a, b] = hessian[:, b, a] = mixed / 4
  values = np.linalg.eigvalsh(hessian)
  # All curvatures of a bright blob are negative, the strongest comes first.
  strongest = np.minimum(values[:, 0], -1e-12)
  return np.clip(values[:, 2] / strongest, 0, 1)


def _rank(
  blobs: _Blobs, volume: types.Volume, settings: Settings
) -> types.Detections:
  """Scores blobs and keeps the surest of those that overlap."""
  sigma = blobs.diameter / _DIAMETER_PER_SIGMA
  scores = blobs.response * sigma ** (settings.exponent - 2)
  scores = scores * blobs.roundness**settings.roundness
  scores[blobs.diameter < settings.min_diameter_mm - 0.01] = 0
  order = np.argsort(-scores, kind='stable')
  order = order[scores[order] > 0]
  tree = spatial.cKDTree(blobs.index[order])
  free = np.ones(len(order), bool)
  kept = []
  for position, k in enumerate(order):
    if free[position]:
      kept.append(k)
      reach = max(blobs.diameter[k] / 2, 3.0)
      free[tree.query_ball_point(blobs.index[k], reach)] = False
    if len(kept) == _MAX_DETECTIONS:
      break
  return types.Detections(
    centers=volume.index_to_world(blobs.index[kept].reshape(-1, 3)),
    diameters=blobs.diameter[kept],
    scores=scores[kept],
    labels=np.ones(len(kept), np.int32),
  )


class LaplacianOfGaussian:
  """The detector as a predictor without variables; arguments as `Settings`."""

  stages = ()

  def __init__(
    self,
    models: Mapping[str, object],
    preprocess: Mapping[str, object],
    *,
    ceiling_hu: float,
    exponent: float,
    roundness: float,
    min_diameter_mm: float,
  ):
    # It has no network, and its grid and intensities are its own.
    del models, preprocess
    self._settings = Settings(ceiling_hu, exponent, roundness, min_diameter_mm)

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.Detections]:
    """Returns the `detections` of one scan."""
    del variables
    return {'detections': predict(volume, settings=self._settings)}


Predictor = LaplacianOfGaussian
