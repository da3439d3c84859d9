"""The command of `lesion_boxes`: reads a dump of boxes, prints the scores.

The dump is the older program's, `[[id, truths, detections], ...]`, one entry a
scan: truths are `[z1, z2, x1, y1, x2, y2]`, detections the same and a list of
scores, of which the largest counts. All ends are inclusive.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap
from medzoo.metrics import froc
from medzoo.metrics import lesion_boxes

_ENDS = 'z1, z2, x1, y1, x2, y2'


def read(path: pathlib.Path) -> list[lesion_boxes.Scan]:
  """Reads a dump; entries with the same id are separate scans.

  Args:
    path: a JSON file.

  Returns:
    The scans in file order, their boxes (z0, y0, x0, z1, y1, x1), half-open.

  Raises:
    ValueError: not JSON, no scan, or an entry that is not as it should be.
  """
  try:
    entries = json.loads(path.read_text(encoding='utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: not a JSON file ({error})') from None
  if not isinstance(entries, list) or not entries:
    raise ValueError(
      f'{path}: expected a list of scans, [[id, truths, detections], ...],'
      f' found {_short(entries)}'
    )
  return [_scan(f'{path}, entry {i}', e) for i, e in enumerate(entries, 1)]


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command; exits 1 with one line where the file is at fault."""
  options = _parser().parse_args(arguments)
  try:
    scores = lesion_boxes.evaluate(read(options.boxes), seed=options.seed)
  except (ValueError, OSError) as error:
    print(f'lesions: {error}', file=sys.stderr)
    raise SystemExit(1) from None
  if options.json:
    print(json.dumps(scores, indent=1, allow_nan=False))
  else:
    print('\n'.join(_lines(scores)))


def _scan(place: str, entry: Any) -> lesion_boxes.Scan:
  if not isinstance(entry, list) or len(entry) != 3:
    raise ValueError(
      f'{place}: expected [id, truths, detections], found {_short(entry)}'
    )
  place = f'{place} ({_short(entry[0])})'
  for name, rows in zip(('truths', 'detections'), entry[1:], strict=True):
    if not isinstance(rows, list):
      raise ValueError(
        f'{place}: expected a list of {name}, not {_short(rows)}'
      )
  _, truths, detections = entry
  for i, row in enumerate(truths, 1):
    if not _is_truth(row):
      raise ValueError(
        f'{place}, truth {i}: expected six finite numbers [{_ENDS}], each'
        f' second end no less than its first, found {_short(row)}'
      )
  for i, row in enumerate(detections, 1):
    if not _is_detection(row):
      raise ValueError(
        f'{place}, detection {i}: expected six finite numbers and their scores'
        f' [{_ENDS}, [score, ...]], found {_short(row)}'
      )
  return lesion_boxes.Scan(
    _half_open(truths),
    _half_open([row[:-1] for row in detections]),
    np.array([max(row[-1]) for row in detections], float),
  )


def _is_truth(row: Any) -> bool:
  if not _is_numbers(row) or len(row) != 6:
    return False
  z1, z2, x1, y1, x2, y2 = row
  return z1 <= z2 and x1 <= x2 and y1 <= y2


def _is_detection(row: Any) -> bool:
  # A network's box may be inside out; having no extent, it hits nothing.
  return (
    isinstance(row, list)
    and len(row) == 7
    and _is_numbers(row[:6])
    and _is_numbers(row[6])
    and len(row[6]) > 0
  )


def _is_numbers(row: Any) -> bool:
  return isinstance(row, list) and all(
    type(value) in (int, float) and abs(value) <= sys.float_info.max
    for value in row
  )


def _half_open(rows: list[list[float]]) -> np.ndarray:
  z1, z2, x1, y1, x2, y2 = np.array(rows, float).reshape(-1, 6).T
  return np.stack([z1, y1, x1, z2 + 1, y2 + 1, x2 + 1], axis=1)


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 80 else f'{text[:77]}...'


def _lines(scores: dict[str, Any]) -> Iterator[str]:
  rate = scores['false_positives'] / scores['scans']
  yield (
    f'{scores["scans"]} scans, {scores["raw_truths"]} truths merged to'
    f' {scores["merged_truths"]}, {scores["detections"]} detections'
  )
  yield (
    f'{scores["truths_found"]} of {scores["merged_truths"]} truths found at'
    f' {rate:.4g} false positives per scan, all detections taken'
  )
  yield f'\n{"FP/scan":>15}  sensitivity   95 % interval over scans'
  rows = scores['sensitivity'] | {'froc_mean_boxes': scores['froc_mean_boxes']}
  for name, entry in rows.items():
    if entry['value'] is None:
      yield f'{name:>15}  undefined: {entry["why"]}'
    else:
      interval = f'{entry["low"]:.4f} to {entry["high"]:.4f}'
      yield f'{name:>15}  {entry["value"]:>11.4f}   {interval}'
  if scores['froc_mean_boxes']['value'] is not None:
    means = scores['froc_mean_by_rule'].items()
    listed = ', '.join(f'{rule} {mean:.4f}' for rule, mean in means)
    yield f'\nThe mean by each way to read the curve: {listed}'


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m medzoo.metrics.lesions',
    description='Scores boxes of lesions: the mean sensitivity at'
    f' {", ".join(f"{rate:g}" for rate in froc.RATES)} false positives per'
    ' scan. A detection hits where slices are shared and more than half of the'
    ' smaller area.',
  )
  parser.add_argument(
    '--boxes',
    type=pathlib.Path,
    required=True,
    metavar='FILE.json',
    help=f'[[id, truths, detections], ...]: truths [{_ENDS}], detections the'
    ' same and a list of scores, all ends inclusive',
  )
  parser.add_argument(
    '--json', action='store_true', help='print JSON in place of a table'
  )
  parser.add_argument(
    '--seed',
    type=int,
    default=0,
    help=f'of the {bootstrap.RESAMPLES:,} resamples of the scans',
  )
  return parser
