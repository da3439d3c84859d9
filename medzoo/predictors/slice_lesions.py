"""Boxes on every slice of a scan, and the lesions that they make up.

Slices go through the network batch by batch. Each cell of a slice writes its
boxes, stitching makes one set of them, and sets of neighbouring slices are
linked into lesions.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import types
from medzoo.data import slices
from medzoo.ops import boxes as box_ops
from medzoo.ops import stitching
from medzoo.predictors import linking
from medzoo.predictors import overlap


class SliceLesions:
  """Finds boxes on slices, and lesions in scans.

  Attributes:
    models: the networks by stage; `detector` is used, one with the outputs of
      `models.cnn_lstm`.
    preprocess: how slices become pictures: `shape`, `pixel_mm`, `apart_mm`,
      `window` and `region`, see `data.slices.prepare`.
    batch_size: slices of one call.
    stitch_iou: above this two boxes of a slice overlap in the stitching.
    max_boxes: the surest boxes of a slice that are stitched.
    min_score: boxes less sure than this are left out after the stitching.
    link: how boxes become lesions: `min_overlap`, `reach_mm` and `share`, see
      `linking.link`.
  """

  stages = ('detector',)

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    batch_size: int,
    stitch_iou: float,
    max_boxes: int,
    min_score: float,
    link: Mapping[str, float],
  ):
    self.preprocess = preprocess
    self.batch_size = batch_size
    self.stitch_iou = stitch_iou
    self.max_boxes = max_boxes
    self.min_score = min_score
    self.link = link
    self._model = models['detector']

  def __call__(
    self, variables: dict[str, Any], volume: types.Volume
  ) -> dict[str, types.BoxDetections | types.Detections]:
    """Finds the lesions of one scan.

    Args:
      variables: those of each stage by name; `detector` is used.
      volume: the scan as it was acquired, or a picture.

    Returns:
      `boxes`, slice by slice and by falling score, clipped to the slice, those
      that stitching suppressed among them; and `detections`, the lesions that
      the others link up to, none in a picture. Where the network takes a
      second look, `first_boxes` and `first_detections` are what it had
      written before.
    """
    stack = slices.prepare(volume, **self.preprocess)
    results = {}
    for prefix, found in self._look(variables['detector'], stack).items():
      boxes = self._place(found, stack, volume)
      links, lesions = linking.link(boxes, volume, **self.link)
      results[f'{prefix}boxes'] = dataclasses.replace(boxes, links=links)
      results[f'{prefix}detections'] = lesions
    return results

  def _look(
    self, variables: Any, stack: slices.Stack
  ) -> dict[str, dict[str, np.ndarray]]:
    """Returns `ops.stitching.select`'s boxes of all slices, by prefix."""
    look = functools.partial(
      _outputs, self._model, self.max_boxes, self.stitch_iou, variables
    )

    def outputs(index: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
      images = stack.images(index)
      batch = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
      batch[: len(images)] = images
      found = jax.device_get(look(batch))
      return jax.tree.map(lambda x: x[: len(images)], found)

    batches = _batches(len(stack), self.batch_size)
    rows = [row for _, row in overlap.overlapped(outputs, batches)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)

  def _place(
    self,
    found: dict[str, np.ndarray],
    stack: slices.Stack,
    volume: types.Volume,
  ) -> types.BoxDetections:
    """Returns the boxes in voxels of the scan, not yet linked."""
    listed = found['accepted'] | found['suppressed']
    index = np.nonzero(listed & (found['scores'] >= self.min_score))
    corners = stack.to_voxels(found['boxes'][index].astype(np.float64))
    corners = np.clip(corners, 0, np.tile(volume.voxels.shape[1:3], 2))
    inside = box_ops.size(corners) > 0
    index = tuple(axis[inside] for axis in index)
    return types.BoxDetections(
      slices=index[0].astype(np.int32),
      corners=corners[inside],
      scores=found['scores'][index].astype(np.float64),
      labels=found['labels'][index].astype(np.int32),
      steps=found['steps'][index].astype(np.int32),
      suppressed=found['suppressed'][index],
      links=np.full(len(index[0]), -1, np.int32),
    )


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
  for first in range(0, count, size):
    yield np.arange(first, min(first + size, count))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _outputs(
  model: nn.Module,
  max_boxes: int,
  min_iou: float,
  variables: Any,
  images: np.ndarray,
) -> dict[str, dict[str, jax.Array]]:
  """Compiled once for each model, however many predictors use it."""
  x = images.astype(jnp.float32) / 255
  outputs = model.apply(variables, x, train=False)
  looks = {'': True}
  if 'rezoom_logits' in outputs:
    looks['first_'] = False
  return {
    prefix: stitching.select(
      outputs,
      x.shape[1:3],
      second_look=second,
      max_boxes=max_boxes,
      min_iou=min_iou,
    )
    for prefix, second in looks.items()
  }


Predictor = SliceLesions
