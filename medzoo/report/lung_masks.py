"""The report of the outlines of the two lungs in chest X-rays.

Everything is read from the folder that a run leaves; the truth and the films
that are shown come from the dataset.
"""

import pathlib
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import drawing
from medzoo.data import outlines
from medzoo.data import sources
from medzoo.io import coco_masks
from medzoo.metrics import lung_masks
from medzoo.report import figures
from medzoo.report import labels
from medzoo.report import lung_plots
from medzoo.report import page

_WORST = 10
# Pixels of the longer side of a film: a page stays below 6 MB.
_SIDE = 320

_HAUSDORFF = (
  '95th-percentile Hausdorff distance of the outlines, the larger of both '
  'directions; the lower the better, and for a lung not found the diagonal '
  'of the film.'
)


def _names() -> dict[str, labels.Label]:
  """Returns what the metrics are called."""
  names = {}
  for side in lung_masks.SIDES:
    names |= {
      f'dice_{side}': labels.Label(
        f'Dice, {side} lung',
        f"Mean over the films with the patient's {side} lung; 0 where it was "
        'not found.',
      ),
      f'iou_{side}': labels.Label(
        f'IoU, {side} lung',
        'The same of the intersection over union.',
      ),
      f'hd95_{side}': labels.Label(
        f'HD95, {side} lung', f'{_HAUSDORFF} As a share of that diagonal.'
      ),
      f'hd95_{side}_mm': labels.Label(
        f'HD95, {side} lung, mm', _HAUSDORFF, is_share=False
      ),
    }
  of_both = 'Share of the films with two lungs in which'
  return names | {
    'both_lungs_found': labels.Label(
      'Both lungs found',
      f'{of_both} both are found, with an IoU of 0.5 or more.',
    ),
    'one_lung_found': labels.Label(
      'One of two found', f'{of_both} just one is.'
    ),
    'no_lung_found': labels.Label('None of two found', f'{of_both} none is.'),
    'false_lung_rate': labels.Label(
      'False lungs',
      'Share of the lungs missing from their film for which something was '
      'found all the same.',
    ),
    'box_ap': labels.Label(
      'Box AP',
      "COCO's average precision of boxes, the mean over IoUs of 0.5 to 0.95, "
      'at any score.',
    ),
    'mask_ap': labels.Label('Mask AP', 'The same of masks.'),
  }


def write(
  folder: pathlib.Path, results: dict[str, Any], cases: sources.Cases
) -> None:
  """Writes `report.html`.

  Args:
    folder: a work folder, or the output of an evaluation: `predictions/` with
      `coco.json` and `truth_coco.json`, each baseline's in a folder of its
      name; `metrics.jsonl` where there was training.
    results: what `results.json` is going to hold.
    cases: the films that were scored.

  Raises:
    ValueError: `truth_coco.json` does not know a case.
  """
  predictions = folder / 'predictions'
  places = {'This model': (predictions, results['threshold'])}
  for name, threshold in results.get('other_thresholds', {}).items():
    places[labels.plain(name)] = predictions / name, threshold
  found = {
    label: _read(place, cases.keys) for label, (place, _) in places.items()
  }
  lungs = _compare(cases, found)
  systems = {
    label: _dice(lungs[label], threshold)
    for label, (_, threshold) in places.items()
  }
  page.write(
    folder / 'report.html',
    results,
    [
      page.Figure(
        'Dice of every lung',
        lung_plots.dice(systems),
        'A dot is a lung; the box spans the middle half of them, its line is '
        'their median. A lung that was not found stands at 0.',
      ),
      _worst(
        cases, found['This model'], lungs['This model'], results['threshold']
      ),
      figures.training(folder),
    ],
    _notes(results),
    _names(),
  )


def _read(
  folder: pathlib.Path, keys: list[str]
) -> dict[str, coco_masks.Objects]:
  """Reads what was found in each case."""
  found = coco_masks.read_results(
    folder / 'coco.json', folder / 'truth_coco.json'
  )
  missing = [key for key in keys if key not in found]
  if missing:
    raise ValueError(
      f'{folder / "truth_coco.json"}: found no film {missing[0]}, expected all '
      'that were scored; score them again'
    )
  return found


def _compare(
  cases: sources.Cases, found: dict[str, dict[str, coco_masks.Objects]]
) -> dict[str, lung_masks.Lungs]:
  """Compares each system with the truth, decoding every film once."""
  rows: dict[str, list[lung_masks.Lungs]] = {label: [] for label in found}
  for i, key in enumerate(cases.keys):
    case = cases[i]
    for label, by_key in found.items():
      lungs = _lungs(by_key[key], case.volume.grid)
      rows[label].append(
        lung_masks.compare(case.masks, lungs, case.volume.spacing)
      )
  return {label: lung_masks.stack(row) for label, row in rows.items()}


def _lungs(
  objects: coco_masks.Objects, grid: types.Grid
) -> types.MaskDetections:
  masks = coco_masks.decode(objects.rles, grid.shape[1:])
  return types.MaskDetections(
    masks, objects.corners, objects.scores, objects.labels
  )


def _dice(lungs: lung_masks.Lungs, threshold: float) -> dict[str, np.ndarray]:
  values = lung_masks.agreement(lungs, threshold)
  return {
    side: values[lungs.present[:, i], i]
    for i, side in enumerate(lung_masks.SIDES)
  }


def _worst(
  cases: sources.Cases,
  found: dict[str, coco_masks.Objects],
  lungs: lung_masks.Lungs,
  threshold: float,
) -> page.Figure:
  """Shows the films whose worse lung agrees least."""
  values = lung_masks.agreement(lungs, threshold)
  order = np.lexsort((values.mean(axis=1), values.min(axis=1)))[:_WORST]
  panels = []
  for i in order.tolist():
    case = cases[i]
    marks = [outlines.Outline(mask, drawing.GREEN) for mask in case.masks.masks]
    mine = _lungs(found[cases.keys[i]], case.volume.grid)
    for j in np.flatnonzero(mine.scores >= threshold):
      color = outlines.LUNG_COLORS[int(mine.labels[j])]
      marks.append(outlines.Outline(mine.masks[j], color))
    words = [
      _told(side, lungs.present[i, j], lungs.found(threshold)[i, j],
            values[i, j])
      for j, side in enumerate(lung_masks.SIDES)
    ]  # fmt: skip
    panels.append(
      lung_plots.Panel(
        outlines.draw(case.volume, marks, _SIDE),
        f'film {i + 1} of {len(cases)}\n' + '\n'.join(words),
      )
    )
  return page.Figure(
    f'The {len(panels)} worst films',
    lung_plots.films(panels),
    'By the Dice of the worse lung. Green: the truth; orange and blue: the '
    "patient's right and left lung as found. The right lung is on the film's "
    'left where the film was taken and stored in the usual way.',
  )


def _told(side: str, present: bool, found: bool, dice: float) -> str:
  """Says in words what came of a lung."""
  if not present:
    return f'{side}: absent, {"but found" if found else "not found"}'
  return f'{side}: Dice {dice:.3f}' if found else f'{side}: not found'


def _notes(results: dict[str, Any]) -> list[str]:
  return [
    "Right and left are the patient's.",
    f'The operating threshold {results["threshold"]:.4f} was chosen on '
    'validation data, for the best mean of Dice, where an absent lung counts 1 '
    'unless something was found for it. Average precision knows no threshold.',
    'Intervals are over patients.',
  ]
