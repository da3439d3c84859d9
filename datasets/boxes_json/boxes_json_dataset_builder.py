"""Builder of pictures whose boxes stand in TensorBox's JSON or its kin."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datasets import builders
from datasets import cases
from datasets import splits
from medzoo import types
from medzoo.io import box_lists
from medzoo.io import images
from medzoo.io import tables

_SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_LIDC = r'LIDC-IDRI-\d{4}'
# What unnamed boxes are called where no box has a name.
_UNNAMED = 'object'


@dataclasses.dataclass(frozen=True)
class Source:
  """A picture to read.

  Attributes:
    path: the file.
    key: its path from the raw root.
    group: pseudonym of its group.
    record: what its list says.
    labels: class id of each of the record's boxes.
  """

  path: pathlib.Path
  key: str
  group: str
  record: box_lists.Record
  labels: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of lists of boxes.

  Attributes:
    train, validation, test: lists of these splits below the raw root, a file
      or a pattern such as 'lists/train*.json'. Where all three are empty the
      lists in the root itself are taken, by names that contain 'train', 'val'
      and 'test', or all in one and divided by group where no name does.
    group: regular expression that finds whose a picture is in its key; with a
      pair of brackets, what they hold. Empty for LIDC-IDRI's patients, other
      pictures by folder where there are several, else each by itself.
    classes: names in the order of the class ids, from 1; empty for the sorted
      names that the lists have.
    shared_groups: whether given lists may share groups; scores then say
      little.
    shares: of the splits that have no list of their own.
    split_seed: chooses among the divisions.
  """

  train: str = ''
  validation: str = ''
  test: str = ''
  group: str = ''
  classes: Sequence[str] = ()
  shared_groups: bool = False
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one picture and brings its boxes within it."""
  try:
    pixels = images.read(source.path)
  except ValueError as error:
    raise cases.LeftOut(source.key, 'unreadable', str(error)) from None
  drawn, size = source.record.corners, np.tile(pixels.shape[:2], 2)
  corners = np.clip(drawn, 0, size)
  kept = (corners[:, 2:] > corners[:, :2]).all(axis=1)
  repairs = []
  if (corners != drawn)[kept].any():
    repairs.append('boxes_clipped')
  if not kept.all():
    repairs.append('boxes_without_area_dropped')
  volume = types.Volume(
    pixels[None],
    (None, 1.0, 1.0),
    series_uid=source.key,
    repairs=tuple(repairs),
  )
  boxes = types.Boxes(
    np.zeros(kept.sum(), np.int32),
    corners[kept],
    np.array(source.labels, np.int32)[kept],
    source.record.ignored[kept],
    np.arange(kept.sum(), dtype=np.int32),
  )
  nothing = tables.to_findings(np.zeros((0, 4)))
  return cases.encode(types.Case(volume, source.group, nothing, nothing, boxes))


class Builder(builders.CaseBuilder):
  """Pictures with boxes of one or several classes."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with the lists (.json, .idl or .txt) and the pictures that'
    ' they name, by paths from the list.'
  )
  BUILDER_CONFIGS = [Config(name='lists')]
  read = staticmethod(read)

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: Config
  ) -> list[pathlib.Path]:
    """Adds the lists and the pictures that lie elsewhere."""
    files = builders.walk(manual_dir)
    lists, _ = _find_lists(manual_dir, config)
    named = {manual_dir / key for key in _read_lists(manual_dir, lists)}
    named.update(path for paths in lists.values() for path in paths)
    return files + sorted(
      path for path in named.difference(files) if path.is_file()
    )

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins the lists and divides by group what they do not divide."""
    config = self.builder_config
    lists, notes = _find_lists(manual_dir, config)
    listed = _read_lists(manual_dir, lists)
    classes = _name_classes(listed.values(), config.classes)
    left_out = [
      cases.LeftOut(key, 'missing', f'{entry.record.place} names it')
      for key, entry in listed.items()
      if not (manual_dir / key).is_file()
    ]
    for error in left_out:
      del listed[error.series]
    groups, rule = _group(listed, config.group)
    sources: dict[str, list[Source]] = {split: [] for split in lists}
    for key, entry in listed.items():
      names = entry.record.names
      labels = tuple(classes.index(x or classes[0]) + 1 for x in names)
      group = cases.pseudonym(groups[key])
      sources[entry.split].append(
        Source(manual_dir / key, key, group, entry.record, labels)
      )
    shared = _shared(sources)
    if shared and not config.shared_groups:
      raise ValueError(
        f"{manual_dir}: found {len(shared)} groups in more than one list's"
        f' split ({", ".join(shared[:2])}), expected none; {rule}; the option'
        ' group finds them otherwise, shared_groups accepts it'
      )
    if shared:
      notes.append(f'{len(shared)} groups are in more than one split')
    divided = _divide(sources, config)
    return cases.Listing(divided, tuple(left_out), (*notes, rule), classes)


@dataclasses.dataclass(frozen=True)
class _Entry:
  """What the lists say of a picture, and in which split they put it."""

  split: str
  record: box_lists.Record


def _find_lists(
  root: pathlib.Path, config: Config
) -> tuple[dict[str, list[pathlib.Path]], list[str]]:
  """Returns the lists by split, and notes; 'train' has what is undivided."""
  given = {split: getattr(config, split) for split in _SPLITS}
  if any(given.values()):
    return {
      split: _match(root, split, pattern)
      for split, pattern in given.items()
      if pattern
    }, []
  lists = [
    path
    for path in sorted(root.iterdir())
    if path.is_file() and box_lists.is_list(path)
  ]
  if not lists:
    known = ', '.join(box_lists.SUFFIXES)
    raise ValueError(f'{root}: found no list of boxes, expected one ({known})')
  found: dict[str, list[pathlib.Path]] = {}
  for path in lists:
    names = [x for x, part in _SPLITS.items() if part in path.stem.lower()]
    if len(names) > 1:
      raise ValueError(
        f'{path}: found a name that fits {" and ".join(names)}, expected one;'
        ' the options train, validation and test tell'
      )
    found.setdefault(names[0] if names else '', []).append(path)
  others = found.pop('', [])
  if not found:
    return {'train': others}, []
  return found, [f'{path.name} belongs to no split: unread' for path in others]


def _match(root: pathlib.Path, split: str, pattern: str) -> list[pathlib.Path]:
  if (root / pattern).is_file():
    return [root / pattern]
  # Path.glob takes no absolute pattern.
  absolute = pathlib.Path(pattern).is_absolute()
  paths = [] if absolute else [x for x in root.glob(pattern) if x.is_file()]
  if not paths:
    raise ValueError(f'{root}: found no {pattern}, the list for {split}')
  return sorted(paths)


def _read_lists(
  root: pathlib.Path, lists: Mapping[str, Sequence[pathlib.Path]]
) -> dict[str, _Entry]:
  """Returns all pictures by their paths from the root, in the lists' order."""
  found: dict[str, _Entry] = {}
  for split, paths in lists.items():
    for path in paths:
      for record in box_lists.read(path):
        key = os.path.relpath(path.parent / record.image, root)
        entry = _Entry(split, record)
        first = found.setdefault(key, entry)
        if not _same(first, entry):
          raise ValueError(
            f'{record.place}: found {key} again, expected the split and the'
            f' boxes of {first.record.place}'
          )
  return found


def _same(a: _Entry, b: _Entry) -> bool:
  return (
    a.split == b.split
    and a.record.names == b.record.names
    and np.array_equal(a.record.corners, b.record.corners)
    and np.array_equal(a.record.ignored, b.record.ignored)
  )


def _name_classes(
  entries: Iterable[_Entry], given: Sequence[str]
) -> tuple[str, ...]:
  """Returns the names of the classes from 1; checks that they cover all."""
  places: dict[str, str] = {}
  for entry in entries:
    for name in entry.record.names:
      places.setdefault(name, entry.record.place)
  # Numbers by their size.
  met = sorted(
    places.keys() - {''}, key=lambda x: (len(x) if x.isdecimal() else 0, x)
  )
  names = tuple(given or met or (_UNNAMED,))
  if len(set(names)) < len(names) or '' in names:
    raise ValueError(f'found classes {names}, expected each name once')
  for name, place in places.items():
    if name not in names and (name or len(names) > 1):
      raise ValueError(
        f'{place}: found a box of {f"class {name!r}" if name else "no class"},'
        f' expected one of {", ".join(names)}'
      )
  return names


def _group(keys: Iterable[str], pattern: str) -> tuple[dict[str, str], str]:
  """Returns the group of every picture, and how it was found."""
  keys = list(keys)
  if pattern:
    found = splits.group_by(pattern, keys)
    return found, f'{len(set(found.values()))} groups by {pattern!r}'
  found = {key: splits.search_group(_LIDC, key) for key in keys}
  others = [key for key in keys if found[key] is None]
  folders = {key: str(pathlib.Path(key).parent) for key in others}
  counts = [f'{len(set(found.values()) - {None})} LIDC-IDRI patients']
  if len(set(folders.values())) > 1:
    found |= folders
    counts.append(f'{len(set(folders.values()))} folders')
  else:
    found |= {key: key for key in others}
    counts.append(f'{len(others)} pictures by themselves')
  told = [text for text in counts if not text.startswith('0 ')]
  return found, f'groups are {" and ".join(told)}'


def _shared(sources: Mapping[str, Sequence[Source]]) -> list[str]:
  """Returns the groups that are in more than one split."""
  counts = collections.Counter(
    group
    for some in sources.values()
    for group in {source.group for source in some}
  )
  return sorted(group for group, count in counts.items() if count > 1)


def _divide(
  sources: Mapping[str, Sequence[Source]], config: Config
) -> dict[str, Sequence[Source]]:
  """Takes the splits that have no list from training, by group."""
  if 'train' not in sources:
    return dict(sources)
  given = {split: some for split, some in sources.items() if split != 'train'}
  shares = {x: n for x, n in config.shares.items() if x not in given}
  pool = sources['train']
  divided = splits.divide(
    pool, [x.group for x in pool], shares, config.split_seed
  )
  return divided | given
