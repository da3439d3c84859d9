"""Recall and false positives at one threshold, as convnet3d meant them.

A detection is right when its centre is no farther from a lesion's centre than
that lesion's own diameter. (The older program took the largest diameter of
the scan, and the comparison the wrong way round.) As a command, the score of
lesions as boxes, by the rules of `lesion_boxes`:

  python -m medzoo.metrics.lesions --boxes FILE.json [--json]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap

_UNKNOWN_DIAMETER_MM = 10.0
_NO_ROWS = np.zeros((0, 4))

Marks = Mapping[str, np.ndarray]


def count(
  results: Marks,
  annotations: Marks,
  seriesuids: Sequence[str],
  threshold: float,
) -> np.ndarray:
  """Counts what was found in each scan.

  Several detections of one lesion find it once, and none of them is a false
  positive. A diameter below 0 or unknown (NaN) is taken as 10 mm. There are
  no excluded findings in this protocol.

  Args:
    results: series UID -> (n, 4) world x, y, z in mm and score.
    annotations: series UID -> (n, 4) x, y, z and diameter in mm.
    seriesuids: the scans to count in.
    threshold: detections scored so or higher count.

  Returns:
    (s, 3) int: lesions found, lesions, false positives of each scan.
  """
  rows = []
  for uid in seriesuids:
    marks, lesions = results.get(uid, _NO_ROWS), annotations.get(uid, _NO_ROWS)
    hits = _hits(marks[marks[:, 3] >= threshold], lesions)
    found = hits.any(axis=0).sum()
    rows.append((found, len(lesions), (~hits.any(axis=1)).sum()))
  return np.array(rows, int).reshape(-1, 3)


def metrics(
  results: Marks,
  annotations: Marks,
  seriesuids: Sequence[str],
  threshold: float,
  *,
  groups: Mapping[str, str] | None = None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, dict[str, Any]]:
  """Scores a detector at its operating threshold for `results.json`.

  Args:
    results: detections, as in `count`.
    annotations: lesions.
    seriesuids: the scans to score.
    threshold: chosen on other scans, with `choose_threshold`.
    groups: series UID -> patient, what is resampled; None for the scans.
    resamples: how many resamples make an interval.
    seed: of the resampling.

  Returns:
    Entries of `recall` (lesions found / lesions) and `fps_per_scan`.

  Raises:
    ValueError: there is no scan.
  """
  if not seriesuids:
    raise ValueError('no scans to score: the list of series UIDs is empty')
  found, lesions, false = count(results, annotations, seriesuids, threshold).T
  index, num_groups = bootstrap.group_index(seriesuids, groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  none = 'there is no lesion among these scans'
  return {
    'recall': bootstrap.ratio(found, lesions, index, draws, none),
    'fps_per_scan': bootstrap.ratio(false, np.ones(len(false)), index, draws),
  }


def choose_threshold(
  results: Marks,
  annotations: Marks,
  seriesuids: Sequence[str],
  max_fps_per_scan: float,
) -> float:
  """Chooses the lowest threshold that keeps within a budget of false alarms.

  Recall never falls as the threshold does, so this is the threshold of the
  highest recall that a reader with so much patience can have. To be called on
  validation scans.

  Args:
    results: detections, as in `count`.
    annotations: lesions.
    seriesuids: the validation scans.
    max_fps_per_scan: how many false positives per scan are put up with.

  Returns:
    A score that some detection has; just above the highest score where even
    that breaks the budget; 0 where there is no detection at all.
  """
  false, every = [np.zeros(0)], [np.zeros(0)]
  for uid in seriesuids:
    marks, lesions = results.get(uid, _NO_ROWS), annotations.get(uid, _NO_ROWS)
    false.append(marks[~_hits(marks, lesions).any(axis=1), 3])
    every.append(marks[:, 3])
  scores = np.unique(np.concatenate(every))
  if not len(scores):
    return 0.0
  falses = np.sort(np.concatenate(false))
  above = len(falses) - np.searchsorted(falses, scores, side='left')
  within = scores[above <= max_fps_per_scan * len(seriesuids)]
  if len(within):
    return float(within[0])
  return float(np.nextafter(scores[-1], np.inf))


def _hits(marks: np.ndarray, lesions: np.ndarray) -> np.ndarray:
  """(marks, lesions) true where a mark is within a lesion's diameter."""
  known = lesions[:, 3] >= 0
  reach = np.where(known, lesions[:, 3], _UNKNOWN_DIAMETER_MM)
  offsets = lesions[None, :, :3] - marks[:, None, :3]
  return np.sum(offsets**2, axis=-1) <= reach**2


if __name__ == '__main__':
  from medzoo.metrics import lesion_boxes_command

  lesion_boxes_command.main()
