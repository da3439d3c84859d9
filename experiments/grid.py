"""Trains a config once for every row of a table.

  python -m experiments.grid --config=experiments/polyp_cnn.py --grid=FILE.csv

The columns of the table are keys of the config, such as
`stages.classifier.batch_size`; a cell is what `--config.KEY=` takes. Each row
is a run of main.py in a work folder of its own, named by what the row holds,
and what it scores is appended to its row in `results.csv`. Called again it goes
on where it stopped. Further flags, --manual_dir say, are passed on to main.py.
"""

import argparse
import csv
import hashlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Sequence

_MAIN = pathlib.Path(__file__).parents[1] / 'main.py'
# The column that says whether a row is scored.
_STATE = 'finished'

Row = dict[str, str]


def read(path: pathlib.Path) -> list[Row]:
  """Reads the table.

  Raises:
    ValueError: the file is missing or no table, a row has more or fewer cells
      than there are keys, or two rows are the same.
  """
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f'--grid {path}: cannot be read: {error}') from None
  reader = csv.reader(lines)
  table = [(reader.line_num, cells) for cells in reader if cells]
  (_, keys), *rows = table or [(0, [])]
  keys = [key.strip() for key in keys]
  if not all(keys) or not keys or len(set(keys)) < len(keys) or not rows:
    raise ValueError(
      f'--grid {path}: found the columns {", ".join(keys)!r} and {len(rows)} '
      'rows, expected keys of the config, each once, and a row for each run'
    )
  found = []
  for number, cells in rows:
    row = dict(zip(keys, (cell.strip() for cell in cells), strict=False))
    if len(cells) != len(keys) or row in found:
      raise ValueError(
        f'--grid {path}, line {number}: found {cells}, expected '
        f'{len(keys)} cells unlike those of any other row'
      )
    found.append(row)
  return found


def run(
  config: str, rows: Sequence[Row], folder: pathlib.Path, flags: Sequence[str]
) -> bool:
  """Has every row trained and scored.

  Args:
    config: FILE or FILE:VARIANT.
    rows: config keys and values.
    folder: gets a work folder for each row, and `results.csv`.
    flags: further flags of main.py.

  Returns:
    Whether all rows were; main.py says what was wrong with the others.
  """
  done = []
  for number, row in enumerate(rows, 1):
    workdir = folder / _name(row)
    said = ' '.join(f'{key}={value}' for key, value in row.items())
    print(f'grid: {number} of {len(rows)}: {said}', file=sys.stderr, flush=True)
    changes = [f'--config.{key}={value}' for key, value in row.items()]
    command = [
      sys.executable,
      str(_MAIN),
      f'--config={config}',
      *changes,
      f'--workdir={workdir}',
      *flags,
    ]
    code = subprocess.run(command, check=False).returncode
    path = workdir / 'results.json'
    scored = code == 0 and path.exists()
    metrics = _metrics(json.loads(path.read_text())) if scored else {}
    done.append({**row, _STATE: 'yes' if scored else f'exit {code}', **metrics})
    _write(folder / 'results.csv', done)
  return all(row[_STATE] == 'yes' for row in done)


def _name(row: Row) -> str:
  text = json.dumps(row, sort_keys=True)
  return f'row-{hashlib.sha256(text.encode()).hexdigest()[:12]}'


def _metrics(results: dict) -> Row:
  """Returns every metric with its interval, empty where it is undefined."""
  columns = {}
  for name, entry in results['metrics'].items():
    for part, suffix in (('value', ''), ('low', '_low'), ('high', '_high')):
      value = entry.get(part)
      if value is None or isinstance(value, int | float):
        columns[name + suffix] = '' if value is None else f'{value:.6g}'
  columns['seconds'] = f'{results["timing"]["train_seconds"]:.1f}'
  return columns


def _write(path: pathlib.Path, rows: Iterable[Row]) -> None:
  """Writes the rows so far; the file appears when it is complete."""
  rows = list(rows)
  columns = list(dict.fromkeys(key for row in rows for key in row))
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  with partial.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, columns, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  partial.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns 0, 1 where a run failed, 2 for a wrong call."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.grid',
    description='Trains a config once for every row of a table.',
  )
  parser.add_argument('--config', required=True, metavar='FILE[:VARIANT]')
  parser.add_argument('--grid', required=True, type=pathlib.Path, metavar='CSV')
  parser.add_argument(
    '--workdir',
    type=pathlib.Path,
    help='runs/grid-NAME of the table by default',
  )
  options, flags = parser.parse_known_args(arguments)
  folder = options.workdir or pathlib.Path('runs') / f'grid-{options.grid.stem}'
  try:
    rows = read(options.grid)
    return 0 if run(options.config, rows, folder, flags) else 1
  except ValueError as error:
    print(f'medzoo: {error}', file=sys.stderr)
    return 2
  except OSError as error:
    print(f'medzoo: {folder}: {error}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
