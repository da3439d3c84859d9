"""The jitted steps of training and prediction over a mesh of devices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import optax

from medzoo.train import devices
from medzoo.train import optim
from medzoo.train import state as state_lib

Batch = Mapping[str, Any]

# Compiled steps that are kept: more than the stages of a fold.
_KEPT = 16


def gradients(
  task: Any,
  state: state_lib.TrainState,
  batch: Batch,
  key: jax.Array,
  trainable: Sequence[str] | None = None,
) -> tuple[dict[str, jax.Array], Any, Any]:
  """Differentiates the task's loss by the trained parameters only.

  Frozen BatchNorm layers normalise by their running averages and keep them.

  Args:
    task: follows the task protocol.
    state: the state before the step.
    batch: arrays (b, ...).
    key: of the training; the step number is folded in here.
    trainable: prefixes of the modules to train; None for all.

  Returns:
    Terms by name (scalars; `loss` is the one differentiated), the gradients
    of the trained parameters, and the new model state.
  """
  key = jax.random.fold_in(key, state.step)
  chosen, frozen = optim.partition(state.params, trainable)

  def loss_fn(chosen: Any) -> tuple[jax.Array, Any]:
    params = optim.merge(chosen, frozen)
    variables = {'params': params, **state.model_state}
    with nn.intercept_methods(_frozen_norms(trainable)):
      return task.loss(variables, batch, key, train=True)

  (loss, (terms, model_state)), grads = jax.value_and_grad(
    loss_fn, has_aux=True
  )(chosen)
  model_state = _keep_frozen(state.model_state, model_state, trainable)
  return {**terms, 'loss': loss}, grads, model_state


@functools.lru_cache(maxsize=_KEPT)
def make_train_step(
  task: Any,
  tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  trainable: tuple[str, ...] | None = None,
) -> Any:
  """Returns the jitted `(state, batch, key) -> (state, terms)`.

  Of equal arguments the same one, so that folds compile it once.

  Trace it under `jax.set_mesh(mesh)`, so that hand-written walks over the
  batch can stay on their devices. The state is donated: use the returned one
  only. Terms are those of `gradients` and `gradient_norm`, left on the
  device.

  Args:
    task: follows the task protocol.
    tx: from `optim.make`.
    mesh: from `devices.make_mesh`.
    trainable: the prefixes given to `optim.make`.
  """

  def step(
    state: state_lib.TrainState, batch: Batch, key: jax.Array
  ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
    terms, grads, model_state = gradients(task, state, batch, key, trainable)
    chosen, frozen = optim.partition(state.params, trainable)
    updates, opt_state = tx.update(grads, state.opt_state, chosen)
    state = state.replace(
      step=state.step + 1,
      params=optim.merge(optax.apply_updates(chosen, updates), frozen),
      model_state=model_state,
      opt_state=opt_state,
    )
    return state, {**terms, 'gradient_norm': optax.tree.norm(grads)}

  everywhere = devices.replicated(mesh)
  return jax.jit(
    step,
    in_shardings=(everywhere, devices.split(mesh), everywhere),
    out_shardings=(everywhere, everywhere),
    donate_argnums=0,
  )


@functools.lru_cache(maxsize=_KEPT)
def make_predict_step(
  task: Any, mesh: jax.sharding.Mesh
) -> Callable[[Any, Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
  """Returns `(variables, batch) -> predictions`, from numpy to numpy.

  Of equal arguments the same one, see `make_train_step`.

  Variables may be numpy arrays, but are copied at every call then; put them
  on the mesh once with `devices.replicate`.

  Args:
    task: follows the task protocol.
    mesh: from `devices.make_mesh`.
  """
  predict = jax.jit(
    task.predict,
    in_shardings=(devices.replicated(mesh), devices.split(mesh)),
  )

  def step(
    variables: Any, batch: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    with jax.set_mesh(mesh):
      return devices.fetch(predict(variables, devices.shard_batch(batch, mesh)))

  return step


def _frozen_norms(trainable: Sequence[str] | None) -> Callable[..., Any]:
  """A Linen interceptor that keeps frozen BatchNorm in inference mode."""

  def intercept(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    if (
      isinstance(module, nn.BatchNorm)
      and context.method_name == '__call__'
      and not optim.is_trainable(module.path, trainable)
    ):
      # Linen refuses the flag at the call where the constructor had it too.
      object.__setattr__(module, 'use_running_average', True)
      kwargs = {k: v for k, v in kwargs.items() if k != 'use_running_average'}
      args = args[:1]
    return next_fn(*args, **kwargs)

  return intercept


def _keep_frozen(
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  trainable: Sequence[str] | None,
) -> dict[str, Any]:
  """Takes the new model state for trained modules, the old for frozen."""
  result = dict(old)
  for collection, tree in new.items():
    before = flax.traverse_util.flatten_dict(old[collection])
    after = flax.traverse_util.flatten_dict(tree)
    result[collection] = flax.traverse_util.unflatten_dict(
      {
        path: after[path] if optim.is_trainable(path, trainable) else leaf
        for path, leaf in before.items()
      }
    )
  return result
