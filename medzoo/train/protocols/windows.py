"""Scores boxes in whole frames, where there may be nothing to find.

A predictor gives `windows` (`types.BoxDetections`); each mask of a frame is one
object, and its true box the one that the mask fills. `metrics.picture_boxes`
says what counts. Intervals are over groups, sequences of a video say. Into
`predictions/` go

* `coco.json` and `truth_coco.json`: boxes of any score, and true boxes with
  their masks, as pycocotools loads them.

Of frames without labels `predict` leaves `coco.json`, here a document with
images and classes, with the boxes that reach the threshold; of videos see
`train.videos`.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import drawing
from medzoo.data import sources
from medzoo.io import coco
from medzoo.io import coco_masks
from medzoo.metrics import bootstrap
from medzoo.metrics import box_matches
from medzoo.metrics import picture_boxes
from medzoo.train import mapping
from medzoo.train import predict

BASELINE_THRESHOLDS = True
VOTES = False
READS = ('pictures', 'videos')

_CLASSES = {1: 'polyp'}

Outputs = Mapping[str, mapping.Output]


@dataclasses.dataclass(frozen=True)
class Frame:
  """What there is in one frame.

  Attributes:
    objects: run lengths and boxes.
    shape: (h, w) of the frame.
    group: pseudonym of the sequence or the patient.
  """

  objects: coco_masks.Objects
  shape: tuple[int, int]
  group: str


@dataclasses.dataclass(frozen=True)
class Truth:
  """What there is to find in a list of frames.

  Attributes:
    frames: by case key.
  """

  frames: dict[str, Frame]

  @property
  def keys(self) -> list[str]:
    """The cases, with and without objects."""
    return list(self.frames)

  @property
  def groups(self) -> dict[str, str]:
    """Case key -> pseudonym."""
    return {key: frame.group for key, frame in self.frames.items()}


def read_truth(cases: sources.Cases) -> Truth:
  """Gathers the objects of cases, which are decoded one by one.

  Raises:
    ValueError: a case has no masks, or masks of several classes.
  """
  frames = {}
  for i, key in enumerate(cases.keys):
    case = cases[i]
    if case.masks is None:
      raise ValueError(
        f'{key}: found no masks, expected those of all polyps, none where a '
        'frame is clean'
      )
    labels = case.masks.labels
    if not set(labels) <= set(_CLASSES):
      raise ValueError(
        f'{key}: found masks of the classes {labels.tolist()}, expected 1, '
        'polyps, alone'
      )
    there = np.flatnonzero(case.masks.masks.any(axis=(1, 2)))
    rles = coco_masks.encode(case.masks.masks[there])
    objects = coco_masks.Objects(rles, coco_masks.bounds(rles), labels[there])
    frames[key] = Frame(objects, case.volume.grid.shape[1:], case.group)
  return Truth(frames)


def merge(truths: Sequence[Truth]) -> Truth:
  """Joins the truths of several folds."""
  return Truth(
    {key: frame for truth in truths for key, frame in truth.frames.items()}
  )


def choose_threshold(
  outputs: Outputs, truth: Truth, spec: Mapping[str, Any]
) -> float:
  """Returns the score of boxes at which F1 is best."""
  del spec
  return picture_boxes.choose(match(_windows(outputs), truth))


def score(
  outputs: Outputs,
  truth: Truth,
  threshold: float,
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Scores `windows`.

  Args:
    outputs: by case key.
    truth: of the same cases.
    threshold: boxes scored so high or higher count.
    resamples: of the groups, how many make an interval.
    seed: of the resampling.

  Returns:
    The entries of `metrics.picture_boxes.metrics`.
  """
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  matches = match(_windows(outputs), truth)
  return picture_boxes.metrics(matches, threshold, index, draws)


def differences(
  outputs: Outputs,
  others: Outputs,
  truth: Truth,
  thresholds: tuple[float, float],
  *,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Returns those of `detection_f1` and `detection_f1_centre`."""
  index, num_groups = bootstrap.group_index(truth.keys, truth.groups)
  return picture_boxes.differences(
    match(_windows(outputs), truth),
    thresholds[0],
    match(_windows(others), truth),
    thresholds[1],
    index,
    bootstrap.draw(num_groups, resamples=resamples, seed=seed),
  )


def ablated(outputs: Outputs) -> dict[str, Outputs]:
  """Returns {}: the predictor has no part that it can do without."""
  del outputs
  return {}


def objective(
  cases: sources.Cases, found: Sequence[types.BoxDetections]
) -> float:
  """Returns F1 of boxes of any score, one set a case."""
  windows = dict(zip(cases.keys, found, strict=True))
  return picture_boxes.f1(match(windows, read_truth(cases))['iou'], -np.inf)


def match(
  found: Mapping[str, types.BoxDetections], truth: Truth
) -> dict[str, box_matches.Matches]:
  """Matches boxes with the truth by both rules of `metrics.picture_boxes`.

  Args:
    found: by case key.
    truth: of the same cases.
  """
  detections, truths, inside = [], [], []
  for key, frame in truth.frames.items():
    one, objects = found[key], frame.objects
    detections.append(
      box_matches.Detections(one.corners, one.scores, one.labels)
    )
    nothing = np.zeros(len(objects.labels), bool)
    truths.append(
      box_matches.Truths(objects.corners, objects.labels, nothing, nothing)
    )
    masks = coco_masks.decode(objects.rles, frame.shape)
    inside.append(picture_boxes.centres_inside(one.corners, masks))
  return picture_boxes.match(detections, truths, inside)


def write_predictions(
  folder: pathlib.Path, outputs: Outputs, truth: Truth, threshold: float
) -> None:
  """Writes the files that the module's docstring lists."""
  del threshold
  folder.mkdir(parents=True, exist_ok=True)
  windows = _windows(outputs)
  coco.write_results(
    folder / 'coco.json', *_columns([windows[key] for key in truth.keys])
  )
  coco_masks.write_document(
    folder / 'truth_coco.json',
    truth.keys,
    [frame.shape for frame in truth.frames.values()],
    [frame.objects for frame in truth.frames.values()],
    _CLASSES,
  )


def describe(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> dict[str, Any]:
  """Returns the boxes of a frame: x0, y0, x1, y1, half-open, in pixels."""
  del volume
  found = _sure(output, model)
  corners = found.corners[:, [1, 0, 3, 2]].tolist()
  return {
    'frame': 'pixels',
    'detections': [
      {
        **dict(zip(('x0', 'y0', 'x1', 'y1'), place, strict=True)),
        'score': float(value),
        'class': model.class_name(int(label)),
      }
      for place, value, label in zip(
        corners, found.scores, found.labels, strict=True
      )
    ],
  }


def draw(
  output: mapping.Output, volume: types.Volume, model: predict.Model
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields the frame with its boxes and their scores, or without any."""
  found = _sure(output, model)
  texts = [f'{value:.2f}' for value in found.scores]
  marks = [drawing.Marks(found.corners, drawing.GREEN, texts)]
  yield 0, drawing.draw(volume.voxels[0], marks)


def write_found(
  folder: pathlib.Path,
  outputs: Outputs,
  grids: Mapping[str, types.Grid],
  model: predict.Model,
) -> list[str]:
  """Writes `coco.json`; an image is called by its file's name."""
  columns = _columns([_sure(outputs[key], model) for key in grids])
  classes = {label: model.class_name(label) for label in _CLASSES}
  coco.write_found(folder / 'coco.json', list(grids), *columns, classes)
  return ['coco.json']


def _windows(outputs: Outputs) -> dict[str, types.BoxDetections]:
  return {key: output.detections['windows'] for key, output in outputs.items()}


def _sure(output: mapping.Output, model: predict.Model) -> types.BoxDetections:
  """Returns the boxes that count."""
  found = output.detections['windows']
  kept = found.scores >= model.threshold
  return types.BoxDetections(
    *(getattr(found, field.name)[kept] for field in dataclasses.fields(found))
  )


def _columns(frames: Sequence[types.BoxDetections]) -> tuple[np.ndarray, ...]:
  """Returns image number, corners, label and score of every box."""
  numbers = np.repeat(np.arange(len(frames)), [len(each) for each in frames])
  return numbers, *(
    np.concatenate([getattr(each, name) for each in frames])
    for name in ('corners', 'labels', 'scores')
  )
