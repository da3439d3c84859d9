"""Trains, scores and applies the detectors of medzoo.

python main.py --config=experiments/nodule3d.py
"""

import functools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

_MODES = ('train', 'evaluate', 'predict', 'prepare')

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'experiments/NAME.py or experiments/NAME.py:VARIANT'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'work folder; runs/NAME or runs/NAME-VARIANT by default; predict: several, '
  'joined by commas, vote',
)
_MODE = flags.DEFINE_enum('mode', 'train', _MODES, 'what to do')
_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir', None, 'raw files of a real dataset, in its published layout'
)
_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'prepared datasets')
_INPUT = flags.DEFINE_string(
  'input',
  None,
  'predict: a DICOM folder, a volume file, a picture, a video, or a folder of'
  ' them',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'predict and evaluate: the folder to write to'
)


def main(argv: Sequence[str]) -> None:
  """Runs the mode that the flags name; a user's mistake ends in one line."""
  if len(argv) > 1:
    _fail(f'found {argv[1]!r}, expected flags only', 2)
  config = _config()
  # Imported late, so that a mistyped flag is answered at once.
  import jax

  if (
    'JAX_NUM_CPU_DEVICES' not in os.environ
    and 'device_count' not in os.environ.get('XLA_FLAGS', '')
  ):
    # The products of a 3D convolution keep hardly more than one core busy.
    jax.config.update('jax_num_cpu_devices', min(2, os.cpu_count() or 1))
  from datasets import build as datasets_build
  from medzoo.train import build as train_build

  try:
    _run(config)
  except (train_build.ConfigError, datasets_build.UsageError) as error:
    _fail(error, 2)
  except PermissionError as error:
    _fail(error, 2)
  except (ValueError, OSError) as error:
    _fail(error, 1)


def _run(config: dict[str, Any]) -> None:
  """Runs the mode that the flags name."""
  from medzoo.train import build
  from medzoo.train import evaluate
  from medzoo.train import predict
  from medzoo.train import prepared
  from medzoo.train import run

  name = _default_name()
  workdir = pathlib.Path(_WORKDIR.value or f'runs/{name}')
  prepare = _prepare(config, build.ConfigError)
  # Each protocol has a report of its own name.
  evaluate.protocol(config)
  report = build.module('report', config['evaluation']['protocol'])
  if _MODE.value == 'prepare':
    print(prepared.Data(config, prepare).summary())
  elif _MODE.value == 'train':
    results = run.train(config, workdir, prepare, report.write)
    _announce(results, workdir)
  elif _MODE.value == 'evaluate' and _MANUAL_DIR.value:
    name = pathlib.Path(_MANUAL_DIR.value).resolve().name
    output = pathlib.Path(_OUTPUT.value or workdir / 'evaluate' / name)
    dataset = {**config['dataset'], 'synthetic': False}
    dataset['name'] = dataset['name'].partition('/')[0]
    results = run.evaluate_on(dataset, workdir, prepare, report.write, output)
    _announce(results, output)
  elif _MODE.value == 'evaluate':
    _announce(
      run.evaluate_again(config, workdir, prepare, report.write), workdir
    )
  else:
    if not _INPUT.value:
      raise build.ConfigError('--mode=predict needs --input: what to look at')
    workdirs = [pathlib.Path(name) for name in str(workdir).split(',')]
    output = pathlib.Path(_OUTPUT.value or workdirs[0] / 'predict')
    print(predict.predict(workdirs, pathlib.Path(_INPUT.value), output))


def _config() -> dict[str, Any]:
  """Returns the config as plain dicts."""
  if _CONFIG.value is None:
    files = sorted(pathlib.Path('experiments').glob('*.py'))
    known = [str(p) for p in files if '\ndef get_config(' in p.read_text()]
    _fail(f'--config is missing; expected one of {", ".join(known)}', 2)
  try:
    config = _CONFIG.value.to_dict()
  except OSError:
    path = flags.FLAGS['config'].config_filename
    _fail(f'--config: found no file {path.partition(":")[0]}', 2)
  missing = _unset(config, '--config')
  if missing:
    _fail(f'{" and ".join(missing)} must be set', 2)
  return config


def _unset(value: Any, name: str) -> list[str]:
  """Returns the keys that a config leaves for the command line to set."""
  if isinstance(value, dict):
    items = [(f'{name}.{key}', part) for key, part in value.items()]
    return [missing for key, part in items for missing in _unset(part, key)]
  return [name] if value == '<required>' else []


def _default_name() -> str:
  """Returns NAME or NAME-VARIANT of the config."""
  path, _, variant = flags.FLAGS['config'].config_filename.partition(':')
  stem = pathlib.Path(path).stem
  return f'{stem}-{variant}' if variant else stem


def _prepare(
  config: dict[str, Any], error: type[Exception]
) -> Callable[..., str]:
  """Returns the function that has a dataset built, `(name, **arguments)`."""
  from datasets import build

  makes_its_own = config['dataset']['synthetic'] and _MODE.value != 'evaluate'
  if makes_its_own and _MANUAL_DIR.value:
    raise error(
      f'--manual_dir was given to {config["experiment"]}:'
      f'{config["variant"]}, which makes its own data; expected one of the '
      f'variants {", ".join(config["real_variants"])}'
    )
  return functools.partial(
    build.prepare, manual_dir=_MANUAL_DIR.value, data_dir=_DATA_DIR.value
  )


def _announce(results: dict[str, Any], folder: pathlib.Path) -> None:
  """Prints the main metric with its interval, and where the report lies."""
  name = results['main_metric']
  entry = results['metrics'][name]
  if entry['value'] is None:
    print(f'{name}: undefined, {entry["why"]}')
  else:
    print(
      f'{name} {entry["value"]:.3f} (95 % interval {entry["low"]:.3f} to '
      f'{entry["high"]:.3f}, {entry["n"]} {results["grouped_by"]})'
    )
  print(f'report: {folder / "report.html"}')


def _fail(error: BaseException | str, code: int) -> NoReturn:
  """Prints an error as one line and ends the program."""
  text = ' '.join(str(error).split()) or type(error).__name__
  print(f'medzoo: {text}', file=sys.stderr)
  sys.exit(code)


def _ask_for_huge_pages() -> None:
  """Starts over with huge pages, which the C library asks for only then.

  XLA takes and returns the memory of every step, and to map that page by page
  is a sixth of the time in which a Mask R-CNN trains.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags; what is wrong with them is said in one line."""
  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    TypeError,
    ValueError,
    KeyError,
  ) as error:
    while error.args and isinstance(error.args[0], Exception):
      error = error.args[0]
    # ml_collections puts a whole traceback into some messages.
    said = str(error.args[0] if error.args else error).strip()
    if 'Traceback' in said:
      said = re.sub(r'^\w+Error: ', '', said.splitlines()[-1])
    if isinstance(error, KeyError):
      said = 'no config key ' + said.replace('\n', '; ')
    _fail(said, 2)


if __name__ == '__main__':
  _ask_for_huge_pages()
  logging.set_verbosity(logging.WARNING)
  app.run(main, flags_parser=_parse_flags)
