"""Dense layers that judge what an encoder made of a picture.

By default the two layers of 512 units that Xvision put behind VGG16's last
pooling (github.com/ayush1997/Xvision), but with running averages: there the
normalisation used the batch's own statistics in testing too, so that what it
said of a picture depended on the pictures beside it.

  import jax
  from medzoo.models import dense_head

  model = dense_head.DenseHead(units=(256,), norm='', dropout=0.5)
  codes = jax.numpy.zeros((4, 4, 4, 512))
  variables = model.init(jax.random.key(0), codes, train=False)
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models

FACTS = models.Facts(
  task="judges an encoder's codes",
  input_shape=(7, 7, 512),
  weights='none',
)


class DenseHead(nn.Module):
  """Hidden layers, each rectified and dropped, and one of raw outputs.

  Attributes:
    units: of each hidden layer.
    norm: of the hidden layers: 'batch', where they have no bias, or '' for
      none.
    dropout: share of each hidden layer's outputs dropped in training, which
      takes a key called `dropout`.
    num_classes: of the outputs; 1 for the log-odds of class 1.
    epsilon: added to the variance.
    momentum: of batch normalisation's running averages.
    pool: '' for all places of a map, as published, or 'max' for the largest
      value of each channel: then it does not matter where a thing is seen,
      and little is left to learn.
    dtype: the type computed in; parameters and outputs are float32.
  """

  units: tuple[int, ...] = (512, 512)
  norm: str = 'batch'
  dropout: float = 0.0
  num_classes: int = 2
  epsilon: float = 1e-3
  momentum: float = 0.9
  pool: str = ''
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b ...'], *, train: bool
  ) -> dict[str, Float[Array, 'b num_classes']]:
    """Runs the head.

    Args:
      x: codes or maps, which are flattened, or pooled where `pool` says so.
      train: whether to drop, and whether batch normalisation uses the batch's
        own statistics.

    Returns:
      `logits` (b, num_classes), float32.

    Raises:
      ValueError: the kind of norm or pool is unknown.
    """
    if self.pool not in ('max', ''):
      raise ValueError(f"pool: found {self.pool!r}, expected max or ''")
    if self.norm not in ('batch', ''):
      raise ValueError(f"norm: found {self.norm!r}, expected batch or ''")
    if self.pool:
      x = x.max(axis=tuple(range(1, x.ndim - 1)))
    x = x.reshape(len(x), -1)
    for i, units in enumerate(self.units, 1):
      x = nn.Dense(
        units,
        use_bias=not self.norm,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f'fc{i}',
      )(x)
      if self.norm:
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=self.momentum,
          epsilon=self.epsilon,
          dtype=self.dtype,
          name=f'norm{i}',
        )(x)
      x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='predictions')(x)
    return {'logits': x.astype(jnp.float32)}


Model = DenseHead
