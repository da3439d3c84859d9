"""The report of a lung nodule run: curves, and what was hit and missed.

Everything is read from the folder that a run leaves; only the pictures of the
scans need the dataset.
"""

import pathlib
from typing import Any

import numpy as np

from medzoo import types
from medzoo.data import sources
from medzoo.data import volumes
from medzoo.io import tables
from medzoo.report import figures
from medzoo.report import page
from medzoo.report import plots

_HALF_MM = 24.0
_PANELS_PER_KIND = 12
_WINDOW = {'name': 'window', 'low': -1200.0, 'high': 400.0}
_KINDS = ('miss', 'false positive', 'hit')
_NO_MARKS = np.zeros((0, 4))


def write(
  folder: pathlib.Path, results: dict[str, Any], cases: sources.Cases
) -> None:
  """Writes `report.html`.

  Args:
    folder: a work folder, or the output of an evaluation: `predictions/`, and
      `metrics.jsonl` where there was training.
    results: what `results.json` is going to hold.
    cases: the scans that were scored, for their pictures.
  """
  predictions = folder / 'predictions'
  shown = [
    figures.froc(predictions, results, cases),
    page.Figure(
      'Hits, misses and false positives',
      plots.montage(_panels(predictions, results['threshold'], cases)),
      f'Axial slices of {2 * _HALF_MM:.0f} mm at the operating threshold; the '
      'circle is the annotated nodule, for false positives the detection. '
      'Misses by size, false positives and hits by score.',
    ),
    figures.training(folder),
  ]
  page.write(folder / 'report.html', results, shown, _notes(results))


def _panels(
  predictions: pathlib.Path, threshold: float, cases: sources.Cases
) -> list[plots.Panel]:
  """Picks and cuts the slices to show, misses first."""
  found = _sorted_out(predictions, threshold)
  chosen = {
    kind: sorted(
      (row for row in found if row['kind'] == kind), key=lambda r: -r['order']
    )[:_PANELS_PER_KIND]
    for kind in _KINDS
  }
  wanted = [row for rows in chosen.values() for row in rows]
  images = {}
  for i, key in enumerate(cases.keys):
    mine = [row for row in wanted if row['key'] == key]
    if mine:
      volume = cases[i].volume
      images |= {id(row): _slice(volume, row) for row in mine}
  return [
    plots.Panel(
      image=images[id(row)][0],
      title=row['title'],
      circle=images[id(row)][1],
      kind=row['kind'],
    )
    for row in wanted
  ]


def _sorted_out(
  predictions: pathlib.Path, threshold: float
) -> list[dict[str, Any]]:
  """Sorts marks above the threshold and nodules into hits, misses and more."""
  marks = tables.read_marks(predictions / 'luna16.csv', 'probability')
  truth = tables.read_marks(predictions / 'annotations.csv', 'diameter_mm')
  left_out = tables.read_marks(
    predictions / 'annotations_excluded.csv', 'diameter_mm'
  )
  rows = []
  for key in tables.read_seriesuids(predictions / 'seriesuids.csv'):
    sure = marks.get(key, _NO_MARKS)
    sure = sure[sure[:, 3] >= threshold]
    nodules = truth.get(key, _NO_MARKS)
    hits = _hits(sure, nodules)
    for nodule, scores in zip(
      nodules, np.where(hits, sure[:, 3:], -1).T, strict=True
    ):
      score = scores.max(initial=-1)
      title = f'{nodule[3]:.1f} mm'
      if score < 0:
        rows.append(_row(key, 'miss', nodule[:3], nodule[3], title, nodule[3]))
      else:
        title += f', {score:.2f}'
        rows.append(_row(key, 'hit', nodule[:3], nodule[3], title, score))
    free = ~hits.any(1) & ~_hits(sure, left_out.get(key, _NO_MARKS)).any(1)
    for mark in sure[free]:
      title = f'score {mark[3]:.2f}'
      rows.append(_row(key, 'false positive', mark[:3], 8.0, title, mark[3]))
  return rows


def _row(
  key: str,
  kind: str,
  center: np.ndarray,
  diameter: float,
  title: str,
  order: float,
) -> dict[str, Any]:
  return {
    'key': key,
    'kind': kind,
    'center': center,
    'diameter': diameter,
    'title': title,
    'order': order,
  }


def _hits(marks: np.ndarray, findings: np.ndarray) -> np.ndarray:
  """Returns (marks, findings) by LUNA16's rule, unknown diameters 10 mm."""
  radii = np.where(findings[:, 3] < 0, 10.0, findings[:, 3]) / 2
  gaps = marks[:, None, :3] - findings[None, :, :3]
  return (gaps**2).sum(-1) < radii**2


def _slice(
  volume: types.Volume, row: dict[str, Any]
) -> tuple[np.ndarray, tuple[float, float, float]]:
  """Cuts the axial slice through a place; returns it and the circle, px."""
  index = volume.world_to_index(row['center'])
  pixel = volume.spacing[1]
  half = int(round(_HALF_MM / pixel))
  z, y, x = np.round(index).astype(int)
  plane = np.pad(
    volume.voxels[np.clip(z, 0, len(volume.voxels) - 1)],
    half,
    constant_values=int(volume.voxels.min()),
  )
  image = volumes.window(
    plane[y : y + 2 * half + 1, x : x + 2 * half + 1], _WINDOW
  )
  radius = np.nan_to_num(max(row['diameter'], 3.0) / 2 / pixel)
  return image, (index[1] - y + half, index[2] - x + half, float(radius))


def _notes(results: dict[str, Any]) -> list[str]:
  return [
    'cpm follows the official LUNA16 script: at most 100 marks a scan, '
    'excluded findings neither hit nor false positive, linear interpolation.',
    f'The operating threshold {results["threshold"]:.4f} was chosen on '
    'validation scans.',
  ]
