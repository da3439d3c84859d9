"""The report of boxes on slices that an LSTM wrote one by one.

Everything is read from the folder that a run leaves; only the pictures of the
slices need the dataset. Where every case is a single picture, pictures take
the place of a scan's slices, and there are no lesions to link.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.data import slices
from medzoo.data import sources
from medzoo.metrics import box_matches
from medzoo.report import box_plots
from medzoo.report import figures
from medzoo.report import labels
from medzoo.report import page
from medzoo.report import viewer

_VIEW = {
  'shape': (192, 264),
  'pixel_mm': 0.7,
  'window': {'name': 'window', 'low': -1000.0, 'high': 400.0},
  'region': 'lung',
}
# Pictures that are no scans are shown one by one, and may hold finer things.
_PICTURE_VIEW = _VIEW | {'shape': (384, 384)}
_QUALITY = 75
# Of one scan: with three scans a page stays below 6 MB.
_MOST_FRAMES = 100
_ORDER_PANELS = 6
_OUTCOMES = ('hit', 'false positive', 'ignored')
_NO_BOXES = types.Boxes(
  np.zeros(0, np.int32),
  np.zeros((0, 4)),
  np.zeros(0, np.int32),
  np.zeros(0, bool),
  np.zeros(0, np.int32),
)
# By the same name nodules' reports mean lesions.
_NAMES = {
  'recall': labels.Label(
    'Recall at the threshold',
    'Share of the true boxes that were found, at the same threshold.',
  )
}


@dataclasses.dataclass(frozen=True)
class _Scored:
  """What there is on the slices of a case, and what was found.

  Attributes:
    truth: with ignored findings.
    found: at the threshold and above; accepted first, then suppressed.
    outcomes: (accepted,) 'hit', 'false positive' or 'ignored'.
  """

  truth: types.Boxes
  found: types.BoxDetections
  outcomes: np.ndarray

  def number(self, outcome: str) -> int:
    return int((self.outcomes == outcome).sum())

  @property
  def num_true(self) -> int:
    return int((~self.truth.ignored).sum())

  @property
  def accepted(self) -> types.BoxDetections:
    return _take(self.found, np.arange(len(self.outcomes)))


def write(
  folder: pathlib.Path, results: dict[str, Any], cases: sources.Cases
) -> None:
  """Writes `report.html`.

  Args:
    folder: a work folder, or the output of an evaluation: `predictions/` with
      `boxes.npz`, `curves.json` and, of scans, LUNA16's tables of the linked
      lesions; `metrics.jsonl` where there was training.
    results: what `results.json` is going to hold.
    cases: the scans or pictures that were scored.

  Raises:
    ValueError: `boxes.npz` does not know a case.
  """
  predictions, threshold = folder / 'predictions', results['threshold']
  curves = json.loads((predictions / 'curves.json').read_text())
  found = _read(predictions / 'boxes.npz', cases.keys)
  scored = [
    _score(truth or _NO_BOXES, each, threshold)
    for truth, each in zip(cases.boxes, found, strict=True)
  ]
  num_steps = 1 + max((each.steps.max(initial=0) for each in found), default=0)
  pictures = all(grid.shape[0] == 1 for grid in cases.grids)
  page.write(
    folder / 'report.html',
    results,
    [
      page.Figure(
        'Precision and recall of boxes',
        box_plots.precision_recall(curves, threshold),
        f'Over all {"pictures" if pictures else "slices"} of the split. The '
        f'rings mark the operating threshold {labels.number(threshold)}; what '
        'holds there is in the legend.',
      ),
      _viewer(cases, scored, pictures),
      _order(cases, scored, num_steps, pictures),
      _steps(scored, num_steps),
      *([] if pictures else [figures.froc(predictions, results, cases)]),
      figures.training(folder),
    ],
    _notes(results),
    _NAMES,
  )


def _read(path: pathlib.Path, keys: Sequence[str]) -> list[types.BoxDetections]:
  """Reads what was found in each case."""
  with np.load(path) as arrays:
    names, case = arrays['cases'].tolist(), arrays['boxes/case']
    found = types.BoxDetections(
      *(
        arrays[f'boxes/{field.name}']
        for field in dataclasses.fields(types.BoxDetections)
      )
    )
  return [_take(found, case == names.index(key)) for key in keys]


def _take(rows: types.BoxDetections, index: np.ndarray) -> types.BoxDetections:
  return types.BoxDetections(*(column[index] for column in vars(rows).values()))


def _score(
  truth: types.Boxes, found: types.BoxDetections, threshold: float
) -> _Scored:
  """Sorts what was found into hits and more, by the COCO rule."""
  sure = found.scores >= threshold
  # The order of the matches, the suppressed behind.
  order = np.lexsort(
    (-found.scores, found.labels, found.slices, found.suppressed)
  )
  found = _take(found, order[sure[order]])
  accepted = ~found.suppressed
  used = np.unique(found.slices[accepted])
  if not len(used):
    return _Scored(truth, found, np.zeros(0, str))
  detections, truths = [], []
  for number in used:
    mine = accepted & (found.slices == number)
    detections.append(
      box_matches.Detections(
        found.corners[mine], found.scores[mine], found.labels[mine]
      )
    )
    mine = truth.slices == number
    truths.append(
      box_matches.Truths(
        truth.corners[mine],
        truth.labels[mine],
        np.zeros(mine.sum(), bool),
        truth.ignored[mine],
      )
    )
  matches = box_matches.match(detections, truths, max_detections=len(accepted))
  outcomes = np.where(matches.ignored, 'ignored', 'false positive')
  return _Scored(truth, found, np.where(matches.hit, 'hit', outcomes))


def _viewer(
  cases: sources.Cases, scored: Sequence[_Scored], pictures: bool
) -> viewer.Viewer:
  if pictures:
    scans = [_pictures(cases, scored)] if len(cases) else []
  else:
    scans = [
      _scan(cases[i].volume, scored[i], title, _classes(scored))
      for i, title in _shown(cases, scored)
    ]
  return viewer.Viewer(
    'True and predicted boxes' if pictures else 'Boxes, slice by slice',
    scans,
    'Scroll with the slider, the mouse wheel over the picture, or the arrow '
    'keys. A detection bears its score and the step at which the LSTM wrote '
    'it; the marks above the slider show where there are true boxes (upper '
    'row) and detections (lower row). A suppressed box was taken for the '
    "double of another cell's box.",
  )


def _shown(
  cases: sources.Cases, scored: Sequence[_Scored]
) -> list[tuple[int, str]]:
  """Chooses the best, the median and the worst scan by recall, with titles."""
  able = [i for i, each in enumerate(scored) if each.num_true]
  if not able:
    return [(i, 'A scan without true boxes') for i in range(min(1, len(cases)))]

  def rank(i: int) -> tuple[float, int, str]:
    each = scored[i]
    recall = each.number('hit') / each.num_true
    return -recall, each.number('false positive'), cases.keys[i]

  able.sort(key=rank)
  chosen = {}
  for word, place in (
    ('Best', 0),
    ('Worst', len(able) - 1),
    ('Median', len(able) // 2),
  ):
    chosen.setdefault(able[place], word)
  return [
    (
      i,
      f'{chosen[i]} of {len(able)} scans with true boxes, here'
      f' {scored[i].num_true}: {_told(scored[i].outcomes)}',
    )
    for i in sorted(chosen, key=able.index)
  ]


def _told(outcomes: np.ndarray) -> str:
  """Counts outcomes in words."""
  hits, false, ignored = ((outcomes == kind).sum() for kind in _OUTCOMES)
  parts = [
    f'{hits} hit{"" if hits == 1 else "s"}',
    f'{false} false positive{"" if false == 1 else "s"}',
  ]
  return ', '.join(parts + [f'{ignored} on ignored findings'] * bool(ignored))


def _scan(
  volume: types.Volume, each: _Scored, title: str, classes: int
) -> viewer.Scan:
  stack = slices.prepare(volume, **_VIEW)
  true = each.truth.slices[~each.truth.ignored].tolist()
  boxes = [*each.truth.slices.tolist(), *each.found.slices.tolist()]
  numbers = _thinned(len(stack), true, boxes)
  if len(numbers) < len(stack):
    title += f' ({len(numbers)} of {len(stack)} slices are shown)'
  return viewer.Scan(
    title,
    stack.pixels.shape[1:3],
    tuple(
      _frame(stack, each, n, f'Slice {n + 1} of {len(stack)}', classes)
      for n in numbers
    ),
    _opening([(each, n) for n in numbers]),
  )


def _pictures(cases: sources.Cases, scored: Sequence[_Scored]) -> viewer.Scan:
  true = [i for i, each in enumerate(scored) if each.num_true]
  boxes = [i for i, s in enumerate(scored) if len(s.truth) or len(s.found)]
  numbers = _thinned(len(cases), true, boxes)
  frames = []
  for i in numbers:
    stack = slices.prepare(cases[i].volume, **_PICTURE_VIEW)
    title = f'Picture {i + 1} of {len(cases)}'
    frames.append(_frame(stack, scored[i], 0, title, _classes(scored)))
  return viewer.Scan(
    f'{len(numbers)} of {len(cases)} pictures',
    _PICTURE_VIEW['shape'],
    tuple(frames),
    _opening([(scored[i], 0) for i in numbers]),
  )


def _thinned(
  length: int, first: Sequence[int], second: Sequence[int]
) -> list[int]:
  """Chooses what to show of 0 to length - 1, those in `first` before others."""
  kept: set[int] = set()
  for numbers in (first, second, range(length)):
    rest = sorted(set(numbers) - kept)
    free = min(_MOST_FRAMES - len(kept), len(rest))
    at = np.linspace(0, len(rest) - 1, free).round().astype(int)
    kept.update(rest[i] for i in at)
  return sorted(kept)


def _opening(frames: Sequence[tuple[_Scored, int]]) -> int:
  """Returns the frame with most hits, or else with most true boxes."""
  counts = [
    (
      int(((each.outcomes == 'hit') & (each.accepted.slices == n)).sum()),
      int((~each.truth.ignored & (each.truth.slices == n)).sum()),
    )
    for each, n in frames
  ]
  return counts.index(max(counts))


def _classes(scored: Sequence[_Scored]) -> int:
  parts = [s.truth.labels for s in scored] + [s.found.labels for s in scored]
  return len(np.unique(np.concatenate(parts)))


def _frame(
  stack: slices.Stack, each: _Scored, number: int, title: str, classes: int
) -> viewer.Frame:
  file = io.BytesIO()
  Image.fromarray(stack.pixels[number]).save(
    file, 'JPEG', quality=_QUALITY, optimize=True
  )
  boxes = []
  for i in np.flatnonzero(each.truth.slices == number):
    kind = 'ignored' if each.truth.ignored[i] else 'truth'
    text = f'class {each.truth.labels[i]}' if classes > 1 else ''
    boxes.append(_box(stack, kind, each.truth.corners[i], text))
  found = each.found
  for i in np.flatnonzero(found.slices == number):
    kind = 'suppressed' if found.suppressed[i] else 'detection'
    text = f'{found.scores[i]:.2f} · step {found.steps[i] + 1}'
    if classes > 1:
      text = f'class {found.labels[i]} · {text}'
    boxes.append(_box(stack, kind, found.corners[i], text))
  return viewer.Frame(title, file.getvalue(), tuple(boxes))


def _box(
  stack: slices.Stack, kind: str, corners: np.ndarray, text: str
) -> viewer.Box:
  (pixels,) = stack.to_pixels(corners[None])
  return viewer.Box(kind, tuple(pixels.tolist()), text)


def _order(
  cases: sources.Cases,
  scored: Sequence[_Scored],
  num_steps: int,
  pictures: bool,
) -> page.Figure:
  """Shows the fullest slice of each of the cases where it is fullest."""
  fullest = []
  for i, each in enumerate(scored):
    if len(each.accepted):
      numbers, counts = np.unique(each.accepted.slices, return_counts=True)
      fullest.append((-counts.max(), i, int(numbers[counts.argmax()])))
  panels = []
  for _, i, number in sorted(fullest)[:_ORDER_PANELS]:
    view = _PICTURE_VIEW if pictures else _VIEW
    stack = slices.prepare(cases[i].volume, **view)
    mine = scored[i].accepted.slices == number
    title = _told(scored[i].outcomes[mine])
    panels.append(
      box_plots.Written(
        stack.pixels[number],
        title,
        stack.to_pixels(scored[i].accepted.corners[mine]),
        scored[i].accepted.steps[mine],
      )
    )
  return page.Figure(
    'The order in which the LSTM wrote',
    box_plots.order(panels, num_steps),
    'Where there are most detections, at most one slice of a case. Every cell '
    'of a grid writes its boxes one by one, the surest meant to come first; '
    "the number and the colour are the box's step within its cell.",
  )


def _steps(scored: Sequence[_Scored], num_steps: int) -> page.Figure:
  steps = np.concatenate([s.accepted.steps for s in scored])
  outcomes = np.concatenate([s.outcomes for s in scored])
  counts = {
    outcome: np.bincount(steps[outcomes == outcome], minlength=num_steps)
    for outcome in _OUTCOMES
  }
  return page.Figure(
    'Detections by step',
    box_plots.steps(counts),
    'How many detections at the operating threshold came at which step.',
  )


def _notes(results: dict[str, Any]) -> list[str]:
  notes = [
    'ap50 counts boxes on all slices of the split, also those with nothing to '
    'find. A box on an ignored finding is neither hit nor false positive.',
    'froc_mean counts lesions: boxes of neighbouring slices are linked into '
    'one, which is a hit where its centre lies within a true lesion.',
    f'The operating threshold {results["threshold"]:.4f} was chosen on '
    'validation data. Hits in the pictures are by the COCO rule.',
  ]
  difference = results.get('paired_differences', {}).get('ap50 - first_outputs')
  return notes if difference is None else [_rezoom(difference), *notes]


def _rezoom(difference: dict[str, Any]) -> str:
  """Says what the second look was worth."""
  value, low, high = (difference[name] for name in ('value', 'low', 'high'))
  if value is None:
    return f'What rezoom is worth is not known: {difference["why"]}.'
  change = 'gained' if value >= 0 else 'lost'
  interval = f'95 % interval {labels.number(low)} to {labels.number(high)}'
  verdict = (
    f'this shows a {"gain" if low > 0 else "loss"}, as the interval lies '
    f'{"above" if low > 0 else "below"} 0'
    if low > 0 or high < 0
    else 'this shows neither gain nor loss, as the interval holds 0'
  )
  return (
    f'Rezoom, the second look at each box, {change} '
    f"{labels.number(abs(value))} of ap50 over the same model's first outputs "
    f'({interval} of the paired difference): {verdict}.'
  )
