"""Which cases a run trains on, selects on and is tested on.

A run without folds uses the splits that its config names. With folds, groups
(or the dataset's own subsets, as LUNA16's) are dealt out: fold k is tested on
part k, selected on part k + 1 and trained on the rest. Where there are too few
cases to set a part aside for selection, it is trained on too.
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
      folds; `always` names a split that every fold trains on besides, without
      the patients that it is tested on, '' for none; `reuse` says whether the
      validation part is trained on too.
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
  for k, test in enumerate(parts):
    validation = parts[(k + 1) % len(parts)]
    rest = [p for p in parts if p is not test and p is not validation]
    training = [*(_without(cases, test) for cases in always), *rest]
    if folds['reuse']:
      training.append(validation)
    runs[f'fold_{k}'] = {
      'train': sources.concatenate(training),
      'validation': validation,
      'test': test,
    }
    _check_disjoint(runs[f'fold_{k}'])
  return runs


def _parts(
  folds: Mapping[str, Any],
  open_cases: Callable[[str], sources.Cases],
  seed: int,
) -> list[sources.Cases]:
  if folds['by'] == 'subset':
    return [open_cases(name) for name in folds['parts'].split('+')]
  cases = open_cases(folds['parts'])
  return [
    cases.subset(index)
    for index in sources.kfold(cases.groups, folds['count'], seed)
  ]


def _without(cases: sources.Cases, others: sources.Cases) -> sources.Cases:
  """Returns the cases of patients that the others are not of."""
  groups = set(others.groups)
  return cases.subset(
    [i for i, group in enumerate(cases.groups) if group not in groups]
  )


def _check_disjoint(splits: Splits) -> None:
  """Refuses a scan that is trained or selected on and tested on."""
  for one in ('train', 'validation'):
    shared = set(splits[one].keys) & set(splits['test'].keys)
    if shared:
      raise ValueError(
        f'{len(shared)} scans stand in both {one} and test; expected none'
      )
