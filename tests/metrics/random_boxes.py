"""Random images with boxes, for the tests of box metrics."""

import numpy as np

from medzoo.metrics import box_matches


def _boxes(rng, count):
  low = rng.integers(0, 12, (count, 2))
  sides = rng.integers(1, 14, (count, 2))
  return np.concatenate([low, low + sides], axis=1).astype(float)


def images(seed, *, num_images=12, classes=3, special=True):
  """Draws lists of detections and of truths, with ties and empty images."""
  rng = np.random.default_rng(seed)
  detections, truths = [], []
  for _ in range(num_images):
    m, n = rng.integers(0, 9, 2) * (rng.random(2) < 0.8)
    true = _boxes(rng, m)
    found = _boxes(rng, n)
    if m:
      near = rng.random(n) < 0.7
      moved = true[rng.integers(0, m, n)] + rng.integers(-1, 2, (n, 4)) / 2
      found = np.where(near[:, None], moved, found)
      found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    flags = rng.random((2, m)) < 0.2 * special
    detections.append(
      box_matches.Detections(
        found, rng.random(n).round(1), rng.integers(1, classes + 1, n)
      )
    )
    truths.append(
      box_matches.Truths(true, rng.integers(1, classes + 1, m), *flags)
    )
  return detections, truths
