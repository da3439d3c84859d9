"""The lungs of a film as a U-Net outlines them, cleaned up.

The baseline that says what two-stage detection is worth, and what labels films
that nobody has outlined.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.data import pictures


class UnetLungs:
  """Finds the right and the left lung.

  Attributes:
    stages: the fit stage whose network is used.
    preprocess: `shape` and `equalize`, see `data.pictures.prepare`.
    threshold: the least probability of a lung's pixels.
    mirror: whether probabilities are the means of the film's and the mirrored
      film's, in which the sides are exchanged.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    stage: str = 'unet',
    threshold: float = 0.5,
    mirror: bool = False,
  ):
    self.stages = (stage,)
    self.preprocess = preprocess
    self.threshold = threshold
    self.mirror = mirror
    self._model = models[stage]

  def __call__(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> dict[str, types.MaskDetections]:
    """Finds the lungs of one film.

    Args:
      variables: those of each stage by name.
      volume: a picture.

    Returns:
      `lungs`: at most one a label, by falling score, which is the mean
      probability in the mask; the boxes are the masks'.
    """
    probabilities = self.probabilities(variables, volume)
    found = lung_shapes.detections(probabilities, threshold=self.threshold)
    return {'lungs': found}

  def probabilities(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> np.ndarray:
    """Returns the probability of the right and of the left lung.

    Returns:
      (2, h, w) float32 at the film's own size.
    """
    picture = pictures.prepare(volume, **self.preprocess)
    (stage,) = self.stages
    look = functools.partial(_probabilities, self._model, variables[stage])
    maps = np.asarray(look(picture.pixels))
    if self.mirror:
      width = picture.inner[1]
      turned = np.asarray(look(pictures.mirror(picture.pixels, width)))
      maps = (maps + pictures.mirror(turned[::-1], width)) / 2
    return picture.restore(maps)


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(
  model: nn.Module, variables: Any, pixels: np.ndarray
) -> jax.Array:
  """Returns (2, h, w); compiled once for each model."""
  image = pixels[None, ..., None].astype(jnp.float32) / 255
  logits = model.apply(variables, image, train=False)['logits']
  return jnp.moveaxis(jax.nn.sigmoid(logits[0]), -1, 0)


Predictor = UnetLungs
