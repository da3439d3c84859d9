"""COCO's JSON of boxes in images: what was found, and what there is.

The files are those that pycocotools loads (https://cocodataset.org, Data
format and Results format). Its boxes are x, y, width and height in pixels,
with x = 0 at the left edge of the first pixel; ids count from 1.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np


def write_results(
  path: pathlib.Path,
  images: np.ndarray,
  corners: np.ndarray,
  labels: np.ndarray,
  scores: np.ndarray,
) -> None:
  """Writes detections.

  Args:
    path: the JSON file.
    images: (n,) number of each box's image, from 0, as `write_truth` has them.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels.
    labels: (n,) class ids.
    scores: (n,) higher is surer.
  """
  rows = _rows(images, corners, labels)
  for row, score in zip(rows, scores, strict=True):
    row['score'] = float(score)
  _write(path, rows)


def write_found(
  path: pathlib.Path,
  names: Sequence[str],
  images: np.ndarray,
  corners: np.ndarray,
  labels: np.ndarray,
  scores: np.ndarray,
  classes: Mapping[int, str],
) -> None:
  """Writes detections with their images and classes, in a file for viewers.

  Args:
    path: the JSON file.
    names: what stands for the file name of each image.
    images: (n,) number of each box's image, from 0.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels.
    labels: (n,) class ids.
    scores: (n,) higher is surer.
    classes: class id -> name, of these labels at least.
  """
  rows = _annotations(images, corners, labels, np.zeros(len(images), bool))
  for row, score in zip(rows, scores, strict=True):
    row['score'] = float(score)
  _write(path, _document(names, rows, classes))


def write_truth(
  path: pathlib.Path,
  names: Sequence[str],
  images: np.ndarray,
  corners: np.ndarray,
  labels: np.ndarray,
  ignored: np.ndarray,
) -> None:
  """Writes what there is to find.

  Args:
    path: the JSON file.
    names: what stands for the file name of each image.
    images: (n,) number of each box's image, from 0.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels.
    labels: (n,) class ids.
    ignored: (n,) whether finding it is neither right nor wrong, `iscrowd`.
  """
  rows = _annotations(images, corners, labels, ignored)
  classes = {label: f'class {label}' for label in np.unique(labels).tolist()}
  _write(path, _document(names, rows, classes))


def _document(
  names: Sequence[str],
  rows: list[dict[str, object]],
  classes: Mapping[int, str],
) -> dict[str, object]:
  return {
    'images': [
      {'id': i + 1, 'file_name': name} for i, name in enumerate(names)
    ],
    'categories': [{'id': i, 'name': name} for i, name in classes.items()],
    'annotations': rows,
  }


def _annotations(
  images: np.ndarray,
  corners: np.ndarray,
  labels: np.ndarray,
  ignored: np.ndarray,
) -> list[dict[str, object]]:
  rows = _rows(images, corners, labels)
  for i, (row, crowd) in enumerate(zip(rows, ignored, strict=True)):
    _, _, width, height = row['bbox']
    row |= {'id': i + 1, 'area': width * height, 'iscrowd': int(crowd)}
  return rows


def _rows(
  images: np.ndarray, corners: np.ndarray, labels: np.ndarray
) -> list[dict[str, object]]:
  """Returns what results and annotations have in common."""
  return [
    {
      'image_id': int(image) + 1,
      'category_id': int(label),
      'bbox': [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
    }
    for image, (y0, x0, y1, x1), label in zip(
      images, corners, labels, strict=True
    )
  ]


def _write(path: pathlib.Path, document: object) -> None:
  path.write_text(json.dumps(document, allow_nan=False) + '\n')
