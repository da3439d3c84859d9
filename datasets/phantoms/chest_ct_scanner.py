"""The scanner: which one, its grid, its reconstruction kernel and its noise."""

import dataclasses

import numpy as np

from datasets.phantoms import chest_ct_grid as grids
from datasets.phantoms import chest_ct_records as records


@dataclasses.dataclass(frozen=True)
class Kernel:
  """How a reconstruction treats detail.

  Attributes:
    name: DICOM's ConvolutionKernel.
    blur: width of the point spread, pixels.
    boost: how much the middle frequencies are raised.
    noise: standard deviation at 1 mm slices, HU.
  """

  name: str
  blur: float
  boost: float
  noise: float


_MODELS = (
  ('GE MEDICAL SYSTEMS', 'LightSpeed Plus', 'LightSpeedApps2.4.2', -1024),
  ('GE MEDICAL SYSTEMS', 'LightSpeed16', '06MW03.5', -1024),
  ('SIEMENS', 'Sensation 16', 'VA70C', -1024),
  ('SIEMENS', 'Sensation 64', 'syngo CT 2006A', -1024),
  ('Philips', 'Brilliance 16P', '2.0', -1000),
  ('TOSHIBA', 'Aquilion', 'V2.02ER003', 0),
)
_KERNELS = {
  'GE MEDICAL SYSTEMS': (
    Kernel('STANDARD', 0.62, 0.0, 34.0),
    Kernel('LUNG', 0.42, 0.9, 62.0),
    Kernel('BONE', 0.45, 0.6, 55.0),
  ),
  'SIEMENS': (
    Kernel('B30f', 0.66, 0.0, 30.0),
    Kernel('B45f', 0.5, 0.4, 44.0),
    Kernel('B70f', 0.42, 0.9, 60.0),
  ),
  'Philips': (Kernel('C', 0.55, 0.2, 38.0), Kernel('D', 0.45, 0.5, 48.0)),
  'TOSHIBA': (Kernel('FC10', 0.6, 0.1, 34.0), Kernel('FC51', 0.45, 0.6, 50.0)),
}


def draw(
  rng: np.random.Generator, size: records.Size, contrast: bool
) -> tuple[records.Scanner, Kernel]:
  """Draws a scanner and the kernel of one scan."""
  maker, model, software, intercept = _MODELS[rng.integers(len(_MODELS))]
  kernels = _KERNELS[maker]
  kernel = kernels[rng.integers(len(kernels))]
  padding = outside = None
  if maker == 'GE MEDICAL SYSTEMS':
    # Both occur: padding declared and used, and declared for nothing.
    padding = -2000
    outside = -2000 if rng.random() < 0.6 else -1024
  elif maker == 'SIEMENS':
    outside = 0
  scanner = records.Scanner(
    manufacturer=maker,
    model=model,
    software=software,
    kernel=kernel.name,
    thickness=float(rng.choice(size.thickness)),
    intercept=intercept,
    padding=padding,
    outside=outside,
    reversed=bool(rng.random() < 0.6),
    contrast=contrast,
    kilovolt=int(rng.choice([120, 120, 140])),
    current=int(rng.integers(40, 400)),
  )
  return scanner, kernel


def reconstruct(
  image: np.ndarray,
  scanner: records.Scanner,
  kernel: Kernel,
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the image as the scanner would give it.

  Args:
    image: (d, h, w) HU without noise.
    scanner: for the thickness of its slices.
    kernel: its point spread and the colour of its noise.
    rng: makes the noise.

  Returns:
    (d, h, w) float32 HU.
  """
  h, w = image.shape[1:]
  radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
  radius = radius.astype(np.float32)
  spread = np.exp(-2 * (np.pi * kernel.blur * radius) ** 2)
  passed = spread * (
    1 + kernel.boost * np.exp(-(((radius - 0.28) / 0.12) ** 2))
  )
  # Filtered backprojection's noise rises with the frequency.
  colour = radius * passed
  colour /= np.sqrt((colour**2).mean())
  strength = kernel.noise / np.sqrt(scanner.thickness)
  scale = np.float32(strength * np.sqrt(h * w / 2))
  result = np.empty(image.shape, np.float32)
  before = np.zeros(radius.shape, np.complex64)
  for i, plane in enumerate(image):
    white = rng.standard_normal((2, *radius.shape), np.float32)
    white = (white[0] + 1j * white[1]) * (colour * scale)
    # Helical interpolation shares some of the data between slices.
    noise = 0.9 * white + 0.43 * before
    before = white
    result[i] = np.fft.irfft2(np.fft.rfft2(plane) * passed + noise, (h, w))
  return result


def field_of_view(shape: tuple[int, int]) -> np.ndarray:
  """Returns (h, w) bool, the circle that a scanner reconstructs."""
  h, w = shape
  y, x = np.ogrid[:h, :w]
  return np.hypot(y - (h - 1) / 2, x - (w - 1) / 2) <= min(h, w) / 2


def make_grid(
  rng: np.random.Generator,
  size: records.Size,
  spacing: float,
  thickness: float,
  extent: tuple[float, float],
) -> grids.Grid:
  """Lays the grid of one scan over a patient.

  Args:
    rng: draws table position and the patient's small turns.
    size: gives the matrix.
    spacing: of pixels, mm.
    thickness: distance of slices, mm.
    extent: lowest and highest z of the patient that is scanned, mm.
  """
  shift = rng.uniform(-0.015, 0.015, 2) * size.matrix * spacing
  first = np.round(rng.uniform(-420.0, 60.0), 1)
  count = int(np.ceil((extent[1] - extent[0]) / thickness))
  corner = -np.round(size.matrix * spacing / 2 + rng.uniform(-20, 20, 2), 1)
  # The patient's origin lies in the middle of the field, whatever the table's.
  middle = corner + spacing * (size.matrix - 1) / 2 + shift
  return grids.Grid(
    shape=(count, size.matrix, size.matrix),
    spacing=(thickness, spacing, spacing),
    origin=np.array([*corner, first]),
    rotation=_small_turn(rng),
    isocenter=np.array([*middle, first - extent[0]]),
  )


def add_table(image: np.ndarray, grid: grids.Grid, back: float) -> None:
  """Puts the table under the patient, in place.

  Args:
    image: (d, h, w) HU.
    grid: its voxels.
    back: y of the patient's back, mm.
  """
  _, h, w = image.shape
  step = grid.spacing[1]
  x = step * np.arange(w) + grid.origin[0] - grid.isocenter[0]
  y = step * np.arange(h) + grid.origin[1] - grid.isocenter[1] - back
  # It is hollow, and bends up at its sides.
  top = 4.0 - 0.9 * back * (x / (2.2 * back)) ** 2
  depth = y[:, None] - top
  shell = np.minimum(abs(depth), abs(depth - 0.25 * back))
  cover = np.clip((1.2 - shell) / step + 0.5, 0, 1)
  rows = np.flatnonzero(cover.any(1))
  first, last = rows[0], rows[-1] + 1
  cover = cover[first:last].astype(np.float32)
  part = image[:, first:last]
  part += np.where(part < -900, cover, 0) * (-350 - part)


def _small_turn(rng: np.random.Generator) -> np.ndarray:
  """Returns a rotation of a few degrees; nobody lies quite straight."""
  result = np.eye(3)
  for axis, limit in ((0, 2.0), (1, 2.0), (2, 4.0)):
    angle = np.deg2rad(rng.uniform(-limit, limit))
    turn = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    result = result @ turn
  return result


def digitise(image: np.ndarray, scanner: records.Scanner) -> np.ndarray:
  """Returns (d, h, w) int16 HU as a reader of the files shall give them.

  Args:
    image: (d, h, w) HU.
    scanner: what it stores beyond its circle; padding that is declared becomes
      air, what is not stays as it is.
  """
  voxels = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
  if scanner.outside is not None:
    beyond = ~field_of_view(image.shape[1:])
    padded = scanner.outside == scanner.padding
    voxels[:, beyond] = -1024 if padded else scanner.outside + scanner.intercept
  return voxels
