"""3D convolution that is also fast on a CPU.

XLA's own 3D convolution is several times slower on a CPU than a matrix
product of the same size. There this module gathers the taps of a tile of
output voxels (im2col) into a matrix that stays in the cache, multiplies it by
the weights, and walks over all tiles; the weight gradient is the same walk
with the transposed product. Other devices get `lax.conv_general_dilated`. The
choice falls when the program is lowered, so a jitted function is right on
whatever device it is compiled for.

Inside `jax.set_mesh(mesh)` with a mesh axis named 'data' the walk runs on
each device's own share of the batch; XLA would otherwise gather the whole
batch on every device.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_Triple = tuple[int, int, int]
_LAYOUT = ('NDHWC', 'DHWIO', 'NDHWC')
_DATA_AXIS = 'data'
# The columns of one tile: small enough for the second-level cache, large
# enough for the matrix product to reach its speed.
_TILE_BYTES = 2_000_000


def conv3d(
  x: Float[Array, 'b d h w c'],
  kernel: Float[Array, 'kd kh kw c o'],
  strides: _Triple = (1, 1, 1),
  padding: Literal['VALID', 'SAME'] = 'VALID',
) -> Float[Array, 'b d2 h2 w2 o']:
  """Convolves volumes, as `lax.conv_general_dilated` does but fast on a CPU.

  Args:
    x: volumes, channels last, float32 or bfloat16.
    kernel: weights over (z, y, x, channels in, channels out), of x's type.
    strides: steps along (z, y, x).
    padding: 'VALID' uses only whole windows; 'SAME' pads with zeros so that
      the output has ceil(size / stride) voxels along each axis.

  Returns:
    The convolution in x's type; sums are accumulated in float32.

  Raises:
    ValueError: the types differ, or the padding is unknown.
  """
  if x.dtype != kernel.dtype:
    raise ValueError(f'x is {x.dtype} but the kernel is {kernel.dtype}')
  if padding not in ('VALID', 'SAME'):
    raise ValueError(f"padding is {padding!r}, expected 'VALID' or 'SAME'")
  pads = lax.padtype_to_pads(x.shape[1:4], kernel.shape[:3], strides, padding)
  if any(low or high for low, high in pads):
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  return _conv(x, kernel, tuple(strides))


def output_shape(
  shape: _Triple, kernel: _Triple, strides: _Triple = (1, 1, 1)
) -> _Triple:
  """Returns the (d, h, w) of a 'VALID' convolution or pooling.

  Raises:
    ValueError: the input is smaller than the window.
  """
  if any(n < k for n, k in zip(shape, kernel, strict=True)):
    raise ValueError(f'input {shape} is smaller than the window {kernel}')
  return tuple(
    (n - k) // s + 1 for n, k, s in zip(shape, kernel, strides, strict=True)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, strides: _Triple) -> Array:
  """The 'VALID' convolution."""
  stock = functools.partial(_stock, strides=strides)
  walk = functools.partial(_walk, strides=strides)
  return lax.platform_dependent(
    x, kernel, cpu=_per_device(walk, (True, False), True), default=stock
  )


def _conv_fwd(
  x: Array, kernel: Array, strides: _Triple
) -> tuple[Array, tuple[Array, Array]]:
  return _conv(x, kernel, strides), (x, kernel)


def _conv_bwd(
  strides: _Triple, saved: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
  x, kernel = saved
  return (
    _input_grad(x, kernel, grad, strides),
    _kernel_grad(x, kernel, grad, strides),
  )


_conv.defvjp(_conv_fwd, _conv_bwd)


def _stock(x: Array, kernel: Array, strides: _Triple) -> Array:
  return lax.conv_general_dilated(
    x, kernel, strides, 'VALID', dimension_numbers=_LAYOUT
  )


def _input_grad(
  x: Array, kernel: Array, grad: Array, strides: _Triple
) -> Array:
  """The full convolution of the gradient with the flipped kernel."""

  def walk(kernel: Array, grad: Array) -> Array:
    # (low, high, interior) zeros: the interior undoes the stride, and the
    # high side also covers voxels that no window reached.
    spans = [
      (n - 1) * s + 1 for n, s in zip(grad.shape[1:4], strides, strict=True)
    ]
    pads = [
      (k - 1, n - span, s - 1)
      for k, n, span, s in zip(
        kernel.shape[:3], x.shape[1:4], spans, strides, strict=True
      )
    ]
    zero = jnp.zeros((), grad.dtype)
    full = lax.pad(grad, zero, [(0, 0, 0), *pads, (0, 0, 0)])
    flipped = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    return _walk(full, flipped, (1, 1, 1))

  def stock(kernel: Array, grad: Array) -> Array:
    convolve = functools.partial(_stock, kernel=kernel, strides=strides)
    return jax.linear_transpose(convolve, x)(grad)[0]

  cpu = _per_device(walk, (False, True), True)
  return lax.platform_dependent(kernel, grad, cpu=cpu, default=stock)


def _kernel_grad(
  x: Array, kernel: Array, grad: Array, strides: _Triple
) -> Array:
  """The correlation of the input with the gradient."""

  def walk(x: Array, grad: Array) -> Array:
    return _walk_kernel_grad(x, grad, kernel.shape, strides)

  def stock(x: Array, grad: Array) -> Array:
    convolve = functools.partial(_stock, x, strides=strides)
    return jax.linear_transpose(convolve, kernel)(grad)[0]

  cpu = _per_device(walk, (True, True), False)
  return lax.platform_dependent(x, grad, cpu=cpu, default=stock)


def _per_device(
  walk: Callable[..., Array], is_batch: tuple[bool, bool], batch_out: bool
) -> Callable[..., Array]:
  """Runs a walk on each device's share of the batch, if a mesh is set.

  Args:
    walk: function of two arrays.
    is_batch: which of the two have a batch axis.
    batch_out: whether the result has one; if not it is summed over devices.
  """

  def run(*args: Array) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    batch = args[is_batch.index(True)].shape[0]
    if (
      _DATA_AXIS not in mesh.axis_names
      # Inside a shard_map of the caller the arrays are one device's already.
      or _DATA_AXIS in mesh.manual_axes
      or batch % mesh.shape[_DATA_AXIS]
    ):
      return walk(*args)
    split, whole = jax.P(_DATA_AXIS), jax.P()

    def share(*args: Array) -> Array:
      out = walk(*args)
      return out if batch_out else lax.psum(out, _DATA_AXIS)

    return jax.shard_map(
      share,
      mesh=mesh,
      in_specs=tuple(split if has else whole for has in is_batch),
      out_specs=split if batch_out else whole,
      check_vma=False,
    )(*args)

  return run


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


def _starts(
  step: Array, tile: _Triple, out: tuple[int, ...]
) -> tuple[list[Array], list[Array]]:
  """Returns where a tile's own voxels begin, and where it is laid.

  The last tile along an axis is laid back to end at the border, so it may
  overlap the one before.
  """
  counts = [math.ceil(n / t) for n, t in zip(out[:3], tile, strict=True)]
  places = [
    step // (counts[1] * counts[2]),
    step // counts[2] % counts[1],
    step % counts[2],
  ]
  own = [place * t for place, t in zip(places, tile, strict=True)]
  laid = [
    jnp.minimum(o, n - t) for o, n, t in zip(own, out[:3], tile, strict=True)
  ]
  return own, laid


def _steps(tile: _Triple, out: tuple[int, ...]) -> Array:
  return jnp.arange(
    math.prod(math.ceil(n / t) for n, t in zip(out[:3], tile, strict=True)),
    dtype=jnp.int32,
  )


def _columns(
  x: Array,
  start: list[Array],
  tile: _Triple,
  kernel: _Triple,
  strides: _Triple,
  width: int,
) -> Array:
  """Gathers the taps of a tile: (kd * kh * kw * c, voxels) or its transpose."""
  channels = x.shape[-1]
  size = [
    (n - 1) * s + k
    for n, s, k in zip(tile[1:], strides[:2], kernel[:2], strict=True)
  ]
  corner = (start[0], start[1] * strides[0], start[2] * strides[1], 0, 0)
  block = lax.dynamic_slice(x, corner, (tile[0], *size, *x.shape[3:]))
  span = [
    (n - 1) * s + 1 for n, s in zip((*tile[1:], width), strides, strict=True)
  ]
  taps = [
    lax.slice(
      block,
      (0, i, j, k, 0),
      (tile[0], i + span[0], j + span[1], k + span[2], channels),
      (1, *strides, 1),
    )
    for i in range(kernel[0])
    for j in range(kernel[1])
    for k in range(kernel[2])
  ]
  return jnp.concatenate(taps, -1).reshape(-1, len(taps) * channels)


def _walk(x: Array, kernel: Array, strides: _Triple) -> Array:
  """Convolves tile by tile."""
  window = kernel.shape[:3]
  out = (
    x.shape[0],
    *output_shape(x.shape[1:4], window, strides),
    kernel.shape[-1],
  )
  weights = kernel.reshape(-1, out[-1])
  tile = _tile(out[:4], weights.shape[0] * x.dtype.itemsize)

  def step(done: Array, index: Array) -> tuple[Array, None]:
    _, start = _starts(index, tile, out)
    columns = _columns(x, start, tile, window, strides, out[3])
    part = jnp.matmul(columns, weights, preferred_element_type=jnp.float32)
    part = part.astype(x.dtype).reshape(*tile, *out[3:])
    return lax.dynamic_update_slice(done, part, (*start, 0, 0)), None

  return lax.scan(step, jnp.zeros(out, x.dtype), _steps(tile, out))[0]


def _walk_kernel_grad(
  x: Array, grad: Array, shape: tuple[int, ...], strides: _Triple
) -> Array:
  """Sums the outer products of columns and gradients tile by tile."""
  out, taps = grad.shape, math.prod(shape[:4])
  tile = _tile(out[:4], taps * x.dtype.itemsize)

  def step(total: Array, index: Array) -> tuple[Array, None]:
    own, start = _starts(index, tile, out)
    columns = _columns(x, start, tile, shape[:3], strides, out[3])
    part = lax.dynamic_slice(grad, (*start, 0, 0), (*tile, *out[3:]))
    for axis in range(3):
      if out[axis] % tile[axis]:
        # Voxels that the tile before has counted already.
        place = lax.broadcasted_iota(jnp.int32, part.shape, axis)
        part = jnp.where(place + start[axis] >= own[axis], part, 0)
    product = jnp.matmul(
      columns.T,
      part.reshape(-1, out[-1]),
      preferred_element_type=jnp.float32,
    )
    return total + product, None

  zeros = jnp.zeros((taps, shape[-1]), jnp.float32)
  total = lax.scan(step, zeros, _steps(tile, out))[0]
  return total.reshape(shape).astype(x.dtype)
