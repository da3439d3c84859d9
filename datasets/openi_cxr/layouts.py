"""Finds films and what was found on them, in either layout of Open-i's."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from datasets import builders
from datasets import cases
from datasets.openi_cxr import reports
from datasets.openi_cxr import scraped
from datasets.openi_cxr import views
from medzoo.io import radiographs


@dataclasses.dataclass(frozen=True)
class Film:
  """A film and its report.

  Attributes:
    path: the file.
    study: such as CXR1.
    terms: MeSH's headings with what qualifies them.
    view: one of `views.VIEWS`; '' where nothing tells.
    sha256: of the file, where it is known, else ''.
  """

  path: pathlib.Path
  study: str
  terms: tuple[str, ...]
  view: str
  sha256: str = ''


@dataclasses.dataclass(frozen=True)
class Found:
  """What there is.

  Attributes:
    films: those that have a report and a study.
    left_out: the others.
    notes: which layout it was, and what was passed over.
  """

  films: Sequence[Film]
  left_out: Sequence[cases.LeftOut]
  notes: Sequence[str]


def find(root: pathlib.Path) -> Found:
  """Joins films with their reports.

  Args:
    root: the raw root, with reports in XML and their pictures, or with a
      scraper's JSON.

  Returns:
    what there is.

  Raises:
    ValueError: there are both, several JSON files, or neither; or the JSON or
      the table of views is at fault.
  """
  files = builders.walk(root)
  lists = [path for path in files if path.name in scraped.NAMES]
  texts = [path for path in files if path.suffix.lower() == '.xml']
  found, broken, others = _read_reports(texts, root)
  if len(lists) + bool(found) > 1:
    what = [str(path.relative_to(root)) for path in lists]
    what += [f'{len(found)} reports in XML'] * bool(found)
    raise ValueError(
      f'{root}: found {" and ".join(what)}, expected either reports or one'
      ' JSON of a scraper'
    )
  if not lists and not found:
    raise ValueError(
      f'{root}: found no reports; expected NLMCXR_reports with XML files and'
      f' NLMCXR_png, or {scraped.NAMES[0]} of a scraper'
      + (f'; {builders.describe(broken)}' if broken else '')
    )
  films = [path for path in files if radiographs.is_film_file(path)]
  table = views.read_table(root)
  joined = (
    _by_list(lists[0], films, root, table)
    if lists
    else _by_reports(found, films, root, table)
  )
  notes = [f'{others} XML files are no reports'] * (others > 0)
  return Found(
    joined.films, [*broken, *joined.left_out], [*joined.notes, *notes]
  )


def _read_reports(
  texts: Sequence[pathlib.Path], root: pathlib.Path
) -> tuple[dict[pathlib.Path, reports.Report], list[cases.LeftOut], int]:
  """Returns the reports, those that cannot be read, and how many are none."""
  found, broken, others = {}, [], 0
  for path in texts:
    try:
      found[path] = reports.read(path)
    except reports.NotReport:
      others += 1
    except reports.Refused as error:
      broken.append(
        cases.LeftOut(_key(path, root), 'broken_report', str(error))
      )
  return found, broken, others


def _by_reports(
  found: Mapping[pathlib.Path, reports.Report],
  films: Sequence[pathlib.Path],
  root: pathlib.Path,
  table: Mapping[tuple[str, str], str],
) -> Found:
  by_name: dict[str, list[pathlib.Path]] = {}
  for path in films:
    by_name.setdefault(path.stem, []).append(path)
  counts = collections.Counter(x for y in found.values() for x in y.captions)
  joined, left_out = [], {}
  for place, report in found.items():
    named = filter(None, map(scraped.study_of, report.captions))
    own = next(named, report.study)
    for name, caption in report.captions.items():
      paths = by_name.get(name, [])
      study = scraped.study_of(name) or own
      problem = _problem(len(paths), study, place.relative_to(root))
      if counts[name] > 1:
        problem = 'two_reports', 'found several reports of it, expected one'
      if problem:
        left_out[name] = cases.LeftOut(name, *problem)
      else:
        view = _view(study, name, caption, table)
        joined.append(Film(paths[0], study, report.terms, view))
  for path in films:
    if path.stem not in counts:
      key = _key(path, root)
      left_out[key] = cases.LeftOut(
        key, 'no_report', 'found none, expected one'
      )
  silent = sum(not report.captions for report in found.values())
  notes = [f'official layout, {len(found)} reports']
  notes += [f'{silent} reports name no picture'] * (silent > 0)
  return Found(joined, list(left_out.values()), notes)


def _by_list(
  path: pathlib.Path,
  films: Sequence[pathlib.Path],
  root: pathlib.Path,
  table: Mapping[tuple[str, str], str],
) -> Found:
  by_name: dict[str, list[pathlib.Path]] = {}
  for film in films:
    by_name.setdefault(film.name, []).append(film)
  joined, left_out, known = [], [], {}
  for n, entry in scraped.read(path).items():
    paths = by_name.get(f'{n}.png', [])
    beside = path.parent / f'{n}.png'
    paths = [beside] if beside in paths else paths
    if entry is None:
      problem = 'bad_entry', f'{path.name}: found no items of text and img'
    else:
      problem = _problem(len(paths), entry.study, pathlib.Path(path.name))
      if entry.address in known:
        detail = f'{path.name}: found it as {known[entry.address]}.png too'
        problem = 'duplicate', detail
    if problem:
      left_out.append(cases.LeftOut(f'{n}.png', *problem))
      continue
    if entry.address:
      known[entry.address] = n
    name = scraped.name_of(entry.address)
    view = _view(entry.study, name, entry.caption, table)
    joined.append(Film(paths[0], entry.study, entry.terms, view, entry.sha256))
  return Found(joined, left_out, [f'layout of a scraper, {path.name}'])


def _problem(
  count: int, study: str, place: pathlib.Path
) -> tuple[str, str] | None:
  """Says why a picture that a file names cannot be used, if it cannot."""
  if not count:
    return 'missing', f'{place} names it'
  if count > 1:
    return 'ambiguous_film', f'found {count} files of this name, expected one'
  if not study:
    return (
      'no_study',
      f'{place}: found neither CXR and a number in its name nor an id of its'
      ' study, expected one: splits go by study',
    )
  return None


def _view(
  study: str, name: str, caption: str, table: Mapping[tuple[str, str], str]
) -> str:
  told = table.get((study, views.number(name)), '')
  return told or views.of_caption(caption)


def _key(path: pathlib.Path, root: pathlib.Path) -> str:
  return path.relative_to(root).as_posix()
