"""Finds pictures in a folder per class."""

import dataclasses
import pathlib
from collections.abc import Sequence

from datasets import builders
from datasets import cases
from datasets import owners
from medzoo.io import radiographs


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture.

  Attributes:
    path: the file.
    key: its path from the raw root.
    folder: the name of its class.
    split: the one that its folder is in; '' where folders are no splits.
  """

  path: pathlib.Path
  key: str
  folder: str
  split: str


@dataclasses.dataclass(frozen=True)
class Layout:
  """What there is.

  Attributes:
    pictures: those in folders of classes.
    classes: the names of the folders, two or more, by the alphabet.
    left_out: pictures that lie beside.
  """

  pictures: Sequence[Picture]
  classes: tuple[str, ...]
  left_out: Sequence[cases.LeftOut]


def find(root: pathlib.Path) -> Layout:
  """Finds pictures by the names of folders.

  Args:
    root: has a folder for each class, or folders called as splits are, with
      such in them.

  Returns:
    what there is.

  Raises:
    ValueError: some folders are splits and others are not, or there are not
      at least two classes.
  """
  places = {
    path: path.relative_to(root).parts
    for path in builders.walk(root)
    if radiographs.is_film_file(path)
  }
  tops = sorted({parts[0] for parts in places.values() if len(parts) > 1})
  given = [name for name in tops if name.lower() in owners.SPLITS]
  if given and len(given) < len(tops):
    raise ValueError(
      f'{root}: found the folders {", ".join(tops)}, expected either'
      ' classes or train, validation and test with all classes in each'
    )
  depth = 1 if given else 0
  pictures, left_out = [], []
  for path, parts in places.items():
    key = '/'.join(parts)
    if len(parts) < depth + 2:
      problem = cases.LeftOut(key, 'no_class', 'found it in no class folder')
      left_out.append(problem)
      continue
    split = owners.SPLITS[parts[0].lower()] if given else ''
    pictures.append(Picture(path, key, parts[depth], split))
  classes = sorted({picture.folder for picture in pictures})
  if len(classes) < 2:
    raise ValueError(
      f'{root}: found pictures of {len(classes)} classes'
      f' ({", ".join(classes) or "none"}), expected a folder for each of two'
      ' or more'
    )
  return Layout(pictures, tuple(classes), left_out)
