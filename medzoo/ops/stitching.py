"""Stitching: one set of boxes of what many cells wrote on their own.

The rule of TensorBox (ReInspect, Stewart et al. 2015, arXiv 1506.04878,
section 3.4). Boxes come in bands of falling confidence, cell by cell. A cell's
boxes are matched one to one with the accepted ones that they overlap: what is
matched with a box that it overlaps is the same object seen again, and is
dropped; all else is new. So boxes of one cell, whose LSTM knew what it had
written, do not suppress each other as in greedy non-maximum suppression.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from medzoo.ops import boxes as box_ops
from medzoo.ops import cells as cell_ops

# (above, up to): a band adds boxes surer than the first; those surer than the
# second had their turn. The last but one is TensorBox's own.
BANDS = (
  (0.8, 1.0),
  (0.7, 0.9),
  (0.6, 0.8),
  (0.5, 0.7),
  (0.4, 0.6),
  (0.3, 0.5),
  (0.2, 0.4),
  (0.1, 0.3),
  (0.05, 0.2),
  (0.02, 0.1),
  (0.005, 0.4),
  (0.001, 0.01),
)
# A surer box takes the place of one that it overlaps by more than this.
_SAME = 0.7
# Dearer than five real pairs can differ, yet few enough digits for float32.
_NO_PAIR = 2e4


def select(
  outputs: Mapping[str, Float[Array, 'b gh gw t _']],
  image_shape: tuple[int, int],
  *,
  second_look: bool = True,
  max_boxes: int,
  min_iou: float,
) -> dict[str, Array]:
  """Turns what the cells of images wrote into one set of boxes an image.

  Args:
    outputs: of `models.cnn_lstm`.
    image_shape: (h, w) pixels that the cells' grid covers.
    second_look: whether to read the second look's judgement and corrections,
      where there are any, or what was written first.
    max_boxes: the surest boxes of an image that are stitched.
    min_iou: above this two boxes overlap in the stitching.

  Returns:
    The surest boxes of each image by falling score: `boxes` (b, k, 4) corners
    (y0, x0, y1, x1) in pixels, not clipped to the image; `scores` (b, k) in
    [0, 1]; `labels` (b, k), 1 and up; `steps` (b, k), which of its cell's
    boxes each was, from 0; `accepted` and `suppressed` (b, k), see `stitch`.
    Results are the accepted; the suppressed are there to be drawn; boxes that
    are neither score nothing.
  """
  relative, logits = outputs['boxes'], outputs['logits']
  if second_look and 'rezoom_logits' in outputs:
    relative, logits = relative + outputs['deltas'], outputs['rezoom_logits']
  _, gh, gw, steps, _ = relative.shape
  stride = image_shape[0] / gh, image_shape[1] / gw
  middle = cell_ops.centers((gh, gw), stride)[:, :, None]
  odds = jax.nn.softmax(logits, -1)[..., 1:]

  def select_one(relative: Array, odds: Array) -> dict[str, Array]:
    boxes = cell_ops.decode(relative, middle).reshape(-1, 4)
    odds = odds.reshape(len(boxes), -1)
    count = min(max_boxes, len(boxes))
    scores, chosen = lax.top_k(odds.max(-1), count)
    boxes = boxes[chosen]
    valid = box_ops.size(boxes) > 0
    accepted, suppressed = stitch(
      boxes, scores, chosen // steps, valid, steps=steps, min_iou=min_iou
    )
    return {
      'boxes': boxes,
      'scores': scores,
      'labels': odds.argmax(-1)[chosen] + 1,
      'steps': chosen % steps,
      'accepted': accepted,
      'suppressed': suppressed,
    }

  return jax.vmap(select_one)(relative, odds)


def stitch(
  boxes: Float[Array, 'k 4'],
  scores: Float[Array, ' k'],
  cells: Int[Array, ' k'],
  valid: Bool[Array, ' k'],
  *,
  steps: int,
  min_iou: float = 0.25,
  bands: tuple[tuple[float, float], ...] = BANDS,
) -> tuple[Bool[Array, ' k'], Bool[Array, ' k']]:
  """Accepts or suppresses each box.

  TensorBox also tests |dx| <= (w1 + w2) / 1.5 and |dy| <= (h1 + h2) / 2, which
  IoU > 0 implies, so here boxes overlap if their IoU exceeds `min_iou`. It
  lists a box again that two bands accept; here a box is accepted once. Its
  integer coordinates and costs are real numbers here.

  Args:
    boxes: corners (y0, x0, y1, x1), pixels.
    scores: in [0, 1].
    cells: which cell wrote the box, 0 and up; cells take turns in this order.
    valid: False where a box is padding.
    steps: boxes of one cell at most; more than these are left out.
    min_iou: above this two boxes overlap.
    bands: (above, up to) of the scores, in turn.

  Returns:
    Which boxes are accepted, and which are suppressed: surer than some band's
    lower limit, but not accepted.
  """
  count = len(scores)
  boxes = jnp.clip(jnp.nan_to_num(boxes), -1e5, 1e5)
  lower, upper = jnp.asarray(bands, jnp.float32).T
  iou = box_ops.iou(boxes, boxes)
  overlap = iou > min_iou
  cost = _cost(boxes, overlap)
  turns = jnp.unique(jnp.where(valid, cells, -1), size=count + 1, fill_value=-1)
  member = (cells == turns[:, None]) & valid
  # Only bands and cells with a box in them take a turn.
  active = (member & (scores > lower[:, None])[:, None]).any(-1)
  events = jnp.nonzero(active.ravel(), size=active.size, fill_value=0)[0]

  def turn(i: Array, accepted: Array) -> Array:
    band, cell = jnp.divmod(events[i], len(turns))
    current = member[cell] & (scores > lower[band])
    rivals = accepted & (overlap & current[:, None]).any(0)
    rows = jnp.nonzero(current, size=min(steps, count), fill_value=count)[0]
    real, row = rows < count, jnp.minimum(rows, count - 1)
    pairs = jnp.where(rivals, cost[row], _NO_PAIR)
    partner = _match(jnp.where(real[:, None], pairs, 0))
    seen = rivals[partner] & overlap[row, partner]
    surer = scores[row] > scores[partner]
    replaces = seen & surer & (iou[row, partner] > _SAME)
    added = (scores[row] <= upper[band]) & (~seen | replaces)
    added = real & (added | ~rivals.any())
    gone = jnp.where(added & replaces, partner, count)
    accepted = accepted.at[gone].set(False, mode='drop')
    return accepted.at[jnp.where(added, row, count)].set(True, mode='drop')

  accepted = lax.fori_loop(0, active.sum(), turn, jnp.zeros(count, bool))
  return accepted, valid & (scores > lower.min()) & ~accepted


def _cost(
  boxes: Float[Array, 'k 4'], overlap: Bool[Array, 'k k']
) -> Float[Array, 'k k']:
  """Returns L1 / 10 of centres and sides, less 1,000 where boxes overlap.

  TensorBox's 10,000 a pair are left out: the number of pairs is fixed.
  """
  low, high = boxes[:, :2], boxes[:, 2:]
  form = jnp.concatenate([(low + high) / 2, high - low], -1)
  gap = jnp.abs(form[:, None] - form[None]).sum(-1)
  return jnp.minimum(gap / 10, 1e3) - 1e3 * overlap


def _match(cost: Float[Array, 't k']) -> Int[Array, ' t']:
  """Returns the partner of each row in the matching of least cost."""
  rows, columns = optax.assignment.hungarian_algorithm(cost)
  return jnp.zeros(len(cost), jnp.int32).at[rows].set(columns.astype(jnp.int32))
