"""Labels for films that nobody has outlined: a network's, if it is sure.

A stage of kind `pseudo` maps a predictor of lungs over the films without masks
and writes what it found for people to judge; films below a confidence are set
aside for them. The feed `pictures` of a later stage, whose data has the key
`pseudo`, trains on the others too.
"""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.data import lung_panels
from medzoo.data import sources
from medzoo.io import coco_masks
from medzoo.io import lung_masks
from medzoo.predictors import unet_votes
from medzoo.train import mapping

# What a pseudo stage leaves for the feed of a later one.
_KEPT = 'kept.json'
_CLASSES = dict(enumerate(lung_masks.CLASSES, 1))


def write(
  folder: pathlib.Path,
  outputs: Mapping[str, mapping.Output],
  cases: sources.Cases,
  min_confidence: float,
) -> int:
  """Writes what was found in films without masks.

  `coco.json` has the films that are kept and their lungs; `films.csv` of all
  films the confidence (`unet_votes.confidence`), whether it is kept and its
  picture of four panels in `panels/`.

  Args:
    folder: of the stage.
    outputs: with `lungs`, by case.
    cases: the films.
    min_confidence: below this a film is set aside.

  Returns:
    How many films are kept.
  """
  panels = folder / 'panels'
  panels.mkdir(parents=True, exist_ok=True)
  kept, objects, rows = [], [], []
  for index, key in enumerate(cases.keys):
    lungs = outputs[key].detections['lungs']
    confidence = unet_votes.confidence(lungs)
    is_kept = confidence >= min_confidence
    name = f'{index:06d}.png'
    rows.append((key, f'{confidence:.4f}', 'yes' if is_kept else 'no', name))
    pixels = lung_panels.draw(cases[index].volume, _masks(lungs))
    Image.fromarray(pixels).save(panels / name)
    if is_kept:
      kept.append(index)
      objects.append(
        coco_masks.Objects(
          coco_masks.encode(lungs.masks),
          lungs.corners,
          lungs.labels,
          lungs.scores,
        )
      )
  coco_masks.write_document(
    folder / 'coco.json',
    [cases.keys[i] for i in kept],
    [cases.grids[i].shape[1:] for i in kept],
    objects,
    _CLASSES,
  )
  with (folder / 'films.csv').open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(('film', 'confidence', 'kept', 'panels'))
    writer.writerows(rows)
  names = [cases.keys[i] for i in kept]
  (folder / _KEPT).write_text(json.dumps(names))
  return len(kept)


class Labelled(Sequence[types.Case]):
  """Films with masks, and those without with a pseudo stage's labels.

  Films that the stage set aside are left out.
  """

  def __init__(self, cases: sources.Cases, folder: pathlib.Path):
    """Lists films.

    Args:
      cases: with masks or without.
      folder: of the pseudo stage.
    """
    kept = set(json.loads((folder / _KEPT).read_text()))
    outputs = mapping.read_all(folder / 'outputs')
    self._found = {key: outputs[key].detections['lungs'] for key in kept}
    self._cases = cases.subset(
      [
        index
        for index, key in enumerate(cases.keys)
        if cases.outlined[index] or key in kept
      ]
    )

  def __len__(self) -> int:
    return len(self._cases)

  def __getitem__(self, index: int) -> types.Case:
    case = self._cases[index]
    if case.masks is not None:
      return case
    lungs = self._found[case.volume.series_uid]
    return dataclasses.replace(case, masks=_masks(lungs))


def split(cases: sources.Cases) -> tuple[sources.Cases, sources.Cases]:
  """Returns the films that have masks, and those that have none."""
  with_masks = np.array(cases.outlined, bool)
  return tuple(
    cases.subset(np.flatnonzero(part).tolist())
    for part in (with_masks, ~with_masks)
  )


def _masks(lungs: types.MaskDetections) -> types.Masks:
  return types.Masks(lungs.masks, lungs.labels)
