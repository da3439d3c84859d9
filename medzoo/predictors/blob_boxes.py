"""The hand-written nodule detector's spheres as boxes on slices.

The baseline that a detector of boxes on slices has to beat: what
`laplacian_of_gaussian` finds, with the same settings and the same `tune`.
"""

from collections.abc import Mapping

import numpy as np

from medzoo import types
from medzoo.ops import boxes as box_ops
from medzoo.predictors import laplacian_of_gaussian

tune = laplacian_of_gaussian.tune


class BlobBoxes(laplacian_of_gaussian.LaplacianOfGaussian):
  """The detector with the boxes of what it finds; arguments as its own."""

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.BoxDetections | types.Detections]:
    """Returns the `detections` of one scan, and the `boxes` that bound them."""
    results = super().__call__(variables, volume)
    boxes = cross_sections(results['detections'], volume)
    return {'boxes': boxes, **results}


def cross_sections(
  found: types.Detections, volume: types.Volume
) -> types.BoxDetections:
  """Bounds each sphere's section with each slice that it crosses.

  Args:
    found: spheres, world mm.
    volume: the scan; only its grid matters.

  Returns:
    The boxes, clipped to the slice, slice by slice and by falling score, each
    with its sphere's score and class and linked to it.
  """
  places = volume.world_to_index(found.centers.reshape(-1, 3))
  depth, *shape = volume.voxels.shape
  away = (np.arange(depth)[:, None] - places[:, 0]) * volume.spacing[0]
  square = (found.diameters / 2) ** 2 - away**2
  # Slice by slice; within one in the order of the spheres, by falling score.
  slices, of = np.nonzero(square > 0)
  half = np.sqrt(square[slices, of])[:, None] / np.array(volume.spacing[1:])
  # Boxes are half-open, index coordinates count from the middle of a voxel.
  middle = places[of, 1:] + 0.5
  corners = np.concatenate([middle - half, middle + half], -1)
  corners = np.clip(corners, 0, np.tile(shape, 2))
  inside = box_ops.size(corners) > 0
  of = of[inside]
  return types.BoxDetections(
    slices=slices[inside].astype(np.int32),
    corners=corners[inside],
    scores=found.scores[of],
    labels=found.labels[of].astype(np.int32),
    steps=np.zeros(len(of), np.int32),
    suppressed=np.zeros(len(of), bool),
    links=of.astype(np.int32),
  )


Predictor = BlobBoxes
