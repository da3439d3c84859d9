"""The first stage of nodule detection: a fully convolutional screening net.

The topology of Dou et al. 2017 (arXiv 1708.03867) as convnet3d built it: five
convolutions and one pooling, all without padding, each convolution followed
by batch normalisation. On a patch of exactly the receptive field it gives one
cell; on a scan it gives a score map with a step of (1, 2, 2) voxels.

  import jax
  from medzoo.models import candidate_screening

  model = candidate_screening.CandidateScreening()
  patches = jax.numpy.zeros((4, 15, 30, 30, 1))
  variables = model.init(jax.random.key(0), patches, train=False)
  logits = model.apply(variables, patches, train=False)['logits']
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks
from medzoo.ops import conv

RECEPTIVE_FIELD = (15, 30, 30)
STRIDE = (1, 2, 2)
FACTS = models.Facts(
  task='finds candidate nodules in CT',
  input_shape=(15, 30, 30, 1),
  weights='those that experiments/nodule3d.py trains; none are shipped',
)
# Of C1 to C4; C5 is 1x1x1. The pooling of 1x2x2 follows C1.
_KERNELS = ((4, 5, 5), (4, 5, 5), (5, 5, 5), (5, 5, 5))
_POOL = (1, 2, 2)


class CandidateScreening(nn.Module):
  """Scores every (1, 2, 2)-spaced place of a volume.

  Attributes:
    num_classes: classes with the background, which is class 0.
    widths: channels of C1 to C4.
    momentum: of batch normalisation's running averages.
    dtype: the type computed in; parameters and outputs are float32.
  """

  num_classes: int = 2
  widths: tuple[int, int, int, int] = (32, 32, 64, 250)
  momentum: float = 0.99
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d h w 1'], *, train: bool
  ) -> dict[str, Float[Array, 'b d2 h2 w2 classes']]:
    """Runs the network.

    Args:
      x: intensities in [0, 1], at least (15, 30, 30) voxels of 1 mm.
      train: whether batch normalisation uses the batch's own statistics.

    Returns:
      `logits` of the shape that `output_shape` tells, float32. Cell k looks
      at the RECEPTIVE_FIELD whose first voxel is k * STRIDE.

    Raises:
      ValueError: the volume is smaller than the receptive field.
    """
    output_shape(x.shape[1:4])
    layers = (*zip(self.widths, _KERNELS, strict=True),)
    for i, (width, kernel) in enumerate(layers, 1):
      x = blocks.ConvNorm(
        width, kernel, self.momentum, self.dtype, name=f'c{i}'
      )(x, train=train)
      if i == 1:
        # Before the rectifier, which commutes with it, as that is cheaper.
        x = blocks.max_pool_in_plane(x)
      x = nn.relu(x)
    logits = blocks.ConvNorm(
      self.num_classes, (1, 1, 1), self.momentum, self.dtype, name='c5'
    )(x, train=train)
    return {'logits': logits.astype(jnp.float32)}


def output_shape(input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
  """Returns the cells (d, h, w) that a volume of that shape gives.

  Raises:
    ValueError: the volume is smaller than the receptive field.
  """
  if any(n < r for n, r in zip(input_shape, RECEPTIVE_FIELD, strict=True)):
    raise ValueError(
      f'a volume of {tuple(input_shape)} voxels is smaller than the receptive '
      f'field {RECEPTIVE_FIELD}'
    )
  shape = conv.output_shape(input_shape, _KERNELS[0])
  shape = conv.output_shape(shape, _POOL, _POOL)
  for kernel in _KERNELS[1:]:
    shape = conv.output_shape(shape, kernel)
  return shape


def cell_to_index(cells: np.ndarray) -> np.ndarray:
  """Maps output cells to the centres of what they look at.

  Args:
    cells: (..., 3) cells (z, y, x) of the output.

  Returns:
    (..., 3) index coordinates (z, y, x) of the input, voxel centres at whole
    numbers: 7 + z, 14.5 + 2 y, 14.5 + 2 x.
  """
  center = (np.asarray(RECEPTIVE_FIELD) - 1) / 2
  return np.asarray(cells) * np.asarray(STRIDE) + center


Model = CandidateScreening
