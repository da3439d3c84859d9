"""A CNN that reads an image and an LSTM that writes boxes one by one.

TensorBox, the code of ReInspect (Stewart et al. 2015, arXiv 1506.04878), as
lidc_nodule_detection used it. Every cell of the encoder's coarse map feeds its
features to the same LSTM, at every step anew, and each step says one box and
how sure it is. A second look, rezoom, samples finer features where that box
lies, judges it once more and corrects it.

  import jax
  from medzoo.models import cnn_lstm, small_encoder

  model = cnn_lstm.CnnLstm(encoder=small_encoder.SmallEncoder())
  images = jax.numpy.zeros((1, 256, 352, 3))
  variables = model.init(jax.random.key(0), images, train=False)
  boxes = model.apply(variables, images, train=False)['boxes']
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import small_encoder
from medzoo.ops import rezoom

FACTS = models.Facts(
  task='writes the boxes of nodules on CT slices, one by one',
  input_shape=(256, 352, 3),
  weights='those that experiments/lidc_lstm.py trains; none are shipped',
)


class CnnLstm(nn.Module):
  """Writes `steps` boxes for each cell of the coarse map.

  The decoder computes in float32; the encoder decides for itself.

  Attributes:
    encoder: maps an image to a dict of feature maps, channels last; None is
      a `SmallEncoder`, trained from scratch.
    coarse: name of the encoder's map that gives the cells, stride 32.
    fine: name of the map that the second look samples, stride 8.
    coarse_channels: how many of the coarse map's channels are read.
    fine_channels: how many of the fine map's channels are read.
    context_from: coarse channels from this one on are averaged over 5x5
      cells, so that a cell knows its surroundings.
    feature_scale: of the coarse features before the LSTM. The published one
      fits features of some tens, as Inception's were.
    units: of each LSTM layer.
    layers: of the LSTM; 0 is the Overfeat variant, where a projection to
      `units` takes its place and `steps` must be 1.
    steps: boxes that a cell writes.
    num_classes: classes with the background, which is class 0.
    dropout: share of the decoder's outputs that is dropped while training.
    box_scale: pixels that an output of 1 stands for.
    rezoom: whether there is a second look.
    rezoom_units: of its hidden layer.
    rezoom_scale: of the fine features, for the same reason.
  """

  encoder: nn.Module | None = None
  coarse: str = 'coarse'
  fine: str = 'fine'
  coarse_channels: int = 832
  fine_channels: int = 256
  context_from: int = 700
  feature_scale: float = 0.01
  units: int = 500
  layers: int = 2
  steps: int = 5
  num_classes: int = 2
  dropout: float = 0.5
  box_scale: float = 50.0
  rezoom: bool = True
  rezoom_units: int = 128
  rezoom_scale: float = 0.001

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b gh gw t _']]:
    """Runs the network.

    Args:
      x: images in [0, 1]; the encoder normalises them as it needs.
      train: whether to drop units (needs the rng `dropout`) and to normalise
        by the batch's own statistics.

    Returns:
      `boxes` (b, gh, gw, steps, 4), each (dy, dx, h, w) in pixels, its centre
      relative to the cell's (`ops.cells`; the published order is x before y),
      and `logits` (b, gh, gw, steps, num_classes). With rezoom also
      `rezoom_logits`, the better judgement, and `deltas`, to be added to the
      boxes, of the same shapes. All float32.

    Raises:
      ValueError: a map has too few channels, the grid does not divide the
        image, or several steps are asked of the Overfeat variant.
    """
    encoder = self.encoder or small_encoder.SmallEncoder(name='encoder')
    maps = encoder(x, train=train)
    coarse = _channels(maps, self.coarse, self.coarse_channels)
    hidden = self._decode(_add_context(coarse, self.context_from))
    dropped = self._drop(hidden, train)
    outputs = {
      'boxes': self.box_scale * _StepDense(4, name='box')(dropped),
      'logits': _StepDense(self.num_classes, name='confidence')(dropped),
    }
    if self.rezoom:
      fine = _channels(maps, self.fine, self.fine_channels)
      seen = rezoom.sample(fine, outputs['boxes'], x.shape[1:3])
      seen = self.rezoom_scale * self._drop(seen, train)
      outputs |= self._judge(jnp.concatenate([hidden, seen], -1), train)
    return outputs

  def _decode(self, features: Array) -> Array:
    """Returns what each cell says at each step: (b, gh, gw, steps, units)."""
    x = self.feature_scale * features[None]
    if not self.layers:
      if self.steps != 1:
        raise ValueError(f'without an LSTM steps is 1, found {self.steps}')
      x = _StepDense(self.units, name='projection')(x[..., None, :])
      return x[0]
    for i in range(1, self.layers + 1):
      x = Lstm(self.units, self.steps, name=f'lstm{i}')(x)
    return jnp.moveaxis(x, 0, -2)

  def _judge(self, features: Array, train: bool) -> dict[str, Array]:
    """Returns the second look's logits and corrections."""
    x = nn.relu(_StepDense(self.rezoom_units, name='rezoom')(features))
    x = self._drop(x, train)
    logits = _StepDense(self.num_classes, name='rezoom_confidence')(x)
    return {
      'rezoom_logits': 50 * logits,
      'deltas': self.box_scale / 10 * _StepDense(4, name='rezoom_box')(x),
    }

  def _drop(self, x: Array, train: bool) -> Array:
    return nn.Dropout(self.dropout)(x, deterministic=not train)


class Lstm(nn.Module):
  """One LSTM layer over all cells at once, forget bias 0.

  Attributes:
    units: of the layer.
    steps: how long it runs.
  """

  units: int
  steps: int

  @nn.compact
  def __call__(
    self, x: Float[Array, 't_or_1 *cells c']
  ) -> Float[Array, 't *cells units']:
    """Returns the outputs of all steps; an x of one step is read at each."""
    channels = x.shape[-1]
    shape = (channels + self.units, 4 * self.units)
    kernel = self.param('kernel', _uniform, shape)
    bias = self.param('bias', nn.initializers.zeros, shape[1:])
    from_input, from_hidden = kernel[:channels], kernel[channels:]
    # All steps in one product, or the one product that all steps share.
    inputs = x @ from_input + bias
    memory = hidden = jnp.zeros((*x.shape[1:-1], self.units))
    outputs = []
    for step in range(self.steps):
      gates = inputs[min(step, len(inputs) - 1)] + hidden @ from_hidden
      write, new, keep, read = jnp.split(gates, 4, -1)
      memory = nn.sigmoid(keep) * memory + nn.sigmoid(write) * jnp.tanh(new)
      hidden = nn.sigmoid(read) * jnp.tanh(memory)
      outputs.append(hidden)
    return jnp.stack(outputs)


class _StepDense(nn.Module):
  """A layer without bias that has weights of its own for every step."""

  features: int

  @nn.compact
  def __call__(self, x: Float[Array, '*cells t c']) -> Array:
    shape = (*x.shape[-2:], self.features)
    kernel = self.param('kernel', _uniform, shape)
    return jnp.einsum('...tc,tco->...to', x, kernel)


def _channels(maps: dict[str, Array], name: str, count: int) -> Array:
  if maps[name].shape[-1] < count:
    raise ValueError(
      f'the encoder gives {maps[name].shape[-1]} channels as {name!r}, '
      f'expected at least {count}'
    )
  return maps[name][..., :count].astype(jnp.float32)


def _add_context(x: Array, first: int) -> Array:
  """Averages the channels from `first` on over 5x5 cells of the map."""
  if first >= x.shape[-1]:
    return x
  context = nn.avg_pool(
    x[..., first:], (5, 5), (1, 1), 'SAME', count_include_pad=False
  )
  return jnp.concatenate([x[..., :first], context], -1)


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
  return jax.random.uniform(key, shape, minval=-0.1, maxval=0.1)


Model = CnnLstm
