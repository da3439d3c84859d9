"""The two-stage detector on a whole scan: screening, then reduction.

Every candidate of the screening network is cut out, classified by the
false-positive reduction network, and moved and sized by its regression branch
where it has one. With several passes that is done again where it was moved to.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import types
from medzoo.data import patches
from medzoo.losses import hybrid
from medzoo.ops import nms
from medzoo.predictors import candidates
from medzoo.predictors import overlap


class Nodules:
  """Finds lesions in a scan with both networks.

  Attributes:
    models: the networks by stage; `screening` and `reduction` are used.
    preprocess: grid, window and search region, as `CandidateScreening` takes.
    screening: the other arguments of the first stage's predictor.
    shape: voxels (z, y, x) of its cubes.
    batch_size: cubes of one call.
    passes: how often a candidate is classified, from the second time on where
      the regression of the time before put it; the score is the mean.
    radius_mm: of two detections nearer than this the weaker one is dropped.
  """

  stages = ('screening', 'reduction')

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    screening: Mapping[str, Any],
    shape: tuple[int, int, int],
    batch_size: int,
    passes: int,
    radius_mm: float,
  ):
    self.screening = candidates.CandidateScreening(
      models, preprocess, **screening
    )
    self.shape = shape
    self.batch_size = batch_size
    self.passes = passes
    self.radius_mm = radius_mm
    self._model = models['reduction']

  def __call__(
    self, variables: dict[str, Any], volume: types.Volume
  ) -> dict[str, types.Detections]:
    """Returns `candidates` of the first stage and `detections` of both.

    Args:
      variables: those of each stage by name; `screening` and `reduction`.
      volume: the scan as it was acquired.
    """
    prepared, region = self.screening.prepare(volume)
    found = self.screening.screen(variables, prepared, region)
    reduced = self.reduce(variables['reduction'], prepared, found)
    return {'candidates': found, 'detections': reduced}

  def reduce(
    self,
    variables: Any,
    prepared: types.Volume,
    found: types.Detections,
  ) -> types.Detections:
    """Classifies, places and sizes candidates, and drops the doubles."""
    if not len(found):
      return found
    index = prepared.world_to_index(found.centers)
    diameters = np.full(len(index), np.nan)
    probability = 0.0
    for _ in range(self.passes):
      outputs = self._classify(variables, prepared.voxels, index)
      probability = probability + _softmax(outputs['logits']) / self.passes
      if 'regression' in outputs:
        index, diameters = self._move(prepared, index, outputs['regression'])
    centers = prepared.index_to_world(index)
    scores = 1 - probability[:, 0]
    keep = nms.nms_spheres(centers, scores, self.radius_mm, len(scores))
    return types.Detections(
      centers=centers[keep],
      diameters=diameters[keep],
      scores=scores[keep],
      labels=1 + probability[keep, 1:].argmax(-1),
    )

  def _classify(
    self, variables: Any, voxels: np.ndarray, index: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns the network's outputs on the cubes centred on `index`."""

    def classify(centers: np.ndarray) -> dict[str, np.ndarray]:
      batch = np.zeros((self.batch_size, *self.shape, 1), np.float32)
      cubes = patches.crop(voxels, centers, self.shape)
      batch[: len(cubes), ..., 0] = cubes
      outputs = jax.device_get(_outputs(self._model, variables, batch))
      return {name: x[: len(cubes)] for name, x in outputs.items()}

    batches = np.split(
      index, range(self.batch_size, len(index), self.batch_size)
    )
    rows = [row for _, row in overlap.overlapped(classify, batches)]
    return {
      name: np.concatenate([row[name] for row in rows]) for name in rows[0]
    }

  def _move(
    self, prepared: types.Volume, index: np.ndarray, regression: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres that the regression gives, and diameters in mm."""
    spacing = np.asarray(prepared.spacing)
    offset, diameters = hybrid.decode(
      jnp.asarray(regression), tuple((self.shape * spacing).tolist())
    )
    # Cubes are cut at whole voxels, so offsets count from their middle.
    middle = patches.middles(index, self.shape)
    moved = middle + np.asarray(offset, np.float64) / spacing
    limit = np.asarray(prepared.voxels.shape) - 1
    return np.clip(moved, 0, limit), np.asarray(diameters, np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(
  model: nn.Module, variables: Any, x: np.ndarray
) -> dict[str, jax.Array]:
  """Compiled once for each model, however many predictors use it."""
  return model.apply(variables, x, train=False)


def _softmax(logits: np.ndarray) -> np.ndarray:
  return np.asarray(jax.jit(jax.nn.softmax)(logits), np.float64)


Predictor = Nodules
