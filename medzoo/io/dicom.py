"""DICOM series to volumes: repaired or refused by name, never guessed.

`python -m medzoo.io.dicom PATH [--series UID] [--repair resampled] [--header]
[--json]` says what stands under a path.

What is mended without asking, and named in `Volume.repairs`:

* `duplicate_slices`: the same slice twice, pixel for pixel, is kept once.
* `localizer`: scout views (ImageType LOCALIZER) are left out.
* `foreign_series`: stray series of one or two slices are left out.
* `padding`: in CT, pixels that the file declares to be no data become air.
* `resampled`: only on request (`repair=('resampled',)`); unevenly spaced,
  missing or tilted slices are brought onto a regular grid.

What is refused; the first that applies is named:

* `not_dicom`: no DICOM image there.
* `unsupported_transfer_syntax`: pixels in a form that is not decoded.
* `several_series`: two whole series, and none was chosen.
* `missing_geometry`: no valid position, orientation or pixel spacing.
* `mixed_orientation`, `mixed_shape`: slices that do not fit on one another.
* `conflicting_slices`: different pixels at one position.
* `too_few_slices`: fewer than 3 positions (a single file may be one image).
* `gantry_tilt`: the stack leaves its normal by more than 0.1 degree and one
  pixel.
* `missing_slices`: gaps are whole multiples of the median gap.
* `uneven_spacing`: a gap differs from the median by more than 2 % and 0.1 mm
  (and positions from a grid by more than half of that), or a slice lies more
  than half a slice off the straight line.
* `truncated_pixels`: pixel data that are short, cut or do not decode.
"""

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from medzoo import types
from medzoo.io import dicom_geometry
from medzoo.io import dicom_pixels
from medzoo.io import dicom_report
from medzoo.io import dicom_resample
from medzoo.io import dicom_series
from medzoo.io import dicom_types

Refused = dicom_types.Refused
Series = dicom_series.Series
find_series = dicom_series.find_series
choose = dicom_series.choose

REPAIRS = (
  'duplicate_slices',
  'localizer',
  'foreign_series',
  'padding',
  'resampled',
)
_ON_REQUEST = ('resampled',)
_RESAMPLED = ('gantry_tilt', 'missing_slices', 'uneven_spacing')


def read_series(
  path: str | os.PathLike[str],
  *,
  series: str | None = None,
  repair: Sequence[str] = (),
) -> types.Volume:
  """Reads the one series under a path.

  Args:
    path: a folder of slices, searched to any depth, or one file.
    series: SeriesInstanceUID of the one to read, where there are several.
    repair: repairs that are made only on request; 'resampled' is the only one.

  Returns:
    the volume. Voxels are int16 where all slopes and intercepts are whole and
    the values fit, else float32; slices rise along row direction x column
    direction, and `direction` is right-handed. A single image has shape
    (1, h, w) and no spacing along z.

  Raises:
    Refused: with the first reason of this module's list that applies.
  """
  return read(choose(path, series=series), repair=repair)


def read(series: Series, *, repair: Sequence[str] = ()) -> types.Volume:
  """Reads a series that `find_series` or `choose` returned.

  Args:
    series: the series.
    repair: as for `read_series`.

  Returns:
    the volume, as `read_series` returns it.

  Raises:
    Refused: with the first reason of this module's list that applies.
  """
  for name in repair:
    if name not in _ON_REQUEST:
      raise ValueError(f'no repair {name!r} on request, but {_ON_REQUEST}')
  pile, regular, repairs = _arrange(series, repair)
  voxels = _fill([place[0] for place in pile.places], repairs)
  volume = _on_grid(series, pile, voxels)
  if not regular:
    air = dicom_pixels.AIR if series.modality == 'CT' else None
    voxels, step, origin = dicom_resample.resample(voxels, pile, air=air)
    repairs.add('resampled')
    volume = dataclasses.replace(
      volume,
      voxels=voxels,
      spacing=(step, *pile.spacing),
      origin=tuple(origin.tolist()),
    )
  return dataclasses.replace(
    volume, repairs=tuple(name for name in REPAIRS if name in repairs)
  )


def grid(series: Series) -> types.Volume:
  """Returns the grid that `read` would fill, from the headers alone.

  Args:
    series: one that `find_series` or `choose` returned.

  Returns:
    the volume without intensities: there is no memory behind its voxels. It
    names no repairs, as some show in the pixels only.

  Raises:
    Refused: as `read` does, but for pixel data that do not decode.
  """
  pile, _, _ = _arrange(series, ())
  first = pile.places[0][0].file
  shape = (len(pile.places), first.rows, first.columns)
  return _on_grid(series, pile, np.broadcast_to(np.int16(0), shape))


def slice_index(series: Series) -> dict[str, int]:
  """Maps the SOPInstanceUID of each slice to its index in the volume.

  It holds for the volume that `read` returns unless that was `resampled`. Both
  of two duplicates have the index of the one that is kept. Frames of one
  multi-frame file share a UID and are left out.

  Args:
    series: the series.

  Returns:
    the map; pixels are not read for it.

  Raises:
    Refused: where the slices' geometry does not allow an order.
  """
  pile = dicom_geometry.stack(dicom_series.without_localizers(series)[0])
  return {
    plane.file.sop_uid: index
    for index, place in enumerate(pile.places)
    for plane in place
    if plane.file.frames == 1
  }


def _arrange(
  series: Series, repair: Sequence[str]
) -> tuple[dicom_geometry.Stack, bool, set[str]]:
  """Stacks the slices to be read; says whether regularly, and what was mended.

  Pixels are looked at only where two slices lie at one place.
  """
  slices, repairs = dicom_series.without_localizers(series)
  dicom_series.check_syntax(slices)
  pile = dicom_geometry.stack(slices)
  _check_format(slices)
  pile, late = _without_duplicates(pile, repairs)
  regular = _regular(pile, series.single, repair)
  if late is not None:
    raise late
  for (plane,) in pile.places:
    problem = dicom_pixels.short(plane.file)
    if problem:
      raise Refused('truncated_pixels', problem)
  return pile, regular, repairs


def _on_grid(
  series: Series, pile: dicom_geometry.Stack, voxels: np.ndarray
) -> types.Volume:
  step = None
  if len(voxels) > 1:
    step = float(pile.heights[-1]) / (len(voxels) - 1)
  return types.Volume(
    voxels=voxels,
    spacing=(step, *pile.spacing),
    origin=tuple(pile.positions[0].tolist()),
    direction=pile.direction,
    modality=series.modality,
    series_uid=series.uid,
  )


def _check_format(slices: Sequence[dicom_types.Slice]) -> None:
  for plane in slices:
    problem = dicom_pixels.unknown_format(plane.file)
    if problem:
      raise Refused('unsupported_transfer_syntax', problem)


def _without_duplicates(
  pile: dicom_geometry.Stack, repairs: set[str]
) -> tuple[dicom_geometry.Stack, Refused | None]:
  """Keeps one slice of each place, if all there are the same.

  Returns:
    the stack, and the error that kept slices from being compared, if any: it
    comes last in the order of reasons.
  """
  late = None
  for place in pile.places:
    try:
      for other in place[1:]:
        _check_same(place[0], other)
        repairs.add('duplicate_slices')
    except Refused as error:
      if error.code == 'conflicting_slices':
        raise
      late = error
  places = [place[:1] for place in pile.places]
  return dataclasses.replace(pile, places=places), late


def _check_same(a: dicom_types.Slice, b: dicom_types.Slice) -> None:
  same = dicom_geometry.same_place(a, b)
  if not same or not np.array_equal(_plane(a)[0], _plane(b)[0]):
    raise Refused(
      'conflicting_slices',
      f'{a.file.name} and {b.file.name} lie at one position and differ',
    )


def _regular(
  pile: dicom_geometry.Stack, single: bool, repair: Sequence[str]
) -> bool:
  """Checks the spacing; False means: not regular, but to be resampled."""
  if single and len(pile.places) == 1:
    return True
  try:
    dicom_geometry.check_spacing(pile)
  except Refused as error:
    if error.code not in _RESAMPLED:
      raise
    if not dicom_resample.is_sound(pile):
      hint = 'a gap this wide is not filled on request either'
    elif 'resampled' not in repair:
      hint = "the repair 'resampled' would bring it onto a regular grid"
    else:
      return False
    raise Refused(error.code, f'{error.detail}; {hint}') from None
  return True


def _plane(plane: dicom_types.Slice) -> tuple[np.ndarray, bool]:
  _, pixels = next(dicom_pixels.decode(plane.file, [plane.frame]))
  return dicom_pixels.intensities(pixels, plane)


def _planes(
  slices: list[dicom_types.Slice],
) -> Iterator[tuple[int, np.ndarray, bool]]:
  """Yields index, intensities and padding of slices, each file opened once."""
  order = sorted(
    range(len(slices)), key=lambda i: (slices[i].file.path, slices[i].frame)
  )
  for _, group in itertools.groupby(order, lambda i: slices[i].file.path):
    indices = list(group)
    frames = [slices[i].frame for i in indices]
    decoded = dicom_pixels.decode(slices[indices[0]].file, frames)
    for i, (_, pixels) in zip(indices, decoded, strict=True):
      yield i, *dicom_pixels.intensities(pixels, slices[i])


def _fill(slices: list[dicom_types.Slice], repairs: set[str]) -> np.ndarray:
  """Reads the slices into one array, (n, h, w) int16 or float32."""
  voxels = None
  limits = np.iinfo(np.int16)
  for i, values, padded in _planes(slices):
    if padded:
      repairs.add('padding')
    small = values.dtype.kind == 'i' and (
      limits.min <= values.min() and values.max() <= limits.max
    )
    if voxels is None:  # only now: sizes may lie until a frame is decoded
      dtype = np.int16 if small else np.float32
      voxels = np.empty((len(slices), *values.shape), dtype)
    if not small and voxels.dtype != np.float32:
      voxels = voxels.astype(np.float32)
    voxels[i] = values
  return voxels


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code, 1 where the path is refused."""
  parser = argparse.ArgumentParser(
    prog='python -m medzoo.io.dicom',
    description='Says what DICOM volume a path holds, or why none is read.',
  )
  parser.add_argument('path', help='a folder of slices, or one file')
  parser.add_argument('--series', metavar='UID', help='which of several')
  parser.add_argument(
    '--repair', action='append', default=[], choices=_ON_REQUEST
  )
  parser.add_argument(
    '--header', action='store_true', help='print technical tags only'
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  options = parser.parse_args(arguments)
  try:
    if options.header:
      found = dicom_report.headers(options.path, options.series)
      text = dicom_report.header_text(found)
    else:
      series = choose(options.path, series=options.series)
      volume = read(series, repair=options.repair)
      found = dicom_report.summary(volume)
      text = dicom_report.text(volume, series)
  except Refused as error:
    found = {'refused': error.code, 'detail': error.detail}
    text = f'refused: {error}'
  print(json.dumps(found) if options.json else text)
  return 1 if 'refused' in found else 0


if __name__ == '__main__':
  sys.exit(main())
