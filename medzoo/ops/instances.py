"""Of many instances the surest of each class, where there can be but one."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medzoo.ops import masks as mask_ops


def surest(
  scores: Float[Array, ' k'],
  labels: Int[Array, ' k'],
  valid: Bool[Array, ' k'],
  num_classes: int,
) -> tuple[Int[Array, ' c'], Bool[Array, ' c']]:
  """Chooses one instance of every class.

  Args:
    scores: higher is surer; of equal scores the first wins.
    labels: class ids, 1 and up.
    valid: which of them there are.
    num_classes: with the background, so c is one less.

  Returns:
    The index of the instance of class 1, 2 and so on, and whether there is
    one; the index is 0 where there is none.
  """
  of_class = valid & (labels == jnp.arange(1, num_classes)[:, None])
  index = jnp.argmax(jnp.where(of_class, scores, -jnp.inf), axis=1)
  return index, of_class.any(axis=1)


def paste_surest(
  found: dict[str, Array],
  num_classes: int,
  shape: tuple[int, int],
  *,
  aligned: bool,
) -> dict[str, Array]:
  """Pastes the surest instance of every class of one image.

  Args:
    found: of one image `boxes` (k, 4), `scores` (k,), `labels` (k,), `valid`
      (k,) and `masks` (k, m, m), probabilities within the boxes.
    num_classes: with the background, so c is one less.
    shape: (h, w) of the image, pixels.
    aligned: see `ops.masks.paste`.

  Returns:
    `maps` (c, h, w), the probabilities in place, 0 of a class that was not
    found; `boxes` (c, 4) and `scores` (c,), 0 likewise.
  """
  index, there = surest(
    found['scores'], found['labels'], found['valid'], num_classes
  )
  boxes = jnp.where(there[:, None], found['boxes'][index], 0)
  maps = mask_ops.paste(found['masks'][index], boxes, shape, aligned=aligned)
  return {
    'maps': jnp.where(there[:, None, None], maps, 0),
    'boxes': boxes,
    'scores': jnp.where(there, found['scores'][index], 0),
  }
