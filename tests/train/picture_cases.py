"""Pictures of two classes, and what was said of them."""

import numpy as np

from medzoo import types
from tests.train import slice_cases

NOTHING = types.Findings(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int32))


class Cases(slice_cases.Cases):
  """Cases as `sources.Cases` gives them, with classes."""

  @property
  def labels(self):
    return [case.label for case in self]

  def subset(self, indices):
    return Cases(self[i] for i in indices)


def case(name, group, label, voxels=None, origin=(0.0, 0.0, 0.0)):
  """A picture, dark without voxels."""
  if voxels is None:
    voxels = np.full((1, 20, 24), 10, np.uint8)
  volume = types.Volume(voxels, (None,) * 3, origin, series_uid=name)
  return types.Case(volume, group, NOTHING, NOTHING, label=label)


def coloured(number=40, seed=0):
  """Pictures in colour, three a group; those of class 1 hold a red disc."""
  rng = np.random.default_rng(seed)
  cases = Cases()
  for i in range(number):
    shape = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
    pixels = rng.integers(60, 110, (*shape, 3)).astype(np.uint8)
    rows, columns = np.indices(shape)
    middle = rng.uniform(0.3, 0.7, 2) * shape
    if i % 2:
      inside = np.hypot(rows - middle[0], columns - middle[1]) < 12
      pixels[inside] = (200, 60, 60)
    cases.append(case(f'crop {i}', f's{i // 3}', i % 2, pixels[None]))
  return cases


def shapes(number=60, seed=0):
  """Grey pictures, each a group: empty, with a disc, and with stripes."""
  rng = np.random.default_rng(seed)
  cases = Cases()
  rows, columns = np.indices((48, 40))
  for i in range(number):
    pixels = rng.integers(60, 110, rows.shape).astype(np.uint8)
    middle = rng.uniform(0.3, 0.7, 2) * rows.shape
    if i % 3 == 1:
      pixels[np.hypot(rows - middle[0], columns - middle[1]) < 10] = 200
    elif i % 3 == 2:
      pixels[columns % 8 < 2] = 200
    cases.append(case(f'shape {i}', f's{i}', i % 3, pixels[None]))
  return cases


def told(cases, seed=0, apart=2.0, saliency=False):
  """What a fair classifier of three classes gives for cases, by key."""
  rng = np.random.default_rng(seed)
  found = {}
  for one in cases:
    logits = rng.normal(apart * np.eye(3)[one.label], 1.5).astype(np.float32)
    found[one.volume.series_uid] = {'picture': types.PictureScore(logits)}
    if saliency:
      maps = types.Saliency(*rng.random((2, 7, 7)).astype(np.float32))
      found[one.volume.series_uid]['saliency'] = maps
  return found


def said(cases, seed=0, apart=3.0, saliency=False):
  """What a fair classifier gives for cases, by key."""
  rng = np.random.default_rng(seed)
  found = {}
  for one in cases:
    logit = np.float32(rng.normal(apart * (one.label - 0.5), 2))
    found[one.volume.series_uid] = {'picture': types.PictureScore(logit)}
    if saliency:
      maps = rng.random((7, 7)), rng.normal(size=(16, 16))
      found[one.volume.series_uid]['saliency'] = types.Saliency(
        *(each.astype(np.float32) for each in maps)
      )
  return found
