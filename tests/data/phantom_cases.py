"""Small made-up cases for the tests of this folder."""

import numpy as np

from medzoo import types


def findings(centers=(), diameters=(), labels=None):
  """Findings from plain lists."""
  return types.Findings(
    centers=np.array(centers, float).reshape(-1, 3),
    diameters=np.array(diameters, float),
    labels=np.ones(len(diameters), np.int32)
    if labels is None
    else np.array(labels, np.int32),
  )


def case(
  name, lesion_index=(), diameters=None, labels=None, excluded=None, shape=None
):
  """Air with a soft bright ball of 3 mm deviation at each lesion."""
  shape = (30, 60, 64) if shape is None else shape
  volume = types.Volume(
    voxels=np.zeros(shape, np.int16),
    spacing=(2.0, 0.8, 0.8),
    origin=(-20.0, 30.0, 100.0),
    direction=np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]]),
    modality='CT',
    series_uid=name,
  )
  index = np.array(lesion_index, float).reshape(-1, 3)
  voxels = np.full(shape, -1000.0)
  for place in index:
    gaps = (np.indices(shape) - place[:, None, None, None]) * np.array(
      volume.spacing
    )[:, None, None, None]
    voxels += 1000 * np.exp(-(gaps**2).sum(0) / 18)
  diameters = np.full(len(index), 8.0) if diameters is None else diameters
  return types.Case(
    volume=types.Volume(
      np.round(voxels).astype(np.int16),
      volume.spacing,
      volume.origin,
      volume.direction,
      'CT',
      name,
    ),
    group='patient of ' + name,
    lesions=findings(volume.index_to_world(index), diameters, labels),
    excluded=findings() if excluded is None else excluded,
  )
