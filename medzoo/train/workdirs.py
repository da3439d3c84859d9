"""The work folder of a run, and the files that tell whose it is."""

import errno
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from medzoo.train import build


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes a work folder, or checks that it is this config's.

  Raises:
    build.ConfigError: it holds another config; the keys are listed.
  """
  path = workdir / 'config.json'
  text = json.dumps(config, indent=2, sort_keys=True)
  if not path.exists():
    if workdir.exists() and any(workdir.iterdir()):
      raise build.ConfigError(
        f'{workdir}: found a folder with other files in it, expected a new '
        'one or a work folder; choose another --workdir'
      )
    try:
      write_text(path, text)
    except OSError as error:
      if error.errno == errno.ENOSPC:
        raise
      raise build.ConfigError(
        f'--workdir {workdir}: cannot be written: {error.strerror}'
      ) from None
    return
  keys = _differences(json.loads(path.read_text()), json.loads(text))
  if keys:
    raise build.ConfigError(
      f'{workdir}: holds a run of another config, which differs in '
      f'{", ".join(keys)}; choose another --workdir'
    )


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON; the file appears when it is complete."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file that appears when it is complete."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text)
  partial.rename(path)


def _differences(one: Any, other: Any, prefix: str = '') -> list[str]:
  """Returns the dotted keys in which two JSON values differ."""
  if not (isinstance(one, dict) and isinstance(other, dict)):
    return [] if one == other else [prefix]
  return [
    key
    for name in sorted(one.keys() | other.keys())
    for key in _differences(
      one.get(name), other.get(name), f'{prefix}.{name}' if prefix else name
    )
  ]
