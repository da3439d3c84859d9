"""Finds what a model can look at under a path."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from medzoo import types
from medzoo.io import dicom
from medzoo.io import images
from medzoo.io import radiographs
from medzoo.io import video
from medzoo.io import volumes
from medzoo.train import build

# The name of a case, and the function that reads it.
Readable = tuple[str, Callable[[], types.Volume]]

# How the name of a video ends on which predict has drawn.
ANNOTATED = '.annotated.mp4'


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A series or a file that was not read, and why, by the reader's code."""

  series: str
  reason: str


def find(
  source: pathlib.Path, kinds: Sequence[str], written: Sequence[pathlib.Path]
) -> tuple[list[Readable], list[Skipped]]:
  """Finds every case of some kinds under a path.

  Args:
    source: a file or a folder.
    kinds: 'scans', which are DICOM series and volume files; 'pictures', files
      of 8 bits as they are; 'videos', which `find_videos` finds and are left
      out here; or 'films', projection radiographs, each a picture, of which
      the greys are taken, or a DICOM file. Films go with pictures alone, which
      then keep their colours and their 16 bits.
    written: folders of pictures that an earlier call made, which are skipped.

  Returns:
    What can be read, by its path below `source` or its series UID, and what
    is skipped.

  Raises:
    build.ConfigError: there is no such path, or it lies in one of `written`.
  """
  if not source.exists():
    raise build.ConfigError(f'--input {source}: found no such file or folder')
  files = sorted(source.rglob('*')) if source.is_dir() else [source]
  files, skipped = _without(written, files, source)
  names = _names(files, source)
  if 'videos' in kinds:
    names = {p: name for p, name in names.items() if not video.is_video_file(p)}
  if 'films' in kinds:
    readers, others = _find_films(names, 'pictures' in kinds)
  else:
    readers, others = _find_scans(source, names, 'pictures' in kinds)
  return readers, skipped + others


def find_videos(
  source: pathlib.Path,
) -> tuple[list[tuple[str, pathlib.Path]], list[Skipped]]:
  """Finds every video under a path.

  Args:
    source: a file or a folder.

  Returns:
    Names and files of what can be read, and what an earlier call drew, which
    is skipped.
  """
  files = sorted(source.rglob('*')) if source.is_dir() else [source]
  found, skipped = [], []
  for path, name in _names(files, source).items():
    if name.endswith(ANNOTATED):
      skipped.append(Skipped(name, 'written by predict'))
    elif video.is_video_file(path):
      found.append((name, path))
  return found, skipped


def _names(
  files: Sequence[pathlib.Path], source: pathlib.Path
) -> dict[pathlib.Path, str]:
  """Names files by their path below the source."""
  return {
    path: path.relative_to(source).as_posix() if path != source else path.name
    for path in files
    if path.is_file()
  }


def _without(
  written: Sequence[pathlib.Path],
  files: Sequence[pathlib.Path],
  source: pathlib.Path,
) -> tuple[list[pathlib.Path], list[Skipped]]:
  """Leaves the files in some folders out."""
  root, inside = source.resolve(), []
  for folder in [path.resolve() for path in written]:
    if folder in (root, *root.parents):
      raise build.ConfigError(
        f'--input {source}: is where pictures are to be written; choose '
        'another --output'
      )
    if folder.is_dir() and root in folder.parents:
      inside.append(folder)
  kept = [p for p in files if not set(inside) & set(p.resolve().parents)]
  return kept, [Skipped(f.name, 'written by predict') for f in inside]


def _find_films(
  names: Mapping[pathlib.Path, str], keeps_colours: bool
) -> tuple[list[Readable], list[Skipped]]:
  """Finds every film; each file is one."""
  readers, skipped = [], []
  for path, name in names.items():
    if keeps_colours and images.is_picture_file(path):
      readers.append((name, functools.partial(_read_picture, path, name, True)))
    elif radiographs.is_film_file(path):
      # Whole pictures are judged from any side; lungs have a left and a right.
      read = functools.partial(_read_film, path, name, keeps_colours)
      readers.append((name, read))
    else:
      skipped.append(Skipped(name, 'not_a_film'))
  return readers, skipped


def _find_scans(
  source: pathlib.Path, names: Mapping[pathlib.Path, str], reads_pictures: bool
) -> tuple[list[Readable], list[Skipped]]:
  """Finds every volume file, DICOM series and picture."""
  readers, skipped, rest = [], [], set()
  for path, name in names.items():
    if volumes.is_volume_file(path):
      readers.append((name, functools.partial(volumes.read, path)))
    elif not images.is_picture_file(path):
      rest.add(str(path))
    elif reads_pictures:
      readers.append((name, functools.partial(_read_picture, path, name)))
    else:
      skipped.append(Skipped(name, 'picture'))
  series = dicom.find_series(source) if rest else []
  readers += [
    (one.uid or 'series', functools.partial(_read_series, one))
    for one in series
  ]
  kinds = {path: kind for one in series for path, kind in one.skipped}
  taken = {path for one in series for path in one.paths}
  beside = {
    (pathlib.Path(path).name, kinds.get(path, 'not_dicom'))
    for path in rest - taken
  }
  return readers, skipped + [Skipped(*row) for row in sorted(beside)]


def _read_series(series: dicom.Series) -> types.Volume:
  volume = dicom.read(series)
  if volume.spacing[0] is None:
    raise dicom.Refused('too_few_slices', 'a single image')
  return volume


def _read_picture(
  path: pathlib.Path, name: str, deep: bool = False
) -> types.Volume:
  pixels = images.read(path, deep=deep)[None]
  return types.Volume(pixels, (None, None, None), series_uid=name)


def _read_film(path: pathlib.Path, name: str, any_view: bool) -> types.Volume:
  film = radiographs.read(path, any_view=any_view)
  return dataclasses.replace(film, series_uid=name)
