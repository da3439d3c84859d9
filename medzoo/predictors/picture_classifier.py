"""What a network says of a whole picture, and which parts of it made it so."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from PIL import Image

from medzoo import types
from medzoo.data import labelled_pictures
from medzoo.predictors import saliency
from medzoo.predictors import scoring


class PictureClassifier:
  """Judges pictures.

  Attributes:
    stages: the fit stages whose networks are used.
    preprocess: `shape`, `colour` and `equalize`, see
      `data.labelled_pictures.prepare`.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    stage: str = '',
    encoder: str = '',
    tap: str = 'pool5',
    head: str = '',
    saliency_steps: int = 16,
  ):
    """Takes one network or two, see `scoring.Scorer`.

    Args:
      models: the networks by stage.
      preprocess: becomes the attribute.
      stage: of the network that judges pictures.
      encoder: else, of the network whose output `tap` the head judges.
      tap: the name of that output.
      head: the stage of the head.
      saliency_steps: of `saliency.integrated_gradients`; 0 leaves the saliency
        out.

    Raises:
      ValueError: it is neither `stage` alone nor `encoder` and `head`.
    """
    networks = dict(stage=stage, encoder=encoder, tap=tap, head=head)
    self.preprocess = preprocess
    self._scorer = scoring.Scorer(models, **networks)
    self.stages = self._scorer.stages
    self._explainer = None
    if saliency_steps:
      self._explainer = saliency.Explainer(
        models, steps=saliency_steps, **networks
      )

  def __call__(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> dict[str, types.PictureScore | types.Saliency]:
    """Judges one picture.

    Args:
      variables: those of each stage by name.
      volume: a picture.

    Returns:
      `picture`, its log-odds or logits, and `saliency`, unless that is left
      out.
    """
    picture = labelled_pictures.prepare(volume, **self.preprocess)
    pixels = picture.pixels[None]
    (logit,) = np.asarray(self._scorer(variables, pixels))
    found = {'picture': types.PictureScore(logit)}
    if self._explainer is not None:
      maps = self._explainer(variables, pixels)
      found['saliency'] = types.Saliency(
        *(_inner(np.asarray(own[0]), picture) for own in maps)
      )
    return found


def _inner(values: np.ndarray, picture: labelled_pictures.Input) -> np.ndarray:
  """Cuts out of a network's map what spans the picture.

  Args:
    values: (i, j) float32, from edge to edge of the network's input.
    picture: that input.

  Returns:
    (i', j') float32 of about the same resolution.
  """
  shares = np.array(picture.inner) / picture.pixels.shape[:2]
  height, width = shares * values.shape
  image = Image.fromarray(np.asarray(values, np.float32))
  cut = image.resize(
    (int(np.ceil(width)), int(np.ceil(height))),
    Image.Resampling.BILINEAR,
    box=(0, 0, width, height),
  )
  return np.array(cut)


Predictor = PictureClassifier
