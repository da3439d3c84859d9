"""What training changes: parameters, averages, optimiser state, step."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from medzoo.train import devices
from medzoo.train import optim


@flax.struct.dataclass
class TrainState:
  """Everything that a training step reads and writes.

  Attributes:
    step: () int32, steps done.
    params: all parameters, trained and frozen.
    model_state: the other collections of the variables, such as
      `batch_stats`; {} where the model has none.
    opt_state: the optimiser's state for the trained parameters.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: Any

  @property
  def variables(self) -> dict[str, Any]:
    """The variables as the task and the model take them."""
    return {'params': self.params, **self.model_state}


def init_key(seed: int) -> jax.Array:
  """Returns the key that fresh variables are drawn from.

  Its generator compiles some twenty times faster on a CPU than the default,
  which would take longer for a network's first values than many a training.
  """
  return jax.random.key(seed, impl='rbg')


@functools.partial(jax.jit, static_argnames='task')
def init(
  task: Any, key: jax.Array, batch: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Returns the task's fresh variables.

  Jitted here, once for all that need them or their shapes: to trace a network
  takes long.
  """
  return task.init(key, batch)


def shapes(
  task: Any, key: jax.Array, batch: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Returns the task's variables as shapes, without computing any."""
  return init.eval_shape(task, key, dict(batch))


def create(
  task: Any,
  key: jax.Array,
  batch: Mapping[str, np.ndarray],
  tx: optax.GradientTransformation,
  *,
  mesh: jax.sharding.Mesh,
  trainable: Sequence[str] | None = None,
  initial: Mapping[str, Any] | None = None,
) -> TrainState:
  """Makes the state of step 0, replicated over the mesh.

  Args:
    task: follows the task protocol.
    key: decides the fresh parameters.
    batch: one batch, for its shapes.
    tx: from `optim.make`.
    mesh: from `devices.make_mesh`.
    trainable: the prefixes given to `optim.make`.
    initial: complete variables to start from; None for fresh ones.

  Raises:
    ValueError: `initial` does not have the task's names and shapes.
  """
  if initial is None:
    variables = _fresh(task, mesh)(key, dict(batch))
  else:
    _check(initial, shapes(task, key, batch))
    variables = devices.replicate(dict(initial), mesh)
  return _assemble(variables, tx, mesh, trainable)


@functools.lru_cache(maxsize=16)
def _fresh(task: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns the jitted `(key, batch) -> variables`, over the mesh."""
  return jax.jit(
    functools.partial(init, task), out_shardings=devices.replicated(mesh)
  )


def template(
  task: Any,
  key: jax.Array,
  batch: Mapping[str, np.ndarray],
  tx: optax.GradientTransformation,
  *,
  mesh: jax.sharding.Mesh,
  trainable: Sequence[str] | None = None,
) -> TrainState:
  """Like `create`, but shapes and shardings only; for reading checkpoints."""
  state = jax.eval_shape(
    lambda variables: _pack(variables, tx, trainable),
    shapes(task, key, batch),
  )
  sharding = devices.replicated(mesh)
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    state,
  )


def _assemble(
  variables: Any,
  tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  trainable: Sequence[str] | None,
) -> TrainState:
  """Adds the optimiser's state to variables that lie on the mesh."""
  return jax.jit(
    lambda tree: _pack(tree, tx, trainable),
    out_shardings=devices.replicated(mesh),
  )(variables)


def _pack(
  variables: Mapping[str, Any],
  tx: optax.GradientTransformation,
  trainable: Sequence[str] | None,
) -> TrainState:
  params = variables['params']
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state={k: v for k, v in variables.items() if k != 'params'},
    opt_state=tx.init(optim.partition(params, trainable)[0]),
  )


def _check(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
  """Compares names and shapes, leaf by leaf."""
  found = _named_shapes(found)
  expected = _named_shapes(expected)
  for name in sorted(found.keys() | expected.keys()):
    if found.get(name) != expected.get(name):
      raise ValueError(
        f'initial variables: {name}: found {found.get(name)}, '
        f'expected {expected.get(name)}'
      )


def _named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(dict(tree))
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
    for path, leaf in leaves
  }
