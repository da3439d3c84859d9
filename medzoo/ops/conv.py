"""3D convolution that is also fast on a CPU.

XLA's own 3D convolution is several times slower on a CPU than a matrix
product of the same size, so there it is done by `conv_tiles`. Other devices
get `lax.conv_general_dilated`. The choice falls when the program is lowered:
a jitted function is right on whatever device it is compiled for.

Inside `jax.set_mesh(mesh)`, with a mesh axis named 'data', the walk over the
tiles stays on each device's own share of the batch. Without it XLA gathers
the whole batch on every device; the result is the same.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medzoo.ops import conv_tiles

_Triple = tuple[int, int, int]
_LAYOUT = ('NDHWC', 'DHWIO', 'NDHWC')
_DATA_AXIS = 'data'


def conv3d(
  x: Float[Array, 'b d h w c'],
  kernel: Float[Array, 'kd kh kw c o'],
  strides: _Triple = (1, 1, 1),
  padding: Literal['VALID', 'SAME'] = 'VALID',
) -> Float[Array, 'b d2 h2 w2 o']:
  """Convolves volumes as `lax.conv_general_dilated` does, fast on a CPU too.

  Args:
    x: volumes, channels last, float32 or bfloat16.
    kernel: weights over (z, y, x, channels in, channels out), of x's type.
    strides: steps along (z, y, x).
    padding: 'VALID' uses only whole windows; 'SAME' pads with zeros so that
      the output has ceil(size / stride) voxels along each axis.

  Returns:
    The convolution in x's type; on a CPU sums are accumulated in float32.

  Raises:
    ValueError: the types differ, the padding is unknown, or an unpadded
      volume is smaller than the kernel.
  """
  if x.dtype != kernel.dtype:
    raise ValueError(f'x is {x.dtype} but the kernel is {kernel.dtype}')
  if padding not in ('VALID', 'SAME'):
    raise ValueError(f"padding is {padding!r}, expected 'VALID' or 'SAME'")
  pads = lax.padtype_to_pads(x.shape[1:4], kernel.shape[:3], strides, padding)
  if any(low or high for low, high in pads):
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  output_shape(x.shape[1:4], kernel.shape[:3], strides)
  return _conv(x, kernel, tuple(strides))


def output_shape(
  shape: _Triple, window: _Triple, strides: _Triple = (1, 1, 1)
) -> _Triple:
  """Returns the (d, h, w) of a convolution or pooling without padding.

  Raises:
    ValueError: the input is smaller than the window.
  """
  if any(n < k for n, k in zip(shape, window, strict=True)):
    raise ValueError(f'input {shape} is smaller than the window {window}')
  return tuple(
    (n - k) // s + 1 for n, k, s in zip(shape, window, strides, strict=True)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, strides: _Triple) -> Array:
  """The convolution without padding."""
  walk = functools.partial(conv_tiles.convolve, strides=strides)
  stock = functools.partial(_stock, strides=strides)
  cpu = _per_device(walk, (True, False), True)
  return lax.platform_dependent(x, kernel, cpu=cpu, default=stock)


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
  """What every input voxel receives from the outputs that used it."""

  def walk(kernel: Array, grad: Array) -> Array:
    return conv_tiles.input_gradient(kernel, grad, x.shape[1:4], strides)

  def stock(kernel: Array, grad: Array) -> Array:
    convolve = functools.partial(_stock, kernel=kernel, strides=strides)
    return jax.linear_transpose(convolve, x)(grad)[0]

  cpu = _per_device(walk, (False, True), True)
  return lax.platform_dependent(kernel, grad, cpu=cpu, default=stock)


def _kernel_grad(
  x: Array, kernel: Array, grad: Array, strides: _Triple
) -> Array:
  """The correlation of the input with the gradient."""
  like = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)

  def walk(x: Array, grad: Array) -> Array:
    return conv_tiles.kernel_gradient(x, grad, like, strides)

  def stock(x: Array, grad: Array) -> Array:
    convolve = functools.partial(_stock, x, strides=strides)
    return jax.linear_transpose(convolve, like)(grad)[0]

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
    batch = len(args[is_batch.index(True)])
    if (
      _DATA_AXIS not in mesh.axis_names
      # Within a caller's shard_map the arrays are one device's share already.
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
      # The walk's carry starts from zeros, the same on every device.
      check_vma=False,
    )(*args)

  return run
