"""3D convolution on a CPU as matrix products of cache-sized tiles.

A tile is a run of output voxels. For each depth of the kernel its taps are
gathered (im2col) into a matrix, `columns`, of one row per voxel, small enough
to stay in the cache; products with the weights add up to the tile's output,
and products with the gradient give its share of the weight gradient.
`lax.scan` walks over the tiles. The input's gradient goes the other way: the
product of gradient and weights gives what each tap receives, and that is added
up in place, so that neither padding nor the zeros between strides cost a
multiplication.

Gathering single floats is slow, so an input of one channel is first folded:
pairs of neighbouring columns become two channels, and the kernel the
equivalent one from pairs to pairs.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_Triple = tuple[int, int, int]
# Of the columns of one tile: about the second-level cache of a core. From
# 0.5 to 3 MB it makes no difference that can be told from noise.
_TILE_BYTES = 1_000_000
_FOLD = 2


def convolve(
  x: Float[Array, 'b d h w c'],
  kernel: Float[Array, 'kd kh kw c o'],
  strides: _Triple,
) -> Float[Array, 'b d2 h2 w2 o']:
  """Convolves without padding; sums are accumulated in float32."""
  if not _is_folded(x, strides):
    return _walk(x, kernel, strides)
  width = x.shape[3] - kernel.shape[2] + 1
  pairs = math.ceil(width / _FOLD)
  weights = _fold_kernel(kernel)
  x = _fold_width(x, pairs + weights.shape[2] - 1)
  y = _walk(x, weights, strides)
  y = y.reshape(*y.shape[:3], pairs * _FOLD, kernel.shape[-1])
  return y[:, :, :, :width]


def kernel_gradient(
  x: Float[Array, 'b d h w c'],
  grad: Float[Array, 'b d2 h2 w2 o'],
  kernel: jax.ShapeDtypeStruct,
  strides: _Triple,
) -> Float[Array, 'kd kh kw c o']:
  """Returns the gradient of `convolve` with respect to its kernel.

  Args:
    x: what was convolved.
    grad: the gradient of the output.
    kernel: the kernel's shape and type.
    strides: steps along (z, y, x).
  """
  if not _is_folded(x, strides):
    return _walk_gradient(x, grad, kernel.shape, strides)
  folded = jax.eval_shape(_fold_kernel, kernel)
  pairs = math.ceil(grad.shape[3] / _FOLD)
  total = _walk_gradient(
    _fold_width(x, pairs + folded.shape[2] - 1),
    _fold_width(grad, pairs),
    folded.shape,
    strides,
  )
  return jax.linear_transpose(_fold_kernel, kernel)(total)[0]


def input_gradient(
  kernel: Float[Array, 'kd kh kw c o'],
  grad: Float[Array, 'b d2 h2 w2 o'],
  shape: tuple[int, int, int],
  strides: _Triple,
) -> Float[Array, 'b d h w c']:
  """Returns the gradient of `convolve` with respect to its input.

  Args:
    kernel: the weights.
    grad: the gradient of the output.
    shape: (d, h, w) of the input.
    strides: steps along (z, y, x).
  """
  kd, kh, kw, c, o = kernel.shape
  batch, *out, _ = grad.shape
  weights = kernel.transpose(0, 1, 4, 2, 3).reshape(kd * kh, o, kw * c)
  samples = _divisor(batch, _TILE_BYTES // (4 * math.prod(shape) * c))

  def scatter(grad: Array) -> Array:
    def add(total: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
      place, weight = tap
      part = jnp.matmul(grad, weight, preferred_element_type=jnp.float32)
      part = part.reshape(samples, *out, kw, c)
      rows = sum(
        _spread(part[:, :, :, :, i], i, shape[2], strides) for i in range(kw)
      )
      start = (0, place // kh, place % kh, 0, 0)
      rows += lax.dynamic_slice(total, start, rows.shape)
      return lax.dynamic_update_slice(total, rows, start), None

    zeros = jnp.zeros((samples, *shape, c), jnp.float32)
    total, _ = lax.scan(add, zeros, (jnp.arange(kd * kh), weights))
    return total.astype(grad.dtype)

  tiles = grad.reshape(batch // samples, -1, o)
  return lax.map(scatter, tiles).reshape(batch, *shape, c)


def _spread(part: Array, tap: int, width: int, strides: _Triple) -> Array:
  """Lays one tap's share of the gradient out at the input's spacing."""
  after = width - tap - (part.shape[3] - 1) * strides[2] - 1
  depth, height, across = ((0, 0, s - 1) for s in strides)
  across = (tap, after, across[2])
  pads = ((0, 0, 0), depth, height, across, (0, 0, 0))
  return lax.pad(part, jnp.zeros((), part.dtype), pads)


def _divisor(count: int, most: int) -> int:
  """Returns the largest divisor of a count that is at most `most`, or 1."""
  return next(
    n for n in range(max(min(count, most), 1), 0, -1) if not count % n
  )


def _is_folded(x: Array, strides: _Triple) -> bool:
  return x.shape[-1] == 1 and strides[2] == 1


def _fold_width(x: Array, pairs: int) -> Array:
  """Makes pairs of columns into channels, after padding or cropping."""
  width = min(x.shape[3], pairs * _FOLD)
  pads = [(0, 0)] * 3 + [(0, pairs * _FOLD - width), (0, 0)]
  x = jnp.pad(x[:, :, :, :width], pads)
  return x.reshape(*x.shape[:3], pairs, _FOLD * x.shape[4])


def _fold_kernel(kernel: Array) -> Array:
  """Returns the kernel that maps pairs of columns to pairs of columns."""
  kd, kh, kw, c, o = kernel.shape
  pairs = math.ceil((kw + _FOLD - 1) / _FOLD)
  # The kernel of the pair's second column lies one further to the right.
  shifted = [
    jnp.pad(kernel, [(0, 0)] * 2 + [(i, pairs * _FOLD - kw - i)] + [(0, 0)] * 2)
    for i in range(_FOLD)
  ]
  return jnp.stack(shifted, -2).reshape(kd, kh, pairs, _FOLD * c, _FOLD * o)


def _walk(x: Array, kernel: Array, strides: _Triple) -> Array:
  """Convolves tile by tile."""
  window = kernel.shape[:3]
  out = (
    len(x),
    *(
      (n - k) // s + 1
      for n, k, s in zip(x.shape[1:4], window, strides, strict=True)
    ),
    kernel.shape[-1],
  )
  weights = kernel.reshape(window[0], -1, out[-1])
  tile = _tile(out[:4], weights.shape[1] * x.dtype.itemsize)

  def step(done: Array, index: Array) -> tuple[Array, None]:
    _, start = _starts(index, tile, out[:3])

    def add(total: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
      columns = _columns(x, start, tap[0], (*tile, out[3]), window, strides)
      product = jnp.matmul(columns, tap[1], preferred_element_type=jnp.float32)
      return total + product, None

    zeros = jnp.zeros((math.prod(tile) * out[3], out[-1]), jnp.float32)
    part, _ = lax.scan(add, zeros, (jnp.arange(window[0]), weights))
    part = part.astype(x.dtype).reshape(*tile, *out[3:])
    return lax.dynamic_update_slice(done, part, (*start, 0, 0)), None

  return lax.scan(step, jnp.zeros(out, x.dtype), _steps(tile, out[:3]))[0]


def _walk_gradient(
  x: Array, grad: Array, shape: tuple[int, ...], strides: _Triple
) -> Array:
  """Sums the products of gradients and columns tile by tile."""
  out, taps = grad.shape, math.prod(shape[1:4])
  tile = _tile(out[:4], taps * x.dtype.itemsize)

  def step(total: Array, index: Array) -> tuple[Array, None]:
    own, start = _starts(index, tile, out[:3])
    part = lax.dynamic_slice(grad, (*start, 0, 0), (*tile, *out[3:]))
    for axis in range(3):
      if out[axis] % tile[axis]:
        # Voxels that the tile before has counted already.
        place = lax.broadcasted_iota(jnp.int32, part.shape, axis)
        part = jnp.where(place + start[axis] >= own[axis], part, 0)
    part = part.reshape(-1, out[-1]).T

    def multiply(_: None, tap: Array) -> tuple[None, Array]:
      columns = _columns(x, start, tap, (*tile, out[3]), shape[:3], strides)
      # This way round: the transposed product is up to twice slower.
      return None, jnp.matmul(part, columns, preferred_element_type=jnp.float32)

    return total + lax.scan(multiply, None, jnp.arange(shape[0]))[1], None

  zeros = jnp.zeros((shape[0], shape[-1], taps), jnp.float32)
  total = lax.scan(step, zeros, _steps(tile, out[:3]))[0]
  return total.swapaxes(1, 2).reshape(shape).astype(x.dtype)


def _tile(out: tuple[int, int, int, int], row_bytes: int) -> _Triple:
  """Returns how many samples, slices and rows of the output a tile spans.

  Args:
    out: (b, d, h, w) of the output.
    row_bytes: of the columns of one voxel.
  """
  batch, depth, height, width = out
  rows = max(1, _TILE_BYTES // (row_bytes * width))

  # Equal tiles, as few as the bound allows, so that the last overlaps little.
  def even(size: int, most: int) -> int:
    return math.ceil(size / math.ceil(size / most))

  if rows < height:
    return 1, 1, even(height, rows)
  if rows < height * depth:
    return 1, even(depth, rows // height), height
  return even(batch, rows // (height * depth)), depth, height


def _steps(tile: _Triple, out: _Triple) -> Array:
  counts = (math.ceil(n / t) for n, t in zip(out, tile, strict=True))
  return jnp.arange(math.prod(counts), dtype=jnp.int32)


def _starts(
  step: Array, tile: _Triple, out: _Triple
) -> tuple[list[Array], list[Array]]:
  """Returns where a tile's own voxels begin, and where the tile is laid.

  The last tile along an axis is laid to end at the border, so it may overlap
  the one before.
  """
  counts = [math.ceil(n / t) for n, t in zip(out, tile, strict=True)]
  places = [
    step // (counts[1] * counts[2]),
    step // counts[2] % counts[1],
    step % counts[2],
  ]
  own = [place * t for place, t in zip(places, tile, strict=True)]
  laid = [jnp.minimum(o, n - t) for o, n, t in zip(own, out, tile, strict=True)]
  return own, laid


def _columns(
  x: Array,
  start: list[Array],
  tap: Array,
  tile: tuple[int, int, int, int],
  window: _Triple,
  strides: _Triple,
) -> Array:
  """Gathers a tile's taps of one depth: (voxels, kh * kw * c).

  A loop writes tap by tap to its place. Slices that are joined cost a copy
  more, and a program that takes XLA twice as long to compile.
  """
  channels = x.shape[-1]
  spans = [(n - 1) * s + 1 for n, s in zip(tile[1:], strides, strict=True)]
  block = lax.dynamic_slice(
    x,
    (start[0], start[1] * strides[0] + tap, start[2] * strides[1], 0, 0),
    (tile[0], spans[0], spans[1] + window[1] - 1, *x.shape[3:]),
  )

  def put(i: Array, columns: Array) -> Array:
    part = lax.dynamic_slice(
      block,
      (0, 0, lax.div(i, window[2]), lax.rem(i, window[2]), 0),
      (tile[0], *spans, channels),
    )
    part = part[:, :: strides[0], :: strides[1], :: strides[2]]
    place = (0, 0, 0, 0, i * channels)
    return lax.dynamic_update_slice(columns, part, place)

  taps = window[1] * window[2]
  columns = jnp.zeros((*tile, taps * channels), x.dtype)
  columns = lax.fori_loop(0, taps, put, columns)
  return columns.reshape(-1, taps * channels)
