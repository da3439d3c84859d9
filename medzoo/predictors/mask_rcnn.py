"""Mask R-CNN on single images of any size, with torchvision's weights.

  from medzoo.predictors import mask_rcnn

  model, variables = mask_rcnn.load_torch('maskrcnn_resnet50_fpn.pth')
  found = mask_rcnn.detect(model, variables, image)

The same numbers as torchvision's: images are normalised, resized and padded as
its GeneralizedRCNNTransform does, and what is found is brought back as that
does.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from medzoo.models import mask_rcnn
from medzoo.models import mask_rcnn_forward
from medzoo.models import resnet
from medzoo.ops import masks as mask_ops
from medzoo.weights import naming
from medzoo.weights import torch_files

# Masks that are brought back at a time, which bounds the memory.
_CHUNK = 16
_CLASSES = 'roi_heads.box_predictor.cls_score.bias'


@dataclasses.dataclass(frozen=True)
class Preparation:
  """How an image becomes what the network reads.

  Attributes:
    min_side: an image is resized so that its shorter side is this, pixels...
    max_side: ...or its longer side this, if it were longer.
    mean: of the channels, in [0, 1], subtracted.
    deviation: of the channels, divided by.
    divisor: images are padded with zeros to sides that this divides.
  """

  min_side: int = 800
  max_side: int = 1333
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
  divisor: int = 32


def load_torch(
  path: str | pathlib.Path,
  *,
  num_classes: int | None = None,
  ignore: Sequence[str] = (),
  depth: int = 50,
  epsilon: float = 1e-5,
) -> tuple[mask_rcnn.MaskRCNN, dict[str, Any]]:
  """Loads torchvision's weights into a model of their shapes, strictly.

  Args:
    path: state dict of a `maskrcnn_resnet50_fpn`, `.safetensors` or what
      torch.save writes.
    num_classes: with the background; None takes the file's. Where the file's
      is another, its layers have to be ignored: `mask_rcnn.CLASS_LAYERS`.
    ignore: layers, in torch's names, that stay freshly initialised.
    depth: of the ResNet.
    epsilon: of its batch normalisation. Torchvision sets it to 0 for its own
      COCO_V1 weights.

  Returns:
    The model, its batch normalisation frozen, and its variables.

  Raises:
    ValueError: the file cannot be read or does not fit; everything that is
      missing, left over or of another shape is listed.
  """
  path = pathlib.Path(path)
  tensors = mask_rcnn.torch_tensors(torch_files.read(path))
  if num_classes is None:
    if _CLASSES not in tensors:
      raise ValueError(
        f'{path}: found no {_CLASSES}, expected the weights of a Mask R-CNN'
      )
    num_classes = len(tensors[_CLASSES])
  encoder = resnet.ResNet(depth, norm='frozen', epsilon=epsilon)
  model = mask_rcnn.MaskRCNN(encoder=encoder, num_classes=num_classes)

  def init(key: jax.Array) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return model.lazy_init(key, image, train=False)

  try:
    variables = naming.fill(
      jax.eval_shape(init, jax.random.key(0)),
      tensors,
      mask_rcnn.torch_name,
      ignore=ignore,
    )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  return model, _complete(variables, init)


def _complete(
  variables: dict[str, Any], init: Callable[[jax.Array], dict[str, Any]]
) -> dict[str, Any]:
  """Initialises the leaves that are only shapes yet, and only those."""
  flat = flax.traverse_util.flatten_dict(variables)
  missing = [
    path
    for path, leaf in flat.items()
    if isinstance(leaf, jax.ShapeDtypeStruct)
  ]
  if not missing:
    return variables

  def draw(key: jax.Array) -> dict[tuple[str, ...], jax.Array]:
    fresh = flax.traverse_util.flatten_dict(init(key))
    return {path: fresh[path] for path in missing}

  drawn = jax.jit(draw)(jax.random.key(0))
  return flax.traverse_util.unflatten_dict(flat | drawn)


def detect(
  model: mask_rcnn.MaskRCNN,
  variables: dict[str, Any],
  image: np.ndarray,
  settings: mask_rcnn_forward.Inference | None = None,
  preparation: Preparation | None = None,
) -> dict[str, np.ndarray]:
  """Finds the things in one image; see `detect_all`."""
  return detect_all(model, variables, [image], settings, preparation)[0]


def detect_all(
  model: mask_rcnn.MaskRCNN,
  variables: dict[str, Any],
  images: Sequence[np.ndarray],
  settings: mask_rcnn_forward.Inference | None = None,
  preparation: Preparation | None = None,
) -> list[dict[str, np.ndarray]]:
  """Finds the things in images, as one batch.

  Images of several sizes are padded to the largest, as torchvision does, which
  changes the network's outputs a little near their edges. Each padded shape is
  compiled once.

  Args:
    model: the layers.
    variables: parameters and batch statistics.
    images: each (h, w, 3) RGB, uint8 or of floats in [0, 1].
    settings: how detections are chosen; None is torchvision's way.
    preparation: how images are prepared; None is torchvision's way.

  Returns:
    For each image, by falling score, `boxes` (n, 4) corners (y0, x0, y1, x1)
    in its own pixels, `scores` (n,), `labels` (n,), from 1 on, and `masks`
    (n, h, w), probabilities.

  Raises:
    ValueError: an image is not of that shape or type.
  """
  settings = settings or mask_rcnn_forward.Inference()
  preparation = preparation or Preparation()
  pictures = [_prepare(image, preparation) for image in images]
  sizes = np.array([picture.shape[:2] for picture in pictures], np.int32)
  divisor = preparation.divisor
  height, width = -(-sizes.max(0) // divisor) * divisor
  channels = pictures[0].shape[2]
  batch = np.zeros((len(images), height, width, channels), np.float32)
  for padded, picture in zip(batch, pictures, strict=True):
    padded[: picture.shape[0], : picture.shape[1]] = picture
  found = _infer(model, variables, batch, sizes, settings)
  found = jax.device_get(found)
  results = []
  for i, image in enumerate(images):
    kept = found['valid'][i]
    one = {name: x[i][kept] for name, x in found.items() if name != 'valid'}
    results.append(_bring_back(one, sizes[i], image.shape[:2]))
  return results


_infer = jax.jit(mask_rcnn_forward.infer, static_argnums=(0, 4))


def _prepare(image: np.ndarray, preparation: Preparation) -> np.ndarray:
  """Returns an image normalised and resized."""
  channels = len(preparation.mean)
  if image.ndim != 3 or image.shape[2] != channels or not image.size:
    raise ValueError(
      f'image: found the shape {image.shape}, expected (h, w, {channels})'
    )
  if image.dtype == np.uint8:
    image = image.astype(np.float32) / 255
  elif not np.issubdtype(image.dtype, np.floating):
    raise ValueError(
      f'image: found {image.dtype}, expected uint8 or floats in [0, 1]'
    )
  image = image.astype(np.float32) - np.float32(preparation.mean)
  image /= np.float32(preparation.deviation)
  sides = image.shape[:2]
  scale = min(
    preparation.min_side / min(sides), preparation.max_side / max(sides)
  )
  return _resize(image, [math.floor(side * scale) for side in sides])


def _resize(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Interpolates linearly between pixels' centres, as torch does."""
  for axis, (old, new) in enumerate(zip(image.shape, shape, strict=False)):
    scale = np.float32(old / new)
    places = scale * (np.arange(new, dtype=np.float32) + 0.5) - 0.5
    places = np.clip(places, 0, old - 1)
    low = places.astype(np.int64)
    share = np.expand_dims(places - low, 1 - axis)[..., None]
    high = np.minimum(low + 1, old - 1)
    before, after = image.take(low, axis), image.take(high, axis)
    image = before + share * (after - before)
  return image


def _bring_back(
  found: dict[str, np.ndarray], size: np.ndarray, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
  """Returns detections in the image's own pixels, with masks of its size."""
  scale = np.float32(shape) / size.astype(np.float32)
  boxes = found['boxes'] * np.tile(scale, 2)
  count = len(boxes)
  masks = np.zeros((count, *shape), np.float32)
  for first in range(0, count, _CHUNK):
    missing = max(first + _CHUNK - count, 0)
    part = [
      np.pad(
        x[first : first + _CHUNK], ((0, missing), *[(0, 0)] * (x.ndim - 1))
      )
      for x in (found['masks'], boxes)
    ]
    masks[first : first + _CHUNK] = _paste(*part, shape)[: _CHUNK - missing]
  return found | {'boxes': boxes, 'masks': masks}


_paste = jax.jit(mask_ops.paste, static_argnums=2)
