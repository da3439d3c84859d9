"""What looks like a nodule on a slice, or to a blob filter, and is none.

All of it has the intensity and the size of nodules, but none is a compact
solid lump: vessels that swell, wind or divide, plugged and thickened bronchi,
scars, plaques on the pleura, sacs of air with thick walls.
"""

import numpy as np

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_lump_distractors as lumps
from datasets.phantoms import chest_ct_nodules as nodules
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_vessel_distractors as vessels

# By name, what makes a distractor and its share.
_MAKERS = {
  'cluster': (lumps.cluster, 2),
  'beads': (vessels.beads, 1),
  'cavity': (lumps.cavity, 8),
  'branching': (vessels.branching, 2),
  'swelling': (vessels.swelling, 1),
  'winding': (vessels.winding, 1),
  'bronchus': (vessels.bronchus, 1),
  'scar': (lumps.scar, 1),
  'plaque': (lumps.plaque, 1),
}


def place_all(
  body: anatomy.Body,
  taken: list[nodules.Nodule],
  rng: np.random.Generator,
  count: int,
  grain: float,
) -> list[records.Distractor]:
  """Draws a patient's distractors, clear of the nodules.

  Args:
    body: the patient.
    taken: nodules to stay away from.
    rng: draws them.
    count: how many.
    grain: distance of points, mm.
  """
  found: list[records.Distractor] = []
  # Every kind in its share, in any order.
  kinds = [name for name, (_, share) in _MAKERS.items() for _ in range(share)]
  for name in rng.permutation(kinds * -(-count // len(kinds)))[:count]:
    for _ in range(10):
      made = _MAKERS[str(name)][0](body, rng, grain)
      if _is_clear(made, taken, found):
        found.append(made)
        break
  return found


def _is_clear(
  made: records.Distractor,
  taken: list[nodules.Nodule],
  found: list[records.Distractor],
) -> bool:
  """Whether there is lung between a distractor and all else."""
  gaps = [
    np.linalg.norm(made.center - n.center) - 1.3 * n.radius for n in taken
  ]
  gaps += [
    np.linalg.norm(made.center - d.center) - 0.4 * d.extent for d in found
  ]
  return min(gaps, default=np.inf) > 0.5 * made.extent + 4
