"""Which cases a run trains on, selects on and is tested on.

A run without folds uses the splits that its config names. With folds, groups
(or the dataset's own subsets, as LUNA16's) are dealt out: fold k is tested on
part k, selected on part k + 1 and trained on the rest. Where there are too few
cases to set a part aside for selection, it is trained on too. Of subsets those
count that the dataset has; one that has none is not LUNA16 itself, and its
plain splits are used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medzoo.data import sources

Splits = dict[str, sources.Cases]


def make(
  config: Mapping[str, Any],
  open_cases: Callable[[str], sources.Cases],
  known: Sequence[str],
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
    known: names of the splits that the dataset has.

  Returns:
    One run named '', or the runs 'fold_0', 'fold_1' and so on.

  Raises:
    ValueError: a scan is on both sides, or there are too few parts.
  """
  folds = config['folds']
  subsets = [name for name in folds['parts'].split('+') if name in known]
  if not folds['by'] or folds['by'] == 'subset' and not subsets:
    splits = {name: open_cases(s) for name, s in config['splits'].items()}
    _check_disjoint(splits)
    return {'': splits}
  if folds['by'] == 'subset':
    parts = [open_cases(name) for name in subsets]
  else:
    # A dataset may have no validation split, say.
    cases = open_cases('+'.join(subsets) or folds['parts'])
    dealt = sources.kfold(cases.groups, folds['count'], config['seed'])
    parts = [cases.subset(index) for index in dealt]
  least = 2 if folds['reuse'] or folds['always'] else 3
  if len(parts) < least:
    raise ValueError(
      f'found {len(parts)} parts to take turns in testing, expected at least '
      f'{least}: one to test on, one to select on and others to train on'
    )
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
