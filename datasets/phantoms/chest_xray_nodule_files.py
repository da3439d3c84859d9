"""Writes studies of films with nodules as Open-i's collection is laid out."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from datasets.phantoms import chest_xray_nodule_reports as reports

_FILMS = 'NLMCXR_png'
_REPORTS = 'NLMCXR_reports/ecgen-radiology'


@dataclasses.dataclass(frozen=True)
class Film:
  """A film.

  Attributes:
    name: such as 'CXR1_IM-0001-1001'.
    projection: 'PA' or 'AP'.
    picture: (h, w) float32 in [0, 1], white where little passed.
    nodules: (n, 3) row, column and diameter, pixels; index coordinates.
  """

  name: str
  projection: str
  picture: np.ndarray
  nodules: np.ndarray


@dataclasses.dataclass(frozen=True)
class Study:
  """A study.

  Attributes:
    name: such as 'CXR1'.
    terms: MeSH's headings of what is found, with what qualifies them.
    films: one or two.
  """

  name: str
  terms: tuple[str, ...]
  films: tuple[Film, ...]


def make_folders(root: pathlib.Path) -> None:
  """Makes the folders of the layout."""
  for folder in (_FILMS, _REPORTS):
    (root / folder).mkdir(parents=True)


def write(study: Study, root: pathlib.Path) -> list[tuple[str, ...]]:
  """Writes a study's films and its report.

  Args:
    study: what to write.
    root: of the layout; its folders exist.

  Returns:
    The rows of its nodules for `write_tables`.
  """
  for film in study.films:
    grey = np.round(film.picture * 255).astype(np.uint8)
    Image.fromarray(grey).save(root / _FILMS / f'{film.name}.png')
  reports.write(
    study.name,
    study.terms,
    [(film.name, film.projection) for film in study.films],
    root / _REPORTS,
  )
  return [
    (film.name, *(f'{value:.2f}' for value in mark))
    for film in study.films
    for mark in film.nodules
  ]


def write_tables(
  nodules: Iterable[tuple[str, ...]],
  splits: Iterable[tuple[str, str]],
  root: pathlib.Path,
) -> None:
  """Writes `nodules.csv` and `splits.csv`.

  Args:
    nodules: rows as `write` returns them.
    splits: study and split.
    root: of the layout.
  """
  for name, columns, rows in (
    ('nodules.csv', ('image', 'y', 'x', 'diameter_px'), nodules),
    ('splits.csv', ('study', 'split'), splits),
  ):
    with (root / name).open('w', encoding='utf-8', newline='') as file:
      table = csv.writer(file, lineterminator='\n')
      table.writerow(columns)
      table.writerows(rows)
