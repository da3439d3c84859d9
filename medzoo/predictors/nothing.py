"""Finds nothing, ever: shows what a score is worth to one who never looks."""

from collections.abc import Mapping

import numpy as np

from medzoo import types


class Nothing:
  """A predictor without variables, stages or findings."""

  stages = ()

  def __init__(
    self, models: Mapping[str, object], preprocess: Mapping[str, object]
  ):
    del models, preprocess

  def __call__(
    self, variables: Mapping[str, object], volume: types.Volume
  ) -> dict[str, types.Detections | types.BoxDetections]:
    """Returns no `detections` and no `boxes`."""
    del variables, volume
    none, numbers = np.zeros(0), np.zeros(0, np.int32)
    return {
      'detections': types.Detections(np.zeros((0, 3)), none, none, numbers),
      'boxes': types.BoxDetections(
        slices=numbers,
        corners=np.zeros((0, 4)),
        scores=none,
        labels=numbers,
        steps=numbers,
        suppressed=np.zeros(0, bool),
        links=numbers,
      ),
    }


Predictor = Nothing
