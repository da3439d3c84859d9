"""Non-maximum suppression: of findings that crowd, the surest stays.

Runs on the host: how many candidates a scan has depends on the scan, which no
fixed shape under jit fits well.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import spatial


def nms_spheres(
  centers: Float[np.ndarray, 'n 3'],
  scores: Float[np.ndarray, ' _'],
  radius_mm: float,
  max_keep: int | None = None,
) -> Int[np.ndarray, ' k']:
  """Greedily keeps the best of all centres within a radius.

  Args:
    centers: places in mm; the order of the axes does not matter.
    scores: higher is surer; of equal scores the first wins.
    radius_mm: a centre at most this far from a kept one is dropped.
    max_keep: how many to keep at most; None keeps all that remain.

  Returns:
    Indices of the kept centres by falling score.

  Raises:
    ValueError: the numbers of centres and scores differ.
  """
  if len(centers) != len(scores):
    raise ValueError(f'{len(centers)} centres but {len(scores)} scores')
  limit = len(scores) if max_keep is None else max_keep
  tree = spatial.cKDTree(np.asarray(centers, np.float64).reshape(-1, 3))
  alive = np.ones(len(scores), bool)
  kept = []
  for i in np.argsort(-np.asarray(scores), kind='stable'):
    if len(kept) >= limit:
      break
    if alive[i]:
      kept.append(i)
      alive[tree.query_ball_point(tree.data[i], radius_mm)] = False
  return np.array(kept, np.int64)
