"""The pictures of a report, each as the bytes of a PNG.

Nothing here opens a window or touches matplotlib's global state.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import matplotlib.figure
import numpy as np

from medzoo.metrics import bootstrap
from medzoo.metrics import froc as froc_metric
from medzoo.metrics import froc_plot
from medzoo.metrics import luna16

# Rows of metrics.jsonl that say how the run went, not how good it is.
_HOUSEKEEPING = ('learning_rate', 'steps_per_second', 'grad_norm')
_KIND_COLOURS = {'train': '#2563eb', 'validation': '#d97706'}
_PANEL_COLOURS = {
  'hit': '#22c55e',
  'miss': '#f43f5e',
  'false positive': '#f59e0b',
}
_MONTAGE_COLUMNS = 6


class Panel(TypedDict):
  """One picture of a montage.

  Attributes:
    image: (h, w) float in [0, 1], shown from black to white.
    title: a short line above it.
    circle: (y, x, radius) in pixels, index coordinates; None draws none.
    kind: 'hit', 'miss' or 'false positive'.
  """

  image: np.ndarray
  title: str
  circle: tuple[float, float, float] | None
  kind: str


def froc(
  systems: Mapping[str, luna16.Marks],
  annotations: luna16.Marks,
  excluded: luna16.Marks,
  seriesuids: Sequence[str],
  *,
  groups: Mapping[str, str] | None = None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> bytes:
  """Draws FROC curves with their 95 % bands by the LUNA16 rules.

  Args:
    systems: label -> marks, as `luna16.match` takes them; the model first,
      then its baselines.
    annotations: nodules.
    excluded: findings that are neither nodule nor false positive.
    seriesuids: the scans that were scored.
    groups: series UID -> patient, what is resampled; None for the scans.
    resamples: how many resamples make a band.
    seed: of the resampling.

  Returns:
    A PNG.
  """
  index, num_groups = bootstrap.group_index(seriesuids, groups)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  lines = []
  for label, marks in systems.items():
    matches = luna16.match(marks, annotations, excluded, seriesuids)
    scored = luna16.sensitivity_entries(matches, index, draws)
    cpm, band = scored['cpm'][froc_metric.RULES[0]]['value'], scored['band']
    name = label if cpm is None else f'{label} (CPM {cpm:.3f})'
    points = scored['curve']
    lines.append(
      froc_plot.Line(
        name,
        points.fps,
        points.sensitivity,
        band['fps'],
        band['low'],
        band['high'],
      )
    )
  return froc_plot.png(lines)


def training_curves(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
  """Draws what `metrics.jsonl` holds: a row a stage, a panel a quantity.

  Training and validation share a panel; folds of one stage are laid over
  each other.

  Args:
    rows: each with `stage` ('screening' or 'fold_1/screening'), `step`, and
      values named 'train/loss' or 'validation/auc', say; None is a gap.

  Returns:
    A PNG; None where there is nothing to draw.
  """
  series = _series(rows)
  grid: dict[str, list[str]] = {}
  for stage, quantity, _, _ in series:
    columns = grid.setdefault(stage, [])
    if quantity not in columns:
      columns.append(quantity)
  if not grid:
    return None
  width = max(len(columns) for columns in grid.values())
  figure = matplotlib.figure.Figure(
    figsize=(max(2.7 * width, 4), 2.3 * len(grid)), layout='constrained'
  )
  axes = figure.subplots(len(grid), width, squeeze=False)
  for row, (stage, columns) in zip(axes, grid.items(), strict=True):
    for place in row[len(columns) :]:
      place.set_axis_off()
    for place, quantity in zip(row, columns, strict=False):
      mine = [v for k, v in series.items() if k[:2] == (stage, quantity)]
      kinds = [k[2] for k in series if k[:2] == (stage, quantity)]
      _draw_quantity(place, f'{stage}: {quantity}', kinds, mine)
  return froc_plot.to_png(figure, 130)


def montage(panels: Sequence[Panel]) -> bytes | None:
  """Draws image slices side by side, what each shows circled in its colour.

  Args:
    panels: in the order in which they are to be read.

  Returns:
    A PNG; None without panels.
  """
  if not panels:
    return None
  columns = min(_MONTAGE_COLUMNS, len(panels))
  num_rows = -(-len(panels) // columns)
  figure = matplotlib.figure.Figure(
    figsize=(1.75 * columns, 2.0 * num_rows), layout='constrained'
  )
  places = figure.subplots(num_rows, columns, squeeze=False).ravel()
  for place in places:
    place.set_axis_off()
  for place, panel in zip(places, panels, strict=False):
    _draw_panel(place, panel)
  return froc_plot.to_png(figure, 130)


_Key = tuple[str, str, str, str]


def _series(
  rows: Sequence[Mapping[str, Any]],
) -> dict[_Key, list[tuple[int, float]]]:
  """Gathers (stage, quantity, kind, fold) -> (step, value) pairs."""
  series: dict[_Key, list[tuple[int, float]]] = {}
  for row in rows:
    fold, _, stage = row['stage'].rpartition('/')
    for name, value in row.items():
      kind, slash, quantity = name.partition('/')
      if not slash or quantity in _HOUSEKEEPING or value is None:
        continue
      key = (stage, quantity, kind, fold)
      series.setdefault(key, []).append((row['step'], value))
  return series


def _draw_quantity(
  axes, title: str, kinds: list[str], lines: list[list[tuple[int, float]]]
) -> None:
  for i, (kind, points) in enumerate(zip(kinds, lines, strict=True)):
    steps, values = np.array(points, float).T
    marker = 'o' if len(steps) < 20 else None
    axes.plot(
      steps,
      values,
      color=_KIND_COLOURS.get(kind, '#71717a'),
      lw=1.4,
      alpha=1.0 if len(lines) <= 2 else 0.6,
      marker=marker,
      ms=2.5,
      label=kind if kind not in kinds[:i] else None,
    )
  axes.set_title(title.replace('_', ' '), fontsize=9)
  axes.set_xlabel('step', fontsize=8)
  axes.tick_params(labelsize=7)
  axes.grid(color='#e4e4e7', lw=0.6)
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(fontsize=7, frameon=False)


def _draw_panel(axes, panel: Panel) -> None:
  colour = _PANEL_COLOURS[panel['kind']]
  axes.imshow(panel['image'], cmap='gray', vmin=0, vmax=1)
  axes.set_title(f'{panel["kind"]}\n{panel["title"]}', fontsize=7.5)
  axes.title.set_color('#27272a')
  height, width = panel['image'].shape
  frame = ([-0.5, width - 0.5, width - 0.5, -0.5, -0.5],
           [-0.5, -0.5, height - 0.5, height - 0.5, -0.5])  # fmt: skip
  axes.plot(*frame, color=colour, lw=3)
  if panel['circle'] is not None:
    y, x, radius = panel['circle']
    angles = np.linspace(0, 2 * np.pi, 90)
    axes.plot(
      x + radius * np.cos(angles), y + radius * np.sin(angles), color=colour
    )
  axes.set_xlim(-0.5, width - 0.5)
  axes.set_ylim(height - 0.5, -0.5)
