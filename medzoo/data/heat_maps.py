"""What in a picture spoke for its class, drawn over it for people to look at.

Of Grad-CAM the more speaks for the class at a place the more it is coloured,
from violet over orange to yellow. Integrated gradients are single pixels, so
they are blurred a little and lie over greys: orange speaks for the class, blue
against it. Both are scaled to their own largest value. Which class it is says
`types.Saliency`.
"""

import numpy as np
from scipy import ndimage

from medzoo import types
from medzoo.data import outlines
from medzoo.data import pictures

_FOR, _AGAINST = (255, 120, 0), (0, 110, 255)
_STRONGEST = 0.75
# Of the heat from 0 to 1; seen on grey films as well as on red mucosa.
_COLOURS = np.array(
  [(13, 8, 135), (156, 23, 158), (237, 121, 83), (240, 249, 33)], float
)
# Of the longer side of what is drawn.
_BLUR = 1 / 100
# Of single pixels some are far above all others.
_LARGEST = 99.5
_GAP = 4


def row(
  volume: types.Volume, saliency: types.Saliency | None, side: int
) -> np.ndarray:
  """Draws a picture, with Grad-CAM over it, and with integrated gradients.

  Args:
    volume: a picture, (1, h, w) or (1, h, w, 3), greys of any depth.
    saliency: of the picture; None draws the picture alone.
    side: pixels of the longer side of each.

  Returns:
    (h', w', 3) uint8, side by side.
  """
  picture = outlines.draw(volume, (), side)
  if saliency is None:
    return picture
  gap = np.full((len(picture), _GAP, 3), 255, np.uint8)
  views = [
    picture,
    over(picture, saliency.grad_cam),
    signed_over(picture, saliency.gradients),
  ]
  return np.concatenate([views[0], gap, views[1], gap, views[2]], axis=1)


def over(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """Lays a map over a picture.

  Args:
    picture: (h, w, 3) uint8.
    heat: (h', w') 0 and up; it spans the picture from edge to edge.

  Returns:
    (h, w, 3) uint8; the picture itself where the heat is 0.
  """
  share = heat / max(float(heat.max()), 1e-12)
  share = np.clip(pictures.resize(share[None], picture.shape[:2])[0], 0, 1)
  levels = np.linspace(0, 1, len(_COLOURS))
  colours = np.stack(
    [np.interp(share, levels, channel) for channel in _COLOURS.T], axis=-1
  )
  return _blended(picture, colours, share)


def signed_over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Lays a map of both signs over the greys of a picture.

  Args:
    picture: (h, w, 3) uint8.
    values: (h', w') of any sign; it spans the picture from edge to edge.

  Returns:
    (h, w, 3) uint8.
  """
  fitted = pictures.resize(values[None], picture.shape[:2])[0]
  blurred = ndimage.gaussian_filter(fitted, max(picture.shape) * _BLUR)
  largest = float(np.percentile(np.abs(blurred), _LARGEST))
  share = np.clip(blurred / max(largest, 1e-12), -1, 1)
  colours = np.where((share > 0)[..., None], _FOR, _AGAINST)
  grey = picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
  return _blended(grey, colours, np.abs(share))


def _blended(
  picture: np.ndarray, colours: np.ndarray, share: np.ndarray
) -> np.ndarray:
  opacity = _STRONGEST * share[..., None]
  mixed = (1 - opacity) * picture + opacity * colours
  return np.round(mixed).astype(np.uint8)
