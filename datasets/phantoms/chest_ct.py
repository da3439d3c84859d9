"""Phantom chest CTs with lung nodules.

`make(seed, index)` gives one scan: analytic shapes sampled on the grid of a
scanner, with all that is known of them. `write` makes many and lays them out
as LIDC-IDRI, LUNA16, convnet3d's list of series or TensorBox's pictures with
boxes are published.

`python -m datasets.phantoms.chest_ct --output DIR --cases N --seed S --layout
lidc|luna16|luna16_dicom|series_csv|boxes_json [--size small]`
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from datasets import progress
from datasets.phantoms import chest_ct_anatomy as anatomy
from datasets.phantoms import chest_ct_bones as bones
from datasets.phantoms import chest_ct_distractors as distractors
from datasets.phantoms import chest_ct_grid as grids
from datasets.phantoms import chest_ct_layouts as layouts
from datasets.phantoms import chest_ct_nodules as nodules
from datasets.phantoms import chest_ct_readers as readers
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_scanner as scanners
from datasets.phantoms import chest_ct_tissues as tissues
from datasets.phantoms import chest_ct_trees as trees
from datasets.phantoms import chest_ct_tubes as tubes
from datasets.phantoms import chest_ct_uids as uids
from datasets.phantoms import workers as processes
from medzoo import types

# Counts of nodules that each 16 patients share out among themselves,
# so that a split of usual size never lacks nodules; the mean is 4.6.
_COUNTS = (0, 1, 2, 2, 3, 4, 4, 5, 5, 5, 6, 6, 7, 7, 8, 8)
# Every eighth scan is a second one of the patient before.
_CYCLE = 8


def patient_of(index: int) -> int:
  """Returns the number of a scan's patient, from 1."""
  return index - index // _CYCLE + (0 if index % _CYCLE == _CYCLE - 1 else 1)


def make(seed: int, index: int, *, size: str = 'small') -> records.Phantom:
  """Makes one scan.

  Args:
    seed: of the whole set.
    index: of the scan in it; see `patient_of`.
    size: a key of `chest_ct_records.SIZES`.

  Returns:
    The scan, the same for the same arguments.

  Raises:
    ValueError: the size is unknown.
  """
  if size not in records.SIZES:
    known = ', '.join(records.SIZES)
    raise ValueError(f'found size {size!r}, expected one of {known}')
  measures = records.SIZES[size]
  patient = patient_of(index)
  person = np.random.default_rng([seed, patient, 0])
  visit = np.random.default_rng([seed, index, 1])
  again = index > 0 and patient_of(index - 1) == patient
  spacing = round(person.uniform(*measures.spacing), 4)
  body = anatomy.make_body(person, 0.36 * measures.matrix * spacing)
  scanner, kernel = scanners.draw(visit, measures, body.blood > 100)
  if again:
    spacing = round(spacing * visit.uniform(1.0, 1.04), 4)
  below, above = visit.uniform(0.04, 0.1, 2) * body.height
  grid = scanners.make_grid(
    visit,
    measures,
    spacing,
    scanner.thickness,
    (-below, 1.01 * body.height + above),
  )
  vessels = trees.vessels(body, person)
  count = min(count_nodules(seed, patient), measures.most_nodules)
  found = nodules.place_all(body, vessels, person, count)
  grain = 0.6 * spacing
  others = distractors.place_all(
    body, found, person, measures.distractors, grain
  )
  if again:
    growth = visit.uniform(1.0, 1.25)
    found = [nodules.grow(nodule, growth) for nodule in found]
  image = _render(grid, body, vessels, found, others, grain, person)
  image = scanners.reconstruct(image, scanner, kernel, visit)
  series_uid = uids.uid('chest_ct', seed, index, size)
  return records.Phantom(
    patient=f'PHANTOM-{patient:04d}',
    study_uid=uids.uid(series_uid, 'study'),
    volume=types.Volume(
      voxels=scanners.digitise(image, scanner),
      spacing=grid.spacing,
      origin=tuple(float(v) for v in grid.origin),
      modality='CT',
      series_uid=series_uid,
    ),
    nodules=tuple(
      records.Finding(n.kind, grid.world(n.center), 2 * n.volume_radius)
      for n in found
    ),
    distractors=tuple(
      records.Finding(d.kind, grid.world(d.center), d.extent) for d in others
    ),
    readings=readers.read(grid, found, others, visit),
    scanner=scanner,
  )


def count_nodules(seed: int, patient: int) -> int:
  """Returns how many nodules a patient of the larger sizes gets."""
  block, place = divmod(patient - 1, len(_COUNTS))
  order = np.random.default_rng([seed, block, 2]).permutation(_COUNTS)
  return int(order[place])


def _render(
  grid: grids.Grid,
  body: anatomy.Body,
  vessels: list[trees.Tree],
  found: list[nodules.Nodule],
  others: list[records.Distractor],
  grain: float,
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the (d, h, w) HU of a patient without noise."""
  lattice = grids.Lattice(grid, (2.5, 2.2, 2.2))
  places = lattice.positions
  image = lattice.refine(tissues.tissue(body, places, rng))
  image += 1000
  image *= grids.cover(lattice.refine(anatomy.body_level(body, places)), 1.0)
  image -= 1000
  scanners.add_table(image, grid, anatomy.back(body))
  coarse = max(2 * grain, 0.8)
  grids.add(image, grid, bones.ribs(body, coarse))
  grids.add(image, grid, bones.plates(body, coarse))
  lungs = grids.cover(lattice.refine(anatomy.lung_level(body, places)), 1.0)
  image += lungs * (
    lattice.refine(tissues.parenchyma(body, places, rng)) - image
  )
  clouds = [nodules.points(nodule, grain, rng) for nodule in found]
  for glass, _ in clouds:
    grids.add(image, grid, glass)
  blood = [
    tubes.bezier(tree.controls, tree.radii, body.blood, grain=grain)
    for tree in vessels
  ]
  grids.add(image, grid, trees.fissures(body, rng, grain))
  grids.add(image, grid, tubes.join(*blood))
  walls, lumina = trees.airways(body, vessels[:2], grain)
  grids.add(image, grid, walls)
  grids.add(image, grid, lumina)
  lumps = [cloud for _, cloud in clouds] + [d.tissue for d in others]
  for part in (lumps, [d.air for d in others]):
    if part:
      grids.add(image, grid, tubes.join(*part))
  return image


def write(
  directory: str | os.PathLike,
  *,
  cases: int,
  seed: int = 0,
  layout: str = 'lidc',
  size: str = 'small',
  workers: int | None = None,
) -> None:
  """Makes phantoms and writes them as a published dataset is laid out.

  Args:
    directory: root of the layout; made if need be, must be empty.
    cases: number of scans.
    seed: of the whole set.
    layout: a key of `chest_ct_layouts.LAYOUTS`.
    size: a key of `chest_ct_records.SIZES`.
    workers: processes; None for one on each core, or for one alone where
      scans take less time than processes to start. What is written does not
      depend on it.

  Raises:
    ValueError: an argument is unknown, or the directory is not empty.
  """
  directory = pathlib.Path(directory)
  for name, value, known in (
    ('layout', layout, layouts.LAYOUTS),
    ('size', size, records.SIZES),
  ):
    if value not in known:
      names = ', '.join(known)
      raise ValueError(f'found {name} {value!r}, expected one of {names}')
  if cases < 1:
    raise ValueError(f'found {cases} cases, expected at least one')
  processes.make_empty(directory)
  job = functools.partial(_write_one, directory, layout, seed, size)
  if workers is None:
    workers = 1 if size == 'smoke' else len(os.sched_getaffinity(0))
  rows = list(
    progress.track(processes.run(job, range(cases), workers), 'phantoms', cases)
  )
  layouts.write_tables(rows, directory, layout)


def _write_one(
  directory: pathlib.Path, layout: str, seed: int, size: str, index: int
) -> layouts.Row:
  phantom = make(seed, index, size=size)
  return layouts.write_scan(phantom, directory, layout, index)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m datasets.phantoms.chest_ct',
    description='Writes phantom chest CTs with lung nodules.',
  )
  parser.add_argument('--output', metavar='DIR', required=True)
  parser.add_argument('--cases', type=int, default=8)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--layout', choices=layouts.LAYOUTS, default='lidc')
  parser.add_argument('--size', choices=records.SIZES, default='small')
  parser.add_argument('--workers', type=int)
  options = vars(parser.parse_args(arguments))
  try:
    write(options.pop('output'), **options)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
