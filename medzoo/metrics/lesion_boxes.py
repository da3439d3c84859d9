"""Lesions found as boxes that overlap, by the rules of the older program.

The `froc_mean_boxes` of lidc_nodule_detection's re-analysed results: a
detection hits a lesion when they share slices and more than half of the
smaller of their areas, and the score is the mean sensitivity at the seven
false-positive rates of LUNA16 (Setio et al., Medical Image Analysis 42, 2017).
Boxes are (z0, y0, x0, z1, y1, x1), half-open, z in slices, y and x in pixels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap
from medzoo.metrics import froc
from medzoo.ops import boxes

RULE = 'interpolated'
_PLANE = [1, 2, 4, 5]
_NO_LESION = 'there is no lesion among these scans'


@dataclasses.dataclass(frozen=True)
class Scan:
  """One scan's lesions and what was found in it.

  Attributes:
    truths: (m, 6) boxes; several of one lesion, readers' say, are merged.
    detections: (n, 6) boxes.
    scores: (n,) higher is surer.
  """

  truths: np.ndarray
  detections: np.ndarray
  scores: np.ndarray


def bound(
  slices: np.ndarray, corners: np.ndarray, lesions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Bounds the boxes that each lesion has on slices.

  Args:
    slices: (n,) index of each box's slice.
    corners: (n, 4) y0, x0, y1, x1.
    lesions: (n,) number of the lesion that each is of, below 0 for none.

  Returns:
    (k,) the lesions that there are, rising, and (k, 6) a box of each.
  """
  kept = lesions >= 0
  numbers, of = np.unique(lesions[kept], return_inverse=True)
  z, corners = slices[kept, None], corners[kept]
  low, high = np.full((2, len(numbers), 3), np.inf)
  np.minimum.at(low, of, np.hstack([z, corners[:, :2]]))
  np.minimum.at(high, of, -np.hstack([z + 1, corners[:, 2:]]))
  return numbers, np.hstack([low, -high])


def merge(truths: np.ndarray) -> np.ndarray:
  """Merges the boxes of one lesion, greedily and in one pass.

  In the order given, each box joins the first union with which it shares more
  than half of the smaller of their two volumes, and the union grows to bound
  it; a box that joins none starts a union. Unions that come to overlap by
  growing stay apart.

  Args:
    truths: (m, 6) boxes.

  Returns:
    (k, 6) the unions, by their first box.
  """
  unions = np.zeros((0, 6))
  for box in truths[:, None]:
    shared = boxes.intersection(box, unions)[0]
    smaller = np.minimum(boxes.size(box), boxes.size(unions))
    joined = np.flatnonzero(2 * shared > smaller)[:1]
    if len(joined):
      unions[joined, :3] = np.minimum(unions[joined, :3], box[:, :3])
      unions[joined, 3:] = np.maximum(unions[joined, 3:], box[:, 3:])
    else:
      unions = np.append(unions, box, axis=0)
  return unions


def hits(detections: np.ndarray, lesions: np.ndarray) -> np.ndarray:
  """(n, m) true where a detection hits a lesion.

  They share a slice at least, and in the plane, whatever the slices, more
  than half of the smaller of their two areas.
  """
  low = np.maximum(detections[:, None, 0], lesions[:, 0])
  high = np.minimum(detections[:, None, 3], lesions[:, 3])
  a, b = detections[:, _PLANE], lesions[:, _PLANE]
  smaller = np.minimum(boxes.size(a)[:, None], boxes.size(b))
  return (high - low >= 1) & (2 * boxes.intersection(a, b) > smaller)


def match(scans: Sequence[Scan]) -> froc.Matches:
  """Merges the truths of each scan and matches its detections with them.

  A lesion keeps the best score of the detections that hit it; one detection
  may hit several. A detection that hits none is a false positive.

  Args:
    scans: all scans, with and without lesions.

  Returns:
    The matches that a curve is made of.

  Raises:
    ValueError: there is no scan.
  """
  if not scans:
    raise ValueError('no scans to score: the list of scans is empty')
  scores, is_nodule, number = [], [], []
  for i, scan in enumerate(scans):
    hit = hits(scan.detections, merge(scan.truths))
    best = np.where(hit, scan.scores[:, None], -np.inf)
    false = scan.scores[~hit.any(axis=1)]
    scores += [best.max(axis=0, initial=-np.inf), false]
    is_nodule += [np.ones(hit.shape[1], bool), np.zeros(len(false), bool)]
    number.append(np.full(hit.shape[1] + len(false), i))
  return froc.Matches(
    np.concatenate(scores),
    np.concatenate(is_nodule),
    np.concatenate(number),
    np.array([len(scan.scores) for scan in scans]),
  )


def evaluate(
  scans: Sequence[Scan],
  *,
  groups: Sequence[str] | None = None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, Any]:
  """Scores boxes, with intervals.

  The curve is read at exactly the seven rates, by linear interpolation, as
  medzoo reads LUNA16's: where no scores are equal that is the sensitivity at
  the lowest threshold that keeps within the rate.

  Args:
    scans: all scans, with and without lesions.
    groups: patient of each scan, what is resampled; None for the scans.
    resamples: how many resamples make an interval.
    seed: of the resampling.

  Returns:
    `froc_mean_boxes` and `sensitivity` (rate, '0.125' to '8' -> entry), of
    entries as `bootstrap.entry` makes them; `froc_mean_by_rule`, the value
    by each of `froc.RULES`; and the numbers of `scans`, `raw_truths`,
    `merged_truths`, `detections`, `truths_found`, `false_positives`.

  Raises:
    ValueError: there is no scan, or not one group a scan.
  """
  if groups is not None and len(groups) != len(scans):
    raise ValueError(
      f'{len(groups)} groups for {len(scans)} scans: expected one a scan'
    )
  matches = match(scans)
  if groups is None:
    groups = [str(i) for i in range(len(scans))]
  index, num_groups = bootstrap.group_index(groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  points = _exact(froc.curve(matches), len(scans))
  again = froc.resample(matches, draws[:, index])
  values, samples = froc.read(points, RULE), again.sensitivities[RULE]
  entries = [
    bootstrap.entry(*pair, num_groups, _NO_LESION)
    for pair in (
      (values.mean(), again.cpm(RULE)),
      *zip(values, samples.T, strict=True),
    )
  ]
  by_rule = {r: froc.read(points, r).mean() for r in froc.RULES}
  return {
    'froc_mean_boxes': entries[0],
    'sensitivity': {
      f'{rate:g}': entry
      for rate, entry in zip(froc.RATES, entries[1:], strict=True)
    },
    'froc_mean_by_rule': {
      rule: float(mean) if np.isfinite(mean) else None
      for rule, mean in by_rule.items()
    },
    'scans': len(scans),
    'raw_truths': sum(len(scan.truths) for scan in scans),
    'merged_truths': int(matches.is_nodule.sum()),
    'detections': int(matches.marks.sum()),
    'truths_found': int(matches.found.sum()),
    'false_positives': int((~matches.is_nodule).sum()),
  }


def _exact(points: froc.Curve, num_scans: int) -> froc.Curve:
  """Undoes the rounding of `froc.curve`, which is that of LUNA16's script.

  A rate an ulp above 1 would be read before the lesions found at it.
  """
  fps = np.round(points.fps * num_scans) / num_scans
  return dataclasses.replace(points, fps=fps)
