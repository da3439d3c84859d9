"""A small convolutional network that judges pictures, trained from scratch.

The family that CNN4CRCPolyps tried on crops of colonoscopy frames
(github.com/muntisa/Colonoscopy-polyps-detection-with-CNNs): one to three
convolutions, and as many dense layers as one likes. The default is the one
that did best there. Kernels start from He's normal distribution (arXiv
1502.01852).

  import jax
  from medzoo.models import small_cnn

  model = small_cnn.SmallCNN(filters=(32, 32, 64), units=(64,))
  crops = jax.numpy.zeros((4, 150, 150, 3))
  variables = model.init(jax.random.key(0), crops, train=False)
  logits = model.apply(variables, crops, train=False)['logits']
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks
from medzoo.models import dense_head

FACTS = models.Facts(
  task='judges pictures, trained from scratch',
  input_shape=(150, 150, 3),
  weights='none',
)


class SmallCNN(nn.Module):
  """Convolutions, each rectified and pooled by 2, then a dense head.

  Attributes:
    filters: channels of each convolution.
    kernel: side of their windows; none reaches over the picture's edge.
    units: of each hidden dense layer.
    dropout: share of each of these layers' outputs dropped in training, which
      takes a key called `dropout`.
    num_classes: of the outputs; 1 for the log-odds of class 1.
    norm: '' for none, as published; 'batch' normalises the outputs of every
      convolution and hidden layer, which then learn in far fewer steps.
    epsilon: added to the variance.
    momentum: of batch normalisation's running averages.
    standardize: whether pictures go through `blocks.standardize` first, which
      helps where few sequences, each with a light of its own, are trained on.
    dtype: the type computed in; parameters and outputs are float32.
  """

  filters: tuple[int, ...] = (64, 64, 128)
  kernel: int = 3
  units: tuple[int, ...] = (128,)
  dropout: float = 0.5
  num_classes: int = 1
  norm: str = ''
  epsilon: float = 1e-3
  momentum: float = 0.9
  standardize: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    """Makes the two parts; their names are those of the parameters."""
    norm = dict(
      norm=self.norm,
      epsilon=self.epsilon,
      momentum=self.momentum,
      dtype=self.dtype,
    )
    self.encoder = Convolutions(self.filters, self.kernel, **norm)
    self.head = dense_head.DenseHead(
      self.units,
      dropout=self.dropout,
      num_classes=self.num_classes,
      **norm,
    )

  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b num_classes']]:
    """Runs the network.

    Args:
      x: pictures in [0, 1], RGB or grey; the parameters fit one size only.
      train: whether to drop, and whether batch normalisation uses the batch's
        own statistics.

    Returns:
      `logits` (b, num_classes), float32.

    Raises:
      ValueError: the picture is too small for so many convolutions, or the
        kind of norm is unknown.
    """
    return self.classify(self.encode(x, train=train), train=train)

  def encode(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the last convolution's rectified maps, which Grad-CAM weighs."""
    if self.standardize:
      x = blocks.standardize(x)
    return self.encoder(x, train=train)

  def classify(
    self, maps: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b num_classes']]:
    """Returns the outputs for what `encode` gave."""
    return self.head(blocks.max_pool_2d(maps, 2, 2), train=train)


class Convolutions(nn.Module):
  """Rectified convolutions `conv1` and on, with a pooling between each two."""

  filters: tuple[int, ...]
  kernel: int
  norm: str
  epsilon: float
  momentum: float
  dtype: Any

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the last map, not pooled yet, float32."""
    shape = x.shape[1:3]
    for i, features in enumerate(self.filters, 1):
      if i > 1:
        x = blocks.max_pool_2d(x, 2, 2)
      # One more, for the pooling that follows.
      if min(x.shape[1:3]) < self.kernel + 1:
        raise ValueError(
          f'a picture of {shape} pixels is too small for '
          f'{len(self.filters)} convolutions of {self.kernel} a side'
        )
      x = nn.Conv(
        features,
        (self.kernel, self.kernel),
        padding='VALID',
        use_bias=not self.norm,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f'conv{i}',
      )(x)
      if self.norm:
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=self.momentum,
          epsilon=self.epsilon,
          dtype=self.dtype,
          name=f'norm{i}',
        )(x)
      x = nn.relu(x)
    return x.astype(jnp.float32)


Model = SmallCNN
