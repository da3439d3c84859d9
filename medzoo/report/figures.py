"""Figures that the reports of several experiments show."""

import json
import pathlib
from typing import Any

from medzoo.data import sources
from medzoo.io import tables
from medzoo.report import labels
from medzoo.report import page
from medzoo.report import plots


def froc(
  predictions: pathlib.Path, results: dict[str, Any], cases: sources.Cases
) -> page.Figure:
  """Draws the FROC curves of lesions, the baselines beside the model.

  Args:
    predictions: holds LUNA16's tables, each baseline's in a folder of its name.
    results: what `results.json` is going to hold.
    cases: the scans that were scored.
  """
  baselines = results.get('baselines', {})
  folders = {'this model': predictions}
  folders |= {name: predictions / name for name in baselines}
  png = plots.froc(
    {
      labels.plain(name): tables.read_marks(
        folder / 'luna16.csv', 'probability'
      )
      for name, folder in folders.items()
    },
    tables.read_marks(predictions / 'annotations.csv', 'diameter_mm'),
    tables.read_marks(predictions / 'annotations_excluded.csv', 'diameter_mm'),
    tables.read_seriesuids(predictions / 'seriesuids.csv'),
    groups=dict(zip(cases.keys, cases.groups, strict=True)),
    seed=results['seed'],
  )
  return page.Figure(
    'Free-response ROC',
    png,
    'Sensitivity against false positives per scan by the LUNA16 rules, with '
    'the 95 % band of resampled patients.',
  )


def training(folder: pathlib.Path) -> page.Figure:
  """Draws the losses and scores in a folder's `metrics.jsonl`, if any."""
  path = folder / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  return page.Figure(
    'Training',
    plots.training_curves([json.loads(line) for line in lines]),
    'Terms of the loss and validation scores by step.',
  )
