"""Scores boxes in whole frames, some of which have nothing to find.

Truth is one box for each connected object. A box is a hit where its
intersection over union with a true one is 0.5 or more, or by a laxer rule where
its centre lies inside the object's mask; each object takes one box, the surest
first. What hits nothing, a second box on an object too, is a false alarm.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medzoo.metrics import average_precision
from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches

# The metrics of paired differences.
COMPARED = ('detection_f1', 'detection_f1_centre')

_NO_TRUTH = 'there is nothing to find in these frames'
_NO_CLEAN = 'each of these frames has something to find'
_NOTHING = 'nothing was found and there is nothing to find'

Ratio = tuple[np.ndarray, np.ndarray, str]


def centres_inside(corners: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Tells which boxes have their centre on which object.

  Args:
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels.
    masks: (m, h, w) bool.

  Returns:
    (n, m) bool.
  """
  middles = np.floor((corners[:, :2] + corners[:, 2:]) / 2).astype(int)
  y, x = np.clip(middles, 0, np.array(masks.shape[1:]) - 1).T
  return masks[:, y, x].T


def match(
  detections: Sequence[box_matches.Detections],
  truths: Sequence[box_matches.Truths],
  inside: Sequence[np.ndarray],
) -> dict[str, box_matches.Matches]:
  """Matches what was found with what there is by both rules.

  Args:
    detections: of each frame.
    truths: of each frame.
    inside: of each frame, (n, m) as `centres_inside` tells it.

  Returns:
    `iou` and `centre`.

  Raises:
    ValueError: as `box_matches.match`.
  """
  shares = [each.astype(float) for each in inside]
  return {
    'iou': box_matches.match(detections, truths),
    'centre': box_matches.match(detections, truths, overlaps=shares),
  }


def choose(matches: dict[str, box_matches.Matches]) -> float:
  """Returns the score at which F1 is best, to be called on validation frames.

  See `average_precision.choose_threshold`.
  """
  return average_precision.choose_threshold(matches['iou'])


def f1(matches: box_matches.Matches, threshold: float) -> float:
  """Returns F1 at a threshold; NaN where nothing is found nor to be found."""
  above, below = _f1(average_precision.count(matches, threshold))
  return float(above.sum() / below.sum()) if below.sum() else float('nan')


def metrics(
  matches: dict[str, box_matches.Matches],
  threshold: float,
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, dict[str, Any]]:
  """Scores what was found for `results.json`.

  Args:
    matches: of all frames.
    threshold: chosen on other frames; scores so high or higher count.
    index: (frames,) group of each frame.
    draws: (r, groups) from `bootstrap.draw`.

  Returns:
    Entries of `detection_precision`, `detection_recall` and `detection_f1`;
    `detection_f1_centre`, by the laxer rule; and of the frames without
    anything to find `false_alarms_per_clean_frame`.
  """
  return {
    name: bootstrap.ratio(above, below, index, draws, why)
    for name, (above, below, why) in _ratios(matches, threshold).items()
  }


def differences(
  matches: dict[str, box_matches.Matches],
  threshold: float,
  others: dict[str, box_matches.Matches],
  other_threshold: float,
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, dict[str, Any]]:
  """Returns paired differences of the metrics in `COMPARED`.

  Args:
    matches: of the first system.
    threshold: its own.
    others: of the second system, on the same frames.
    other_threshold: its own.
    index: (frames,) group of each frame.
    draws: (r, groups) from `bootstrap.draw`.
  """
  entries = {}
  first, second = _ratios(matches, threshold), _ratios(others, other_threshold)
  for name in COMPARED:
    pairs = [
      part
      for ratios in (first, second)
      for part in bootstrap.ratio_samples(*ratios[name][:2], index, draws)
    ]
    entries[name] = bootstrap.difference(*pairs, draws.shape[1])
  return entries


def _ratios(
  matches: dict[str, box_matches.Matches], threshold: float
) -> dict[str, Ratio]:
  """Returns each metric's summands above and below the line, and why not."""
  counts = average_precision.count(matches['iou'], threshold)
  hits, false, there = counts.T
  clean = there == 0
  centre = average_precision.count(matches['centre'], threshold)
  none = f'nothing scores {threshold:g} or higher'
  return {
    'detection_f1': (*_f1(counts), _NOTHING),
    'detection_precision': (hits, hits + false, none),
    'detection_recall': (hits, there, _NO_TRUTH),
    'detection_f1_centre': (*_f1(centre), _NOTHING),
    'false_alarms_per_clean_frame': (
      np.where(clean, false, 0),
      clean,
      _NO_CLEAN,
    ),
  }


def _f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the summands above and below the line of F1."""
  hits, false, there = counts.T
  return 2 * hits, hits + false + there
