"""The report of pictures that were told apart as wholes.

Everything is read from the folder that a run leaves; the pictures that are
shown come from the dataset.
"""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import heat_maps
from medzoo.data import sources
from medzoo.data import views
from medzoo.metrics import classification
from medzoo.metrics import multiclass
from medzoo.report import class_words
from medzoo.report import classification_plots
from medzoo.report import figures as common
from medzoo.report import labels
from medzoo.report import page
from medzoo.report import windows

Predictions = classification.Predictions | multiclass.Predictions

_MODEL = 'This model'
# Pixels of the longer side of a picture: a page stays below 6 MB.
_SIDE = 180
_SALIENCY = (
  'Beside a picture what spoke for {}: by Grad-CAM, yellow the most, and by '
  'integrated gradients, orange for it and blue against it.'
)


def write(
  folder: pathlib.Path,
  results: dict[str, Any],
  cases: views.Pictures,
  frames: sources.Cases | None = None,
) -> None:
  """Writes `report.html`.

  Args:
    folder: a work folder, or the output of an evaluation: `predictions/` with
      `predictions.csv` and perhaps `saliency/`, each baseline's in a folder of
      its name; `metrics.jsonl` where there was training.
    results: what `results.json` is going to hold.
    cases: the pictures that were scored.
    frames: those that were searched for such pictures, if any were.

  Raises:
    ValueError: `predictions.csv` does not know a case.
  """
  shown, words, named = [], notes(results), names(results)
  if frames is not None:
    threshold = results['detection_threshold']
    shown = windows.figures(
      folder, frames, threshold, results.get('other_detection_thresholds', {})
    )
    words.append(
      f'Boxes in whole frames count from {threshold:.4f} on, which was chosen '
      'on validation frames, for the best F1.'
    )
    named = {**named, **windows.NAMES}
  page.write(
    folder / 'report.html',
    results,
    [*figures(folder, results, cases), *shown, common.training(folder)],
    words,
    named,
  )


def figures(
  folder: pathlib.Path, results: dict[str, Any], cases: views.Pictures
) -> list[page.Figure]:
  """Draws what there is to see of a classification; arguments as of `write`.

  Returns:
    Curves, confusion matrices, calibration, mistakes and hits.
  """
  predictions = folder / 'predictions'
  systems = {_MODEL: _read(predictions, cases.keys, results['threshold'])}
  for name, point in results.get('other_thresholds', {}).items():
    systems[labels.plain(name)] = _read(predictions / name, cases.keys, point)
  classes = class_names(results)
  mine = systems[_MODEL]
  several = len(classes) > 2
  kind = multiclass if several else classification
  wrong, right = kind.most_certain(mine)
  hits_shown = multiclass.hits_shown(len(classes)) if several else 'six'
  saliency = _read_saliency(predictions / 'saliency')
  explained = 'the class that it was called' if several else classes[1]
  told = _SALIENCY.format(explained) if saliency else ''
  mistakes, hits = (
    classification_plots.gallery(
      [_panel(cases, i, mine, classes, saliency) for i in chosen.tolist()],
      columns=2 if saliency else 6,
    )
    for chosen in (wrong, right)
  )
  return [
    _curves(systems, classes),
    page.Figure(
      'Confusion matrices',
      classification_plots.confusion(systems, classes),
      'Pictures by what they are and by what they were called; percentages are '
      'of a row.',
    ),
    _calibration(systems, classes),
    page.Figure('The surest mistakes', mistakes, told),
    page.Figure(
      'The surest hits',
      hits,
      f'Up to {hits_shown} of each class. {told}'.strip(),
    ),
  ]


def class_names(results: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns what class 0, class 1 and any further ones are called."""
  dataset = results['dataset']
  named = dataset.get('background'), *(dataset.get('classes') or [''])
  return tuple(name or f'class {k}' for k, name in enumerate(named))


def names(results: Mapping[str, Any]) -> dict[str, labels.Label]:
  """Returns what the metrics are called."""
  classes = class_names(results)
  if len(classes) > 2:
    return class_words.names(classes)
  no, yes = classes
  return {
    'accuracy': labels.Label(
      'Accuracy', 'Share of the pictures that were called what they are.'
    ),
    'auc': labels.Label(
      'AUC',
      f'Area under the ROC curve: how often a picture of {yes} is given a '
      f'higher probability than one of {no}. Guessing reaches 0.5.',
    ),
    'sensitivity': labels.Label(
      'Sensitivity', f'Recall of {yes}: share of these that were called so.'
    ),
    'specificity': labels.Label(
      'Specificity', f'Recall of {no}: share of these that were called so.'
    ),
    'precision': labels.Label(
      'Precision', f'Share of what was called {yes} that is {yes}.'
    ),
    'negative_predictive_value': labels.Label(
      'Negative predictive value',
      f'Precision of {no}: share of what was called {no} that is {no}.',
    ),
    'f1': labels.Label(
      'F1', f'Harmonic mean of precision and sensitivity, of {yes}.'
    ),
    'brier': labels.Label(
      'Brier score',
      'Mean square of how far probabilities are from the truth, 0 or 1; the '
      'lower the better. Saying 0.5 always gives 0.25.',
    ),
    'ece': labels.Label(
      'Calibration error',
      'Expected calibration error: how far probabilities are from the share '
      f'that comes true, the mean over {classification.NUM_BINS} bins of equal '
      'width; the lower the better. Chance alone makes it larger in resamples, '
      'so the interval may lie above it.',
    ),
    'confusion_matrix': labels.Label(
      'Confusion matrix',
      f'Rows: {no} and {yes} in truth. Columns: called {no} and {yes}.',
      is_share=False,
    ),
  }


def notes(results: Mapping[str, Any]) -> list[str]:
  """Returns what else a reader ought to know."""
  point = results['threshold']
  groups = (
    'Intervals are over groups of pictures that belong together: those of one '
    'patient, study or sequence.'
  )
  if 'temperature' in point:
    return [*class_words.notes(point), groups]
  yes = class_names(results)[1]
  if 'why' in point:
    calibrated = (
      'Probabilities are those of the log-odds as they are, without a '
      f'calibration: {point["why"]}.'
    )
  else:
    calibrated = (
      'Probabilities were calibrated on validation pictures by Platt scaling: '
      f'the log-odds times {point["scale"]:.4f} plus {point["shift"]:.4f}.'
    )
  return [
    calibrated,
    f'From a probability of {point["threshold"]:.4f} on a picture is called '
    f'{yes}. This threshold has the largest Youden index, sensitivity plus '
    'specificity less 1, on validation pictures. The AUC knows no threshold.',
    'Each baseline was calibrated and given a threshold in the same way.',
    groups,
  ]


def _curves(
  systems: Mapping[str, Predictions], classes: Sequence[str]
) -> page.Figure:
  title = 'ROC and precision-recall'
  if len(classes) > 2:
    return page.Figure(
      f'{title} of each class',
      classification_plots.class_curves(systems[_MODEL], classes),
      'Of this model, each class against all others, with the area under its '
      'ROC curve. Circles are where pictures are called the class, the '
      'likeliest one, and need not lie on its curve; the dotted line is what '
      'guessing reaches.',
    )
  return page.Figure(
    title,
    classification_plots.curves(systems),
    'Circles are the operating points; the dotted lines are what guessing '
    'reaches.',
  )


def _calibration(
  systems: Mapping[str, Predictions], classes: Sequence[str]
) -> page.Figure:
  name = classes[1]
  if len(classes) > 2:
    name = 'the class as called'
    systems = {label: said.certainty for label, said in systems.items()}
  return page.Figure(
    'Calibration',
    classification_plots.reliability(systems, name),
    'Of the pictures that were given about one probability, the share that '
    f'is {name}; on the dotted line the two agree. Beside, how many '
    'pictures this model gave it.',
  )


def _read(
  folder: pathlib.Path, keys: Sequence[str], point: Mapping[str, Any]
) -> Predictions:
  """Reads what was said of cases, in their order."""
  path = folder / 'predictions.csv'
  with path.open(newline='', encoding='utf-8') as file:
    rows = {row['case']: row for row in csv.DictReader(file)}
  missing = [key for key in keys if key not in rows]
  if missing:
    raise ValueError(
      f'{path}: found no picture {missing[0]}, expected all that were scored; '
      'score them again'
    )
  if 'temperature' in point:
    columns = [x for x in rows[keys[0]] if x.startswith('probability_')]
    shares = np.array(
      [[float(rows[key][x]) for x in columns] for key in keys], float
    )
    return multiclass.Predictions(
      np.array([int(rows[key]['label']) for key in keys]),
      np.log(np.maximum(shares, np.finfo(float).tiny)),
    )
  probability = np.array([float(rows[key]['probability']) for key in keys])
  positive = np.array([rows[key]['label'] == '1' for key in keys])
  # Log-odds are not kept; probabilities are in the same order.
  return classification.Predictions(
    positive, probability, probability, point['threshold']
  )


def _read_saliency(folder: pathlib.Path) -> dict[str, types.Saliency]:
  """Reads what there is, by case."""
  found = {}
  for path in sorted(folder.glob('*.npz')):
    with np.load(path, allow_pickle=False) as arrays:
      found[str(arrays['case'])] = types.Saliency(
        arrays['grad_cam'], arrays['gradients']
      )
  return found


def _panel(
  cases: views.Pictures,
  index: int,
  predictions: Predictions,
  classes: Sequence[str],
  saliency: Mapping[str, types.Saliency],
) -> classification_plots.Panel:
  case, key = cases[index], cases.keys[index]
  shown = saliency.get(key)
  called = classes[int(predictions.called[index])]
  if len(classes) > 2:
    there, name = classes[predictions.labels[index]], called
    probability = predictions.certainty.probability[index]
  else:
    there, name = classes[int(predictions.positive[index])], classes[1]
    probability = predictions.probability[index]
  return classification_plots.Panel(
    heat_maps.row(case.volume, shown, _SIDE),
    f'picture {index + 1} of {len(cases)}: {there}, called {called}\n'
    f'probability of {name} {probability:.3f}',
  )
