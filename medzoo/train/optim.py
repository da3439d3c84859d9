"""Optimisers and learning rates by name, and which parameters they move."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import optax

from medzoo.train import build

_COMMON = ('name', 'learning_rate', 'schedule', 'clip_norm', 'weight_decay')


def make(
  spec: Mapping[str, Any],
  *,
  steps: int,
  params: Any,
  trainable: Sequence[str] | None = None,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Builds the optimiser that a config describes.

  Args:
    spec: `name` ('adam', 'adamw' or 'sgd') and `learning_rate`; if wanted
      `schedule` (`name` 'constant', 'cosine' or 'step', their options and
      `warmup_steps`), `clip_norm` (of the global gradient norm),
      `weight_decay` (decoupled for adamw, added to the gradient for the
      others; never on biases and normalisation) and the optimiser's own
      options.
    steps: length of the training, for the schedule.
    params: the model's parameters, against which `trainable` is checked.
    trainable: prefixes of the modules to train, whole path components such
      as 'c1' or 'backbone/c1'; None for all.

  Returns:
    The transformation, to be applied to the trainable part of the parameters
    (see `partition`), and the learning rate by step.

  Raises:
    ValueError: unknown name or option, or a prefix that matches nothing.
  """
  check_trainable(params, trainable)
  return _make(json.dumps(dict(spec), sort_keys=True), steps)


@functools.lru_cache(maxsize=16)
def _make(
  spec: str, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns the same objects for the same words, so that steps are too."""
  spec = json.loads(spec)
  if 'learning_rate' not in spec:
    raise build.ConfigError('optimizer: learning_rate is missing')
  schedule = _schedule(
    spec['learning_rate'], spec.get('schedule') or {'name': 'constant'}, steps
  )
  own = {
    key: value
    for key, value in spec.items()
    if key == 'name' or key not in _COMMON
  }
  rule = _build(_RULES, own, 'optimizer')
  chain = []
  if spec.get('clip_norm') is not None:
    chain.append(optax.clip_by_global_norm(spec['clip_norm']))
  chain.append(rule)
  if spec.get('weight_decay'):
    decay = optax.add_decayed_weights(spec['weight_decay'], _is_kernel)
    # Decoupled decay follows Adam's rescaling, the classic L2 precedes it.
    chain.insert(len(chain) - (spec['name'] != 'adamw'), decay)
  chain.append(optax.scale_by_learning_rate(schedule))
  return optax.chain(*chain), schedule


def is_trainable(path: Sequence[str], trainable: Sequence[str] | None) -> bool:
  """Whether a module or parameter path lies under one of the prefixes."""
  if trainable is None:
    return True
  parts = [tuple(prefix.split('/')) for prefix in trainable]
  return any(tuple(path[: len(part)]) == part for part in parts)


def check_trainable(params: Any, trainable: Sequence[str] | None) -> None:
  """Raises ValueError if a prefix matches no parameter."""
  paths = list(flax.traverse_util.flatten_dict(params))
  for prefix in trainable or ():
    if not any(is_trainable(path, (prefix,)) for path in paths):
      raise build.ConfigError(
        f'trainable: no module {prefix!r}; the model has '
        + ', '.join(sorted({path[0] for path in paths}))
      )
  if trainable is not None and not trainable:
    raise build.ConfigError('trainable: found no prefix, expected at least one')


def partition(params: Any, trainable: Sequence[str] | None) -> tuple[Any, Any]:
  """Splits parameters into the trained and the frozen; see `merge`."""
  chosen, frozen = {}, {}
  for path, leaf in flax.traverse_util.flatten_dict(params).items():
    (chosen if is_trainable(path, trainable) else frozen)[path] = leaf
  return (
    flax.traverse_util.unflatten_dict(chosen),
    flax.traverse_util.unflatten_dict(frozen),
  )


def merge(chosen: Any, frozen: Any) -> Any:
  """Puts together what `partition` took apart."""
  return flax.traverse_util.unflatten_dict(
    {
      **flax.traverse_util.flatten_dict(chosen),
      **flax.traverse_util.flatten_dict(frozen),
    }
  )


def _is_kernel(params: Any) -> Any:
  """Marks the leaves that weight decay may touch: all but vectors."""
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _adam(
  *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def _sgd(
  *, momentum: float = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
  return optax.trace(decay=momentum, nesterov=nesterov)


def _constant(rate: float, steps: int) -> optax.Schedule:
  del steps
  return optax.constant_schedule(rate)


def _cosine(
  rate: float, steps: int, *, end_factor: float = 0.0
) -> optax.Schedule:
  return optax.cosine_decay_schedule(rate, max(steps, 1), alpha=end_factor)


def _step(
  rate: float, steps: int, *, boundaries: Sequence[int], factor: float = 0.1
) -> optax.Schedule:
  del steps
  return optax.piecewise_constant_schedule(
    rate, {int(boundary): factor for boundary in boundaries}
  )


_RULES = {'adam': _adam, 'adamw': _adam, 'sgd': _sgd}
_SCHEDULES = {'constant': _constant, 'cosine': _cosine, 'step': _step}


def _schedule(
  rate: float, spec: Mapping[str, Any], steps: int
) -> optax.Schedule:
  """The learning rate by step; a linear warm-up precedes the rest."""
  options = dict(spec)
  warmup = options.pop('warmup_steps', 0)
  after = _build(
    _SCHEDULES, options, 'optimizer.schedule', rate, steps - warmup
  )
  if not warmup:
    return after
  ramp = optax.linear_schedule(rate / (warmup + 1), rate, warmup)
  return optax.join_schedules([ramp, after], [warmup])


def _build(
  table: Mapping[str, Callable[..., Any]],
  spec: Mapping[str, Any],
  what: str,
  *args: Any,
) -> Any:
  """Calls the function that `spec` names with the options it gives."""
  options = dict(spec)
  name = options.pop('name', None)
  if name not in table:
    raise build.ConfigError(
      f'{what}.name: found {name!r}, expected one of {", ".join(table)}'
    )
  parameters = inspect.signature(table[name]).parameters.values()
  known = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
  for key in options:
    if key not in [p.name for p in known]:
      raise build.ConfigError(
        f'{what}.{key}: {name} has no such option; it has '
        + (', '.join(p.name for p in known) or 'none')
      )
  for option in known:
    if option.default is option.empty and option.name not in options:
      raise build.ConfigError(f'{what}.{option.name}: {name} needs it')
  return table[name](*args, **options)
