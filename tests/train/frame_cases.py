"""Four small frames with polyps or none, and what was found in them.

At a score of 0.5 two of three polyps are hit by IoU; a third box has its
centre on the last polyp, but is too large. One box is a double, one lies in
the clean frame.
"""

import numpy as np

from medzoo import types
from medzoo.train import mapping
from tests.data import phantom_cases
from tests.train import slice_cases

SHAPE = (40, 60)
# y0, x0, y1, x1.
POLYPS = {
  'a/1.png': [(4, 4, 14, 14), (20, 30, 32, 46)],
  'a/2.png': [(10, 10, 20, 20)],
  'b/3.png': [],
  'b/4.png': [],
}
FOUND = {
  'a/1.png': [((4, 4, 14, 15), 0.9), ((5, 5, 15, 15), 0.8),
              ((20, 30, 32, 44), 0.6)],
  'a/2.png': [((2, 2, 28, 28), 0.7)],
  'b/3.png': [((5, 5, 15, 15), 0.5)],
  'b/4.png': [((5, 5, 15, 15), 0.4)],
}  # fmt: skip


def case(key, polyps, shape=SHAPE):
  rng = np.random.default_rng(len(key))
  pixels = rng.integers(60, 200, (1, *shape, 3)).astype(np.uint8)
  masks = np.zeros((len(polyps), *shape), bool)
  for mask, (y0, x0, y1, x1) in zip(masks, polyps, strict=True):
    mask[y0:y1, x0:x1] = True
  nothing = phantom_cases.findings()
  return types.Case(
    types.Volume(pixels, (None, None, None), series_uid=key),
    key[0],
    nothing,
    nothing,
    masks=types.Masks(masks, np.ones(len(polyps), np.int32)),
  )


def cases():
  return slice_cases.Cases([case(*item) for item in POLYPS.items()])


def found(rows):
  """Boxes with their scores, as `windows` gives them."""
  number = len(rows)
  return types.BoxDetections(
    slices=np.zeros(number, np.int32),
    corners=np.array([row[0] for row in rows], float).reshape(-1, 4),
    scores=np.array([row[1] for row in rows], float),
    labels=np.ones(number, np.int32),
    steps=np.zeros(number, np.int32),
    suppressed=np.zeros(number, bool),
    links=np.full(number, -1, np.int32),
  )


def outputs(rows=FOUND):
  return {
    key: mapping.Output(key, {'windows': found(each)}, 0.1)
    for key, each in rows.items()
  }
