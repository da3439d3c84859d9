"""Writes slices of a phantom as pictures, with boxes in TensorBox's JSON.

A slice's neighbours are its red and blue, as in the pictures that
lidc_nodule_detection was trained on.
"""

import pathlib

import numpy as np

from datasets.phantoms import chest_ct_records as records
from medzoo import types
from medzoo.data import slice_pictures
from medzoo.data import slices
from medzoo.io import box_lists

# Half as high and wide as the older program's pictures.
_SHAPE = (128, 176)
_PIXEL_MM = 1.0
_WINDOW = {'name': 'window', 'low': -1000.0, 'high': 400.0}
# Slices between two that are written: neighbours hardly differ.
_STEP = 4
# Readers who must have marked a nodule that has a box.
_READERS = 3
_CLASSES = ('solid', 'subsolid')


def write(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  """Writes every fourth slice of a scan, and a list of its own.

  Nodules of three and more readers have boxes, of class `solid` or `subsolid`.
  TensorBox's lists cannot say that a box is to be ignored, so slices with a
  nodule that fewer readers marked are left out.

  Args:
    phantom: the scan.
    directory: gets the list, `PATIENT-NUMBER.json`, and the pictures in
      `pictures/PATIENT/`; BMP for every fourth scan, else PNG.
    number: of the scan among all.

  Returns:
    The folder of the pictures, from the directory.
  """
  stack = slices.prepare(
    phantom.volume,
    shape=_SHAPE,
    pixel_mm=_PIXEL_MM,
    window=_WINDOW,
    region='lung',
  )
  folder = pathlib.Path('pictures', phantom.patient)
  boxes = _bounds(phantom)
  doubted = set(boxes.slices[boxes.ignored].tolist())
  suffix = 'bmp' if number % 4 == 3 else 'png'
  names = {
    z: (folder / f'{number:04d}_{z:03d}.{suffix}').as_posix()
    for z in range(0, len(stack), _STEP)
    if z not in doubted
  }
  found = slice_pictures.write(stack, boxes, names, directory, _CLASSES)
  path = directory / f'{phantom.patient}-{number:04d}.json'
  with path.open('w', encoding='utf-8') as file:
    box_lists.write_json(found, file)
  return folder


def _bounds(phantom: records.Phantom) -> types.Boxes:
  """Bounds what readers outlined of each nodule on each of its slices."""
  chains: dict[tuple[int, int], list[np.ndarray]] = {}
  readers: dict[int, int] = {}
  for mark in (mark for reading in phantom.readings for mark in reading.marks):
    readers[mark.nodule] = readers.get(mark.nodule, 0) + 1
    for outline in mark.outlines:
      key = (mark.nodule, outline.slice)
      chains.setdefault(key, []).append(outline.points)
  corners = []
  for parts in chains.values():
    points = np.concatenate(parts)[:, ::-1]
    # Outlines are on the pixels just outside.
    corners.append([*points.min(axis=0) + 1, *points.max(axis=0)])
  of, at = np.array([*chains], np.int32).reshape(-1, 2).T
  solid = np.array([nodule.kind == 'solid' for nodule in phantom.nodules], bool)
  doubted = np.array([readers[nodule] < _READERS for nodule in of], bool)
  return types.Boxes(
    slices=at,
    corners=np.array(corners, float).reshape(-1, 4),
    labels=np.where(solid[of], 1, 2).astype(np.int32),
    ignored=doubted,
    findings=of,
  )
