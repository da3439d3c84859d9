"""The command line of phantoms that are pictures."""

import argparse
import sys
from collections.abc import Callable, Sequence


def run(
  write: Callable[..., object],
  arguments: Sequence[str] | None,
  *,
  prog: str,
  description: str,
  **numbers: int,
) -> int:
  """Writes phantoms as the command's options say.

  Args:
    write: takes the folder and, by name, `numbers` and `workers`.
    arguments: of the command; None for the process's own.
    prog: what the command is called.
    description: what it does.
    **numbers: the options beside --output and --workers, with their defaults.

  Returns:
    The exit code.
  """
  parser = argparse.ArgumentParser(prog=prog, description=description)
  parser.add_argument('--output', metavar='DIR', required=True)
  for name, default in numbers.items():
    parser.add_argument(f'--{name}', type=int, default=default)
  parser.add_argument('--workers', type=int)
  options = vars(parser.parse_args(arguments))
  try:
    write(options.pop('output'), **options)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0
