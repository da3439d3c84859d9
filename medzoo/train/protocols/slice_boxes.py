"""Scores boxes on the slices of scans, and the lesions that they make up.

Boxes are scored by COCO's rule over all slices of all cases, each slice being
an image; linked boxes, where slices have a spacing, also as lesions. What was
suppressed takes no part in a score. Intervals are over patients. A picture is
a case of one slice, with no lesion in the world.

A predictor gives `boxes` (`types.BoxDetections`) and the lesions they link up
to, `detections`; where it takes a second look, also the `first_boxes` and
`first_detections` of the first. Into `predictions/` go

* `coco.json` and `truth_coco.json`: boxes that are not suppressed and true
  boxes as pycocotools loads them; an image is called CASE/SLICE, and a true
  box on an ignored finding is a crowd;
* `luna16.csv` and the others of LUNA16: lesions and findings, see `nodules`;
* `curves.json`: of `coco`'s matching and TensorBox's `bipartite` one, lists of
  `thresholds`, `precision`, `recall` and `false_positives_per_image`, up to
  500 points each, null where undefined;
* `boxes.npz`: all that was found. `cases` are names; `boxes/case`, which of
  them, and `boxes/FIELD` for the fields of `types.BoxDetections`, suppressed
  ones among them; `lesions/case` and `lesions/FIELD` for those of
  `types.Detections`, into the rows of whose case `links` point.

Of cases without labels `predict` leaves `luna16.csv` of the scans, and
`coco.json` of all: here a document with images and classes, for there is no
truth beside it to name them. The threshold is one of boxes: pictures and
`coco.json` hold the boxes that reach it; a lesion's score, a mean of its boxes'
(`predictors.linking`), is held against the same number.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import drawing
from medzoo.data import slices
from medzoo.data import sources
from medzoo.io import coco
from medzoo.metrics import average_precision
from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches
from medzoo.metrics import lesion_boxes
from medzoo.metrics import luna16
from medzoo.train import mapping
from medzoo.train import predict
from medzoo.train.protocols import nodules

BASELINE_THRESHOLDS = True
VOTES = False
READS = ('scans', 'pictures')

_FIRST = 'first_'
_MAX_POINTS = 500
_NO_LESION = 'none of these cases has a lesion with a place in the world'
_NO_SLICE = 'every slice holds ignored findings only'

Outputs = Mapping[str, mapping.Output]


@dataclasses.dataclass(frozen=True)
class Truth:
  """What there is to find in a list of cases.

  Attributes:
    boxes: by case key, slice by slice.
    lengths: case key -> number of slices.
    lesions: the same findings as spheres in the world.
  """

  boxes: dict[str, types.Boxes]
  lengths: dict[str, int]
  lesions: nodules.Truth

  @property
  def keys(self) -> list[str]:
    """The cases, with and without boxes."""
    return list(self.boxes)

  @property
  def groups(self) -> dict[str, str]:
    """Case key -> patient pseudonym."""
    return self.lesions.groups

  @property
  def has_lesions(self) -> bool:
    """Whether there is a lesion with a place in the world."""
    return any(len(rows) for rows in self.lesions.annotations.values())


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers boxes and findings of cases.

  Raises:
    ValueError: a case has no outlines.
  """
  boxes = dict(zip(cases.keys, cases.boxes, strict=True))
  missing = [key for key, found in boxes.items() if found is None]
  if missing:
    raise ValueError(
      f'{len(missing)} of {len(boxes)} cases have no outlines, the first is '
      f'{missing[0]}: boxes on slices need a dataset that has them'
    )
  depths = [grid.shape[0] for grid in cases.grids]
  lengths = dict(zip(cases.keys, depths, strict=True))
  return Truth(boxes, lengths, nodules.read_truth(cases))


def merge(truths: Sequence[Truth]) -> Truth:
  """Joins the truths of several folds."""
  return Truth(
    {key: rows for truth in truths for key, rows in truth.boxes.items()},
    {key: n for truth in truths for key, n in truth.lengths.items()},
    nodules.merge([truth.lesions for truth in truths]),
  )


def choose_threshold(
  outputs: Outputs, truth: Truth, spec: Mapping[str, Any]
) -> float:
  """Returns the score of boxes at which F1 is best."""
  del spec
  return average_precision.choose_threshold(_match(_boxes(outputs), truth))


def score(
  outputs: Outputs,
  truth: Truth,
  threshold: float,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores `boxes` and the lesions of `detections`.

  Args:
    outputs: by case key.
    truth: of the same cases.
    threshold: scores of boxes so high or higher count.
    resamples: of the patients, how many make an interval.
    seed: of the resampling.

  Returns:
    `ap50`; at the threshold `precision`, `recall` and `accuracy`, the share of
    slices rightly called to hold a finding or none, without those that only
    hold ignored ones; and of lesions `froc_mean`, by LUNA16's hit rule, and
    `froc_mean_boxes`, by the overlap of boxes.
  """
  found, there = _found(_boxes(outputs), truth), _there(truth)
  groups = [truth.groups[key] for key in truth.keys]
  options = {'resamples': resamples, 'seed': seed}
  by_image = np.repeat(groups, [truth.lengths[key] for key in truth.keys])
  metrics = average_precision.metrics(
    found, there, by_image.tolist(), threshold, **options
  )
  index, num_groups = bootstrap.group_index(by_image.tolist())
  draws = bootstrap.draw(num_groups, **options)
  metrics['accuracy'] = _accuracy(found, there, threshold, index, draws)
  if not truth.has_lesions:
    none = _undefined(num_groups)
    return metrics | {'froc_mean': none, 'froc_mean_boxes': none}
  entries = luna16.metrics(
    _marks(outputs),
    None,
    truth.lesions.annotations,
    truth.lesions.excluded,
    truth.keys,
    groups=truth.groups,
    **options,
  )
  scans = [_scan(outputs[key], truth.boxes[key]) for key in truth.keys]
  by_boxes = lesion_boxes.evaluate(scans, groups=groups, **options)
  return metrics | {
    'froc_mean': entries['cpm'],
    'froc_mean_boxes': by_boxes['froc_mean_boxes'],
  }


def differences(
  outputs: Outputs,
  others: Outputs,
  truth: Truth,
  thresholds: tuple[float | None, float | None],
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Returns those of `ap50` and `froc_mean`, which know no threshold."""
  del thresholds
  options = {'resamples': resamples, 'seed': seed}
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  draws = bootstrap.draw(num_groups, **options)
  by_image = np.repeat(index, [truth.lengths[key] for key in truth.keys])
  pairs = []
  for system in (outputs, others):
    matches = _match(_boxes(system), truth)
    pairs += [
      average_precision.average_precision(matches),
      average_precision.resampled(matches, draws[:, by_image]),
    ]
  ap50 = bootstrap.difference(*pairs, num_groups)
  if not truth.has_lesions:
    return {'ap50': ap50, 'froc_mean': _undefined(num_groups)}
  froc_mean = luna16.cpm_difference(
    _marks(outputs),
    _marks(others),
    truth.lesions.annotations,
    truth.lesions.excluded,
    truth.keys,
    groups=truth.groups,
    **options,
  )
  return {'ap50': ap50, 'froc_mean': froc_mean}


def ablated(outputs: Outputs) -> dict[str, Outputs]:
  """Returns `first_outputs`: what was said before the second look."""
  if not all(f'{_FIRST}boxes' in o.detections for o in outputs.values()):
    return {}
  first = {
    key: dataclasses.replace(
      output,
      detections={
        name.removeprefix(_FIRST): found
        for name, found in output.detections.items()
        if name.startswith(_FIRST)
      },
    )
    for key, output in outputs.items()
  }
  return {'first_outputs': first}


def objective(
  cases: sources.Cases, found: Sequence[types.BoxDetections]
) -> float:
  """Returns the AP50 of boxes, one set a case; NaN without a true box."""
  boxes = dict(zip(cases.keys, found, strict=True))
  return average_precision.average_precision(_match(boxes, read_truth(cases)))


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: Any
) -> None:
  """Writes the files that the module's docstring lists."""
  # Everything is written, whatever its score.
  del threshold
  folder.mkdir(parents=True, exist_ok=True)
  nodules.write_predictions(folder, outputs, truth.lesions, None)
  found, there = _found(_boxes(outputs), truth), _there(truth)
  rows = _columns(found)
  coco.write_results(
    folder / 'coco.json',
    rows['image'],
    rows['boxes'],
    rows['labels'],
    rows['scores'],
  )
  rows = _columns(there)
  coco.write_truth(
    folder / 'truth_coco.json',
    [f'{key}/{z}' for key in truth.keys for z in range(truth.lengths[key])],
    rows['image'],
    rows['boxes'],
    rows['labels'],
    rows['crowd'],
  )
  curves = {
    'coco': _curve(box_matches.match(found, there)),
    'bipartite': _curve(box_matches.match_bipartite(found, there)),
  }
  text = json.dumps(curves, allow_nan=False)
  (folder / 'curves.json').write_text(text + '\n')
  _write_boxes(folder / 'boxes.npz', outputs, truth)


def describe(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> dict[str, Any]:
  """Returns the lesions of a scan, world mm, or the boxes of a picture.

  The threshold is one of boxes, so a lesion counts if one of its boxes does;
  its own score is smaller. Boxes of a picture are x0, y0, x1, y1, half-open,
  in pixels as stored.
  """
  found = output.detections['boxes']
  sure = _sure(found, model)
  if volume.spacing[0] is not None:
    lesions = np.unique(found.links[sure])
    return nodules.list_lesions(output.detections['detections'], lesions, model)
  corners = found.corners[sure][:, [1, 0, 3, 2]].tolist()
  return {
    'frame': 'pixels',
    'detections': [
      {
        **dict(zip(('x0', 'y0', 'x1', 'y1'), place, strict=True)),
        'score': float(found.scores[i]),
        'class': model.class_name(int(found.labels[i])),
      }
      for i, place in zip(sure, corners, strict=True)
    ],
  }


def draw(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields the slices that have a box, as the network saw them.

  Boxes that count are green, those that stitching suppressed, red; both only
  at or above the threshold.
  """
  found = output.detections['boxes']
  numbers = np.unique(found.slices[_sure(found, model)])
  if not len(numbers):
    return
  stack = slices.prepare(volume, **model.config['preprocess'])
  corners = stack.to_pixels(found.corners)
  for number in numbers.tolist():
    mine = (found.slices == number) & (found.scores >= model.threshold)
    marks = []
    for kind, color in ((True, drawing.RED), (False, drawing.GREEN)):
      index = np.flatnonzero(mine & (found.suppressed == kind))
      texts = [_text(found, i, model) for i in index]
      marks.append(drawing.Marks(corners[index], color, texts))
    yield number, drawing.draw(stack.pixels[number], marks)


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `coco.json`, and `luna16.csv` where there is a scan.

  In `coco.json` a slice is called CASE/SLICE, a picture by its file's name.
  """
  names, rows = [], []
  for key, grid in grids.items():
    found = outputs[key].detections['boxes']
    sure = _sure(found, model)
    numbers = len(names) + found.slices[sure]
    rows.append(
      (numbers, found.corners[sure], found.labels[sure], found.scores[sure])
    )
    slices_of = [f'{key}/{z}' for z in range(grid.shape[0])]
    names += [key] if grid.is_picture else slices_of
  images, corners, labels, scores = map(np.concatenate, zip(*rows, strict=True))
  ids = {*range(1, len(model.classes) + 1), *labels.tolist()}
  coco.write_found(
    folder / 'coco.json',
    names,
    images,
    corners,
    labels,
    scores,
    {label: model.class_name(label) for label in sorted(ids)},
  )
  scans = {key: outputs[key] for key, x in grids.items() if not x.is_picture}
  if not scans:
    return ['coco.json']
  return ['coco.json', *nodules.write_found(folder, scans, grids, model)]


def _sure(found: types.BoxDetections, model: predict.Model) -> np.ndarray:
  """Returns the indices of the boxes that count."""
  return np.flatnonzero(~found.suppressed & (found.scores >= model.threshold))


def _text(found: types.BoxDetections, i: int, model: predict.Model) -> str:
  score = f'{found.scores[i]:.2f}'
  if len(model.classes) < 2:
    return score
  return f'{model.class_name(int(found.labels[i]))} {score}'


def _boxes(outputs: Outputs) -> dict[str, types.BoxDetections]:
  return {key: output.detections['boxes'] for key, output in outputs.items()}


def _marks(outputs: Outputs) -> dict[str, np.ndarray]:
  return nodules.marks_of(outputs, 'detections')


def _match(
  boxes: Mapping[str, types.BoxDetections], truth: Truth
) -> box_matches.Matches:
  return box_matches.match(_found(boxes, truth), _there(truth))


def _found(
  boxes: Mapping[str, types.BoxDetections], truth: Truth
) -> list[box_matches.Detections]:
  """Returns what was found on every slice of every case, in order."""
  images = []
  for key in truth.keys:
    one = boxes[key]
    for kept in _by_slice(one.slices, ~one.suppressed, truth.lengths[key]):
      images.append(
        box_matches.Detections(
          one.corners[kept], one.scores[kept], one.labels[kept]
        )
      )
  return images


def _there(truth: Truth) -> list[box_matches.Truths]:
  """Returns what there is on every slice of every case, in order."""
  images = []
  for key, one in truth.boxes.items():
    everything = np.ones(len(one), bool)
    for kept in _by_slice(one.slices, everything, truth.lengths[key]):
      images.append(
        box_matches.Truths(
          one.corners[kept],
          one.labels[kept],
          np.zeros(len(kept), bool),
          one.ignored[kept],
        )
      )
  return images


def _by_slice(
  slices: np.ndarray, kept: np.ndarray, length: int
) -> list[np.ndarray]:
  """Returns, of each of `length` slices, the indices of what is kept."""
  index = np.flatnonzero(kept)
  index = index[np.argsort(slices[index], kind='stable')]
  return np.split(index, np.searchsorted(slices[index], np.arange(1, length)))


def _accuracy(
  found: Sequence[box_matches.Detections],
  there: Sequence[box_matches.Truths],
  threshold: float,
  index: np.ndarray,
  draws: np.ndarray,
) -> dict[str, Any]:
  called = np.array([(image.scores >= threshold).any() for image in found])
  holds = np.array([(~image.crowd).any() for image in there])
  counted = holds | np.array([not image.crowd.any() for image in there])
  right = (called == holds) & counted
  return bootstrap.ratio(right, counted, index, draws, _NO_SLICE)


def _undefined(num_groups: int) -> dict[str, Any]:
  return bootstrap.entry(np.nan, np.zeros(0), num_groups, _NO_LESION)


def _scan(output: mapping.Output, there: types.Boxes) -> lesion_boxes.Scan:
  """Returns lesions and findings as boxes in three dimensions."""
  boxes, lesions = output.detections['boxes'], output.detections['detections']
  numbers = np.where(boxes.suppressed, -1, boxes.links)
  found, linked = lesion_boxes.bound(boxes.slices, boxes.corners, numbers)
  numbers = np.where(there.ignored, -1, there.findings)
  _, truths = lesion_boxes.bound(there.slices, there.corners, numbers)
  return lesion_boxes.Scan(truths, linked, lesions.scores[found])


def _curve(matches: box_matches.Matches) -> dict[str, list[float | None]]:
  points = average_precision.curve(matches)
  points = average_precision.thinned(points, _MAX_POINTS)
  columns = {
    'thresholds': points.thresholds,
    'precision': points.precision,
    'recall': points.recall,
    'false_positives_per_image': points.false_positives,
  }
  return {
    name: [float(v) if np.isfinite(v) else None for v in values]
    for name, values in columns.items()
  }


def _columns(
  images: Sequence[box_matches.Detections] | Sequence[box_matches.Truths],
) -> dict[str, np.ndarray]:
  """Joins the rows of all images; `image` says which each is of."""
  sizes = [len(image.labels) for image in images]
  joined = {'image': np.repeat(np.arange(len(images)), sizes)}
  for field in dataclasses.fields(images[0]):
    columns = [getattr(image, field.name) for image in images]
    joined[field.name] = np.concatenate(columns)
  return joined


def _write_boxes(path: pathlib.Path, outputs: Outputs, truth: Truth) -> None:
  """Writes everything that was found."""
  arrays = {'cases': np.array(truth.keys, str)}
  for title, name in (('boxes', 'boxes'), ('lesions', 'detections')):
    parts = [outputs[key].detections[name] for key in truth.keys]
    sizes = [len(part) for part in parts]
    arrays[f'{title}/case'] = np.repeat(np.arange(len(parts)), sizes)
    for field in dataclasses.fields(parts[0]):
      columns = [getattr(part, field.name) for part in parts]
      arrays[f'{title}/{field.name}'] = np.concatenate(columns)
  np.savez_compressed(path, **arrays)
