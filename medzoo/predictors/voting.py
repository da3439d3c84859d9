"""Several models look at one picture and vote, pixel by pixel.

This is the ensemble of assignment-Segmented_Lung: of a class, the box is the
one round the models' boxes, the score the mean of theirs and the mask what more
than half of them hold for it. There a pixel could win with fewer votes where
none had so many, and models that found nothing took no part in the mean; here
a class that half of the models miss is not found, and one miss lowers the
score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medzoo import types


class Voting:
  """A predictor made of others, which give `types.MaskDetections` only.

  Attributes:
    members: the predictors that vote.
  """

  def __init__(self, members: Sequence[Any]):
    self.members = list(members)

  def __call__(
    self, variables: Sequence[Mapping[str, Any]], volume: types.Volume
  ) -> dict[str, types.MaskDetections]:
    """Returns what the members agree on, by the names that they give.

    Args:
      variables: of each member.
      volume: a picture.
    """
    votes = [
      member(own, volume)
      for member, own in zip(self.members, variables, strict=True)
    ]
    return {name: vote([found[name] for found in votes]) for name in votes[0]}


def vote(found: Sequence[types.MaskDetections]) -> types.MaskDetections:
  """Joins what several models found in one picture.

  Args:
    found: of each model, at most one instance of each class; the surest of
      more.

  Returns:
    By falling score one instance of each class for which a pixel has more than
    half of the votes: of these pixels the largest connected part, the box
    round all boxes, and the mean of the scores, 0 where a model has none.
  """
  rows = []
  for label in np.unique(np.concatenate([one.labels for one in found])):
    mine = [(one, _surest(one, label)) for one in found]
    mine = [(one, i) for one, i in mine if i is not None]
    votes = sum(one.masks[i].astype(np.uint8) for one, i in mine)
    mask = 2 * votes > len(found)
    if mask.any():
      corners = np.array([one.corners[i] for one, i in mine], float)
      box = [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)]
      score = sum(float(one.scores[i]) for one, i in mine) / len(found)
      rows.append((score, label, box, _largest_part(mask)))
  rows.sort(key=lambda row: -row[0])
  masks = [row[3] for row in rows]
  return types.MaskDetections(
    np.array(masks) if masks else found[0].masks[:0],
    np.array([row[2] for row in rows], float).reshape(-1, 4),
    np.array([row[0] for row in rows], float),
    np.array([row[1] for row in rows], np.int32),
  )


def _surest(found: types.MaskDetections, label: int) -> int | None:
  mine = np.flatnonzero(found.labels == label)
  return int(mine[found.scores[mine].argmax()]) if len(mine) else None


def _largest_part(mask: np.ndarray) -> np.ndarray:
  parts, _ = ndimage.label(mask)
  return parts == np.bincount(parts[mask]).argmax()
