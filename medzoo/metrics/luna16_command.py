"""The command of `luna16`: reads LUNA16's CSV files, prints and writes scores.

Metrics may not use medzoo.io, so the few lines that read the four files are
here.
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medzoo.metrics import bootstrap
from medzoo.metrics import froc
from medzoo.metrics import froc_plot
from medzoo.metrics import luna16

_POSITION = ('seriesuid', 'coordX', 'coordY', 'coordZ')


def read_marks(path: pathlib.Path, value: str) -> dict[str, np.ndarray]:
  """Reads a CSV of marks or findings; columns are found by their names.

  Args:
    path: with a header that names `seriesuid`, `coordX`, `coordY`, `coordZ`
      (world mm) and the value; other columns are not looked at.
    value: name of the fourth number, 'probability' or 'diameter_mm'.

  Returns:
    Series UID -> (n, 4) float64, in file order.

  Raises:
    ValueError: a column is missing, or a line has no finite number in one.
  """
  rows = _rows(path)
  header = [name.strip() for name in next(rows, (0, []))[1]]
  names = (*_POSITION, value)
  missing = [name for name in names if name not in header]
  if missing:
    raise ValueError(
      f'{path}: no column {", ".join(missing)} in its first line, expected'
      f' {",".join(names)}'
    )
  columns = [header.index(name) for name in names]
  found: dict[str, list[list[float]]] = {}
  for line, row in rows:
    try:
      uid, *numbers = (row[i].strip() for i in columns)
      values = [float(number) for number in numbers]
    except (IndexError, ValueError):
      values = [np.nan]
    if not np.isfinite(values).all():
      raise ValueError(
        f'{path}, line {line}: expected a series UID and four finite numbers'
        f' ({", ".join(names[1:])}), found {",".join(row)[:120]!r}'
      )
    found.setdefault(uid, []).append(values)
  return {uid: np.array(values) for uid, values in found.items()}


def read_seriesuids(path: pathlib.Path) -> list[str]:
  """Reads the first column of the list of scans, which has no header."""
  uids = [row[0].strip() for _, row in _rows(path)]
  return uids[1:] if uids[:1] == ['seriesuid'] else uids


def evaluate(
  results: luna16.Marks,
  annotations: luna16.Marks,
  excluded: luna16.Marks,
  seriesuids: Sequence[str],
  *,
  max_marks: int | None,
  resamples: int = bootstrap.RESAMPLES,
  seed: int = 0,
) -> dict[str, Any]:
  """Scores marks at one cap, as the command's JSON file tells it.

  Args:
    results: marks, as in `luna16.match`.
    annotations: nodules.
    excluded: findings that are neither nodule nor false positive.
    seriesuids: the scans to score.
    max_marks: the cap on a scan's marks, None for no cap.
    resamples: how many resamples of the scans make an interval.
    seed: of the resampling.

  Returns:
    Counts, `cpm` and `sensitivity` by rule, with `curve` and `band`.
  """
  matches = luna16.match(
    results, annotations, excluded, seriesuids, max_marks=max_marks
  )
  index, num_groups = bootstrap.group_index(seriesuids)
  draws = bootstrap.draw(num_groups, resamples=resamples, seed=seed)
  counts = {
    'max_marks': max_marks,
    'scans': len(seriesuids),
    'scans_with_nodules': len(set(matches.scan[matches.is_nodule])),
    'nodules': int(matches.is_nodule.sum()),
    'nodules_found': int(matches.found.sum()),
    'marks': int(matches.marks.sum()),
    'false_positives': int((~matches.is_nodule).sum()),
    'ignored_second_marks': matches.extra,
    'ignored_on_excluded': matches.irrelevant,
  }
  return counts | luna16.sensitivity_entries(matches, index, draws)


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command; exits 1 with one line where a file is at fault."""
  options = _parser().parse_args(arguments)
  try:
    _run(options)
  except (ValueError, OSError) as error:
    print(f'luna16: {error}', file=sys.stderr)
    raise SystemExit(1) from None


def _run(options: argparse.Namespace) -> None:
  seriesuids = read_seriesuids(options.seriesuids)
  results = read_marks(options.results, 'probability')
  findings = (
    read_marks(options.annotations, 'diameter_mm'),
    read_marks(options.excluded, 'diameter_mm'),
  )
  caps = dict.fromkeys((options.max_marks, None))
  scores = [
    evaluate(results, *findings, seriesuids, max_marks=cap, seed=options.seed)
    for cap in caps
  ]
  strangers = {u: len(results[u]) for u in results.keys() - set(seriesuids)}
  if strangers:
    print(
      f'left out: {sum(strangers.values())} marks of {len(strangers)} series'
      f' that {options.seriesuids} does not name'
    )
  for score in scores:
    print('\n'.join(_lines(score)))
  if options.output:
    _write(options.output, scores, options)


def _lines(score: dict[str, Any]) -> Iterator[str]:
  cap = score['max_marks']
  yield f'\n{"All marks" if cap is None else f"At most {cap} marks a scan"}'
  yield (
    f'  {score["scans"]} scans, {score["scans_with_nodules"]} with nodules;'
    f' {score["nodules_found"]} of {score["nodules"]} nodules found by'
    f' {score["marks"]} marks; {score["false_positives"]} false positives'
  )
  yield (
    f'  ignored: {score["ignored_second_marks"]} second marks on a nodule,'
    f' {score["ignored_on_excluded"]} marks on excluded findings'
  )
  yield (
    f'  {"FP/scan":>9}'
    + ''.join(f'{rule:>14}' for rule in froc.RULES)
    + ('   95 % interval (interpolated)')
  )
  rows = score['sensitivity'] | {'CPM': score['cpm']}
  for name, by_rule in rows.items():
    numbers = ''.join(f'{_number(by_rule[r], "value"):>14}' for r in froc.RULES)
    first = by_rule[froc.RULES[0]]
    interval = f'{_number(first, "low")} to {_number(first, "high")}'
    yield f'  {name:>9}{numbers}   {interval}'


def _number(entry: dict[str, Any], key: str) -> str:
  return 'undefined' if entry[key] is None else f'{entry[key]:.4f}'


def _write(
  folder: pathlib.Path,
  scores: Sequence[dict[str, Any]],
  options: argparse.Namespace,
) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  document = {
    'protocol': 'LUNA16',
    'resampled': 'scans',
    'resamples': bootstrap.RESAMPLES,
    'seed': options.seed,
    'scores': [_plain(score) for score in scores],
  }
  json_path, png_path = folder / 'luna16.json', folder / 'froc.png'
  json_path.write_text(json.dumps(document, indent=1, allow_nan=False) + '\n')
  png_path.write_bytes(froc_plot.png([_line(scores[0])]))
  print(f'\nwritten: {json_path} {png_path}')


def _line(score: dict[str, Any]) -> froc_plot.Line:
  points, band = score['curve'], score['band']
  cpm = _number(score['cpm'][froc.RULES[0]], 'value')
  return froc_plot.Line(
    f'CPM {cpm}',
    points.fps,
    points.sensitivity,
    band['fps'],
    band['low'],
    band['high'],
  )


def _plain(score: dict[str, Any]) -> dict[str, Any]:
  points = score['curve']
  curve = {
    'fps': points.fps,
    'sensitivity': points.sensitivity,
    # JSON knows no infinity: the point where nothing is marked has none.
    'threshold': np.where(
      np.isinf(points.thresholds), np.nan, points.thresholds
    ),
  }
  listed = {
    key: {name: _listed(values) for name, values in table.items()}
    for key, table in (('curve', curve), ('band', score['band']))
  }
  return score | listed


def _listed(values: np.ndarray) -> list[float | None]:
  return [float(v) if np.isfinite(v) else None for v in values]


def _rows(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """Yields line number and cells of each line that is not blank."""
  with path.open(newline='', encoding='utf-8-sig') as file:
    reader = csv.reader(file)
    try:
      for row in reader:
        if any(cell.strip() for cell in row):
          yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
      raise ValueError(
        f'{path}, after line {reader.line_num}: not a CSV file ({error})'
      ) from None


def _cap(text: str) -> int | None:
  if text == 'none':
    return None
  if not text.isdecimal() or not int(text):
    raise argparse.ArgumentTypeError(
      f'{text!r} is neither a positive number nor none'
    )
  return int(text)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m medzoo.metrics.luna16',
    description='Scores marks by the official LUNA16 rules.',
  )
  for name, text in (
    ('results', 'CSV: seriesuid,coordX,coordY,coordZ,probability'),
    ('annotations', 'CSV of the nodules: ...,diameter_mm'),
    ('excluded', 'CSV of findings that do not count: ...,diameter_mm'),
    ('seriesuids', 'the scans to score, one series UID a line'),
  ):
    parser.add_argument(
      f'--{name}', type=pathlib.Path, required=True, help=text
    )
  parser.add_argument(
    '--output', type=pathlib.Path, help='folder for luna16.json and froc.png'
  )
  parser.add_argument(
    '--max-marks',
    type=_cap,
    default=luna16.MAX_MARKS,
    metavar='N|none',
    help='marks of a scan that count (default %(default)s, the official cap);'
    ' the score without a cap is always shown too',
  )
  parser.add_argument(
    '--seed', type=int, default=0, help='of the 1,000 resamples of the scans'
  )
  return parser
