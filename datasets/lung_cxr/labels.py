"""Which masks belong to which film, and their reading."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datasets import cases
from datasets.lung_cxr import layouts
from medzoo import types
from medzoo.io import coco_outlines
from medzoo.io import images
from medzoo.io import lung_masks

KINDS = ('sides', 'labels', 'whole', 'coco')


@dataclasses.dataclass(frozen=True)
class Label:
  """How the lungs of a film are given.

  Attributes:
    kind: one of `KINDS`.
    masks: files: right and left of 'sides', one of 'labels' and 'whole'.
    picture: of 'coco', what the list says.
    right, left: of 'coco', the categories; the same where one has both lungs.
  """

  kind: str
  masks: tuple[pathlib.Path, ...] = ()
  picture: coco_outlines.Picture | None = None
  right: str = ''
  left: str = ''

  @property
  def has_sides(self) -> bool:
    """Whether it says itself which lung is the right one."""
    return self.kind in ('sides', 'labels') or self.right != self.left


@dataclasses.dataclass(frozen=True)
class Labels:
  """What there is.

  Attributes:
    films: the label of every film that has one.
    left_out: what is amiss.
    notes: what was passed over, or taken for something.
  """

  films: Mapping[pathlib.Path, Label]
  left_out: tuple[cases.LeftOut, ...] = ()
  notes: tuple[str, ...] = ()


def read(label: Label) -> types.Masks:
  """Reads the masks of a film.

  Raises:
    ValueError: a file cannot be read.
    lung_masks.Refused: the masks leave doubts.
  """
  if label.kind == 'coco':
    return _fill(label)
  if label.kind == 'labels':
    return lung_masks.from_labels(images.read_labels(label.masks[0]))
  masks = [lung_masks.binarize(images.read_labels(x)) for x in label.masks]
  if label.kind == 'whole':
    return lung_masks.split(masks[0])
  sides = (lung_masks.RIGHT, lung_masks.LEFT)
  return lung_masks.from_sides(dict(zip(sides, masks, strict=True)))


def find(
  layout: layouts.Layout,
  root: pathlib.Path,
  *,
  kind: str,
  right: str,
  left: str,
) -> Labels:
  """Joins films and masks.

  Args:
    layout: where they lie.
    root: the raw root.
    kind: of masks, one of `KINDS`, or '' for what there is: masks go before
      lists.
    right, left: COCO's categories; '' for those that say so.

  Returns:
    the labels.

  Raises:
    ValueError: there are none of this kind, or a list is at fault.
  """
  if layout.sides:
    found = _by_folders(layout, root, 'sides', list(layout.sides.values()))
  elif layout.masks:
    found = _by_folders(layout, root, kind, [layout.masks])
  elif layout.lists and kind in ('', 'coco'):
    return _by_lists(layout, right, left)
  elif kind:
    raise ValueError(f'{root}: found no masks of the kind {kind!r}')
  else:
    return Labels({}, (), ('found no masks',))
  unread = [
    f'{path.name} is unread: masks go before it' for path in layout.lists
  ]
  return dataclasses.replace(found, notes=(*found.notes, *unread))


def _fill(label: Label) -> types.Masks:
  """Unites the outlines of a side, or tells sides apart in one category."""
  picture = label.picture
  filled = {
    name: [
      coco_outlines.fill(outline, picture)
      for outline in picture.outlines
      if outline.category == name
    ]
    for name in (label.right, label.left)
  }
  if label.right != label.left:
    empty = [np.zeros(picture.shape, bool)]
    return lung_masks.from_sides(
      {
        lung_masks.RIGHT: np.any(filled[label.right] or empty, axis=0),
        lung_masks.LEFT: np.any(filled[label.left] or empty, axis=0),
      }
    )
  both = filled[label.right]
  if len(both) == 2:
    return lung_masks.pair(*both)
  return lung_masks.split(np.any(both, axis=0))


def _by_folders(
  layout: layouts.Layout,
  root: pathlib.Path,
  kind: str,
  folders: Sequence[pathlib.Path],
) -> Labels:
  """Joins by names; folders are those of right and left, or one."""
  doubles = layouts.doubles(layout)
  matched = [layouts.match(layout, folder) for folder in folders]
  films: dict[pathlib.Path, Label] = {}
  left_out = [
    cases.LeftOut(_key(path, root), 'missing', 'found no film of this mask')
    for _, unused in matched
    for path in unused
  ]
  for film in layout.films:
    candidates = [found[film] for found, _ in matched]
    counts = [len(paths) for paths in candidates]
    problem = None
    if film in doubles and any(counts):
      problem = 'found several films of one name, expected one for its masks'
    elif max(counts) > 1:
      names = ' and '.join(x.name for paths in candidates for x in paths)
      problem = f'found {names}, expected one mask'
    if problem:
      left_out.append(
        cases.LeftOut(_key(film, root), 'ambiguous_mask', problem)
      )
    elif all(counts):
      films[film] = Label(kind, tuple(paths[0] for paths in candidates))
    elif any(counts):
      lacking = folders[counts.index(0)].name
      left_out.append(
        cases.LeftOut(
          _key(film, root),
          'no_mask',
          f'found none in {lacking}, expected one, black without a lung',
        )
      )
  if kind:
    return Labels(films, tuple(left_out))
  kind, notes = _guess(x.masks[0] for x in films.values())
  films = {
    film: dataclasses.replace(label, kind=kind) for film, label in films.items()
  }
  return Labels(films, tuple(left_out), notes)


def _guess(paths: Iterable[pathlib.Path]) -> tuple[str, tuple[str, ...]]:
  """Tells labels from masks of both lungs by the first that differs."""
  for path in paths:
    try:
      values = images.read_labels(path)
    except ValueError:
      continue
    if values.max() > lung_masks.LEFT:
      return 'whole', ()
    if values.max() == lung_masks.LEFT:
      return 'labels', ()
  return 'whole', ('masks are of 0 and 1 only: taken for both lungs',)


def _by_lists(layout: layouts.Layout, right: str, left: str) -> Labels:
  films: dict[pathlib.Path, Label] = {}
  left_out, notes = [], []
  places: dict[pathlib.Path, str] = {}
  for path in layout.lists:
    pictures, categories = coco_outlines.read(path)
    sides = _categories(path, categories, right, left)
    others = sorted(set(categories) - set(sides))
    if others:
      notes.append(f'{path.name}: passed over {", ".join(others)}')
    for picture in pictures:
      film = layout.locate(picture.name, [path.parent, layout.images.parent])
      if film is None:
        detail = f'{picture.place} names it'
        left_out.append(cases.LeftOut(picture.name, 'missing', detail))
        continue
      if film in places:
        raise ValueError(
          f'{picture.place}: found {picture.name} again, expected it only at'
          f' {places[film]}'
        )
      places[film] = picture.place
      if any(outline.category in sides for outline in picture.outlines):
        films[film] = Label('coco', (), picture, *sides)
  return Labels(films, tuple(left_out), tuple(notes))


def _categories(
  path: pathlib.Path, names: Sequence[str], right: str, left: str
) -> tuple[str, str]:
  """Returns the categories of the right and of the left lung."""
  if bool(right) != bool(left) or {right, left} - {'', *names}:
    raise ValueError(
      f'{path}: found the options right {right!r} and left {left!r}, expected'
      f' both among {", ".join(names)}'
    )
  if right:
    return right, left
  found = [_named(names, side) for side in ('right', 'left')]
  if [len(x) for x in found] == [1, 1] and found[0] != found[1]:
    return found[0][0], found[1][0]
  lungs = [x for x in names if 'lung' in x.lower()] or list(names)
  if len(lungs) == 1 and not any(found):
    return lungs[0], lungs[0]
  raise ValueError(
    f'{path}: found the categories {", ".join(names) or "none"}, expected one'
    " with 'right' and one with 'left' in its name, or one of lungs; the"
    ' options right and left tell'
  )


def _named(names: Sequence[str], side: str) -> list[str]:
  """Returns the names that say a side; of several those that say lung too."""
  found = [x for x in names if side in x.lower()]
  lungs = [x for x in found if 'lung' in x.lower()]
  return lungs or found


def _key(path: pathlib.Path, root: pathlib.Path) -> str:
  return path.relative_to(root).as_posix()
