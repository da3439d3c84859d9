"""LIDC-IDRI's scans and marks, listed, drawn, masked, cut to slices and tiles.

`python -m medzoo.data.lidc list|findings|masks|pictures|slices|tiles PATH ...`,
where PATH is a folder of DICOM series and reader XML in any arrangement,
TCIA's say. `list` and `findings` also take the XML alone: a folder, a file, a
tar.
"""

import argparse
import contextlib
import csv
import dataclasses
import itertools
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import numpy as np
import rich.console
import rich.progress
from PIL import Image

from medzoo import types
from medzoo.data import lidc_findings
from medzoo.data import lidc_listing
from medzoo.data import lidc_pictures
from medzoo.data import lidc_scans
from medzoo.data import lidc_tiles
from medzoo.data import lungs
from medzoo.data import slice_pictures
from medzoo.data import slices
from medzoo.io import box_lists
from medzoo.io import lidc_lesions
from medzoo.io import volumes

# As experiments/lidc_lstm.py has it.
_SLICE_WINDOW = {'name': 'window', 'low': -1000.0, 'high': 400.0}
_TILE_COLUMNS = ('file', 'class', 'series', 'group', 'z', 'y', 'x')


class _BadCall(Exception):
  """An output that cannot be written to."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns 0, 1 where data is at fault, 2 for the call."""
  options = _parser().parse_args(arguments)
  try:
    options.run(options)
  except BrokenPipeError:  # the reader of the listing has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except _BadCall as error:
    _say(str(error))
    return 2
  except (OSError, ValueError) as error:
    _say(f'lidc: {error}')
    return 1
  return 0


def _list(options: argparse.Namespace) -> None:
  target = contextlib.nullcontext(sys.stdout)
  if options.output:
    target = _whole(options.output)
  with target as file:
    writer = csv.DictWriter(
      file, lidc_listing.COLUMNS, restval='', lineterminator='\n'
    )
    rows = lidc_listing.rows(options.path)
    first = next(rows)  # no header where there is nothing to list
    writer.writeheader()
    writer.writerows(itertools.chain([first], rows))


def _findings(options: argparse.Namespace) -> None:
  scans = lidc_scans.find(options.path)
  documents = (scan.document for scan in scans if scan.document is not None)
  with _whole(options.output) as file:
    images = lidc_findings.write(documents, file)
  _say(f'{options.output}: findings on {images} images')


def _masks(options: argparse.Namespace) -> None:
  folder = _folder(options.output)

  def write(scan: lidc_scans.Scan) -> str:
    volume = lidc_scans.read(scan)
    mask = _lungs(volume)
    path = folder / f'{_name(scan.uid)}.{options.format}'
    volumes.write(
      dataclasses.replace(volume, voxels=mask.astype(np.uint8)), path
    )
    litres = mask.sum() * np.prod(volume.spacing) / 1e6
    return f'{litres:.2f} l in the mask'

  _each(options.path, write)


def _pictures(options: argparse.Namespace) -> None:
  folder = _folder(options.output)

  def write(scan: lidc_scans.Scan) -> str:
    volume = lidc_scans.read(scan)
    reading = lidc_scans.measure(scan, volume)
    mask = _lungs(volume) if options.lungs else None
    indices = lidc_pictures.marked(reading)
    if options.all:
      indices = range(len(volume.voxels))
    for index in indices:
      picture = lidc_pictures.draw(reading, index, mask)
      picture.save(folder / f'{_name(scan.uid)}_{index:03d}.png')
    return f'{len(indices)} pictures'

  _each(options.path, write)


def _slices(options: argparse.Namespace) -> None:
  folder = _empty_folder(options.output)
  records: list[box_lists.Record] = []

  def write(scan: lidc_scans.Scan) -> str:
    reading = lidc_scans.measure(scan, lidc_scans.read(scan))
    boxes = lidc_lesions.boxes(scan.document, reading.slices, reading.volume)
    stack = slices.prepare(
      reading.volume,
      shape=options.shape,
      pixel_mm=options.pixel_mm,
      window=_SLICE_WINDOW,
      region='lung',
    )
    names = {
      z: f'{reading.group}/{_name(scan.uid)}_{z:04d}.png'
      for z in range(len(stack))
    }
    records.extend(slice_pictures.write(stack, boxes, names, folder))
    ignored = int(boxes.ignored.sum())
    return (
      f'{len(stack)} slices, {len(boxes) - ignored} boxes, {ignored} ignored'
    )

  with _whole(folder / 'boxes.json') as file:
    _each(options.path, write)
    box_lists.write_json(records, file)


def _tiles(options: argparse.Namespace) -> None:
  folder = _empty_folder(options.output)
  with (
    _whole(folder / 'tiles.csv') as file,
    # By this name and these columns image_folder knows patients.
    _whole(folder / 'patients.csv') as patients,
  ):
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(_TILE_COLUMNS)
    owners = csv.writer(patients, lineterminator='\n')
    owners.writerow(('file', 'patient'))

    def write(scan: lidc_scans.Scan) -> str:
      reading = lidc_scans.measure(scan, lidc_scans.read(scan))
      tiles = lidc_tiles.of_findings(reading, options.size)
      if options.none:
        tiles += lidc_tiles.of_nothing(
          reading,
          _lungs(reading.volume),
          size=options.size,
          stride=options.stride,
          count=options.none,
          seed=options.seed,
        )
      for tile in tiles:
        place = '_'.join(map(str, tile.index))
        path = pathlib.Path(tile.kind, f'{_name(scan.uid)}_{place}.png')
        (folder / tile.kind).mkdir(exist_ok=True)
        Image.fromarray(tile.pixels).save(folder / path)
        row = (path.as_posix(), tile.kind, scan.uid, reading.group)
        writer.writerow((*row, *tile.index))
        owners.writerow((path.as_posix(), reading.group))
      return f'{len(tiles)} tiles'

    _each(options.path, write)


def _each(path: pathlib.Path, work: Callable[[lidc_scans.Scan], str]) -> None:
  """Works on every series in a place, and says what came of it, or why not.

  Raises:
    ValueError: none could be used.
  """
  scans = [scan for scan in lidc_scans.find(path) if scan.series is not None]
  console = rich.console.Console(stderr=True)
  done = 0
  for number, scan in enumerate(
    rich.progress.track(
      scans, 'scans', console=console, disable=not console.is_terminal
    ),
    1,
  ):
    try:
      result = work(scan)
      done += 1
    except lidc_scans.LeftOut as error:
      result = f'left out, {error}'
    _say(f'{number}/{len(scans)} {scan.uid}: {result}', console)
  if not done:
    raise ValueError(
      f'{path}: found {len(scans)} image series and could use none, expected'
      ' CT series and, but for masks, their XML'
    )


def _say(line: str, console: rich.console.Console | None = None) -> None:
  """Prints a line on standard error, above a progress bar if one is shown."""
  console = console or rich.console.Console(stderr=True)
  console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lungs(volume: types.Volume) -> np.ndarray:
  try:
    return lungs.lung_mask_of_scan(volume)
  except lungs.NoLungs as error:
    raise lidc_scans.LeftOut('no_lungs', str(error)) from None


def _name(uid: str) -> str:
  """Makes a UID, which a file may have as it likes, safe as part of a name."""
  return re.sub(r'[^\w.-]', '_', uid)


def _folder(path: pathlib.Path) -> pathlib.Path:
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise _BadCall(f'--output {path}: no folder: {error.strerror}') from None
  if not os.access(path, os.W_OK):
    raise _BadCall(f'--output {path}: found a folder that is not writable')
  return path


def _empty_folder(path: pathlib.Path) -> pathlib.Path:
  if any(_folder(path).iterdir()):
    raise _BadCall(f'--output {path}: found files, expected an empty folder')
  return path


@contextlib.contextmanager
def _whole(path: pathlib.Path) -> Iterator[TextIO]:
  """Opens a text file that only appears under its name once it is whole."""
  _folder(path.parent)
  if path.is_dir():
    raise _BadCall(f'--output {path}: found a folder, expected a file')
  part = path.with_name(path.name + '.part')
  try:
    with part.open('w', newline='', encoding='utf-8') as file:
      yield file
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def _at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(
        f'found {text!r}, expected a whole number from {least} up'
      )
    return int(text)

  return number


def _positive(text: str) -> float:
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not 0 < number < math.inf:
    raise argparse.ArgumentTypeError(
      f'found {text!r}, expected a number above 0'
    )
  return number


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m medzoo.data.lidc',
    description='Lists LIDC-IDRI, and exports findings, lung masks, pictures,'
    ' slices and tiles. Series that cannot be used are named with the reason.',
  )
  commands = parser.add_subparsers(required=True, metavar='COMMAND')

  def add(
    name: str, run: Callable[[argparse.Namespace], None], output: str, text: str
  ) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument(
      'path', metavar='PATH', type=pathlib.Path, help='DICOM and XML'
    )
    command.add_argument(
      '--output',
      metavar=output,
      type=pathlib.Path,
      required=name != 'list',
      help='what is written' if name != 'list' else 'in place of stdout',
    )
    return command

  add('list', _list, 'FILE.csv', 'a row a scan, as CSV; the XML alone will do')
  add(
    'findings',
    _findings,
    'FILE.json',
    'the marks by SOPInstanceUID, as JSON; the XML alone will do',
  )
  masks = add('masks', _masks, 'DIR', 'a lung mask a scan, 0 or 1')
  masks.add_argument('--format', choices=('mha', 'nii.gz'), default='mha')
  pictures = add(
    'pictures', _pictures, 'DIR', 'a PNG a slice with what each reader marked'
  )
  pictures.add_argument(
    '--all', action='store_true', help='slices without marks too'
  )
  pictures.add_argument(
    '--lungs', action='store_true', help='draw the edge of the lung mask'
  )
  cut = add(
    'slices',
    _slices,
    'DIR',
    'a PNG a slice, cropped to the lungs, and boxes.json, to train on',
  )
  cut.add_argument(
    '--shape',
    nargs=2,
    metavar=('H', 'W'),
    type=_at_least(1),
    default=(256, 352),
    help='pixels (default 256 352)',
  )
  cut.add_argument(
    '--pixel_mm',
    type=_positive,
    default=0.9,
    help='the finest pixel; coarser where lungs do not fit (default 0.9)',
  )
  tiles = add(
    'tiles',
    _tiles,
    'DIR',
    'PNG tiles, a folder a class, tiles.csv, patients.csv',
  )
  tiles.add_argument(
    '--size', type=_at_least(1), default=64, help='pixels (default 64)'
  )
  tiles.add_argument(
    '--stride',
    type=_at_least(1),
    default=32,
    help='pixels between tiles without findings (default 32)',
  )
  tiles.add_argument(
    '--none',
    metavar='N',
    type=_at_least(0),
    default=50,
    help='tiles without findings, a scan (default 50)',
  )
  tiles.add_argument(
    '--seed', type=_at_least(0), default=0, help='of their choice (default 0)'
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
