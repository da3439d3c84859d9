"""Films with two round lungs each, and what was found in them."""

import numpy as np

from medzoo import types
from tests.train import slice_cases

NOTHING = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int32))


def disc(shape, center, radius):
  """A round mask; one side of the film's height is 1."""
  height, width = shape
  rows, columns = np.indices(shape) + 0.5
  y, x = center
  apart = np.hypot(rows - y * height, columns - x * width)
  return apart <= radius * height


def lungs(shape, grow=0.0, shift=0.0):
  """(2, h, w) masks of the right lung, on the film's left, and the left."""
  return np.stack(
    [
      disc(shape, (0.5, 0.27 + shift), 0.22 + grow),
      disc(shape, (0.5, 0.73 + shift), 0.2 + grow),
    ]
  )


def case(name, group, masks, labels, *, spacing=(None, 0.5, 0.5), voxels=None):
  """A film whose lungs are dark."""
  if voxels is None:
    voxels = np.where(masks.any(axis=0), 60, 200).astype(np.uint8)[None]
  volume = types.Volume(voxels, spacing, series_uid=name)
  there = types.Masks(masks, np.array(labels, np.int32))
  return types.Case(volume, group, NOTHING, NOTHING, masks=there)


def found(masks, labels, scores):
  """Instances, with boxes a little larger than their masks."""
  corners = np.zeros((len(masks), 4), np.float32)
  for row, mask in zip(corners, masks, strict=True):
    rows, columns = np.nonzero(mask)
    if len(rows):
      row[:2] = rows.min() - 0.3, columns.min() - 0.6
      row[2:] = rows.max() + 1.2, columns.max() + 1.1
  return types.MaskDetections(
    masks, corners, np.array(scores, np.float32), np.array(labels, np.int32)
  )


def films(number=8, seed=0):
  """Films of half as many patients, of several sizes, and what was found.

  The last but one has a right lung only, for which a left one is found too; in
  the last nothing is found.
  """
  rng = np.random.default_rng(seed)
  cases, outputs = slice_cases.Cases(), {}
  for i in range(number):
    shape = (48, 64 + 4 * i)
    there, labels = lungs(shape, 0.004 * i), [1, 2]
    moved = lungs(shape, 0.004 * i + rng.uniform(-0.03, 0.01),
                  rng.uniform(-0.02, 0.02))  # fmt: skip
    scores = rng.uniform(0.6, 1, 2).round(2)
    order = np.argsort(-scores)
    if i == number - 2:
      there, labels = there[:1], [1]
    one = found(moved[order], np.array([1, 2])[order], scores[order])
    if i == number - 1:
      one = found(moved[:0], [], [])
    name = f'folder/film {i}.png'
    cases.append(case(name, f'p{i // 2}', there, labels))
    outputs[name] = {'lungs': one}
  return cases, outputs
