"""Both lungs in a film by Mask R-CNN.

The surest instance of each side counts. Its probabilities are brought to the
film's own size before they become a mask, and the mask is tidied up. A network
that was trained on mirrored films too can look at both views of a film.
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
    mirror: whether the mirrored film is looked at as well, in which the sides
      are exchanged. Probabilities and scores are then the means of both
      views, of which one without the lung counts 0, and boxes their means
      weighted by score.
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
    mirror: bool = False,
  ):
    self.stages = (stage,)
    self.preprocess = preprocess
    self._mirror = mirror
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
    views = [picture.pixels]
    if self._mirror:
      views.append(pictures.mirror(picture.pixels, picture.inner[1]))
    found = jax.device_get(
      _find(
        self._model,
        self._inference,
        variables[self._stage],
        np.array(views),
        np.array([picture.inner] * len(views), np.int32),
      )
    )
    found = _joined(found, picture.inner[1])
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
  views: np.ndarray,
  sizes: np.ndarray,
) -> dict[str, jax.Array]:
  """Compiled once for each model, however many predictors use it."""
  images = views[..., None].astype(jnp.float32) / 255
  found = mask_rcnn_forward.infer(model, variables, images, sizes, inference)
  paste = functools.partial(
    instances.paste_surest,
    num_classes=model.num_classes,
    shape=views.shape[1:],
    aligned=model.aligned,
  )
  return jax.vmap(paste)(found)


def _joined(found: dict[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
  """Returns what was found in a film, of which the second view is mirrored."""
  maps, boxes, scores = (found[key] for key in ('maps', 'boxes', 'scores'))
  if len(scores) == 1:
    return {key: value[0] for key, value in found.items()}
  turned = pictures.mirror_corners(boxes[1, ::-1], width)
  both = np.stack([scores[0], scores[1, ::-1]])
  weights = both / np.maximum(both.sum(0), np.finfo(both.dtype).tiny)
  return {
    'maps': (maps[0] + pictures.mirror(maps[1, ::-1], width)) / 2,
    'boxes': np.einsum('vc,vck->ck', weights, np.stack([boxes[0], turned])),
    'scores': both.mean(0),
  }


Predictor = RcnnLungs
