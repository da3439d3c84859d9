"""The LUNA16 score of nodule marks, to the letter of the official script.

A mark hits a nodule when their centres lie strictly nearer than the nodule's
radius. Setio et al., Medical Image Analysis 42 (2017); the rules that the
paper leaves open are those of the challenge's published script. As a command:

  python -m medzoo.metrics.luna16 --results R.csv --annotations A.csv \
    --excluded E.csv --seriesuids S.csv [--output DIR]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap
from medzoo.metrics import froc

MAX_MARKS = 100
_UNKNOWN_DIAMETER_MM = 10.0
_NO_ROWS = np.zeros((0, 4))
_NO_NODULE = 'there is no nodule among these scans'

Marks = Mapping[str, np.ndarray]


def match(
  results: Marks,
  annotations: Marks,
  excluded: Marks,
  seriesuids: Sequence[str],
  *,
  max_marks: int | None = MAX_MARKS,
) -> froc.Matches:
  """Matches marks with nodules, scan by scan.

  * Several marks on one nodule: the highest score counts, the others are
    ignored. One mark on two nodules finds both.
  * A mark on an excluded finding and on no nodule is ignored.
  * A diameter below 0 or unknown (NaN) is taken as 10 mm.
  * Scans not named in `seriesuids` are left out; equal marks are not merged.

  Args:
    results: series UID -> (n, 4) world x, y, z in mm and score, in file order.
    annotations: series UID -> (n, 4) x, y, z and diameter in mm of nodules.
    excluded: the same of findings that are neither nodule nor false positive.
    seriesuids: the scans to score, with and without nodules.
    max_marks: how many marks of a scan count, the highest first, as
      `capped`; None for all.

  Returns:
    The matches that a curve is made of.

  Raises:
    ValueError: no scan, one named twice, or a score that is not finite.
  """
  _check(results, seriesuids)
  parts, num_marks, extra, irrelevant = [], [], 0, 0
  for number, uid in enumerate(seriesuids):
    marks = capped(results.get(uid, _NO_ROWS), max_marks)
    hits = _hits(marks, annotations.get(uid, _NO_ROWS))
    on_excluded = _hits(marks, excluded.get(uid, _NO_ROWS)).any(axis=1)
    on_nodule = hits.any(axis=1)
    best = np.where(hits, marks[:, 3:], -np.inf).max(axis=0, initial=-np.inf)
    false = marks[~on_nodule & ~on_excluded, 3]
    parts.append((best, false, number))
    num_marks.append(len(marks))
    extra += int(np.maximum(hits.sum(axis=0) - 1, 0).sum())
    irrelevant += int((on_excluded & ~on_nodule).sum())
  return froc.Matches(
    np.concatenate([np.concatenate(part[:2]) for part in parts]),
    np.concatenate([np.arange(len(b) + len(f)) < len(b) for b, f, _ in parts]),
    np.concatenate([np.full(len(b) + len(f), i) for b, f, i in parts]),
    np.array(num_marks),
    extra,
    irrelevant,
  )


def capped(marks: np.ndarray, max_marks: int | None) -> np.ndarray:
  """Keeps a scan's highest marks, as the official script does.

  Where there are more than allowed, those pass whose score is above that of
  the first one too many, less 1e-8, and of these the first in file order stay.
  The first one too many passes too: in a file that is not sorted it may stay
  in the place of a higher mark further down.

  Args:
    marks: (n, 4) x, y, z and score, in file order.
    max_marks: how many may stay; None for all.

  Returns:
    (k, 4) what stays, in file order.
  """
  if max_marks is None or len(marks) <= max_marks:
    return marks
  threshold = np.sort(marks[:, 3])[::-1][max_marks] - 1e-8
  return marks[marks[:, 3] > threshold][:max_marks]


def metrics(
  results: Marks,
  candidates: Marks | None,
  annotations: Marks,
  excluded: Marks,
  seriesuids: Sequence[str],
  *,
  groups: Mapping[str, str] | None = None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """Scores a detector for `results.json`.

  Args:
    results: final marks, as `match` takes them; 100 a scan count.
    candidates: marks of the screening stage, all of which count; None leaves
      out `candidate_sensitivity` and `candidates_per_scan`.
    annotations: nodules, as `match` takes them.
    excluded: findings that are neither nodule nor false positive.
    seriesuids: the scans to score.
    groups: series UID -> patient, what is resampled; None for the scans.
    resamples: how many resamples make an interval.
    seed: of the resampling.

  Returns:
    Name of the metric -> `value`, `low`, `high`, `n`, as `bootstrap.entry`.
  """
  matches = match(results, annotations, excluded, seriesuids)
  index, num_groups = bootstrap.group_index(seriesuids, groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  entries = sensitivity_entries(matches, index, draws)
  named = {
    'cpm': entries['cpm']['interpolated'],
    'cpm_nearest': entries['cpm']['nearest'],
  }
  for rate, by_rule in entries['sensitivity'].items():
    named[f'sensitivity_at_{rate}'] = by_rule['interpolated']
  if candidates is not None:
    every = match(candidates, annotations, excluded, seriesuids, max_marks=None)
    named |= _candidate_entries(every, index, draws)
  return named


def sensitivity_entries(
  matches: froc.Matches, index: np.ndarray, draws: np.ndarray
) -> dict[str, Any]:
  """Reads CPM and sensitivities by each rule, with intervals.

  Args:
    matches: of all scans.
    index: (s,) group of each scan.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    `cpm`: rule -> entry; `sensitivity`: rate ('0.125' to '8') -> rule ->
    entry; `curve`: the points; `band`: `fps`, `low`, `high` for drawing.
  """
  points = froc.curve(matches)
  again = froc.resample(matches, draws[:, index])
  num_groups = draws.shape[1]
  cpm, sensitivity = {}, {f'{rate:g}': {} for rate in froc.RATES}
  for rule in froc.RULES:
    values, samples = froc.read(points, rule), again.sensitivities[rule]
    cpm[rule] = bootstrap.entry(
      values.mean(), again.cpm(rule), num_groups, _NO_NODULE
    )
    for i, by_rule in enumerate(sensitivity.values()):
      by_rule[rule] = bootstrap.entry(
        values[i], samples[:, i], num_groups, _NO_NODULE
      )
  defined = again.band[np.isfinite(again.band).all(axis=1)]
  low, high = (
    np.quantile(defined, bootstrap.QUANTILES, axis=0)
    if len(defined)
    else np.full((2, len(froc.BAND_FPS)), np.nan)
  )
  band = {'fps': froc.BAND_FPS, 'low': low, 'high': high}
  return {'cpm': cpm, 'sensitivity': sensitivity, 'curve': points, 'band': band}


def cpm_difference(
  results: Marks,
  baseline: Marks,
  annotations: Marks,
  excluded: Marks,
  seriesuids: Sequence[str],
  *,
  groups: Mapping[str, str] | None = None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, Any]:
  """Compares two detectors on the same scans and the same resamples.

  Args:
    results: marks of the first detector, as in `match`.
    baseline: marks of the second.
    annotations: nodules.
    excluded: findings that are neither nodule nor false positive.
    seriesuids: the scans to score.
    groups: series UID -> patient; None for the scans.
    resamples: how many resamples make the interval.
    seed: of the resampling.

  Returns:
    The entry of the first's CPM less the second's (by interpolation).
  """
  index, num_groups = bootstrap.group_index(seriesuids, groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  pairs = []
  for marks in (results, baseline):
    matches = match(marks, annotations, excluded, seriesuids)
    value = froc.read(froc.curve(matches), 'interpolated').mean()
    again = froc.resample(matches, draws[:, index])
    pairs += [value, again.cpm('interpolated')]
  return bootstrap.difference(*pairs, num_groups)


def _candidate_entries(
  matches: froc.Matches, index: np.ndarray, draws: np.ndarray
) -> dict[str, Any]:
  num_scans = len(matches.marks)
  found = np.bincount(matches.scan, matches.found, num_scans)
  nodules = np.bincount(matches.scan, matches.is_nodule, num_scans)
  ones = np.ones(num_scans)
  return {
    'candidate_sensitivity': bootstrap.ratio(
      found, nodules, index, draws, _NO_NODULE
    ),
    'candidates_per_scan': bootstrap.ratio(matches.marks, ones, index, draws),
  }


def _hits(marks: np.ndarray, findings: np.ndarray) -> np.ndarray:
  """(marks, findings) true where a mark is on a finding."""
  known = findings[:, 3] >= 0
  radii = np.where(known, findings[:, 3], _UNKNOWN_DIAMETER_MM) / 2
  offsets = findings[None, :, :3] - marks[:, None, :3]
  return np.sum(offsets**2, axis=-1) < radii**2


def _check(results: Marks, seriesuids: Sequence[str]) -> None:
  if not seriesuids:
    raise ValueError('no scans to score: the list of series UIDs is empty')
  if len(set(seriesuids)) < len(seriesuids):
    twice = next(u for u in seriesuids if list(seriesuids).count(u) > 1)
    raise ValueError(f'series {twice} is listed twice: name each scan once')
  for uid in seriesuids:
    if not np.isfinite(results.get(uid, _NO_ROWS)).all():
      raise ValueError(f'series {uid}: a mark or its score is not finite')


if __name__ == '__main__':
  from medzoo.metrics import luna16_command

  luna16_command.main()
