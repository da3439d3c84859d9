"""The report of boxes in whole frames, where there may be nothing to find.

Everything is read from the folder that a run leaves; only the frames that are
shown come from the dataset.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from medzoo.data import drawing
from medzoo.data import sources
from medzoo.metrics import average_precision
from medzoo.metrics import box_matches
from medzoo.metrics import froc_plot
from medzoo.report import figures as shared
from medzoo.report import labels
from medzoo.report import lung_plots
from medzoo.report import page

# Metrics of this protocol, also for reports that show others beside them.
NAMES = {
  'detection_f1': labels.Label(
    'F1 of boxes',
    'Harmonic mean of precision and recall of boxes on whole frames; a box is '
    'right where its intersection over union with a true one is 0.5 or more.',
  ),
  'detection_precision': labels.Label(
    'Precision of boxes', 'Share of the boxes that are right.'
  ),
  'detection_recall': labels.Label(
    'Recall of boxes', 'Share of the true boxes that were found.'
  ),
  'detection_f1_centre': labels.Label(
    'F1 of box centres',
    'The same as F1 of boxes, but a box is right where its centre lies on the '
    'object itself.',
  ),
  'false_alarms_per_clean_frame': labels.Label(
    'False alarms per clean frame',
    'Boxes in a frame without anything to find.',
    is_share=False,
  ),
}

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class _System:
  """What one system found in all frames.

  Attributes:
    found: of each frame, by falling score.
    there: of each frame.
    matches: of both.
    threshold: its own.
  """

  found: list[box_matches.Detections]
  there: list[box_matches.Truths]
  matches: box_matches.Matches
  threshold: float


def write(
  folder: pathlib.Path, results: dict[str, Any], cases: sources.Cases
) -> None:
  """Writes `report.html`.

  Args:
    folder: a work folder, or the output of an evaluation: `predictions/` with
      `coco.json` and `truth_coco.json`, each baseline's in a folder of its
      name; `metrics.jsonl` where there was training.
    results: what `results.json` is going to hold.
    cases: the frames that were scored.

  Raises:
    ValueError: `truth_coco.json` does not know a case.
  """
  page.write(
    folder / 'report.html',
    results,
    [
      *figures(
        folder, cases, results['threshold'], results.get('other_thresholds', {})
      ),
      shared.training(folder),
    ],
    [
      f'The operating threshold {results["threshold"]:.4f} was chosen on '
      'validation data, for the best F1.',
      'Intervals are over sequences of frames, which are not patients.',
    ],
    NAMES,
  )


def figures(
  folder: pathlib.Path,
  cases: sources.Cases,
  threshold: float,
  others: Mapping[str, float],
) -> list[page.Figure]:
  """Draws the curves, and frames with what was found and what there is.

  Args:
    folder: as `write` takes it.
    cases: the frames that were scored.
    threshold: the model's operating threshold.
    others: the baselines', by name.

  Raises:
    ValueError: `truth_coco.json` does not know a case.
  """
  predictions = folder / 'predictions'
  mine = _read(predictions, cases.keys, threshold)
  systems = {'This model': mine} | {
    labels.plain(name): _read(predictions / name, cases.keys, own)
    for name, own in others.items()
  }
  return [
    page.Figure(
      'Boxes at every threshold',
      _curves(systems),
      'Precision and recall of boxes over all frames, and recall against '
      'false alarms. The rings mark the operating thresholds.',
    ),
    *(
      page.Figure(title, _frames(cases, mine, order), caption)
      for title, order, caption in _chosen(mine)
    ),
  ]


def _read(
  folder: pathlib.Path, keys: Sequence[str], threshold: float
) -> _System:
  """Reads what a system found in each case, and what there is."""
  document = json.loads((folder / 'truth_coco.json').read_text())
  ids = {image['file_name']: image['id'] for image in document['images']}
  missing = [key for key in keys if key not in ids]
  if missing:
    raise ValueError(
      f'{folder / "truth_coco.json"}: found no frame {missing[0]}, expected '
      'all that were scored; score them again'
    )
  found = _by_image(json.loads((folder / 'coco.json').read_text()))
  there = _by_image(document['annotations'])
  detections, truths = [], []
  for key in keys:
    rows = sorted(found.get(ids[key], []), key=lambda row: -row['score'])
    scores = np.array([row['score'] for row in rows], float)
    detections.append(box_matches.Detections(_corners(rows), scores,
                                             _classes(rows)))  # fmt: skip
    rows = there.get(ids[key], [])
    nothing = np.zeros(len(rows), bool)
    truths.append(
      box_matches.Truths(_corners(rows), _classes(rows), nothing, nothing)
    )
  matches = box_matches.match(detections, truths)
  return _System(detections, truths, matches, threshold)


def _by_image(rows: Sequence[dict[str, Any]]) -> dict[int, list[dict]]:
  grouped: dict[int, list[dict]] = {}
  for row in rows:
    grouped.setdefault(row['image_id'], []).append(row)
  return grouped


def _corners(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  boxes = np.array([row['bbox'] for row in rows], float).reshape(-1, 4)
  x0, y0, width, height = boxes.T
  return np.stack([y0, x0, y0 + height, x0 + width], axis=1)


def _classes(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  return np.array([row['category_id'] for row in rows], int)


def _chosen(mine: _System) -> list[tuple[str, np.ndarray, str]]:
  """Returns title, frames and caption of every figure of frames."""
  numbers = np.arange(len(mine.found))
  hits, false, there = average_precision.count(mine.matches, mine.threshold).T
  surest = np.full((2, len(numbers)), -np.inf)
  for kind, wanted in enumerate((mine.matches.hit, ~mine.matches.hit)):
    wanted = wanted & (mine.matches.scores >= mine.threshold)
    np.maximum.at(
      surest[kind], mine.matches.image[wanted], mine.matches.scores[wanted]
    )
  best, wrong = surest
  missed = there - hits
  colours = 'Green: the truth; blue: right boxes; red: false alarms.'
  kinds = (
    ('The surest finds', numbers[hits > 0], (-best,), ''),
    ('The surest false alarms', numbers[false > 0], (-wrong,), ''),
    (
      'What was missed',
      numbers[missed > 0],
      # Frames in which the most was missed, of these those with the most
      # false alarms.
      (-false, -missed),
      ', the frames in which most was',
    ),
  )
  return [
    (
      title,
      able[np.lexsort([key[able] for key in by])][:_SHOWN],
      f'{len(able)} of {len(numbers)} frames have such{more}. {colours}',
    )
    for title, able, by, more in kinds
  ]


def _frames(
  cases: sources.Cases, mine: _System, order: Sequence[int]
) -> bytes | None:
  panels = []
  for i in np.asarray(order).tolist():
    found, there = mine.found[i], mine.there[i]
    hit = mine.matches.hit[mine.matches.image == i]
    # Matches have the highest scores alone, in this order too.
    sure = found.scores[: len(hit)] >= mine.threshold
    marks = [drawing.Marks(there.boxes, drawing.GREEN)]
    for kind, color in ((hit, drawing.BLUE), (~hit, drawing.RED)):
      index = np.flatnonzero(kind & sure)
      texts = [f'{found.scores[j]:.2f}' for j in index]
      marks.append(drawing.Marks(found.boxes[index], color, texts))
    words = (
      f'{len(there.labels)} to find, {(hit & sure).sum()} found, '
      f'{(~hit & sure).sum()} false'
    )
    panels.append(
      lung_plots.Panel(
        drawing.draw(cases[i].volume.voxels[0], marks),
        f'frame {i + 1} of {len(cases)}\n{words}',
      )
    )
  return lung_plots.films(panels)


def _curves(systems: Mapping[str, _System]) -> bytes | None:
  """Draws precision against recall, and recall against false alarms."""
  if not any(len(system.matches.scores) for system in systems.values()):
    return None
  figure = matplotlib.figure.Figure(figsize=(9.6, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  for (label, system), colour in zip(
    systems.items(), froc_plot.COLOURS, strict=False
  ):
    points = average_precision.curve(system.matches)
    if not len(points.thresholds):
      continue
    left.plot(points.recall, points.precision, color=colour, label=label)
    right.plot(points.false_positives, points.recall, color=colour)
    above = np.flatnonzero(points.thresholds >= system.threshold)[-1:]
    ring = {'marker': 'o', 'ms': 8, 'mfc': 'w', 'mec': colour, 'ls': ''}
    left.plot(points.recall[above], points.precision[above], **ring)
    right.plot(points.false_positives[above], points.recall[above], **ring)
  left.set(xlabel='Recall', ylabel='Precision', xlim=(0, 1.01))
  right.set(xlabel='False alarms per frame', ylabel='Recall')
  for axes in (left, right):
    axes.set_ylim(0, 1.02)
    axes.grid(color='#e4e4e7', lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
  figure.legend(loc='outside upper center', ncols=3, frameon=False)
  return froc_plot.to_png(figure)
