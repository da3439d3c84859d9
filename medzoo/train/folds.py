"""Which cases a run trains on, selects on and is tested on.

A run without folds uses the splits that its config names. With folds, groups
(or the dataset's own subsets, as LUNA16's) are dealt out: fold k is tested on
part k, selected on part k + 1 and trained on the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any

from medzoo.data import sources

Splits = dict[str, sources.Cases]


def make(
  config: Mapping[str, Any], open_cases: Callable[[str], sources.Cases]
) -> dict[str, Splits]:
  """Returns the splits of each run, by the run's name.

  Args:
    config: `splits` (train, validation and test, each the name of a split)
      and `folds`: `by` is '' for none, 'subset' for the splits listed in
      `parts`, 'group' to deal the groups of split `parts` out to `count`
      folds; `always` names a split that every fold trains on besides, '' for
      none.
    open_cases: opens a split by name.

  Returns:
    One run named '', or the runs 'fold_0', 'fold_1' and so on.
  """
  folds = config['folds']
  if not folds['by']:
    splits = {name: open_cases(s) for name, s in config['splits'].items()}
    _check_disjoint(splits)
    return {'': splits}
  parts = _parts(folds, open_cases, config['seed'])
  always = [open_cases(folds['always'])] if folds['always'] else []
  runs = {}
  for k in range(len(parts)):
    chosen = {k, (k + 1) % len(parts)}
    rest = [part for i, part in enumerate(parts) if i not in chosen]
    splits = {
      'train': sources.concatenate([*always, *rest]),
      'validation': parts[(k + 1) % len(parts)],
      'test': parts[k],
    }
    _check_disjoint(splits)
    runs[f'fold_{k}'] = splits
  return runs


def _parts(
  folds: Mapping[str, Any],
  open_cases: Callable[[str], sources.Cases],
  seed: int,
) -> list[sources.Cases]:
  if folds['by'] == 'subset':
    return [open_cases(name) for name in folds['parts']]
  cases = open_cases(folds['parts'])
  return [
    cases.subset(index)
    for index in sources.kfold(cases.groups, folds['count'], seed)
  ]


def _check_disjoint(splits: Splits) -> None:
  """Refuses a scan or a patient that stands in two splits."""
  for one, other in (('train', 'test'), ('validation', 'test')):
    shared = set(splits[one].keys) & set(splits[other].keys)
    if shared:
      raise ValueError(
        f'{len(shared)} scans stand in both {one} and {other}; expected none'
      )
