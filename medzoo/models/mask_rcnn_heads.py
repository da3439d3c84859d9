"""The heads of a Mask R-CNN: proposals, boxes and masks.

Ren et al. 2015, Faster R-CNN (arXiv 1506.01497), and He et al. 2017, Mask
R-CNN (arXiv 1703.06870), as torchvision computes them. Deltas are centre
offsets, then log sizes, each along y before x.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo.models import blocks

# Of the layers that judge, so that nothing is sure at first. The deltas start
# nearer to zero still, as in Fast R-CNN.
_SMALL = nn.initializers.normal(0.01)
_TINY = nn.initializers.normal(0.001)


class ProposalHead(nn.Module):
  """Judges every anchor of every level with the same layers.

  Attributes:
    channels: of the 3x3 convolution.
    num_anchors: at each place.
    dtype: the type computed in; parameters and outputs are float32.
  """

  channels: int
  num_anchors: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, features: dict[str, Float[Array, 'b _ _ c']]
  ) -> tuple[
    dict[str, Float[Array, 'b _ _ {self.num_anchors}']],
    dict[str, Float[Array, 'b _ _ {self.num_anchors} 4']],
  ]:
    """Returns by level how sure each anchor is, logits, and its deltas."""
    conv = blocks.ConvNorm2D(
      self.channels, 3, norm='', dtype=self.dtype, name='conv'
    )
    judge = _pointwise(self.num_anchors, self.dtype, 'logits')
    move = _pointwise(4 * self.num_anchors, self.dtype, 'deltas')
    logits, deltas = {}, {}
    for name, x in features.items():
      x = nn.relu(conv(x, train=False))
      logits[name] = judge(x).astype(jnp.float32)
      moved = move(x).astype(jnp.float32)
      deltas[name] = moved.reshape(*x.shape[:3], self.num_anchors, 4)
    return logits, deltas


class BoxHead(nn.Module):
  """Says what a region shows and where exactly it lies, for each class.

  Attributes:
    units: of the two hidden layers.
    num_classes: with the background, which is class 0.
    dtype: the type computed in; parameters and outputs are float32.
  """

  units: int
  num_classes: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, rois: Float[Array, 'n h w c']
  ) -> tuple[
    Float[Array, 'n {self.num_classes}'], Float[Array, 'n {self.num_classes} 4']
  ]:
    """Returns the logits and the deltas of each region.

    Args:
      rois: features of the regions, of one size.
    """
    x = rois.reshape(len(rois), -1)
    for i in (1, 2):
      x = nn.Dense(
        self.units,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f'fc{i}',
      )(x)
      x = nn.relu(x)
    logits = nn.Dense(
      self.num_classes, kernel_init=_SMALL, dtype=self.dtype, name='logits'
    )(x)
    deltas = nn.Dense(
      4 * self.num_classes, kernel_init=_TINY, dtype=self.dtype, name='deltas'
    )(x)
    return (
      logits.astype(jnp.float32),
      deltas.astype(jnp.float32).reshape(-1, self.num_classes, 4),
    )


class MaskHead(nn.Module):
  """Draws a region's mask, for each class, at twice the region's resolution.

  Attributes:
    channels: of the 3x3 convolutions; the last is that of the upsampling too.
    num_classes: with the background, which is class 0 and means nothing here.
    norm: of the convolutions, '' for none or 'group'.
    groups: of group normalisation; they divide the channels.
    dtype: the type computed in; parameters and outputs are float32.
  """

  channels: tuple[int, ...]
  num_classes: int
  norm: str = ''
  groups: int = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, rois: Float[Array, 'n h w c']
  ) -> Float[Array, 'n h2 w2 {self.num_classes}']:
    """Returns the logits of the masks.

    Args:
      rois: features of the regions, of one size.
    """
    x = rois
    for i, channels in enumerate(self.channels, 1):
      x = blocks.ConvNorm2D(
        channels,
        3,
        norm=self.norm,
        groups=self.groups,
        dtype=self.dtype,
        name=f'conv{i}',
      )(x, train=False)
      x = nn.relu(x)
    x = nn.relu(Double(x.shape[-1], self.dtype, name='double')(x))
    x = _pointwise(self.num_classes, self.dtype, 'logits')(x)
    return x.astype(jnp.float32)


class Double(nn.Module):
  """A transposed convolution of window and stride 2.

  Windows do not overlap, so it is one product, much faster on a CPU:
  out[2i + s, 2j + t] = in[i, j] kernel[s, t] + bias.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n h w c']
  ) -> Float[Array, 'n h2 w2 {self.features}']:
    """Returns maps of twice the height and the width, in `dtype`."""
    # Each output sees one place only, so the inputs are the channels.
    init = nn.initializers.he_normal(batch_axis=(0, 1))
    shape = (2, 2, x.shape[-1], self.features)
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    n, h, w, _ = x.shape
    y = jnp.einsum('nhwc,stco->nhswto', x, kernel) + bias
    return y.reshape(n, 2 * h, 2 * w, self.features)


def _pointwise(features: int, dtype: Any, name: str) -> nn.Conv:
  return nn.Conv(features, (1, 1), kernel_init=_SMALL, dtype=dtype, name=name)
