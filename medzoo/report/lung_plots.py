"""Pictures of how well lungs were outlined, each as the bytes of a PNG."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np

from medzoo.metrics import froc_plot

_COLUMNS = 5
_DPI = 120
# Inches of a panel: as many pixels as the films have that are shown.
_PANEL = 320 / _DPI


@dataclasses.dataclass(frozen=True)
class Panel:
  """A film with what is drawn on it.

  Attributes:
    image: (h, w, 3) uint8.
    title: a short line or two above it.
  """

  image: np.ndarray
  title: str


def dice(systems: Mapping[str, Mapping[str, np.ndarray]]) -> bytes | None:
  """Draws the Dice of every lung, a dot each, over a box of the quartiles.

  Args:
    systems: label -> side -> (n,) Dice in [0, 1]; the model first, then its
      baselines.

  Returns:
    A PNG; None where there is no lung.
  """
  values = [v for sides in systems.values() for v in sides.values()]
  if not any(len(each) for each in values):
    return None
  figure = matplotlib.figure.Figure(figsize=(7.2, 3.6), layout='constrained')
  axes = figure.add_subplot()
  width = 0.8 / len(systems)
  sides = list(next(iter(systems.values())))
  rng = np.random.default_rng(0)
  for i, (label, by_side) in enumerate(systems.items()):
    colour = froc_plot.COLOURS[i % len(froc_plot.COLOURS)]
    for j, side in enumerate(sides):
      place = j + (i - (len(systems) - 1) / 2) * width
      lungs = by_side[side]
      spread = place + rng.uniform(-0.3, 0.3, len(lungs)) * width
      name = label if j == 0 else None
      axes.plot(spread, lungs, 'o', ms=3, mec='none', color=colour, alpha=0.45,
                label=name)  # fmt: skip
      if len(lungs):
        axes.boxplot([lungs], positions=[place], widths=0.75 * width, sym='',
                     medianprops={'color': colour, 'lw': 2})  # fmt: skip
  axes.set_xticks(range(len(sides)), [f'{side} lung' for side in sides])
  axes.set_xlim(-0.5, len(sides) - 0.5)
  lowest = min(each.min() for each in values if len(each))
  axes.set_ylim(min(np.floor(lowest * 10) / 10, 0.9) - 0.01, 1.005)
  axes.set_ylabel('Dice')
  axes.grid(color='#e4e4e7', lw=0.6, axis='y')
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  figure.legend(loc='outside upper center', ncols=3, frameon=False)
  return froc_plot.to_png(figure)


def films(panels: Sequence[Panel]) -> bytes | None:
  """Draws films side by side.

  Args:
    panels: in the order in which they are to be read.

  Returns:
    A PNG; None without panels.
  """
  if not panels:
    return None
  columns = min(_COLUMNS, len(panels))
  num_rows = -(-len(panels) // columns)
  figure = matplotlib.figure.Figure(
    figsize=(_PANEL * columns, (_PANEL + 0.4) * num_rows), layout='constrained'
  )
  places = figure.subplots(num_rows, columns, squeeze=False).ravel()
  for place in places:
    place.set_axis_off()
  for place, panel in zip(places, panels, strict=False):
    place.imshow(panel.image)
    place.set_title(panel.title, fontsize=8)
  return froc_plot.to_png(figure, _DPI)
