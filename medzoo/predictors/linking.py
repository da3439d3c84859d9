"""Links the boxes on a scan's slices into lesions.

Boxes of neighbouring slices that lie on each other are one lesion. Whether two
may be linked is a matter of the share of the smaller that lies on the larger:
towards its poles a sphere's sections shrink fast, so that a section's IoU with
the next falls to nothing, while the smaller stays within the larger. Of the
links that may be, those of the greatest total IoU are made, one for each box
at most to either side, so that a lesion has one box on a slice.
"""

import numpy as np
from scipy import optimize
from scipy import sparse

from medzoo import types
from medzoo.ops import boxes as box_ops


def link(
  boxes: types.BoxDetections,
  volume: types.Volume,
  *,
  min_overlap: float,
  reach_mm: float,
  share: float,
) -> tuple[np.ndarray, types.Detections]:
  """Links the boxes of one scan that are not suppressed.

  A lesion's centre is the mean of its boxes' centres, weighted by score times
  area, for LUNA16's centre is the centroid of the voxels. Its diameter is the
  geometric mean of its largest box's sides: the ellipse in that box has the
  area of a disk of this diameter, and the largest section of a sphere goes
  through its middle. Real nodules are flatter and their readers' outlines,
  which a true box bounds, disagree, so that it runs above LUNA16's.

  A lesion's score is the mean of its boxes' highest scores, over as many
  slices as its size promises: a sphere of d mm shows on d / spacing slices, so
  a sure box without neighbours is weak evidence of a large lesion, and all
  there can be of a small one. `share` is the share of these n slices that
  count, at least one slice; of a score that counts in part, as n is no whole
  number, that part is taken, and boxes that are not there score 0. A lesion
  that shows on more slices is none the surer.

  Args:
    boxes: of any slices, in any order.
    volume: the scan; only its grid matters.
    min_overlap: of two boxes that are linked, the least share of the smaller
      that lies on the larger.
    reach_mm: how far apart linked slices are at most, so that a lesion may
      miss a slice; next neighbours are linked whatever their distance.
    share: of the slices that a lesion's size promises, those that its score is
      the mean of; 0 makes it the score of the surest box.

  Returns:
    (n,) int32, which lesion each box is part of, -1 for suppressed boxes; and
    the lesions by falling score. A picture without slice spacing has none.
  """
  links = np.full(len(boxes), -1, np.int32)
  if volume.spacing[0] is None:
    return links, _lesions([])
  kept = np.flatnonzero(~boxes.suppressed)
  chain = _chains(
    boxes.slices[kept],
    boxes.corners[kept],
    boxes.labels[kept],
    min_overlap,
    max(int(reach_mm / volume.spacing[0] + 1e-6), 1),
  )
  members = [kept[chain == i] for i in range(chain.max(initial=-1) + 1)]
  rows = [_measure(boxes, index, volume, share) for index in members]
  order = sorted(range(len(rows)), key=lambda i: -rows[i][4])
  for i, old in enumerate(order):
    links[members[old]] = i
  return links, _lesions([rows[i] for i in order])


def _chains(
  slices: np.ndarray,
  corners: np.ndarray,
  labels: np.ndarray,
  min_overlap: float,
  reach: int,
) -> np.ndarray:
  """Returns (n,) the number of each box's chain, from 0."""
  below, above = np.zeros((2, len(slices)), bool)
  pairs = [np.zeros((2, 0), int)]
  # Where there is a link to the next slice none is sought further away.
  for gap in range(1, reach + 1):
    for z in np.unique(slices):
      lower = np.flatnonzero((slices == z) & ~above)
      upper = np.flatnonzero((slices == z + gap) & ~below)
      same = labels[lower][:, None] == labels[upper]
      rows, columns = _match(corners[lower], corners[upper], same, min_overlap)
      above[lower[rows]] = below[upper[columns]] = True
      pairs.append(np.stack([lower[rows], upper[columns]]))
  a, b = np.concatenate(pairs, 1)
  graph = sparse.coo_array((np.ones(len(a)), (a, b)), (len(slices),) * 2)
  return sparse.csgraph.connected_components(graph, directed=False)[1]


def _match(
  lower: np.ndarray, upper: np.ndarray, able: np.ndarray, min_overlap: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows and columns of the links between two slices."""
  sizes = np.minimum(box_ops.size(lower)[:, None], box_ops.size(upper))
  shared = box_ops.intersection(lower, upper)
  able = able & (shared > 0) & (shared >= min_overlap * sizes)
  gain = np.where(able, box_ops.iou(lower, upper), 0)
  rows, columns = optimize.linear_sum_assignment(gain, maximize=True)
  made = able[rows, columns]
  return rows[made], columns[made]


def _measure(
  boxes: types.BoxDetections,
  index: np.ndarray,
  volume: types.Volume,
  share: float,
) -> tuple[float, ...]:
  """Returns a lesion's centre x, y, z, diameter, score and class."""
  corners, scores = boxes.corners[index], boxes.scores[index]
  # Boxes are half-open, index coordinates count from the middle of a voxel.
  middles = (corners[:, :2] + corners[:, 2:]) / 2 - 0.5
  places = np.column_stack([boxes.slices[index], middles])
  areas = box_ops.size(corners) * np.prod(volume.spacing[1:])
  weights = areas * scores if scores.any() else areas
  center = volume.index_to_world(np.average(places, axis=0, weights=weights))
  diameter = float(np.sqrt(areas.max()))
  promised = max(share * diameter / volume.spacing[0], 1)
  counted = np.clip(promised - np.arange(len(scores)), 0, 1)
  score = float((np.sort(scores)[::-1] * counted).sum() / promised)
  return (*center, diameter, score, boxes.labels[index[0]])


def _lesions(rows: list[tuple[float, ...]]) -> types.Detections:
  table = np.array(rows, float).reshape(-1, 6)
  return types.Detections(
    centers=table[:, :3],
    diameters=table[:, 3],
    scores=table[:, 4],
    labels=table[:, 5].astype(np.int32),
  )
