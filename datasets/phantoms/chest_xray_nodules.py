"""Phantom chest X-rays with and without lung nodules, as Open-i has them.

`make` gives one study: one or two frontal films of a patient of
`chest_xray_body`. `write` makes many and lays them out as Open-i's collection
is published. Nodules apart, studies with and without them are drawn alike, so
neither pose nor exposure, devices or what is mistaken for a nodule tells the
classes apart.

`python -m datasets.phantoms.chest_xray_nodules --output DIR --cases N`
"""

import functools
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from datasets import progress
from datasets import splits
from datasets.phantoms import chest_xray
from datasets.phantoms import chest_xray_body as bodies
from datasets.phantoms import chest_xray_devices as devices
from datasets.phantoms import chest_xray_film as films
from datasets.phantoms import chest_xray_nodule_files as files
from datasets.phantoms import chest_xray_nodule_lumps as lumps
from datasets.phantoms import chest_xray_nodule_places as places
from datasets.phantoms import chest_xray_nodule_reports as reports
from datasets.phantoms import chest_xray_views as views
from datasets.phantoms import command
from datasets.phantoms import workers as processes

SHARES = {'train': 44, 'validation': 7, 'test': 29}
NORMAL, NODULE = 'normal', 'nodule'
# Neither normal nor nodular, and what the report says of them.
_OTHERS = {
  'cardiomegaly': ('Cardiomegaly/mild',),
  'consolidation': ('Opacity/lung/{}',),
  'effusion': ('Pleural Effusion/{}',),
}
_SHARE_OF_OTHERS = 0.05
_LYING = 0.15


def kinds(seed: int, cases: int) -> list[str]:
  """Returns what is to be found in each study.

  Args:
    seed: of the whole set.
    cases: studies.

  Returns:
    'normal' or 'nodule', half each, and in one of 20 another finding.
  """
  count = round(cases * _SHARE_OF_OTHERS)
  found = [list(_OTHERS)[i % len(_OTHERS)] for i in range(count)]
  nodular = (cases - count) // 2
  found += [NODULE] * nodular + [NORMAL] * (cases - count - nodular)
  return np.random.default_rng([seed, 10]).permutation(found).tolist()


def make(seed: int, index: int, kind: str, *, size: int = 256) -> files.Study:
  """Makes a study.

  Args:
    seed: of the whole set.
    index: of the study in it.
    kind: as `kinds` gives it; nothing but what is found depends on it.
    size: pixels of a film's longest side.

  Returns:
    The study, the same for the same arguments.
  """
  draws = functools.partial(_draws, seed, index)
  rng = draws(0)
  voxel = float(np.clip(880 / size, 2.75, 5.5))
  patient = bodies.make(draws(1), kind, voxel)
  lying = float(rng.random() < _LYING)
  all_views = [
    chest_xray.stand(patient, size, draws(2, i), lying=lying)
    for i in range(rng.integers(1, 3))
  ]
  found = []
  if kind == NODULE:
    found = places.nodules(patient.body, all_views, draws(4))
  shapes = [*places.others(patient, draws(3)), *found]
  name = f'CXR{index + 1}'
  made = []
  for i, view in enumerate(all_views):
    picture = _picture(patient, shapes, view, draws(5), draws(6, i))
    marks = np.array([lumps.mark(lump, view) for lump in found])
    film = f'{name}_IM-{index + 1:04d}-{1001 + i}'
    made.append(
      files.Film(film, view.projection, picture, marks.reshape(-1, 3))
    )
  return files.Study(name, _terms(kind, patient, found), tuple(made))


def _draws(seed: int, index: int, *part: int) -> np.random.Generator:
  # What is drawn for one part leaves all others as they are.
  return np.random.default_rng([seed, index, 11, *part])


def _picture(
  patient: bodies.Patient,
  shapes: Sequence[lumps.Lump],
  view: views.View,
  of_study: np.random.Generator,
  of_film: np.random.Generator,
) -> np.ndarray:
  """Returns a film's picture; devices are the same on all of a study."""
  water = patient.voxels[..., bodies.WATER, None]
  paths = views.project(water, patient.spacing, patient.origin, view)
  thickness = paths[..., 0] + lumps.draw(shapes, view)
  thickness += devices.draw(patient.body, view, of_study)
  picture = films.expose(thickness, view.spacing, of_film)
  if of_film.random() < 0.6:
    picture = devices.letter(picture, of_film)
  return picture


def _terms(
  kind: str, patient: bodies.Patient, found: Sequence[lumps.Lump]
) -> tuple[str, ...]:
  if kind == NORMAL:
    return (reports.NORMAL,)
  if kind == NODULE:
    lobes = [places.lobe(patient.body, lump.center) for lump in found]
    return tuple(f'Nodule/lung/{lobe}' for lobe in dict.fromkeys(lobes))
  side = 'right' if patient.sides[0] < 0 else 'left'
  side = 'bilateral' if len(patient.sides) > 1 else side
  return tuple(term.format(side) for term in _OTHERS[kind])


def write(
  directory: str | os.PathLike,
  *,
  cases: int,
  seed: int = 0,
  size: int = 256,
  workers: int | None = None,
) -> None:
  """Makes studies and writes them as Open-i's collection is laid out.

  `NLMCXR_png/*.png` of 8 bits, `NLMCXR_reports/ecgen-radiology/*.xml`. Besides,
  `splits.csv` with columns study and split, and `nodules.csv`, which Open-i
  has not, with columns image, y, x and diameter_px: index coordinates, where
  the first pixel's centre is 0.

  Args:
    directory: root of the layout; made if need be, must be empty.
    cases: studies.
    seed: of the whole set.
    size: pixels of a film's longest side, 64 and more.
    workers: processes; None for one on each core, or for one alone where
      films take less time than processes to start. What is written does not
      depend on it.

  Raises:
    ValueError: an argument is impossible, or the directory is not empty.
  """
  directory = pathlib.Path(directory)
  for name, value, least in (('cases', cases, 1), ('size', size, 64)):
    if value < least:
      raise ValueError(f'found {name} {value}, expected at least {least}')
  processes.make_empty(directory)
  files.make_folders(directory)
  if workers is None:
    workers = 1 if cases * size < 4000 else len(os.sched_getaffinity(0))
  chosen = kinds(seed, cases)
  job = functools.partial(_write_one, directory, seed, size, chosen)
  marks = progress.track(
    processes.run(job, range(cases), workers), 'studies', cases
  )
  rows = [row for some in marks for row in some]
  files.write_tables(rows, _divide(chosen, seed), directory)


def _write_one(
  directory: pathlib.Path,
  seed: int,
  size: int,
  chosen: Sequence[str],
  index: int,
) -> list[tuple[str, ...]]:
  """Makes and writes a study; returns the rows of its nodules."""
  return files.write(make(seed, index, chosen[index], size=size), directory)


def _divide(chosen: Sequence[str], seed: int) -> list[tuple[str, str]]:
  """Divides the studies of each kind; returns name and split of all."""
  split_of = {}
  for kind in sorted(set(chosen)):
    indices = [i for i, value in enumerate(chosen) if value == kind]
    names = [str(i) for i in indices]
    for split, part in splits.divide(indices, names, SHARES, seed).items():
      split_of |= dict.fromkeys(part, split)
  return [(f'CXR{i + 1}', split_of[i]) for i in range(len(chosen))]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return command.run(
    write,
    arguments,
    prog='python -m datasets.phantoms.chest_xray_nodules',
    description='Writes phantom chest X-rays with and without nodules.',
    cases=8,
    seed=0,
    size=256,
  )


if __name__ == '__main__':
  sys.exit(main())
