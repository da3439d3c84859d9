"""What lies in and on phantom patients: tubes, wires, a pacemaker; letters.

Each device is lines in the patient, whose shadows are drawn with a width and
added to the line integrals as mm of water.
"""

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_xray_views as views

# Lines are drawn this much larger, which smooths their edges.
_FINER = 3


def draw(
  body: anatomy.Body, view: views.View, rng: np.random.Generator
) -> np.ndarray:
  """Draws devices, more of them in patients who lie.

  Args:
    body: the patient.
    view: on which film; patients who lie are seen from in front.
    rng: chooses.

  Returns:
    (h, w) float32, mm of water.
  """
  lies = view.projection == 'AP'
  canvas = _Canvas(body, view)
  for device, standing, lying in (
    (_pacemaker, 0.1, 0.12),
    (_electrodes, 0.08, 0.65),
    (_windpipe_tube, 0.0, 0.3),
    (_central_line, 0.04, 0.4),
    (_stomach_tube, 0.02, 0.3),
    (_loose_tube, 0.03, 0.35),
  ):
    if rng.random() < (lying if lies else standing):
      device(canvas, rng)
  return canvas.thickness


class _Canvas:
  """Draws in a film by places in a patient.

  Attributes:
    thickness: (h, w) what has been drawn, mm of water.
  """

  def __init__(self, body: anatomy.Body, view: views.View):
    self._size = np.array([body.width, body.depth, body.height])
    self._view = view
    self.thickness = np.zeros(view.shape, np.float32)

  def line(self, places: np.ndarray, width: float, thickness: float) -> None:
    """Adds a smooth line.

    Args:
      places: (n, 3) on its way, as parts of the chest's half width, half
        depth and height.
      width: mm.
      thickness: mm of water.
    """
    self._add(_smooth(self._pixels(places)), None, width, thickness)

  def area(
    self, center: np.ndarray, radii: np.ndarray, thickness: float
  ) -> None:
    """Adds a rounded area; radii are (x, z) in mm."""
    angle = np.linspace(0, 2 * np.pi, 40)
    ray = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
    # Between an ellipse and a rectangle.
    ray = np.sign(ray) * abs(ray) ** 0.6
    offset = ray * [radii[0], 0, radii[1]]
    outline = self._pixels(np.asarray(center) + offset / self._size)
    self._add(outline, thickness, 0.0, thickness)

  def _pixels(self, places: np.ndarray) -> np.ndarray:
    return self._view.pixels(np.asarray(places) * self._size)

  def _add(
    self,
    points: np.ndarray,
    fill: float | None,
    width: float,
    thickness: float,
  ) -> None:
    h, w = self._view.shape
    image = Image.new('L', (w * _FINER, h * _FINER))
    pen = ImageDraw.Draw(image)
    corners = [tuple(p) for p in (points[:, ::-1] + 0.5) * _FINER]
    if fill is None:
      pixels = max(round(width / self._view.spacing * _FINER), 1)
      pen.line(corners, 255, pixels, joint='curve')
    else:
      pen.polygon(corners, 255)
    share = np.asarray(image.reduce(_FINER), np.float32) / 255
    self.thickness += thickness * share


def _smooth(points: np.ndarray) -> np.ndarray:
  """Rounds the corners of a polygon's line (Chaikin's algorithm)."""
  for _ in range(4):
    before, after = points[:-1], points[1:]
    inner = np.stack(
      [0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after]
    )
    inner = inner.transpose(1, 0, 2).reshape(-1, points.shape[1])
    points = np.concatenate([points[:1], inner, points[-1:]])
  return points


def _pacemaker(canvas: _Canvas, rng: np.random.Generator) -> None:
  side = 1 if rng.random() < 0.8 else -1
  box = np.array(
    [side * rng.uniform(0.62, 0.85), -1.0, rng.uniform(0.72, 0.86)]
  )
  canvas.area(box, rng.uniform(18, 27, 2), rng.uniform(60, 120))
  vein = np.array([side * 0.45, -0.6, 0.98])
  for tip in ([-0.18, -0.4, 0.36], [0.42, -0.6, 0.2])[: rng.integers(1, 3)]:
    canvas.line(
      [
        box,
        box + [0, 0, 0.1],
        vein,
        [-0.02, -0.3, 0.84],
        [-0.16, -0.3, 0.5],
        tip,
      ],
      2.2,
      25,
    )


def _electrodes(canvas: _Canvas, rng: np.random.Generator) -> None:
  out = np.array([rng.uniform(-0.6, 0.6), -1.5, rng.choice([-0.5, 1.4])])
  for x, z in ((-0.75, 0.95), (0.75, 0.95), (0.8, 0.15), (-0.7, 0.15)):
    place = np.array([x, -1.3, z]) + rng.normal(0, 0.09, 3)
    canvas.area(place, (5.0, 5.0), 16)
    canvas.area(place, (2.0, 2.0), 40)
    bend = (place + out) / 2 + rng.normal(0, 0.3, 3) * [1, 0, 1]
    canvas.line([place, bend, out], rng.uniform(1.5, 2.5), 14)


def _windpipe_tube(canvas: _Canvas, rng: np.random.Generator) -> None:
  end = rng.uniform(0.68, 0.85)
  canvas.line([[0.02, 0.3, 1.4], [-0.01, 0.3, 1.1], [0, 0.3, end]], 8, 3)
  canvas.line([[0.05, 0.3, 1.4], [0.02, 0.3, 1.1], [0.03, 0.3, end]], 1.2, 14)


def _central_line(canvas: _Canvas, rng: np.random.Generator) -> None:
  side = rng.choice([-1, 1])
  start = [side * rng.uniform(0.2, 0.9), -0.6, rng.uniform(1.0, 1.35)]
  canvas.line(
    [
      start,
      [side * 0.3, -0.3, 0.95],
      [-0.1, -0.2, 0.8],
      [-0.2, -0.2, rng.uniform(0.45, 0.6)],
    ],
    2.0,
    14,
  )


def _stomach_tube(canvas: _Canvas, rng: np.random.Generator) -> None:
  places = [[0, 0.4, 1.4], [0.05, 0.5, 0.8], [0.06, 0.5, 0.3]]
  places += [[0.3, 0.1, 0.02], [rng.uniform(0.3, 0.6), -0.1, -0.25]]
  canvas.line(places, 4.0, 5)
  canvas.line(places, 1.4, 12)


def _loose_tube(canvas: _Canvas, rng: np.random.Generator) -> None:
  places = rng.uniform([-1.5, -1.6, -0.3], [1.5, -1.3, 1.3], (5, 3))
  canvas.line(places, rng.uniform(2.0, 7.0), rng.uniform(4, 10))


def letter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns the picture with an L on the patient's left or an R on the right.

  Args:
    picture: (h, w) in [0, 1].
    rng: chooses letter, place and size.
  """
  h, w = picture.shape
  size = max(int(rng.uniform(0.04, 0.08) * h), 8)
  image = Image.fromarray(picture)
  name = rng.choice(['L', 'R'])
  x = (0.03 if name == 'R' else 0.97) * w
  y = rng.choice([0.06, 0.2, 0.94]) * h
  ImageDraw.Draw(image).text(
    (x, y),
    name,
    fill=1.0,
    font=ImageFont.load_default(size),
    anchor='lm' if name == 'R' else 'rm',
  )
  return np.asarray(image)
