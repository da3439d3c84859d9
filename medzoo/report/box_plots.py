"""Pictures of boxes and of how good they are, each as the bytes of a PNG."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np

from medzoo.metrics import froc_plot

# Name, colour, line and size of the dot: where they coincide both are seen.
_RULES = {
  'coco': ('COCO rule', '#2563eb', '-', 10),
  'bipartite': ('bipartite rule (TensorBox)', '#d97706', '--', 5),
}
_OUTCOMES = {
  'hit': ('hits', '#16a34a'),
  'false positive': ('false positives', '#dc2626'),
  'ignored': ('on ignored findings', '#a1a1aa'),
}
_COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class Written:
  """A picture, and the boxes that were written on it one by one.

  Attributes:
    image: (h, w) or (h, w, 3) uint8.
    title: a short line above it.
    corners: (n, 4) y0, x0, y1, x1, half-open, pixels of the picture.
    steps: (n,) int, 0 for the first.
  """

  image: np.ndarray
  title: str
  corners: np.ndarray
  steps: np.ndarray


def precision_recall(
  curves: Mapping[str, Mapping[str, Sequence[float | None]]], threshold: float
) -> bytes | None:
  """Draws precision against recall, and recall against false positives.

  Args:
    curves: 'coco' and 'bipartite' -> `thresholds`, falling, and at each of
      them `precision`, `recall` and `false_positives_per_image`; None where
      one is undefined.
    threshold: the operating point, which is marked.

  Returns:
    A PNG; None where no curve has a point.
  """
  arrays = {
    rule: {name: np.array(values, float) for name, values in curve.items()}
    for rule, curve in curves.items()
  }
  known = {
    rule: curve
    for rule, curve in arrays.items()
    if np.isfinite(curve['recall']).any()
  }
  if not known:
    return None
  figure = matplotlib.figure.Figure(figsize=(9.6, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  for rule, curve in known.items():
    label, colour, style, size = _RULES[rule]
    line = {'color': colour, 'ls': style, 'lw': 2}
    false = _from_positive(curve['false_positives_per_image'])
    left.plot(curve['recall'], curve['precision'], label=label, **line)
    right.plot(false, curve['recall'], **line)
    # Detections scored the threshold or higher count.
    above = curve['thresholds'] >= threshold
    if above.any():
      precision, recall, fps = (
        values[above][-1]
        for values in (curve['precision'], curve['recall'], false)
      )
      point = {'marker': 'o', 'mfc': 'w', 'mec': colour, 'mew': 2, 'ls': ''}
      words = f'precision {precision:.3f}, recall {recall:.3f}'
      left.plot(recall, precision, ms=size, label=words, **point)
      right.plot(fps, recall, ms=size, **point)
  left.set(xlabel='Recall', ylabel='Precision', xlim=(0, 1.01), ylim=(0, 1.02))
  right.set_xscale('log')
  right.set(xlabel='False positives per image', ylabel='Recall', ylim=(0, 1.02))
  for axes in (left, right):
    _tidy(axes)
  handles, names = left.get_legend_handles_labels()
  figure.legend(
    handles, names, loc='outside upper center', ncols=2, frameon=False
  )
  return froc_plot.to_png(figure)


def order(panels: Sequence[Written], num_steps: int) -> bytes | None:
  """Draws pictures side by side, each box with the number of its step.

  Args:
    panels: in the order in which they are to be read.
    num_steps: how many boxes a cell may write; colours run over these.

  Returns:
    A PNG; None without panels.
  """
  if not panels:
    return None
  columns = min(_COLUMNS, len(panels))
  num_rows = -(-len(panels) // columns)
  height, width = panels[0].image.shape[:2]
  size = 3.4 * columns, (3.4 * height / width + 0.3) * num_rows
  figure = matplotlib.figure.Figure(figsize=size, layout='constrained')
  places = figure.subplots(num_rows, columns, squeeze=False).ravel()
  colours = matplotlib.colormaps['spring_r'](np.linspace(0, 1, num_steps))
  for place in places:
    place.set_axis_off()
  for place, panel in zip(places, panels, strict=False):
    _draw_written(place, panel, colours)
  return froc_plot.to_png(figure, 150)


def steps(counts: Mapping[str, np.ndarray]) -> bytes | None:
  """Draws how many boxes came at which step.

  Args:
    counts: 'hit', 'false positive' and 'ignored' -> (steps,) int; a kind
      without any box is left out.

  Returns:
    A PNG; None where there is no box at all.
  """
  counts = {kind: number for kind, number in counts.items() if number.any()}
  if not counts:
    return None
  figure = matplotlib.figure.Figure(figsize=(6.4, 2.9), layout='constrained')
  axes = figure.add_subplot()
  width = 0.8 / len(counts)
  for i, (kind, number) in enumerate(counts.items()):
    label, colour = _OUTCOMES[kind]
    places = np.arange(len(number)) + 1 + (i - (len(counts) - 1) / 2) * width
    bars = axes.bar(places, number, 0.94 * width, color=colour, label=label)
    axes.bar_label(bars, fontsize=8, padding=1)
  axes.set_xticks(np.arange(len(number)) + 1)
  axes.yaxis.get_major_locator().set_params(integer=True)
  axes.margins(y=0.12)
  axes.set(xlabel='Step of the LSTM', ylabel='Boxes')
  _tidy(axes)
  axes.grid(visible=False, axis='x')
  figure.legend(loc='outside upper center', ncols=3, frameon=False)
  return froc_plot.to_png(figure)


def _draw_written(axes: Any, panel: Written, colours: np.ndarray) -> None:
  height, width = panel.image.shape[:2]
  # Half-open corners are then the axes' own.
  axes.imshow(panel.image, cmap='gray', extent=(0, width, height, 0))
  axes.set_title(panel.title, fontsize=9)
  for (y0, x0, y1, x1), step in zip(panel.corners, panel.steps, strict=True):
    colour = colours[step]
    frame = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
    axes.plot(*frame, color=colour, lw=1.6)
    axes.annotate(
      str(step + 1),
      (x1, y0),
      (2, 1),
      textcoords='offset points',
      color='k',
      fontsize=8,
      weight='bold',
      bbox={'boxstyle': 'round,pad=0.15', 'fc': colour, 'ec': 'none'},
      annotation_clip=False,
    )
  axes.set_xlim(0, width)
  axes.set_ylim(height, 0)


def _from_positive(values: np.ndarray) -> np.ndarray:
  """Raises zeros to half the least positive value: logarithms have none."""
  positive = values[values > 0]
  return np.maximum(values, positive.min() / 2 if len(positive) else 1e-3)


def _tidy(axes: Any) -> None:
  axes.grid(color='#e4e4e7', lw=0.6)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
