"""Times the CPU's 3D convolution against XLA's own, and torch's if it is here.

  python benchmarks/conv3d.py [--repeats=5] [--devices=1] [--layers] [--steps]

Rivals take turns, one call each, so that a busy machine troubles all alike.
Two medians are printed: the wall clock's and, as that of a shared machine says
little, the processor time of all threads together.
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medzoo.models import candidate_screening
from medzoo.models import false_positive_reduction
from medzoo.ops import conv

try:
  import torch
except ImportError:
  torch = None

# Input (b, d, h, w, c), kernel, channels out: the narrow screening network in
# training and on a tile of a scan, and the half-width reduction network.
_LAYERS = (
  ((32, 15, 30, 30, 1), (4, 5, 5), 16),
  ((32, 12, 13, 13, 16), (4, 5, 5), 16),
  ((32, 12, 13, 13, 32), (4, 5, 5), 32),
  ((32, 9, 9, 9, 32), (5, 5, 5), 64),
  ((1, 30, 94, 94, 1), (4, 5, 5), 16),
  ((1, 27, 45, 45, 16), (4, 5, 5), 16),
  ((4, 19, 24, 24, 16), (5, 5, 5), 32),
  ((4, 15, 20, 20, 32), (3, 3, 3), 32),
)
_STEPS = {
  'screening, narrow, 32 patches': (
    candidate_screening.Model(widths=(16, 16, 32, 64)),
    (32, 15, 30, 30, 1),
  ),
  'screening, published, 32 patches': (
    candidate_screening.Model(),
    (32, 15, 30, 30, 1),
  ),
  'reduction, half, 8 patches': (
    false_positive_reduction.Model(
      widths=(16, 16, 32, 32, 64), hidden=64, regression_pool=(2, 3, 3)
    ),
    (8, 25, 60, 60, 1),
  ),
  'reduction, published, 4 patches': (
    false_positive_reduction.Model(regression=False),
    (4, 25, 60, 60, 1),
  ),
}


def stock(
  x: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, int, int] = (1, 1, 1),
  padding: str = 'VALID',
) -> jax.Array:
  """XLA's own convolution, with conv3d's arguments."""
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC')
  )


def measure(
  rivals: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, tuple[float, float]]:
  """Returns the median wall and processor time of each rival, in ms."""
  for run in rivals.values():
    run()
  times = {name: [] for name in rivals}
  for _ in range(repeats):
    for name, run in rivals.items():
      wall, cpu = time.perf_counter(), time.process_time()
      run()
      spent = time.perf_counter() - wall, time.process_time() - cpu
      times[name].append(spent)
  return {
    name: tuple(1e3 * np.median(spent, axis=0)) for name, spent in times.items()
  }


def _calls(convolve: Callable, x: jax.Array, k: jax.Array) -> dict[str, Any]:
  """The forward pass and both gradients of one layer, compiled."""
  y = jax.jit(convolve)(x, k)
  jobs = {
    'fwd': (convolve, (x, k)),
    'dw': (lambda x, k, y: jax.vjp(convolve, x, k)[1](y)[1], (x, k, y)),
    'dx': (lambda x, k, y: jax.vjp(convolve, x, k)[1](y)[0], (x, k, y)),
  }
  return {
    job: functools.partial(_wait, jax.jit(run).lower(*args).compile(), *args)
    for job, (run, args) in jobs.items()
  }


def _wait(run: Callable, *args: Any) -> None:
  jax.block_until_ready(run(*args))


def _torch_calls(x: jax.Array, k: jax.Array) -> dict[str, Any]:
  """The same in torch, channels last, through oneDNN."""
  last = torch.channels_last_3d
  a = torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())
  w = torch.tensor(np.transpose(np.asarray(k), (4, 3, 0, 1, 2)).copy())
  a, w = a.to(memory_format=last), w.to(memory_format=last)
  grad = torch.nn.functional.conv3d(a, w)
  wide = functools.partial(torch.ops.aten.convolution_backward, grad, a, w)
  rest = (None, (1,) * 3, (0,) * 3, (1,) * 3, False, (0,) * 3, 1)
  return {
    'fwd': lambda: torch.nn.functional.conv3d(a, w),
    'dw': lambda: wide(*rest, (False, True, False)),
    'dx': lambda: wide(*rest, (True, False, False)),
  }


def time_layers(repeats: int) -> None:
  """Prints one line per layer and pass."""
  rng = np.random.default_rng(0)
  for shape, window, features in _LAYERS:
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    k = rng.normal(size=(*window, shape[-1], features))
    k = jnp.asarray(k, jnp.float32)
    calls = {'stock': _calls(stock, x, k), 'tiles': _calls(conv.conv3d, x, k)}
    if torch is not None:
      calls['torch'] = _torch_calls(x, k)
    cells = np.prod(conv.output_shape(shape[1:4], window)) * shape[0]
    work = 2e-6 * cells * k.size
    # The first layer's input is the image, which needs no gradient.
    for job in ('fwd', 'dw', 'dx') if shape[-1] > 1 else ('fwd', 'dw'):
      rivals = {name: passes[job] for name, passes in calls.items()}
      spent = measure(rivals, repeats)
      text = ', '.join(
        f'{name} {wall:.1f} / {cpu:.1f} ({work / cpu:.0f})'
        for name, (wall, cpu) in spent.items()
      )
      print(f'{shape} {window} {features} {job}: {text}', flush=True)


def _step(
  model: Any, shape: tuple[int, ...], mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """The forward pass and the training step of a model, compiled."""
  split = jax.NamedSharding(mesh, jax.P('data'))
  x = jax.random.normal(jax.random.key(0), shape)
  variables = jax.jit(functools.partial(model.init, train=False))(
    jax.random.key(1), x[:1]
  )
  whole = jax.NamedSharding(mesh, jax.P())
  x, variables = jax.device_put(x, split), jax.device_put(variables, whole)

  def loss(params: Any, x: jax.Array) -> jax.Array:
    outputs, _ = model.apply(
      variables | {'params': params}, x, train=True, mutable=['batch_stats']
    )
    return sum((out**2).sum() for out in outputs.values())

  runs = {'forward': loss, 'step': jax.grad(loss)}
  args = variables['params'], x
  return {
    name: functools.partial(_wait, jax.jit(run).lower(*args).compile(), *args)
    for name, run in runs.items()
  }


def time_steps(repeats: int) -> None:
  """Prints one line per network, forward and with gradients."""
  auto = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((jax.device_count(),), ('data',), axis_types=auto)
  for title, (model, shape) in _STEPS.items():
    with jax.set_mesh(mesh):
      calls = {'tiles': _step(model, shape, mesh)}
      with mock.patch.object(conv, 'conv3d', stock):
        calls['stock'] = _step(model, shape, mesh)
    for job in ('forward', 'step'):
      rivals = {name: passes[job] for name, passes in calls.items()}
      text = ', '.join(
        f'{name} {wall:.0f} / {cpu:.0f}'
        for name, (wall, cpu) in measure(rivals, repeats).items()
      )
      print(f'{title}, {job}: {text}', flush=True)


def main() -> None:
  """Prints wall / processor milliseconds (and GF/s of processor time)."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument(
    '--devices', type=int, default=1, help='CPU devices to share a batch'
  )
  parser.add_argument('--layers', action='store_true', help='only layers')
  parser.add_argument('--steps', action='store_true', help='only steps')
  args = parser.parse_args()
  jax.config.update('jax_num_cpu_devices', args.devices)
  both = args.layers == args.steps
  print('milliseconds, wall / processor (GF/s), jax', jax.__version__)
  if both or args.layers:
    time_layers(args.repeats)
  if both or args.steps:
    time_steps(args.repeats)


if __name__ == '__main__':
  main()
