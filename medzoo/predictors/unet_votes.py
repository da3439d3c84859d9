"""Several U-Nets vote on the lungs of a film, and say how sure they are.

What labels films that nobody has outlined. assignment-Segmented_Lung kept the
pixels that three of five networks held for lung, whatever their agreement.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.predictors import unet_lungs
from medzoo.predictors import voting


class UnetVotes:
  """Finds the right and the left lung.

  Attributes:
    stages: the fit stages whose networks vote; one alone is asked.
    preprocess: `shape` and `equalize`, see `data.pictures.prepare`.
  """

  def __init__(
    self,
    models: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    *,
    members: Sequence[str] = ('unet',),
  ):
    self.stages = tuple(members)
    self.preprocess = preprocess
    self._members = [
      unet_lungs.UnetLungs(models, preprocess, stage=stage) for stage in members
    ]

  def __call__(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> dict[str, types.MaskDetections]:
    """Finds the lungs of one film.

    Args:
      variables: those of each stage by name.
      volume: a picture.

    Returns:
      `lungs`: what more than half of the networks hold for lung, by falling
      score. The score is the mean probability in their masks times the mean
      Dice of these with what was voted; who found none counts 0 in both.
    """
    found = [member(variables, volume)['lungs'] for member in self._members]
    voted = voting.vote(found)
    scores = np.array(
      [
        score * np.mean([_dice(one, label, mask) for one in found])
        for score, label, mask in zip(
          voted.scores, voted.labels, voted.masks, strict=True
        )
      ]
    )
    order = np.argsort(-scores, kind='stable')
    return {
      'lungs': types.MaskDetections(
        masks=voted.masks[order],
        corners=lung_shapes.boxes_of(voted.masks[order]).astype(float),
        scores=scores[order],
        labels=voted.labels[order],
      )
    }


def confidence(lungs: types.MaskDetections) -> float:
  """Returns the lower score of both lungs, 0 where one was not found."""
  if set(lungs.labels.tolist()) != set(lung_shapes.LABELS):
    return 0.0
  return float(lungs.scores.min())


def _dice(found: types.MaskDetections, label: int, mask: np.ndarray) -> float:
  own = found.masks[found.labels == label].any(0)
  return 2 * float((own & mask).sum()) / float(own.sum() + mask.sum())


Predictor = UnetVotes
