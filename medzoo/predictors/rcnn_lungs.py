"""Both lungs in a film by Mask R-CNN.

The surest instance of each side counts. Its probabilities are brought to the
film's own size before they become a mask, and the mask is tidied up.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.data import pictures
from medzoo.models import mask_rcnn_forward
from medzoo.ops import instances
from medzoo.ops import proposals as proposal_ops


class RcnnLungs:
  """Finds the lungs in a film.

  Attributes:
    models: the networks by stage.
    preprocess: how films become pictures: `shape` and `equalize`, see
      `data.pictures.prepare`.
    stage: whose network is used, a `models.mask_rcnn.MaskRCNN`.
    inference: how instances are chosen.
  """

  def __init__(
    self,
    models: Mapping[str, nn.Module],
    preprocess: Mapping[str, Any],
    *,
    stage: str,
    proposals: int,
    min_score: float,
    max_detections: int,
  ):
    self.stages = (stage,)
    self.preprocess = preprocess
    self._stage = stage
    self._model = models[stage]
    self._inference = mask_rcnn_forward.Inference(
      proposals=proposal_ops.Settings(proposals, proposals),
      min_score=min_score,
      max_detections=max_detections,
    )

  def __call__(
    self, variables: dict[str, Any], volume: types.Volume
  ) -> dict[str, types.MaskDetections]:
    """Finds the lungs of one film.

    Args:
      variables: those of each stage by name.
      volume: the film as it was taken.

    Returns:
      `lungs`, at most one a side, by falling score; the network's own box of
      each, in pixels of the film.
    """
    picture = pictures.prepare(volume, **self.preprocess)
    found = jax.device_get(
      _find(
        self._model,
        self._inference,
        variables[self._stage],
        picture.pixels[None],
        np.array([picture.inner], np.int32),
      )
    )
    maps = picture.restore(found['maps'])
    masks = np.array([lung_shapes.clean(x)[0] for x in maps])
    there = np.flatnonzero(masks.any((1, 2)) & (found['scores'] > 0))
    order = there[np.argsort(-found['scores'][there], kind='stable')]
    return {
      'lungs': types.MaskDetections(
        masks=masks[order],
        corners=picture.to_picture(found['boxes'][order].astype(float)),
        scores=found['scores'][order].astype(float),
        labels=(order + 1).astype(np.int32),
      )
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _find(
  model: nn.Module,
  inference: mask_rcnn_forward.Inference,
  variables: Any,
  pixels: np.ndarray,
  sizes: np.ndarray,
) -> dict[str, jax.Array]:
  """Compiled once for each model, however many predictors use it."""
  images = pixels[..., None].astype(jnp.float32) / 255
  found = mask_rcnn_forward.infer(model, variables, images, sizes, inference)
  found = jax.tree.map(lambda x: x[0], found)
  return instances.paste_surest(
    found, model.num_classes, pixels.shape[1:], aligned=model.aligned
  )


Predictor = RcnnLungs
