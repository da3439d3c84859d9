"""The loss of boxes written one by one: match them to the truth, then score.

ReInspect (Stewart et al. 2015, arXiv 1506.04878) with the weights of
TensorBox. Every truth goes to the cells that it concerns, and in each cell a
minimum-cost matching decides which step had to write which truth. Assignment
and matching are jnp of fixed shapes, so batches carry boxes only, fit every
grid, and nothing leaves the device.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from medzoo.losses import classification
from medzoo.ops import boxes as box_ops
from medzoo.ops import cells

# Costs beyond this, and those that are not numbers, count as this: optax's
# loop would not end on them.
_MOST = 1e4


def assign(
  boxes: Float[Array, 'n 4'],
  labels: Int[Array, ' n'],
  *,
  grid: Sequence[int],
  stride: Sequence[float | int],
  steps: int,
  focus_size: float = 1.8,
  max_side: float = 1e4,
) -> tuple[Float[Array, 'gh gw t 4'], Int[Array, 'gh gw t']]:
  """Gives each cell the truths that it is to write, the nearest first.

  A truth goes to every cell that it intersects and whose centre is, along
  both axes, less than `focus_size` strides from its own.

  Args:
    boxes: corners (y0, x0, y1, x1), pixels.
    labels: class ids, 1 and up; 0 or less where there is no truth.
    grid: cells along (y, x).
    stride: pixels a cell along (y, x).
    steps: truths that a cell holds at most; further ones are left out.
    focus_size: reach of a cell, in strides.
    max_side: truths with a side this long are left out, pixels.

  Returns:
    Boxes (dy, dx, h, w) relative to their cells, pixels, and labels, 0 where
    a cell holds fewer truths.
  """
  missing = max(steps - len(labels), 0)
  boxes = jnp.pad(boxes.astype(jnp.float32), ((0, missing), (0, 0)))
  labels = jnp.pad(labels, (0, missing))
  middle = cells.centers(grid, stride)[:, :, None]
  relative = cells.encode(boxes, middle)
  gap, side = jnp.abs(relative[..., :2]), relative[..., 2:]
  size = jnp.asarray(stride, jnp.float32)
  concerns = (gap < (side + size) / 2) & (gap < focus_size * size)
  concerns &= (side > 0) & (side < max_side)
  wanted = concerns.all(-1) & (labels > 0)
  distance = jnp.where(wanted, (gap**2).sum(-1), jnp.inf)
  nearest = jnp.argsort(distance, -1)[..., :steps]
  found = jnp.take_along_axis(wanted, nearest, -1)
  relative = jnp.take_along_axis(relative, nearest[..., None], -2)
  return (
    jnp.where(found[..., None], relative, 0),
    jnp.where(found, labels[nearest], 0),
  )


def match_cost(
  boxes: Float[Array, 't 4'],
  truth: Float[Array, 'n 4'],
  *,
  min_iou: float = 0.25,
) -> Float[Array, 't n']:
  """Returns what it costs that a step wrote a truth.

  First counts whether the box hits, then which step it is, and last how far
  the box is off: 100 [IoU < min_iou] + step + L1 / 2000.

  Args:
    boxes: (dy, dx, h, w) that the steps wrote, pixels.
    truth: boxes of the same cell.
    min_iou: below this the box misses.
  """
  gap = jnp.abs(boxes[:, None] - truth[None]).sum(-1)
  here = jnp.zeros(2)
  iou = box_ops.iou(cells.decode(boxes, here), cells.decode(truth, here))
  step = jnp.arange(len(boxes))[:, None]
  return 100.0 * (iou < min_iou) + step + gap / 2000


def match(
  cost: Float[Array, 't n'], valid: Bool[Array, ' n']
) -> Int[Array, ' t']:
  """Matches steps and truths one to one at the least total cost.

  As many pairs are made as there are steps or valid truths, whichever are
  fewer. The Hungarian algorithm (Kuhn 1955) of optax.

  Args:
    cost: of each pair, from 0 to 10,000.
    valid: False where a truth is padding.

  Returns:
    The truth of each step, -1 where it has none.
  """
  cost = jnp.clip(jnp.nan_to_num(cost, nan=_MOST), 0, _MOST)
  # Dearer than any matching of valid truths, so padding is taken last.
  padding = len(cost) * jnp.where(valid, cost, 0).max() + 1
  cost = jnp.where(valid, cost, padding)
  steps, truths = optax.assignment.hungarian_algorithm(cost)
  truths = jnp.where(valid[truths], truths, -1).astype(jnp.int32)
  return jnp.full(len(cost), -1, jnp.int32).at[steps].set(truths)


def sequence_loss(
  outputs: dict[str, Float[Array, 'b gh gw t _']],
  boxes: Float[Array, 'b n 4'],
  labels: Int[Array, 'b n'],
  valid: Bool[Array, ' b'],
  *,
  image_shape: tuple[int, int],
  ignored: Float[Array, 'b m 4'] | None = None,
  focus_size: float = 1.8,
  min_iou: float = 0.25,
  center_tolerance: float = 0.2,
  weights: tuple[float, float, float, float] = (1.0, 0.1, 0.1, 0.003),
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
  """Joins the losses of confidence, place and second look.

  All are sums over a cell's steps, averaged over the cells of the images that
  are valid: the cross-entropy of the class; the L1 of matched boxes; the
  cross-entropy of the second look, for which a box is right if it is matched
  and its centre error, in sides of the truth, is below the tolerance; and the
  squared error of corrected boxes, each coordinate's at most 100 pixels^2.

  Args:
    outputs: of `models.cnn_lstm`.
    boxes: true corners (y0, x0, y1, x1), pixels.
    labels: class ids, 1 and up; 0 where there is no truth.
    valid: False where an image is padding.
    image_shape: (y, x) pixels.
    ignored: corners of findings that are neither true nor false, without
      extent where there are none. What is written there (IoU >= `min_iou`)
      and not matched has no say in the classes.
    focus_size: reach of a cell, in strides.
    min_iou: below this a box misses.
    center_tolerance: of the second look.
    weights: of the terms in the order above, those of TensorBox.

  Returns:
    The loss, and the terms before weighting: `confidence`, `box` and, where
    there is a second look, `rezoom` and `reregression`.
  """
  written = outputs['boxes'].astype(jnp.float32)
  _, *grid, steps, _ = written.shape
  stride = tuple(n / g for n, g in zip(image_shape, grid, strict=True))
  truth, label = _targets(
    jax.lax.stop_gradient(written),
    *jax.vmap(
      lambda boxes, labels: assign(
        boxes,
        labels,
        grid=grid,
        stride=stride,
        steps=steps,
        focus_size=focus_size,
      )
    )(boxes, labels),
    min_iou,
  )
  matched = label > 0
  counted = jnp.broadcast_to(valid[:, None, None, None], label.shape)
  judged = counted
  if ignored is not None:
    middle = cells.centers(grid, stride)[:, :, None]
    corners = cells.decode(jax.lax.stop_gradient(written), middle)
    judged &= matched | ~_covered(corners, ignored, min_iou)

  def mean(values: Array, kept: Array) -> Array:
    count = jnp.maximum(valid.sum() * grid[0] * grid[1], 1)
    return jnp.where(kept, values, 0).sum() / count

  terms = {
    'confidence': mean(
      classification.cross_entropy(outputs['logits'], label), judged
    ),
    'box': mean(jnp.abs(truth - written).sum(-1), counted & matched),
  }
  if 'rezoom_logits' in outputs:
    error = (truth - written)[..., :2] / jnp.maximum(truth[..., 2:], 1)
    right = matched & ((error**2).sum(-1) < center_tolerance**2)
    second = classification.cross_entropy(
      outputs['rezoom_logits'], jnp.where(right, label, 0)
    )
    residual = truth - written - outputs['deltas']
    squared = jnp.minimum(residual**2, 100).sum(-1)
    terms['rezoom'] = mean(second, judged)
    terms['reregression'] = mean(squared, counted & matched)
  # Without a second look the last two weights have no terms.
  loss = sum(w * t for w, t in zip(weights, terms.values(), strict=False))
  return loss, terms


def _targets(
  written: Float[Array, 'b gh gw t 4'],
  truth: Float[Array, 'b gh gw t 4'],
  label: Int[Array, 'b gh gw t'],
  min_iou: float,
) -> tuple[Float[Array, 'b gh gw t 4'], Int[Array, 'b gh gw t']]:
  """Returns the box and the label that each step had to write, 0 for none."""

  def choose(written: Array, truth: Array, label: Array) -> tuple:
    cost = match_cost(written, truth, min_iou=min_iou)
    chosen = match(cost, label > 0)
    return truth[chosen], jnp.where(chosen >= 0, label[chosen], 0)

  flat = (x.reshape(-1, *x.shape[3:]) for x in (written, truth, label))
  boxes, labels = jax.vmap(choose)(*flat)
  return boxes.reshape(truth.shape), labels.reshape(label.shape)


def _covered(
  corners: Float[Array, 'b gh gw t 4'],
  ignored: Float[Array, 'b m 4'],
  min_iou: float,
) -> Bool[Array, 'b gh gw t']:
  """Tells which boxes lie on a finding that is ignored."""
  iou = jax.vmap(box_ops.iou)(corners.reshape(len(corners), -1, 4), ignored)
  return (iou >= min_iou).any(-1).reshape(corners.shape[:-1])
