"""Percentile intervals of any score, by resampling whole groups.

Findings of one patient are not independent, so what is drawn with replacement
is the group (the patient where one is known, else the scan) with all that
belongs to it. A resample is a row of how often each group was drawn; the same
number of groups and the same seed give the same rows, which is what makes the
difference of two systems a paired one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 1000
QUANTILES = (0.025, 0.975)


def group_index(
  keys: Sequence[str], groups: Mapping[str, str] | None = None
) -> tuple[np.ndarray, int]:
  """Numbers the groups that items belong to.

  Args:
    keys: name of each item, a scan's series UID say.
    groups: item name -> group name; None makes each item its own group.

  Returns:
    The (n,) group number of each item, and the number of groups.

  Raises:
    ValueError: an item has no group.
  """
  names = list(keys)
  if groups is not None:
    missing = [key for key in names if key not in groups]
    if missing:
      raise ValueError(
        f'{len(missing)} of {len(names)} scans have no group, the first is'
        f' {missing[0]!r}: name a group for each'
      )
    names = [groups[key] for key in names]
  numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
  return np.array([numbers[name] for name in names], int), len(numbers)


def draw(
  num_groups: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
  """Draws groups with replacement.

  Args:
    num_groups: how many groups there are.
    resamples: how many times to draw.
    seed: of the generator.

  Returns:
    (resamples, num_groups) int: how often each resample holds each group.
  """
  generator = np.random.default_rng(seed)
  drawn = generator.integers(num_groups, size=(resamples, num_groups))
  rows = np.arange(resamples)[:, None] * num_groups
  flat = np.bincount((drawn + rows).ravel(), minlength=resamples * num_groups)
  return flat.reshape(resamples, num_groups)


def entry(
  value: float, samples: np.ndarray, num_groups: int, why: str = ''
) -> dict[str, Any]:
  """Makes a score's entry in `results.json`.

  Args:
    value: the score itself; NaN where it is undefined.
    samples: (r,) the score of each resample; undefined ones, NaN, are left
      out, and their number is told under `dropped`.
    num_groups: how many groups were resampled.
    why: the reason to give where the score is undefined.

  Returns:
    `value`, `low` and `high` (2.5 and 97.5 percent quantiles) and `n`; `why`
    where they are None, `dropped` where a resample was.
  """
  defined = samples[np.isfinite(samples)]
  if not np.isfinite(value) or not len(defined):
    reason = why or 'undefined on these cases'
    return {
      'value': None,
      'low': None,
      'high': None,
      'n': num_groups,
      'why': reason,
    }
  low, high = np.quantile(defined, QUANTILES)
  result = {'value': float(value), 'low': float(low), 'high': float(high)}
  result['n'] = num_groups
  if len(defined) < len(samples):
    result['dropped'] = len(samples) - len(defined)
  return result


def difference(
  value: float,
  samples: np.ndarray,
  other_value: float,
  other_samples: np.ndarray,
  num_groups: int,
) -> dict[str, Any]:
  """Makes the entry of a paired difference, the first system less the second.

  Args:
    value: score of the first system.
    samples: (r,) its resamples.
    other_value: score of the second system.
    other_samples: (r,) its resamples, of the same draws in the same order.
    num_groups: how many groups were resampled.

  Returns:
    An entry as `entry` makes it; an interval above 0 says that the first is
    better by more than the choice of groups explains.
  """
  return entry(value - other_value, samples - other_samples, num_groups)


def metric(
  function: Callable[[np.ndarray], float],
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, Any]:
  """Makes the entry of any score that can weigh its items.

  Args:
    function: (n,) weights of the items -> the score, NaN where undefined.
    index: (n,) group number of each item.
    draws: (r, num_groups) from `draw`.

  Returns:
    The entry of the score with all weights 1.
  """
  samples = np.array([function(row[index]) for row in draws], float)
  value = function(np.ones(len(index), int))
  return entry(value, samples, draws.shape[1])


def ratio(
  numerator: np.ndarray,
  denominator: np.ndarray,
  index: np.ndarray,
  draws: np.ndarray,
  why: str = '',
) -> dict[str, Any]:
  """Makes the entry of a ratio of two sums over items, without a loop.

  Args:
    numerator: (n,) summand of each item above the line.
    denominator: (n,) summand of each item below the line.
    index: (n,) group number of each item.
    draws: (r, num_groups) from `draw`.
    why: the reason to give where the denominator is 0.

  Returns:
    The entry of `sum(numerator) / sum(denominator)`.
  """
  value, samples = ratio_samples(numerator, denominator, index, draws)
  return entry(value, samples, draws.shape[1], why)


def ratio_samples(
  numerator: np.ndarray,
  denominator: np.ndarray,
  index: np.ndarray,
  draws: np.ndarray,
) -> tuple[float, np.ndarray]:
  """Computes what `ratio` makes its entry of.

  Returns:
    The ratio, and (r,) that of each resample; NaN where undefined.
  """
  num_groups = draws.shape[1]
  above = np.bincount(index, numerator, num_groups)
  below = np.bincount(index, denominator, num_groups)
  with np.errstate(divide='ignore', invalid='ignore'):
    samples = (draws @ above) / (draws @ below)
    return above.sum() / below.sum(), samples
