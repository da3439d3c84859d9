"""COCO's JSON of outlined objects in images: what was found, what there is.

Masks are COCO's compressed run lengths, a hundredth of the pixels' room; `coco`
says what the files are otherwise. pycocotools scores them by their masks and by
their boxes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as pycoco_mask

# COCO's `size` (height, width) and `counts`, as JSON takes them.
Rle = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Objects:
  """Objects in one image.

  Attributes:
    rles: n run lengths.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels.
    labels: (n,) class ids.
    scores: (n,) higher is surer; None of what there is to find.
  """

  rles: list[Rle]
  corners: np.ndarray
  labels: np.ndarray
  scores: np.ndarray | None = None


def encode(masks: np.ndarray) -> list[Rle]:
  """Turns (n, h, w) bool masks into n run lengths."""
  layers = np.asfortranarray(np.moveaxis(masks, 0, -1), np.uint8)
  return [
    {'size': list(rle['size']), 'counts': rle['counts'].decode()}
    for rle in pycoco_mask.encode(layers)
  ]


def decode(rles: Sequence[Rle], shape: tuple[int, int]) -> np.ndarray:
  """Turns n run lengths of images of a shape into (n, h, w) bool masks."""
  if not rles:
    return np.zeros((0, *shape), bool)
  return np.moveaxis(pycoco_mask.decode(list(rles)), -1, 0).astype(bool)


def bounds(rles: Sequence[Rle]) -> np.ndarray:
  """Returns (n, 4) the boxes that masks fill; zeros where one is empty."""
  if not rles:
    return np.zeros((0, 4))
  x0, y0, width, height = pycoco_mask.toBbox(list(rles)).T
  return np.stack([y0, x0, y0 + height, x0 + width], axis=1)


def overlaps(found: Sequence[Rle], there: Sequence[Rle]) -> np.ndarray:
  """Returns (n, m) the intersection over union of every pair of masks."""
  if not found or not there:
    return np.zeros((len(found), len(there)))
  return pycoco_mask.iou(list(found), list(there), [0] * len(there))


def write_results(path: pathlib.Path, images: Sequence[Objects]) -> None:
  """Writes what was found.

  Args:
    path: the JSON file.
    images: one after another, as `write_truth` has them.
  """
  _write(path, _rows(images))


def write_document(
  path: pathlib.Path,
  names: Sequence[str],
  shapes: Sequence[tuple[int, int]],
  images: Sequence[Objects],
  classes: Mapping[int, str],
) -> None:
  """Writes objects with their images and classes.

  Args:
    path: the JSON file.
    names: what stands for the file name of each image.
    shapes: (h, w) of each image.
    images: the objects of each; with scores, what was found.
    classes: class id -> name, of these labels at least.
  """
  rows = [
    {**row, 'id': i, 'iscrowd': 0} for i, row in enumerate(_rows(images), 1)
  ]
  document = {
    'images': [
      {'id': i, 'file_name': name, 'height': height, 'width': width}
      for i, (name, (height, width)) in enumerate(
        zip(names, shapes, strict=True), 1
      )
    ],
    'categories': [{'id': i, 'name': name} for i, name in classes.items()],
    'annotations': rows,
  }
  _write(path, document)


def read_results(
  results: pathlib.Path, truth: pathlib.Path
) -> dict[str, Objects]:
  """Reads back what `write_results` wrote.

  Args:
    results: what was found.
    truth: the document that has the images' names.

  Returns:
    By the name of the image.
  """
  rows: dict[int, list[dict[str, Any]]] = {}
  for row in json.loads(results.read_text()):
    rows.setdefault(row['image_id'], []).append(row)
  images = json.loads(truth.read_text())['images']
  return {
    image['file_name']: _objects(rows.get(image['id'], [])) for image in images
  }


def _objects(rows: Sequence[Mapping[str, Any]]) -> Objects:
  boxes = np.array([row['bbox'] for row in rows], float).reshape(-1, 4)
  x0, y0, width, height = boxes.T
  return Objects(
    [row['segmentation'] for row in rows],
    np.stack([y0, x0, y0 + height, x0 + width], axis=1),
    np.array([row['category_id'] for row in rows], np.int32),
    np.array([row['score'] for row in rows], float),
  )


def _rows(images: Sequence[Objects]) -> list[dict[str, Any]]:
  rows = []
  for number, objects in enumerate(images, 1):
    corners = np.asarray(objects.corners, float)
    for i, (y0, x0, y1, x1) in enumerate(corners.tolist()):
      row = {
        'image_id': number,
        'category_id': int(objects.labels[i]),
        'bbox': [x0, y0, x1 - x0, y1 - y0],
        'segmentation': objects.rles[i],
        'area': int(pycoco_mask.area(objects.rles[i])),
      }
      if objects.scores is not None:
        row['score'] = float(objects.scores[i])
      rows.append(row)
  return rows


def _write(path: pathlib.Path, document: object) -> None:
  path.write_text(json.dumps(document, allow_nan=False) + '\n')
