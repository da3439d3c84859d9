"""What all configs have in common."""

from collections.abc import Callable, Mapping

import ml_collections

_Config = ml_collections.ConfigDict


def base(experiment: str) -> _Config:
  """Returns the keys that every config has, for LIDC-IDRI's own splits."""
  config = ml_collections.ConfigDict()
  config.experiment = experiment
  config.variant = ''
  config.seed = 0
  config.dataset = dict(name='lidc_idri', options={}, synthetic=False)
  config.more_datasets = {}
  config.view = dict(name='')
  config.grouped_by = 'patients'
  config.splits = dict(train='train', validation='validation', test='test')
  config.folds = dict(by='', parts='', count=0, always='', reuse=False)
  return config


def hog() -> dict:
  """Returns the baseline of gradients and colours by a kernel ridge."""
  return dict(
    name='hog_ridge',
    tuning_cases=100_000,
    grid=dict(width=(0.5, 1.0, 2.0), ridge=(0.01, 0.1, 1.0)),
  )


def adamw(learning_rate: float, warmup_steps: int) -> dict:
  """Returns Adam with weight decay and a cosine schedule."""
  return dict(
    name='adamw',
    learning_rate=learning_rate,
    weight_decay=1e-3,
    clip_norm=1.0,
    schedule=dict(name='cosine', warmup_steps=warmup_steps),
  )


def choose(
  published: _Config,
  makers: Mapping[str, Callable[[_Config], None]],
  variant: str,
) -> _Config:
  """Makes a variant of the published config, the first where none is named.

  Raises:
    ValueError: there is no such variant.
  """
  variant = variant or next(iter(makers))
  if variant not in makers:
    raise ValueError(
      f'experiments/{published.experiment}.py has no variant {variant!r}; '
      f'expected one of {", ".join(makers)}'
    )
  makers[variant](published)
  published.variant = variant
  return published
