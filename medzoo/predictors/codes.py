"""What a layer of a network makes of a picture, to train another network on."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import types
from medzoo.data import labelled_pictures


class PictureCodes:
  """Takes an output of a network.

  Attributes:
    stages: the fit stage whose network is used.
    preprocess: `shape`, `colour` and `equalize`, see
      `data.labelled_pictures.prepare`.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    encoder: str,
    tap: str = 'pool5',
  ):
    """Takes a network.

    Args:
      models: the networks by stage.
      preprocess: becomes the attribute.
      encoder: the stage of the network.
      tap: the name of the output.
    """
    self.stages = (encoder,)
    self.preprocess = preprocess
    self._model = models[encoder]
    self._tap = tap

  def __call__(
    self, variables: Mapping[str, Any], volume: types.Volume
  ) -> dict[str, types.Codes]:
    """Returns `codes` of one picture, of the shape of the output.

    Args:
      variables: those of each stage by name.
      volume: a picture.
    """
    picture = labelled_pictures.prepare(volume, **self.preprocess)
    (stage,) = self.stages
    values = _output(self._model, self._tap, variables[stage], picture.pixels)
    return {'codes': types.Codes(np.asarray(values))}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _output(
  model: nn.Module, tap: str, variables: Any, pixels: np.ndarray
) -> jax.Array:
  """Returns one picture's output; compiled once for each model and shape."""
  image = pixels[None].astype(jnp.float32) / 255
  return model.apply(variables, image, train=False)[tap][0]


Predictor = PictureCodes
