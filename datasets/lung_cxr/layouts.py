"""Finds films and masks of lungs under a folder, by names."""

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from datasets import builders
from medzoo.io import coco_outlines
from medzoo.io import images
from medzoo.io import lung_masks
from medzoo.io import radiographs

# Of folders, as `_plain` writes their names.
_IMAGES = re.compile('(image|film|picture|xray|cxr)s?(png)?')
_MASKS = re.compile('(lungs?)?(mask|label)s?')
_SIDES = {
  lung_masks.RIGHT: re.compile('(mask|lung)?s?right(lung)?s?(mask)?s?'),
  lung_masks.LEFT: re.compile('(mask|lung)?s?left(lung)?s?(mask)?s?'),
}
# What names of masks have more than those of their films.
_MORE = re.compile(r'([-_ ]?(mask|label|left|right|lung)s?)+$', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where films and masks lie.

  Attributes:
    images: the folder of the films.
    films: their files.
    sides: by `lung_masks.RIGHT` and `LEFT`, the folder of the masks; empty
      where there is none.
    masks: the folder of masks of both lungs, None where there is none.
    lists: COCO's files, wanted or not.
  """

  images: pathlib.Path
  films: tuple[pathlib.Path, ...]
  sides: Mapping[int, pathlib.Path]
  masks: pathlib.Path | None
  lists: tuple[pathlib.Path, ...]

  @functools.cached_property
  def _films(self) -> frozenset[pathlib.Path]:
    return frozenset(self.films)

  def locate(
    self, name: str, bases: Sequence[pathlib.Path]
  ) -> pathlib.Path | None:
    """Finds the film that a list or a table names.

    Args:
      name: its path, from the films' folder or another one.
      bases: the other folders.

    Returns:
      the film, None where there is none.
    """
    for base in (self.images, *bases):
      path = pathlib.Path(os.path.normpath(base / name))
      if path in self._films:
        return path
    return None


def find(root: pathlib.Path, folder: str, kind: str) -> Layout:
  """Finds films and masks by the names of folders.

  Args:
    root: the raw root.
    folder: of the films, from the root; '' for the one called `images` or the
      like, else the root.
    kind: of the masks that are wanted, 'sides', 'labels', 'whole' or 'coco';
      '' for what there is.

  Returns:
    where everything lies; of masks only those wanted.

  Raises:
    ValueError: there are two folders for the same, masks of one side only, or
      masks of two kinds and none is wanted.
  """
  files = builders.walk(root)
  folders = sorted({x for path in files for x in _above(path, root)})
  found = {
    side: _only(root, folders, pattern, f'masks of the {name} lung')
    for (side, pattern), name in zip(
      _SIDES.items(), ('right', 'left'), strict=True
    )
  }
  sides = {side: path for side, path in found.items() if path}
  if len(sides) == 1:
    (path,) = sides.values()
    raise ValueError(
      f'{root}: found only {path.relative_to(root)}, expected a folder of masks'
      ' for either lung, such as leftMask and rightMask'
    )
  beside = [x for x in folders if not _within(x, sides.values())]
  inner = list(sides.values())
  masks = _only(
    root, [x for x in beside if _holds(files, x, inner)], _MASKS, 'masks'
  )
  if masks and sides and not kind:
    raise ValueError(
      f'{root}: found masks in {masks.relative_to(root)} and of either lung,'
      ' expected one kind; the option kind chooses'
    )
  taken = [*inner, *([masks] if masks else [])]
  if folder:
    source = root / folder
    if not source.is_dir():
      raise ValueError(f'{root}: found no folder {folder}, expected films')
  else:
    free = [x for x in beside if not _within(x, taken)]
    source = _only(root, free, _IMAGES, 'films') or root
  films = tuple(
    path
    for path in files
    if _within(path, [source])
    and not _within(path, taken)
    and radiographs.is_film_file(path)
  )
  if not films:
    raise ValueError(f'{source}: found no films, expected pictures or DICOM')
  return Layout(
    source,
    films,
    sides if kind in ('', 'sides') else {},
    masks if kind in ('', 'labels', 'whole') else None,
    tuple(path for path in files if coco_outlines.is_list(path)),
  )


def match(
  layout: Layout, folder: pathlib.Path
) -> tuple[dict[pathlib.Path, list[pathlib.Path]], list[pathlib.Path]]:
  """Joins films and masks by their names.

  A mask is called as its film, by its path below the folder, but for the
  ending, or with `_mask` and the like behind.

  Args:
    layout: has the films.
    folder: holds the masks.

  Returns:
    by film, the masks that may be its own: one, unless names are doubtful;
    and the masks of no film.
  """
  by_name: dict[str, list[pathlib.Path]] = {}
  for path in builders.walk(folder):
    if images.is_picture_file(path):
      by_name.setdefault(_stem(path, folder), []).append(path)
  shortened: dict[str, list[pathlib.Path]] = {}
  for name, paths in by_name.items():
    shortened.setdefault(_MORE.sub('', name), []).extend(paths)
  found = {}
  for film in layout.films:
    stem = _stem(film, layout.images)
    found[film] = by_name.get(stem) or shortened.get(stem, [])
  used = {path for paths in found.values() for path in paths}
  return found, [
    path for paths in by_name.values() for path in paths if path not in used
  ]


def doubles(layout: Layout) -> set[pathlib.Path]:
  """Returns the films whose names differ in their endings only."""
  stems = [_stem(path, layout.images) for path in layout.films]
  counts = collections.Counter(stems)
  return {
    path
    for path, stem in zip(layout.films, stems, strict=True)
    if counts[stem] > 1
  }


def _above(path: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders between the root and a file."""
  parents = list(path.parents)
  return parents[: parents.index(root)]


def _only(
  root: pathlib.Path,
  folders: Iterable[pathlib.Path],
  pattern: re.Pattern[str],
  what: str,
) -> pathlib.Path | None:
  found = [path for path in folders if pattern.fullmatch(_plain(path.name))]
  if len(found) > 1:
    names = ' and '.join(str(path.relative_to(root)) for path in found[:2])
    raise ValueError(f'{root}: found {what} in {names}, expected one folder')
  return found[0] if found else None


def _plain(name: str) -> str:
  return re.sub('[^a-z]', '', name.lower())


def _within(path: pathlib.Path, folders: Iterable[pathlib.Path]) -> bool:
  return any(path.is_relative_to(folder) for folder in folders)


def _holds(
  files: Sequence[pathlib.Path],
  folder: pathlib.Path,
  except_in: Sequence[pathlib.Path],
) -> bool:
  """Whether a folder of masks has pictures beside those of folders in it."""
  return bool(_MASKS.fullmatch(_plain(folder.name))) and any(
    path.is_relative_to(folder)
    and not _within(path, except_in)
    and images.is_picture_file(path)
    for path in files
  )


def _stem(path: pathlib.Path, folder: pathlib.Path) -> str:
  """Returns a path below a folder without the ending that films have."""
  name = path.relative_to(folder).as_posix()
  ending = path.suffix if path.suffix.lower() in radiographs.SUFFIXES else ''
  return name.removesuffix(ending)
