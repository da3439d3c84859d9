"""The free-response ROC curve, and the ways to read it.

Sensitivity against false positives per scan while the threshold falls. Its
points are those of scikit-learn's `roc_curve`, on which the LUNA16 script
stands: one per distinct score, of which those on a straight line between
their neighbours are dropped, and (0, 0) in front.
"""

import dataclasses

import numpy as np

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RULES = ('interpolated', 'grid', 'nearest', 'last')

_GRID = np.linspace(0.125, 8, 10001)
_GRID_RATES = _GRID[np.abs(_GRID[:, None] - np.array(RATES)).argmin(axis=0)]
# Where bands are computed and drawn: 64 points to the octave.
BAND_FPS = 2.0 ** np.linspace(-3, 3, 385)


@dataclasses.dataclass(frozen=True)
class Matches:
  """What is left of marks and nodules once they have been matched.

  Attributes:
    scores: (n,) of a nodule the highest score of its marks, of a false
      positive its own; -inf for a missed nodule.
    is_nodule: (n,) true for nodules, false for false positives.
    scan: (n,) number of the scan.
    marks: (s,) how many marks each scan had, after the cap.
    extra: how many marks were second marks on a nodule, so ignored.
    irrelevant: how many marks lay on excluded findings, so ignored.
  """

  scores: np.ndarray
  is_nodule: np.ndarray
  scan: np.ndarray
  marks: np.ndarray
  extra: int = 0
  irrelevant: int = 0

  @property
  def found(self) -> np.ndarray:
    """(n,) true for the nodules that a mark hit."""
    return self.is_nodule & np.isfinite(self.scores)


@dataclasses.dataclass(frozen=True)
class Curve:
  """The points of a curve, by falling threshold; (0, 0) is the first.

  Attributes:
    fps: (n,) false positives per scan.
    sensitivity: (n,) share of all nodules found; NaN without any nodule.
    thresholds: (n,) marks scored so or higher count; the first is inf.
  """

  fps: np.ndarray
  sensitivity: np.ndarray
  thresholds: np.ndarray


def curve(matches: Matches) -> Curve:
  """Computes the curve of all scans.

  Scans without nodules count among the scans, missed nodules among the
  nodules.
  """
  walk = _sort(matches)
  num_nodules = int(matches.is_nodule.sum())
  tps = np.cumsum(walk.is_nodule)[walk.ends]
  fps = np.cumsum(~walk.is_nodule)[walk.ends]
  scores = walk.scores[walk.ends]
  return _points(tps, fps, scores, num_nodules, len(matches.marks))


def read(points: Curve, rule: str) -> np.ndarray:
  """Reads the sensitivities at `RATES` off a curve.

  * `interpolated`: linear interpolation between the points.
  * `grid`: the same at the nearest of the 10,001 places where the official
    script draws the curve, so at most 0.0003 FPs per scan away. It differs
    where a nodule is found exactly at the rate, as 888 scans allow.
  * `nearest`: the point whose rate is nearest, the first of equals; the
    leaderboard's reading.
  * `last`: the first rate that is not below, and of its points the last; the
    optimist's reading.

  They differ by thousandths on 888 scans, and by 0.1 on ten.

  Args:
    points: the curve.
    rule: one of `RULES`.

  Returns:
    (7,) sensitivities, in [0, 1]; NaN without any nodule.

  Raises:
    ValueError: an unknown rule.
  """
  if rule == 'interpolated':
    return np.interp(RATES, points.fps, points.sensitivity)
  if rule == 'grid':
    return np.interp(_GRID_RATES, points.fps, points.sensitivity)
  if rule == 'nearest':
    gaps = np.abs(points.fps[:, None] - np.array(RATES))
    return points.sensitivity[gaps.argmin(axis=0)]
  if rule == 'last':
    first = np.searchsorted(points.fps, RATES, side='left')
    rates = points.fps[np.minimum(first, len(points.fps) - 1)]
    last = np.searchsorted(points.fps, rates, side='right') - 1
    return points.sensitivity[last]
  raise ValueError(f'unknown rule {rule!r}: expected one of {RULES}')


@dataclasses.dataclass(frozen=True)
class Resampled:
  """Curves of resampled scans, as far as intervals need them.

  Attributes:
    sensitivities: rule -> (r, 7) sensitivities at `RATES`; NaN where a
      resample holds no nodule.
    band: (r, len(BAND_FPS)) sensitivities for drawing.
  """

  sensitivities: dict[str, np.ndarray]
  band: np.ndarray

  def cpm(self, rule: str) -> np.ndarray:
    """(r,) mean of the seven sensitivities."""
    return self.sensitivities[rule].mean(axis=1)


def resample(matches: Matches, scan_weights: np.ndarray) -> Resampled:
  """Computes the curve of each resample of the scans.

  Args:
    matches: of the scans as they are.
    scan_weights: (r, s) how often each resample holds each scan.

  Returns:
    What intervals are made of.
  """
  walk = _sort(matches)
  walk = walk.head(_length_needed(walk, scan_weights))
  nodules = np.bincount(
    matches.scan, matches.is_nodule, minlength=len(matches.marks)
  )
  curves = [
    _weighted(walk, row, int(row @ nodules), int(row.sum()))
    for row in scan_weights
  ]
  return Resampled(
    {rule: np.array([read(c, rule) for c in curves]) for rule in RULES},
    np.array([np.interp(BAND_FPS, c.fps, c.sensitivity) for c in curves]),
  )


@dataclasses.dataclass(frozen=True)
class _Walk:
  """Found nodules and false positives by falling score.

  `ends` are the last indices of runs of equal scores: a threshold takes all
  of a run or none.
  """

  scores: np.ndarray
  is_nodule: np.ndarray
  scan: np.ndarray
  ends: np.ndarray

  def head(self, length: int) -> '_Walk':
    runs = min(np.searchsorted(self.ends, length) + 1, len(self.ends))
    stop = self.ends[runs - 1] + 1 if runs else 0
    return _Walk(
      self.scores[:stop],
      self.is_nodule[:stop],
      self.scan[:stop],
      self.ends[:runs],
    )


def _sort(matches: Matches) -> _Walk:
  kept = np.flatnonzero(matches.found | ~matches.is_nodule)
  kept = kept[np.argsort(-matches.scores[kept], kind='stable')]
  scores = matches.scores[kept]
  changes = np.flatnonzero(np.diff(scores))
  ends = np.append(changes, len(scores) - 1) if len(scores) else changes
  return _Walk(scores, matches.is_nodule[kept], matches.scan[kept], ends)


def _points(
  tps: np.ndarray,
  fps: np.ndarray,
  scores: np.ndarray,
  num_nodules: int,
  num_scans: int,
) -> Curve:
  """Turns counts at falling scores into a curve."""
  if len(scores) > 2:
    bends = (np.diff(fps, 2) != 0) | (np.diff(tps, 2) != 0)
    kept = np.concatenate(([True], bends, [True]))
    tps, fps, scores = tps[kept], fps[kept], scores[kept]
  tps = np.concatenate(([0], tps))
  fps = np.concatenate(([0], fps))
  # Shares first, counts after: in this order the script rounds, and at 888
  # scans every rate read is exactly a point of the curve.
  rates = fps / max(fps[-1], 1) * fps[-1] / num_scans
  if num_nodules:
    sensitivity = tps / max(tps[-1], 1) * tps[-1] / num_nodules
  else:
    sensitivity = np.full(len(tps), np.nan)
  return Curve(rates, sensitivity, np.concatenate(([np.inf], scores)))


def _weighted(
  walk: _Walk, scan_weights: np.ndarray, num_nodules: int, num_scans: int
) -> Curve:
  weights = scan_weights[walk.scan]
  tps = np.cumsum(weights * walk.is_nodule)[walk.ends]
  fps = np.cumsum(weights * ~walk.is_nodule)[walk.ends]
  # A run whose scans were not drawn is no point of this resample's curve.
  drawn = np.diff(tps + fps, prepend=0) > 0
  scores = walk.scores[walk.ends]
  return _points(tps[drawn], fps[drawn], scores[drawn], num_nodules, num_scans)


def _length_needed(walk: _Walk, scan_weights: np.ndarray) -> int:
  """Finds how far to walk until every resample has passed 16 FPs a scan.

  Nothing beyond is ever read, and candidate lists run to thousands a scan.
  """
  num_scans = scan_weights.shape[1]
  needed = 16 * scan_weights.sum(axis=1)
  length = 32 * num_scans
  while length < len(walk.scores):
    head = slice(0, length)
    fps = np.bincount(
      walk.scan[head], ~walk.is_nodule[head], minlength=num_scans
    )
    if np.all(scan_weights @ fps >= needed):
      return length
    length *= 2
  return len(walk.scores)
