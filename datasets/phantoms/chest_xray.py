"""Phantom chest X-rays with the lungs' true masks.

`make` gives the films of one patient: the chest of `chest_xray_body`, seen in
several poses, by Beer and Lambert's law. `write` makes many and lays them out
as folders of images and of two masks are published.

A mask is the lung's field as readers outline it on films: where the rays pass
at least 10 mm of that lung, aerated or dense, and no more than 20 mm of what
ends it: the mediastinum with spine and aorta, whatever is below the dome of
the diaphragm, or fluid. So lung behind the heart and behind dense patches is
in it, lung in the recess behind the dome is not, as on the real films whose
masks this project uses. Of several pieces the largest is kept.

`python -m datasets.phantoms.chest_xray --output DIR --cases N --poses N`
"""

import functools
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from datasets import progress
from datasets import splits
from datasets.phantoms import chest_ct_uids as uids
from datasets.phantoms import chest_xray_body as bodies
from datasets.phantoms import chest_xray_devices as devices
from datasets.phantoms import chest_xray_files as files
from datasets.phantoms import chest_xray_film as films
from datasets.phantoms import chest_xray_findings as findings
from datasets.phantoms import chest_xray_views as views
from datasets.phantoms import command
from datasets.phantoms import workers as processes

SHARES = {'train': 48, 'validation': 6, 'test': 26}

_LEAST_LUNG_MM = 10.0
_MOST_HIDING_MM = 20.0
# Of a film; smaller pieces are corners of a lung, which nobody outlines.
_LEAST_SHARE = 0.002


def finding_of(seed: int, index: int) -> str:
  """Returns which finding a patient has; each eight share all of them."""
  block, place = divmod(index, len(findings.KINDS))
  order = np.random.default_rng([seed, block, 3])
  return str(order.permutation(findings.KINDS)[place])


def make(
  seed: int, index: int, *, poses: int = 4, size: int = 320
) -> list[files.Film]:
  """Makes the films of one patient.

  Args:
    seed: of the whole set.
    index: of the patient in it.
    poses: films.
    size: pixels of a film's longest side.

  Returns:
    The films, the same for the same arguments.
  """
  voxel = float(np.clip(880 / size, 2.75, 5.5))
  patient = bodies.make(
    np.random.default_rng([seed, index, 4]), finding_of(seed, index), voxel
  )
  return [
    _film(
      patient,
      f'PHANTOM-{index + 1:04d}',
      pose,
      uids.uid('chest_xray', seed, index, pose, size),
      size,
      np.random.default_rng([seed, index, 5, pose]),
    )
    for pose in range(poses)
  ]


def _film(
  patient: bodies.Patient,
  name: str,
  pose: int,
  series_uid: str,
  size: int,
  rng: np.random.Generator,
) -> files.Film:
  view = stand(patient, size, rng)
  paths = views.project(patient.voxels, patient.spacing, patient.origin, view)
  right, left = masks(paths)
  thickness = paths[..., bodies.WATER]
  thickness += devices.draw(patient.body, view, rng)
  picture = films.expose(thickness, view.spacing, rng)
  if rng.random() < 0.6:
    picture = devices.letter(picture, rng)
  return files.Film(name, pose, series_uid, view, picture, right, left)


def stand(
  patient: bodies.Patient,
  size: int,
  rng: np.random.Generator,
  *,
  lying: float = 0.45,
) -> views.View:
  """Draws how a patient stands, or lies, and what the film shows.

  Args:
    patient: whom.
    size: pixels of the film's longest side.
    rng: draws.
    lying: how likely the patient lies.

  Returns:
    The view, 'AP' of who lies and 'PA' of who stands.
  """
  body = patient.body
  lies = rng.random() < lying
  sides = rng.uniform(0.88, 1.4, 2) * body.width
  bottom = rng.uniform(-0.25, 0.08) * body.height
  top = rng.uniform(0.98, 1.2) * body.height
  turn, tilt, roll = np.radians(
    np.clip(rng.normal(0, (4.0, 4.0, 2.5)), (-10, -8, -8), (10, 8, 8))
  )
  center = [(sides[1] - sides[0]) / 2, 0.0, (bottom + top) / 2]
  return views.make(
    'AP' if lies else 'PA',
    center=np.array(center),
    extent=(top - bottom, sides.sum()),
    longest=size,
    angles=(turn, tilt, roll),
    distances=(
      rng.uniform(1000, 1250) if lies else rng.uniform(1500, 2000),
      1.2 * body.depth + rng.uniform(30, 80),
    ),
  )


def masks(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the fields of the right and the left lung.

  Args:
    paths: (h, w, 4) as `chest_xray_views.project` gives of a patient, mm.

  Returns:
    Two (h, w) bool, disjoint; one without any pixel is of a lung that cannot
    be seen.
  """
  free = paths[..., bodies.HIDING] <= _MOST_HIDING_MM
  right, left = paths[..., bodies.RIGHT], paths[..., bodies.LEFT]
  return (
    _largest(free & (right >= _LEAST_LUNG_MM) & (right >= left)),
    _largest(free & (left >= _LEAST_LUNG_MM) & (left > right)),
  )


def _largest(mask: np.ndarray) -> np.ndarray:
  """Keeps a mask's largest piece, without holes."""
  pieces, _ = ndimage.label(mask)
  sizes = np.bincount(pieces.ravel())
  sizes[0] = 0
  if sizes.max() < _LEAST_SHARE * mask.size:
    return np.zeros_like(mask)
  return ndimage.binary_fill_holes(pieces == sizes.argmax())


def write(
  directory: str | os.PathLike,
  *,
  cases: int,
  poses: int = 4,
  seed: int = 0,
  size: int = 320,
  workers: int | None = None,
) -> None:
  """Makes films and writes them as folders of images and of masks.

  `images/*.png` of 8 bits, every fourth film `*.dcm` of 16, half of them
  MONOCHROME1; `rightMask/*.png` and `leftMask/*.png` of the same names, 255
  in the lung, without any where it cannot be seen; `patients.csv` with
  columns file, patient, split.

  Args:
    directory: root of the layout; made if need be, must be empty.
    cases: patients; each is in one split.
    poses: films of each patient.
    seed: of the whole set.
    size: pixels of a film's longest side, 64 and more.
    workers: processes; None for one on each core, or for one alone where
      films take less time than processes to start. What is written does not
      depend on it.

  Raises:
    ValueError: an argument is impossible, or the directory is not empty.
  """
  directory = pathlib.Path(directory)
  for name, value, least in (
    ('cases', cases, 1),
    ('poses', poses, 1),
    ('size', size, 64),
  ):
    if value < least:
      raise ValueError(f'found {name} {value}, expected at least {least}')
  processes.make_empty(directory)
  for folder in ('images', *files.MASKS):
    (directory / folder).mkdir()
  if workers is None:
    workers = 1 if cases * size < 2000 else len(os.sched_getaffinity(0))
  job = functools.partial(_write_one, directory, seed, poses, size)
  rows = [
    row
    for some in progress.track(
      processes.run(job, range(cases), workers), 'films', cases
    )
    for row in some
  ]
  patients = sorted({patient for _, patient in rows})
  parts = splits.divide(patients, patients, SHARES, seed)
  split_of = {patient: name for name, part in parts.items() for patient in part}
  files.write_table(rows, split_of, directory)


def _write_one(
  directory: pathlib.Path, seed: int, poses: int, size: int, index: int
) -> list[tuple[str, str]]:
  return [
    files.write(film, directory, index * poses + film.pose)
    for film in make(seed, index, poses=poses, size=size)
  ]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return command.run(
    write,
    arguments,
    prog='python -m datasets.phantoms.chest_xray',
    description="Writes phantom chest X-rays with the lungs' masks.",
    cases=8,
    poses=4,
    seed=0,
    size=320,
  )


if __name__ == '__main__':
  sys.exit(main())
