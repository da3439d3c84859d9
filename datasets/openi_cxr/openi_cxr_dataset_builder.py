"""Builder of Open-i's chest X-rays, normal or with a finding."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from datasets import builders
from datasets import cases
from datasets import splits
from datasets import strata
from datasets.openi_cxr import labels
from datasets.openi_cxr import layouts
from datasets.openi_cxr import marks
from datasets.openi_cxr import studies
from datasets.openi_cxr import views
from medzoo import types
from medzoo.io import dicom
from medzoo.io import radiographs
from medzoo.io import tables


@dataclasses.dataclass(frozen=True)
class Source:
  """A film to read.

  Attributes:
    path: the file.
    key: its path from the raw root.
    study: whose film it is.
    terms: those of the report.
    label: its class.
    sha256: of the file, where it is known, else ''.
    nodules: where they are; None where nothing tells.
  """

  path: pathlib.Path
  key: str
  study: str
  terms: tuple[str, ...]
  label: int
  sha256: str
  nodules: types.Boxes | None


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of films with reports.

  Attributes:
    positive: MeSH's headings of which one makes class 1.
    negative: headings that, with none beside them, make class 0.
    views: 'frontal' or 'lateral' for films of which this is known; empty for
      all films.
    nodules: a table below the raw root that tells where they are, see `marks`;
      empty for `nodules.csv`, if there is one.
    shares: of the splits, where no table has them.
    split_seed: chooses among the divisions.
  """

  positive: Sequence[str] = ('nodule',)
  negative: Sequence[str] = ('normal',)
  views: Sequence[str] = ()
  nodules: str = ''
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one film."""
  if source.sha256:
    with source.path.open('rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if digest != source.sha256:
      raise cases.LeftOut(
        source.key,
        'changed',
        f'found SHA-256 {digest}, expected {source.sha256}',
      )
  try:
    film = radiographs.read(source.path, any_view=True)
  except dicom.Refused as error:
    raise cases.LeftOut(source.key, error.code, error.detail) from None
  except ValueError as error:
    raise cases.LeftOut(source.key, 'unreadable', str(error)) from None
  nothing = tables.to_findings(np.zeros((0, 4)))
  case = types.Case(
    dataclasses.replace(film, series_uid=source.key),
    cases.pseudonym(source.study),
    nothing,
    nothing,
    boxes=source.nodules,
    label=source.label,
  )
  return cases.encode(case, extra={'terms': '|'.join(source.terms)})


class Builder(builders.CaseBuilder):
  """Chest X-rays of Indiana University, from Open-i."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with NLMCXR_png and NLMCXR_reports, or that of a scraper, with'
    ' data.json and its pictures.'
  )
  BUILDER_CONFIGS = [Config(name='films')]
  read = staticmethod(read)

  @classmethod
  def extra_features(cls) -> dict[str, tfds.features.FeatureConnector]:
    """Returns all that the report found, joined by '|'."""
    return {'terms': tfds.features.Text()}

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins films with reports, judges these and divides by study."""
    config = self.builder_config
    rule = labels.Rule(config.positive, config.negative)
    _check_views(config.views)
    found = layouts.find(manual_dir)
    table, known = manual_dir / (config.nodules or marks.TABLE), None
    if config.nodules or table.is_file():
      known = marks.read_table(table)
    sources, left_out = [], list(found.left_out)
    for film in found.films:
      key = film.path.relative_to(manual_dir).as_posix()
      try:
        sources.append(_source(film, key, rule, config.views, known))
      except labels.Undecided as error:
        left_out.append(cases.LeftOut(key, error.code, str(error)))
    table = studies.read_table(manual_dir)
    divided, others = _divide(sources, table, config)
    return cases.Listing(
      divided,
      (*left_out, *others),
      (*found.notes, *_notes(found, sources, bool(table))),
      (' or '.join(config.positive),),
      ' or '.join(config.negative),
    )


def _source(
  film: layouts.Film,
  key: str,
  rule: labels.Rule,
  wanted: Sequence[str],
  known: Mapping[str, types.Boxes] | None,
) -> Source:
  if wanted and film.view not in wanted:
    code = 'other_view' if film.view else 'unknown_view'
    raise labels.Undecided(
      code,
      f'found {film.view or "nothing that tells the view"}, expected'
      f' {" or ".join(wanted)}',
    )
  label = rule.judge(film.terms)
  nodules = None
  if known is not None:
    nodules = known.get(film.path.stem, marks.to_boxes(np.zeros((0, 4))))
  return Source(
    film.path, key, film.study, film.terms, label, film.sha256, nodules
  )


def _divide(
  sources: Sequence[Source], table: Mapping[str, str], config: Config
) -> tuple[dict[str, list[Source]], list[cases.LeftOut]]:
  """Returns the films of each split, and those that the table lacks."""
  if not table:
    groups = [source.study for source in sources]
    classes = [source.label for source in sources]
    return strata.divide(
      sources, groups, classes, config.shares, config.split_seed
    ), []
  divided: dict[str, list[Source]] = {}
  left_out = []
  for source in sources:
    if source.study in table:
      divided.setdefault(table[source.study], []).append(source)
    else:
      detail = f'{studies.TABLE}: found no row for {source.study}'
      left_out.append(cases.LeftOut(source.key, 'no_split', detail))
  return divided, left_out


def _notes(
  found: layouts.Found, sources: Sequence[Source], has_table: bool
) -> list[str]:
  told = collections.Counter(film.view or 'unknown' for film in found.films)
  positive = {source.study for source in sources if source.label}
  known = len({source.study for source in sources})
  return [
    'views: ' + ', '.join(f'{n} {view}' for view, n in told.most_common()),
    f'groups are {known} studies, {len(positive)} of them positive',
    *([f'splits are those of {studies.TABLE}'] * has_table),
  ]


def _check_views(wanted: Sequence[str]) -> None:
  if isinstance(wanted, str) or set(wanted) - set(views.VIEWS):
    raise ValueError(
      f'found views {wanted!r}, expected a tuple of {", ".join(views.VIEWS)}'
    )
