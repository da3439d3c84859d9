"""What networks say of pictures that have their size already.

One network may judge, or two: an encoder, of which a layer's output is taken,
and a head that judges that.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo.losses import classification


class Scorer:
  """Judges batches of pictures.

  Attributes:
    stages: the fit stages whose networks are used.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    *,
    stage: str = '',
    encoder: str = '',
    tap: str = 'pool5',
    head: str = '',
  ):
    """Takes one network or two.

    Args:
      models: the networks by stage.
      stage: of the network that judges pictures.
      encoder: else, of the network whose output `tap` the head judges.
      tap: the name of that output.
      head: the stage of the head.

    Raises:
      ValueError: it is neither `stage` alone nor `encoder` and `head`.
    """
    if bool(stage) == bool(encoder and head) or bool(encoder) != bool(head):
      raise ValueError(
        f'found stage {stage!r}, encoder {encoder!r} and head {head!r}, '
        'expected a stage alone, or an encoder and a head'
      )
    self.stages = (stage,) if stage else (encoder, head)
    self._models = tuple(models[name] for name in self.stages)
    self._tap = '' if stage else tap

  def __call__(
    self, variables: Mapping[str, Any], pixels: np.ndarray | jax.Array
  ) -> jax.Array:
    """Judges pictures.

    Args:
      variables: those of each stage by name.
      pixels: (b, h, w, c), uint8, or floats in [0, 1].

    Returns:
      float32, see `losses.classification.scores`: (b,) the log-odds of class 1
      rather than 0, or (b, classes) the logits of three classes and more.
    """
    own = tuple(variables[name] for name in self.stages)
    return _scores(self._models, self._tap, own, pixels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scores(
  models: tuple[nn.Module, ...], tap: str, variables: Any, pixels: jax.Array
) -> jax.Array:
  """Compiled once for each pair of models and each shape."""
  image = pixels
  if image.dtype == jnp.uint8:
    image = image.astype(jnp.float32) / 255
  for model, own in zip(models[:-1], variables[:-1], strict=True):
    image = model.apply(own, image, train=False)[tap]
  logits = models[-1].apply(variables[-1], image, train=False)['logits']
  return classification.scores(logits)
