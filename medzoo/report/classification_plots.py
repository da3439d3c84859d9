"""Pictures of how well pictures were told apart, each as the bytes of a PNG."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np

from medzoo.metrics import classification
from medzoo.metrics import froc_plot
from medzoo.metrics import multiclass

_DPI = 120

Systems = Mapping[str, classification.Predictions]
_GUESS = {'color': '#a1a1aa', 'lw': 1, 'ls': ':'}
# Inches of a matrix of two classes, and for each further one.
_MATRIX, _MORE = (3.0, 2.9), 0.7


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture, with what spoke for its class beside it where that is known.

  Attributes:
    image: (h, w, 3) uint8.
    title: a short line or two above it.
  """

  image: np.ndarray
  title: str


def curves(systems: Systems) -> bytes | None:
  """Draws ROC and precision-recall curves.

  Args:
    systems: label -> what was said of the same pictures; the model first, then
      its baselines. Operating points are marked.

  Returns:
    A PNG; None where there is one class only.
  """
  positive = next(iter(systems.values())).positive
  if positive.all() or not positive.any():
    return None
  figure, left, right = _curve_axes()
  for i, (label, said) in enumerate(systems.items()):
    _draw_curve(
      left, right, label, said.logits, said.positive, said.called, _line(i)
    )
  right.axhline(positive.mean(), **_GUESS)
  return _with_legend(figure, left)


def class_curves(
  predictions: multiclass.Predictions, names: Sequence[str]
) -> bytes | None:
  """Draws ROC and precision-recall curves of each class against all others.

  Args:
    predictions: of three classes and more; where pictures are called a class
      is marked.
    names: of the classes, from class 0 on.

  Returns:
    A PNG; None where there is one class only.
  """
  if len(set(predictions.labels.tolist())) < 2:
    return None
  figure, left, right = _curve_axes()
  scores = multiclass.evidence(predictions.logits)
  for k, name in enumerate(names):
    own = predictions.labels == k
    if own.any():
      label = f'{name} (AUC {classification.auc(own, scores[:, k]):.3f})'
      colour = matplotlib.colormaps['tab10'](k % 10)
      _draw_curve(
        left,
        right,
        label,
        scores[:, k],
        own,
        predictions.called == k,
        {'color': colour, 'lw': 1.8, 'zorder': 3},
      )
  return _with_legend(figure, left)


def reliability(systems: Systems, name: str) -> bytes:
  """Draws how often pictures of about one probability are positive.

  Args:
    systems: label -> what was said; the model first, then its baselines.
    name: of class 1, or of what else the probabilities are.

  Returns:
    A PNG; beside the curves how many pictures the model gave each probability.
  """
  figure = matplotlib.figure.Figure(figsize=(9.6, 4.6), layout='constrained')
  left, right = figure.subplots(1, 2)
  left.plot([0, 1], [0, 1], color='#a1a1aa', lw=1, ls=':')
  for i, (label, predictions) in enumerate(systems.items()):
    found = classification.bins(predictions)
    there = found.count > 0
    left.plot(
      found.probability[there], found.positive[there], marker='o',
      ms=3 if i else 5, label=label, **_line(i),
    )  # fmt: skip
  mine = classification.bins(next(iter(systems.values())))
  edges = np.linspace(0, 1, classification.NUM_BINS + 1)
  right.bar(
    edges[:-1], mine.count, np.diff(edges), align='edge', color='#bfdbfe',
    edgecolor=froc_plot.COLOURS[0],
  )  # fmt: skip
  right.yaxis.get_major_locator().set_params(integer=True)
  left.set(ylabel=f'Share that is {name}', ylim=(-0.02, 1.02))
  right.set(ylabel='Pictures, by this model')
  for axes in (left, right):
    axes.set(xlabel=f'Probability of {name}', xlim=(-0.01, 1.01))
    _tidy(axes)
  figure.legend(loc='outside upper center', ncols=3, frameon=False)
  return froc_plot.to_png(figure)


def confusion(
  systems: Systems | Mapping[str, multiclass.Predictions], names: Sequence[str]
) -> bytes:
  """Draws confusion matrices side by side, shares of each row in colour.

  Args:
    systems: label -> what was said, of two classes or of more; the model
      first, then its baselines.
    names: of the classes, from class 0 on.

  Returns:
    A PNG.
  """
  more = _MORE * (len(names) - 2)
  size = _MATRIX[0] + more, _MATRIX[1] + more
  figure, places = _grid(len(systems), 3 if len(names) < 4 else 2, size)
  for axes, (label, predictions) in zip(places, systems.items(), strict=False):
    axes.set_axis_on()
    kind = classification if len(names) == 2 else multiclass
    matrix = kind.confusion_matrix(predictions)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
      share = shares[row, column]
      axes.text(
        column, row, f'{count:,}\n{share:.0%}', ha='center', va='center',
        color='w' if share > 0.55 else 'k',
      )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names, rotation=90, va='center')
    axes.set(xlabel='Called', ylabel='Truth')
    axes.set_title(label, fontsize=10)
  return froc_plot.to_png(figure)


def gallery(panels: Sequence[Panel], columns: int) -> bytes | None:
  """Draws pictures side by side.

  Args:
    panels: in the order in which they are to be read.
    columns: how many stand in a row.

  Returns:
    A PNG; None without panels.
  """
  if not panels:
    return None
  height, width = np.max([panel.image.shape[:2] for panel in panels], axis=0)
  # Above a picture there are two lines, about so wide and high.
  size = max(width / _DPI, 2.4), height / _DPI + 0.4
  figure, places = _grid(len(panels), columns, size)
  for place, panel in zip(places, panels, strict=False):
    place.imshow(panel.image)
    place.set_title(panel.title, fontsize=8)
  return froc_plot.to_png(figure, _DPI)


def _grid(
  count: int, columns: int, size: tuple[float, float]
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
  """Returns a figure and its places, without axes, row by row.

  Few are as wide as many, for a page stretches pictures to its own width.
  """
  num_rows = -(-count // columns)
  figure = matplotlib.figure.Figure(
    figsize=(size[0] * columns, size[1] * num_rows), layout='constrained'
  )
  places = figure.subplots(num_rows, columns, squeeze=False).ravel()
  for place in places:
    place.set_axis_off()
  return figure, places


def _line(i: int) -> dict[str, Any]:
  """Returns how the i-th system is drawn, the model boldest."""
  return {
    'color': froc_plot.COLOURS[i % len(froc_plot.COLOURS)],
    'lw': 1.5 if i else 2.2,
    'ls': '--' if i else '-',
    'zorder': 2 if i else 3,
  }


def _curve_axes() -> tuple[matplotlib.figure.Figure, Any, Any]:
  """Returns a figure, and its places of ROC and precision-recall curves."""
  figure = matplotlib.figure.Figure(figsize=(9.6, 5.0), layout='constrained')
  left, right = figure.subplots(1, 2)
  left.set(xlabel='1 - specificity', ylabel='Sensitivity')
  right.set(xlabel='Sensitivity (recall)', ylabel='Precision')
  for axes in (left, right):
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    _tidy(axes)
  return figure, left, right


def _with_legend(figure: matplotlib.figure.Figure, left: Any) -> bytes:
  left.plot([0, 1], [0, 1], **_GUESS)
  handles, names = left.get_legend_handles_labels()
  figure.legend(
    handles, names, loc='outside upper center', ncols=3, frameon=False
  )
  return froc_plot.to_png(figure)


def _draw_curve(
  left: Any,
  right: Any,
  label: str,
  scores: np.ndarray,
  positive: np.ndarray,
  called: np.ndarray,
  line: Mapping[str, Any],
) -> None:
  """Draws a system's, or a class's, curves and its operating point.

  Args:
    left: gets the ROC curve.
    right: gets the precision-recall curve.
    label: for the legend.
    scores: (n,) by which pictures are ordered.
    positive: (n,) bool, what they are.
    called: (n,) bool, what they were called.
    line: how to draw.
  """
  points = classification.curve(positive, scores)
  left.plot(points.false_positive_rate, points.sensitivity, label=label, **line)
  # At no sensitivity there is no precision, it is 1 by agreement only.
  right.plot(points.sensitivity[1:], points.precision[1:], **line)
  dot = {
    'marker': 'o', 'ms': 8, 'mfc': 'w', 'mew': 2, 'mec': line['color'],
    'zorder': 4, 'clip_on': False,
  }  # fmt: skip
  sensitivity = called[positive].mean()
  left.plot(called[~positive].mean(), sensitivity, **dot)
  if called.any():
    right.plot(sensitivity, positive[called].mean(), **dot)


def _tidy(axes: Any) -> None:
  axes.grid(color='#e4e4e7', lw=0.6)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
