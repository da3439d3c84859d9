"""The second stage of nodule detection: a residual net on each candidate.

The topology of Dou et al. 2017 (arXiv 1708.03867) as convnet3d built it. Its
first three blocks are those of `candidate_screening`, under the same names,
and may start from them. With the regression branch of the hybrid form it also
tells where the lesion lies in the patch and how large it is.

  import jax
  from medzoo.models import false_positive_reduction

  model = false_positive_reduction.FalsePositiveReduction(regression=False)
  patches = jax.numpy.zeros((2, 25, 60, 60, 1))
  variables = model.init(jax.random.key(0), patches, train=False)
  logits = model.apply(variables, patches, train=False)['logits']
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks

FACTS = models.Facts(
  task='tells nodules from their likes in CT',
  input_shape=(25, 60, 60, 1),
  weights='those that experiments/nodule3d.py trains; none are shipped',
)
# Of C1 to C4; C5 is 3x3x3 with stride 2. The pooling of 1x2x2 follows C1.
_KERNELS = ((4, 5, 5), (4, 5, 5), (5, 5, 5), (3, 3, 3))
# What the regression says before training: a lesion in the middle and, in the
# units of `losses.hybrid`, of 1/7 of the patch's diagonal. From 0, which is
# the whole diagonal, an optimiser needs thousands of steps to get there, and
# the loss of size drowns all others meanwhile.
_USUAL_LESION = (0.0, 0.0, 0.0, -10.0)


class FalsePositiveReduction(nn.Module):
  """Classifies a patch, and tells place and size of the lesion in it.

  Attributes:
    num_classes: classes with the background, which is class 0.
    widths: channels of C1 to C5.
    hidden: units of the classifier's hidden layer.
    regression: whether the branch for place and size is there.
    regression_hidden: units of that branch's hidden layer.
    regression_pool: window of the mean taken over the branch's features
      before they are flattened. (1, 1, 1) is the published form, whose hidden
      layer alone has 34.5 million parameters at the published size.
    momentum: of batch normalisation's running averages.
    dtype: the type computed in; parameters and outputs are float32.
  """

  num_classes: int = 2
  widths: tuple[int, int, int, int, int] = (32, 32, 64, 64, 128)
  hidden: int = 128
  regression: bool = True
  regression_hidden: int = 128
  regression_pool: tuple[int, int, int] = (1, 1, 1)
  momentum: float = 0.99
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d h w 1'], *, train: bool
  ) -> dict[str, Float[Array, 'b _']]:
    """Runs the network.

    Args:
      x: patches with intensities in [0, 1], (25, 60, 60) voxels of 1 mm as
        published. Another shape is another set of parameters.
      train: whether batch normalisation uses the batch's own statistics.

    Returns:
      `logits` (b, num_classes) and, with the branch, `regression` (b, 4): the
      targets of `losses.hybrid` for z, y, x and the diameter. Both float32.
    """
    for i, (width, kernel) in enumerate(
      zip(self.widths[:3], _KERNELS[:3], strict=True), 1
    ):
      x = blocks.ConvNorm(
        width, kernel, self.momentum, self.dtype, name=f'c{i}'
      )(x, train=train)
      if i == 1:
        # Before the rectifier, which commutes with it, as that is cheaper.
        x = blocks.max_pool_in_plane(x)
      x = nn.relu(x)
    x = blocks.Conv3D(self.widths[3], _KERNELS[3], dtype=self.dtype, name='c4')(
      x
    )
    x = self._residual(x, 'unit1', train)
    outputs = {}
    if self.regression:
      # Dou et al. branch off after the first unit; the normalised features
      # are taken, as a pre-activation unit leaves its sum unscaled.
      y = nn.avg_pool(x, self.regression_pool, self.regression_pool)
      outputs['regression'] = self._head(
        y, self.regression_hidden, _USUAL_LESION, 'regression'
      )
    x = blocks.Conv3D(
      self.widths[4], (3, 3, 3), (2, 2, 2), dtype=self.dtype, name='c5'
    )(x)
    x = self._residual(x, 'unit2', train)
    outputs['logits'] = self._head(
      x, self.hidden, (0.0,) * self.num_classes, 'class'
    )
    return outputs

  def _residual(self, x: Array, name: str, train: bool) -> Array:
    """A residual unit and the activation that closes it."""
    x = blocks.ResidualUnit(self.momentum, self.dtype, name=name)(
      x, train=train
    )
    x = blocks.batch_norm(self.momentum, self.dtype, f'{name}_norm')(
      x, use_running_average=not train
    )
    return nn.relu(x)

  def _head(
    self, x: Array, hidden: int, start: tuple[float, ...], name: str
  ) -> Array:
    """Two dense layers with a sigmoid between, as published."""
    x = x.reshape(len(x), -1)
    x = nn.Dense(hidden, dtype=self.dtype, name=f'{name}_hidden')(x)
    x = nn.Dense(
      len(start),
      dtype=self.dtype,
      bias_init=lambda _, shape, dtype: jnp.asarray(start, dtype),
      name=f'{name}_output',
    )(nn.sigmoid(x))
    return x.astype(jnp.float32)


Model = FalsePositiveReduction
