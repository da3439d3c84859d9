"""Scores the outlines of the two lungs in chest X-rays.

A predictor gives `lungs` (`types.MaskDetections`), at most one instance of
each class. `metrics.lung_masks` says what counts. The threshold applies to all
but `box_ap` and `mask_ap`, which are COCO's, the mean over IoUs of 0.5 to 0.95,
of boxes and masks; the true box is the one that the mask fills. Intervals are
over patients. Into `predictions/` go

* `coco.json` and `truth_coco.json`: instances of any score and true lungs as
  pycocotools loads them, with boxes and masks;
* `masks/CASE.png`: instances of any score as a label image, 1 the right lung,
  2 the left; where two overlap, the surer one.

Of films without labels `predict` leaves in `masks/` and in `coco.json`, here a
document with images and classes, the instances that reach the threshold; and
`lungs.csv`, with the areas of the lungs and the left one's over the right's.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.data import outlines
from medzoo.data import sources
from medzoo.io import coco_masks
from medzoo.metrics import average_precision
from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches
from medzoo.metrics import lung_masks
from medzoo.train import mapping
from medzoo.train import predict

BASELINE_THRESHOLDS = True
VOTES = True
READS = ('films',)

_SIDE = 1024
_CLASSES = {label: f'{side} lung' for side, label in lung_masks.SIDES.items()}
_COLUMNS = (
  'case',
  *(f'{side}_{what}' for side in lung_masks.SIDES
    for what in ('score', 'area_px', 'area_mm2')),
  'left_right_ratio',
)  # fmt: skip

Outputs = Mapping[str, mapping.Output]


@dataclasses.dataclass(frozen=True)
class Film:
  """What there is in one film.

  Attributes:
    objects: the lungs, as run lengths: films can be large.
    grid: the film's size.
    group: pseudonym of the patient.
  """

  objects: coco_masks.Objects
  grid: types.Grid
  group: str

  @property
  def masks(self) -> types.Masks:
    """The lungs pixel by pixel."""
    masks = coco_masks.decode(self.objects.rles, self.grid.shape[1:])
    return types.Masks(masks, self.objects.labels)


@dataclasses.dataclass(frozen=True)
class Truth:
  """What there is to find in a list of films.

  Attributes:
    films: by case key.
  """

  films: dict[str, Film]

  @property
  def keys(self) -> list[str]:
    """The cases."""
    return list(self.films)

  @property
  def groups(self) -> dict[str, str]:
    """Case key -> patient pseudonym."""
    return {key: film.group for key, film in self.films.items()}


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers the lungs of cases, which are decoded one by one.

  Raises:
    ValueError: a case has no masks, or its classes are not the two lungs.
  """
  films = {}
  for i, key in enumerate(cases.keys):
    case = cases[i]
    if case.masks is None:
      raise ValueError(
        f'{key}: found no masks, expected those of the lungs; leave films that '
        'nobody has outlined out of this split'
      )
    labels = case.masks.labels
    if len(set(labels)) < len(labels) or not set(labels) <= set(_CLASSES):
      raise ValueError(
        f'{key}: found masks of the classes {labels.tolist()}, expected 1, the '
        'right lung, and 2, the left one, at most once each'
      )
    there = np.flatnonzero(case.masks.masks.any(axis=(1, 2)))
    rles = coco_masks.encode(case.masks.masks[there])
    objects = coco_masks.Objects(rles, coco_masks.bounds(rles), labels[there])
    films[key] = Film(objects, case.volume.grid, case.group)
  return Truth(films)


def merge(truths: Sequence[Truth]) -> Truth:
  """Joins the truths of several folds."""
  return Truth(
    {key: film for truth in truths for key, film in truth.films.items()}
  )


def choose_threshold(
  outputs: Outputs, truth: Truth, spec: Mapping[str, Any]
) -> float:
  """Returns the threshold at which lungs agree best with the truth.

  See `metrics.lung_masks.agreement`.
  """
  del spec
  return lung_masks.choose_threshold(_compare(_lungs(outputs), truth))


def score(
  outputs: Outputs,
  truth: Truth,
  threshold: float,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores `lungs`.

  Args:
    outputs: by case key.
    truth: of the same cases.
    threshold: instances scored so high or higher count.
    resamples: of the patients, how many make an interval.
    seed: of the resampling.

  Returns:
    The entries of `metrics.lung_masks.metrics`, `box_ap` and `mask_ap`.
  """
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  lungs = _compare(_lungs(outputs), truth)
  metrics = lung_masks.metrics(lungs, threshold, index, draws)
  found = [_objects(outputs[key].detections['lungs']) for key in truth.keys]
  there = [film.objects for film in truth.films.values()]
  rows = (
    [box_matches.Detections(x.corners, x.scores, x.labels) for x in found],
    [box_matches.Truths(x.corners, x.labels, *_none(x)) for x in there],
  )
  overlaps = [
    coco_masks.overlaps(one.rles, other.rles)
    for one, other in zip(found, there, strict=True)
  ]
  for name, by in (('box_ap', None), ('mask_ap', overlaps)):
    matches = average_precision.match_at_all(*rows, by)
    metrics[name] = average_precision.entry(matches, index, draws)
  return metrics


def differences(
  outputs: Outputs,
  others: Outputs,
  truth: Truth,
  thresholds: tuple[float, float],
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Returns those of `dice_right`, `dice_left` and `both_lungs_found`."""
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  return lung_masks.differences(
    _compare(_lungs(outputs), truth),
    thresholds[0],
    _compare(_lungs(others), truth),
    thresholds[1],
    index,
    bootstrap.draw(num_groups, resamples=resamples, seed=seed),
  )


def ablated(outputs: Outputs) -> dict[str, Outputs]:
  """Returns {}: the predictor has no part that it can do without."""
  del outputs
  return {}


def objective(
  cases: sources.Cases, found: Sequence[types.MaskDetections]
) -> float:
  """Returns the mean agreement of all that was found, one set a case."""
  truth = read_truth(cases)
  lungs = _compare(dict(zip(cases.keys, found, strict=True)), truth)
  return float(lung_masks.agreement(lungs, -np.inf).mean())


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: Any
) -> None:
  """Writes the files that the module's docstring lists."""
  # Everything is written, whatever its score.
  del threshold
  folder.mkdir(parents=True, exist_ok=True)
  found = {key: outputs[key].detections['lungs'] for key in truth.keys}
  coco_masks.write_results(
    folder / 'coco.json', [_objects(lungs) for lungs in found.values()]
  )
  coco_masks.write_document(
    folder / 'truth_coco.json',
    truth.keys,
    [film.grid.shape[1:] for film in truth.films.values()],
    [film.objects for film in truth.films.values()],
    _CLASSES,
  )
  for key, lungs in found.items():
    _write_labels(folder, key, lungs, truth.films[key].grid)


def describe(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> dict[str, Any]:
  """Returns the lungs of a film.

  Boxes are x0, y0, x1, y1, half-open, in pixels as stored; `area_mm2` is null
  where the film's spacing is not known.
  """
  found = _sure(output.detections['lungs'], model)
  rows = []
  for i, corners in enumerate(found.corners[:, [1, 0, 3, 2]].tolist()):
    pixels, area = _areas(found.masks[i], volume.grid)
    rows.append(
      {
        **dict(zip(('x0', 'y0', 'x1', 'y1'), corners, strict=True)),
        'score': float(found.scores[i]),
        'class': model.class_name(int(found.labels[i])),
        'area_px': pixels,
        'area_mm2': area,
      }
    )
  return {'frame': 'pixels', 'detections': rows}


def draw(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields the film with the outlines of its lungs and their scores."""
  found = _sure(output.detections['lungs'], model)
  marks = [
    outlines.Outline(
      found.masks[i],
      outlines.LUNG_COLORS[int(label)],
      f'{model.class_name(int(label))} {found.scores[i]:.2f}',
    )
    for i, label in enumerate(found.labels)
  ]
  yield 0, outlines.draw(volume, marks, _SIDE)


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `coco.json`, `lungs.csv` and, in `masks/`, label images."""
  found = {key: _sure(outputs[key].detections['lungs'], model) for key in grids}
  coco_masks.write_document(
    folder / 'coco.json',
    list(grids),
    [grid.shape[1:] for grid in grids.values()],
    [_objects(lungs) for lungs in found.values()],
    {label: model.class_name(label) for label in _CLASSES},
  )
  with (folder / 'lungs.csv').open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(_COLUMNS)
    for key, lungs in found.items():
      writer.writerow(_row(key, lungs, grids[key]))
  for key, lungs in found.items():
    _write_labels(folder, key, lungs, grids[key])
  return ['coco.json', 'lungs.csv', predict.MASKS]


def _lungs(outputs: Outputs) -> dict[str, types.MaskDetections]:
  return {key: output.detections['lungs'] for key, output in outputs.items()}


def _compare(
  found: Mapping[str, types.MaskDetections], truth: Truth
) -> lung_masks.Lungs:
  return lung_masks.stack(
    [
      lung_masks.compare(film.masks, found[key], film.grid.spacing)
      for key, film in truth.films.items()
    ]
  )


def _objects(found: types.MaskDetections) -> coco_masks.Objects:
  return coco_masks.Objects(
    coco_masks.encode(found.masks),
    np.asarray(found.corners, float).reshape(-1, 4),
    found.labels,
    np.asarray(found.scores, float),
  )


def _none(objects: coco_masks.Objects) -> tuple[np.ndarray, np.ndarray]:
  """Returns that no object is ignored, and that none is a crowd."""
  return (np.zeros(len(objects.labels), bool),) * 2


def _sure(
  found: types.MaskDetections, model: predict.Model
) -> types.MaskDetections:
  """Returns the instances that count."""
  kept = (found.scores >= model.threshold) & found.masks.any(axis=(1, 2))
  return types.MaskDetections(
    *(getattr(found, field.name)[kept] for field in dataclasses.fields(found))
  )


def _areas(mask: np.ndarray, grid: types.Grid) -> tuple[int, float | None]:
  """Returns the area of a mask in pixels and, where it is known, in mm2."""
  pixels, (y, x) = int(np.count_nonzero(mask)), grid.spacing[1:]
  return pixels, None if y is None or x is None else pixels * y * x


def _row(key: str, lungs: types.MaskDetections, grid: types.Grid) -> list[Any]:
  """Returns a film's row of `lungs.csv`; what is not known is empty."""
  row, pixels = [key], {}
  for side, label in lung_masks.SIDES.items():
    index = np.flatnonzero(lungs.labels == label)
    if not len(index):
      row += ['', '', '']
      continue
    pixels[side], area = _areas(lungs.masks[index[0]], grid)
    shown = '' if area is None else f'{area:.1f}'
    row += [f'{lungs.scores[index[0]]:.4f}', pixels[side], shown]
  both = len(pixels) == 2
  return [*row, f'{pixels["left"] / pixels["right"]:.4f}' if both else '']


def _write_labels(
  folder: pathlib.Path, key: str, lungs: types.MaskDetections, grid: types.Grid
) -> None:
  """Writes the label image of a film."""
  labels = np.zeros(grid.shape[1:], np.uint8)
  for i in np.argsort(lungs.scores, kind='stable'):
    labels[lungs.masks[i]] = lungs.labels[i]
  path = folder / predict.MASKS / f'{predict.file_name(key)}.png'
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(labels).save(path)
