"""Draws FROC curves, for the command and for the report alike."""

import dataclasses
import io
from collections.abc import Sequence

import matplotlib.backends.backend_agg
import matplotlib.figure
import numpy as np

from medzoo.metrics import froc

COLOURS = ('#2563eb', '#d97706', '#059669', '#9333ea', '#dc2626')


@dataclasses.dataclass(frozen=True)
class Line:
  """One system's curve.

  Attributes:
    label: its name, with its score if that is to be read there.
    fps: (n,) false positives per scan, rising.
    sensitivity: (n,) in [0, 1].
    band_fps: (m,) where the band is given; None draws no band.
    low: (m,) lower edge of the band.
    high: (m,) upper edge of the band.
  """

  label: str
  fps: np.ndarray
  sensitivity: np.ndarray
  band_fps: np.ndarray | None = None
  low: np.ndarray | None = None
  high: np.ndarray | None = None


def png(lines: Sequence[Line], dpi: int = 160) -> bytes:
  """Draws curves on an axis from 1/8 to 8 false positives per scan.

  Args:
    lines: the systems; the first is drawn boldest.
    dpi: pixels per inch of the 6.4 x 4.4 inch picture.

  Returns:
    The picture as PNG.
  """
  figure = matplotlib.figure.Figure(figsize=(6.4, 4.4), layout='constrained')
  axes = figure.add_subplot()
  for i, line in enumerate(lines):
    colour = COLOURS[i % len(COLOURS)]
    sampled = np.interp(froc.BAND_FPS, line.fps, line.sensitivity)
    if line.band_fps is not None:
      axes.fill_between(
        line.band_fps, line.low, line.high, color=colour, alpha=0.14, lw=0
      )
    width, style = (2.2, '-') if i == 0 else (1.6, '--')
    axes.plot(
      froc.BAND_FPS, sampled, style, color=colour, lw=width, label=line.label
    )
    marked = np.interp(froc.RATES, line.fps, line.sensitivity)
    axes.plot(
      froc.RATES, marked, 'o', color=colour, ms=3.5, clip_on=False, zorder=3
    )
  _label(axes)
  return to_png(figure, dpi)


def to_png(figure: matplotlib.figure.Figure, dpi: int = 160) -> bytes:
  """Renders a figure without a display and without global state."""
  matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
  buffer = io.BytesIO()
  # No metadata: the same numbers make the same bytes.
  figure.savefig(buffer, format='png', dpi=dpi, metadata={'Software': None})
  return buffer.getvalue()


def _label(axes) -> None:
  axes.set_xscale('log', base=2)
  axes.set_xlim(froc.RATES[0], froc.RATES[-1])
  axes.set_ylim(0, 1.01)
  axes.set_xticks(froc.RATES, ['1/8', '1/4', '1/2', '1', '2', '4', '8'])
  axes.set_yticks(np.arange(0, 1.01, 0.1))
  axes.minorticks_off()
  axes.set_xlabel('False positives per scan')
  axes.set_ylabel('Sensitivity')
  axes.grid(color='#d4d4d8', lw=0.6)
  axes.spines[['top', 'right']].set_visible(False)
  # Above the axes: inside, some curve or band always runs through it.
  axes.figure.legend(loc='outside upper center', ncols=2, frameon=False)
