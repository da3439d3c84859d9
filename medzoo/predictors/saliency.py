"""Which parts of a picture speak for the class that is looked for.

That is class 1 of two, and of more the one that the picture is called. Two
maps that answer it: Grad-CAM (Selvaraju et al. 2017), coarse, by the last
convolution's maps, and integrated gradients (Sundararajan et al. 2017), of
every pixel.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo.losses import classification


@dataclasses.dataclass(frozen=True)
class Whole:
  """A network with the methods `encode` and `classify`.

  `encode(image, train)` gives the maps of its last convolution,
  `classify(maps, train)` its outputs.

  Attributes:
    model: the network.
  """

  model: nn.Module

  def encode(self, variables: tuple[Any], image: jax.Array) -> jax.Array:
    """Returns the last maps, (b, h, w, c)."""
    return self.model.apply(variables[0], image, train=False, method='encode')

  def classify(self, variables: tuple[Any], maps: jax.Array) -> jax.Array:
    """Returns (b,) or (b, classes), its `losses.classification.scores`."""
    outputs = self.model.apply(
      variables[0], maps, train=False, method='classify'
    )
    return classification.scores(outputs['logits'])


@dataclasses.dataclass(frozen=True)
class Pair:
  """An encoder that gives its layers' outputs, and a head that judges one.

  Attributes:
    encoder: as `models.vgg16`.
    head: a network that takes a layer's output.
    tap: which one. That of pool5 is taken a step earlier, from block5_conv3,
      the last convolution, of which it is the largest of 2 x 2 each.
  """

  encoder: nn.Module
  head: nn.Module
  tap: str

  def encode(self, variables: tuple[Any, Any], image: jax.Array) -> jax.Array:
    """Returns the last maps, (b, h, w, c)."""
    outputs = self.encoder.apply(variables[0], image, train=False)
    return outputs['block5_conv3' if self.tap == 'pool5' else self.tap]

  def classify(self, variables: tuple[Any, Any], maps: jax.Array) -> jax.Array:
    """Returns (b,) or (b, classes), the head's scores."""
    if self.tap == 'pool5':
      maps = nn.max_pool(maps, (2, 2), strides=(2, 2))
    outputs = self.head.apply(variables[1], maps, train=False)
    return classification.scores(outputs['logits'])


Network = Whole | Pair


class Explainer:
  """Explains what one network, or an encoder and a head, say of pictures.

  Attributes:
    stages: the fit stages whose networks are used.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    *,
    steps: int,
    stage: str = '',
    encoder: str = '',
    tap: str = 'pool5',
    head: str = '',
  ):
    """Takes what `scoring.Scorer` takes, and what to explain it with.

    Args:
      models: the networks by stage.
      steps: of the path of `integrated_gradients`.
      stage: of the network that judges pictures.
      encoder: else, of the network whose output `tap` the head judges.
      tap: the name of that output.
      head: the stage of the head.
    """
    self.stages = (stage,) if stage else (encoder, head)
    own = [models[name] for name in self.stages]
    self._network = Whole(*own) if stage else Pair(*own, tap)
    self._steps = steps

  def __call__(
    self, variables: Mapping[str, Any], pixels: np.ndarray
  ) -> tuple[jax.Array, jax.Array]:
    """Explains pictures.

    Args:
      variables: those of each stage by name.
      pixels: (b, h, w, c) uint8, or floats in [0, 1].

    Returns:
      The results of `grad_cam`, (b, i, j), and of `integrated_gradients`,
      (b, h, w), whose baseline is black.
    """
    own = tuple(variables[name] for name in self.stages)
    return _explain(self._network, self._steps, own, pixels)


def grad_cam(
  network: Network,
  variables: Any,
  image: jax.Array,
  classes: jax.Array | None = None,
) -> jax.Array:
  """Weighs the last convolution's maps by what they add to a class.

  Equations 1 and 2 of Selvaraju et al. 2017, of the log-odds of the class.

  Args:
    network: splits in two at these maps.
    variables: of its parts.
    image: (b, h, w, c) as the network takes it.
    classes: (b,) which class, where the network tells three or more.

  Returns:
    (b, i, j) at the maps' own resolution, 0 and up.
  """

  def log_odds(maps: jax.Array) -> jax.Array:
    scores = network.classify(variables, maps)
    return classification.evidence(scores, classes).sum()

  maps = network.encode(variables, image)
  gradient = jax.grad(log_odds)(maps)
  weights = gradient.mean((1, 2), keepdims=True)
  return jax.nn.relu((weights * maps).sum(-1))


def integrated_gradients(
  network: Network,
  variables: Any,
  image: jax.Array,
  baseline: jax.Array | float,
  classes: jax.Array | None = None,
  *,
  steps: int,
) -> jax.Array:
  """Shares out among pixels what sets a picture apart from a baseline.

  Equation 1 of Sundararajan et al. 2017, of the log-odds, by the midpoint
  rule. Channels are added up. The sum over the pixels tends to the difference
  of the picture's and the baseline's log-odds as the steps grow.

  Args:
    network: tells the log-odds.
    variables: of its parts.
    image: (b, h, w, c) as the network takes it.
    baseline: of the same shape, or one that goes with it.
    classes: (b,) which class, where the network tells three or more.
    steps: into which the way from the baseline is cut.

  Returns:
    (b, h, w), negative where a pixel speaks against the class.
  """

  def logits(image: jax.Array) -> jax.Array:
    scores = network.classify(variables, network.encode(variables, image))
    return classification.evidence(scores, classes).sum()

  def add(total: jax.Array, share: jax.Array) -> tuple[jax.Array, None]:
    return total + jax.grad(logits)(baseline + share * difference), None

  difference = image - baseline
  shares = (jnp.arange(steps, dtype=image.dtype) + 0.5) / steps
  total, _ = jax.lax.scan(add, jnp.zeros_like(image), shares)
  return (difference * total / steps).sum(-1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _explain(
  network: Network, steps: int, variables: Any, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Compiled once for each network and each shape."""
  image = pixels
  if image.dtype == jnp.uint8:
    image = image.astype(jnp.float32) / 255
  scores = network.classify(variables, network.encode(variables, image))
  classes = classification.called(scores)
  return grad_cam(network, variables, image, classes), integrated_gradients(
    network, variables, image, 0.0, classes, steps=steps
  )
