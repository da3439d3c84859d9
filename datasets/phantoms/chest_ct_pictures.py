"""Writes slices of a phantom as pictures, with boxes in TensorBox's JSON.

A slice's neighbours are its red and blue, as in the pictures that
lidc_nodule_detection was trained on.
"""

import json
import pathlib

import numpy as np
from PIL import Image

from datasets.phantoms import chest_ct_records as records
from medzoo.data import slices

# Half as high and wide as the older program's pictures.
_SHAPE = (128, 176)
_PIXEL_MM = 1.0
_WINDOW = {'name': 'window', 'low': -1000.0, 'high': 400.0}
# Slices between two that are written: neighbours hardly differ.
_STEP = 4
# Readers who must have marked a nodule that has a box.
_READERS = 3


def write(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  """Writes every fourth slice of a scan, and a list of its own.

  Nodules of three and more readers have boxes, of class `solid` or `subsolid`.
  A list cannot say that a box is to be ignored, so slices with a nodule that
  fewer readers marked are left out.

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
  (directory / folder).mkdir(parents=True, exist_ok=True)
  nodules = _bounds(phantom)
  doubted = {z for _, z, _, readers in nodules if readers < _READERS}
  entries = []
  for z in sorted(set(range(0, len(stack), _STEP)) - doubted):
    suffix = 'bmp' if number % 4 == 3 else 'png'
    path = folder / f'{number:04d}_{z:03d}.{suffix}'
    Image.fromarray(stack.images([z])[0]).save(directory / path)
    rects = []
    for kind, at, corners, _ in nodules:
      if at == z:
        y0, x0, y1, x1 = stack.to_pixels(corners[None])[0].round(2).tolist()
        rect = {'x1': x0, 'y1': y0, 'x2': x1, 'y2': y1}
        name = 'solid' if kind == 'solid' else 'subsolid'
        rects.append(rect | {'class': name})
    entries.append({'image_path': path.as_posix(), 'rects': rects})
  name = f'{phantom.patient}-{number:04d}.json'
  (directory / name).write_text(json.dumps(entries, indent=1))
  return folder


def _bounds(
  phantom: records.Phantom,
) -> list[tuple[str, int, np.ndarray, int]]:
  """Bounds what readers outlined of each nodule on each of its slices.

  Returns:
    Kind, slice, (4,) corners y0, x0, y1, x1 in voxels, half-open, and how many
    readers marked the nodule.
  """
  chains: dict[tuple[int, int], list[np.ndarray]] = {}
  readers: dict[int, int] = {}
  for mark in (mark for reading in phantom.readings for mark in reading.marks):
    readers[mark.nodule] = readers.get(mark.nodule, 0) + 1
    for outline in mark.outlines:
      key = (mark.nodule, outline.slice)
      chains.setdefault(key, []).append(outline.points)
  found = []
  for (nodule, z), parts in chains.items():
    points = np.concatenate(parts)[:, ::-1]
    # Outlines are on the pixels just outside.
    corners = np.concatenate([points.min(axis=0) + 1, points.max(axis=0)])
    kind = phantom.nodules[nodule].kind
    found.append((kind, z, corners.astype(float), readers[nodule]))
  return found
