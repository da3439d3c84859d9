"""Maps a predictor over cases and keeps what it gives, one file a case.

Files are trusted as long as the weights, the code version, the predictor and
the dataset are those that they came from; otherwise all are made anew.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import medzoo
from medzoo import types
from medzoo.train import progress

Found = (
  types.Detections
  | types.BoxDetections
  | types.MaskDetections
  | types.PictureScore
  | types.Saliency
  | types.Codes
)
_KINDS = {kind.__name__: kind for kind in typing.get_args(Found)}


@dataclasses.dataclass(frozen=True)
class Output:
  """What a predictor gave for one case.

  Attributes:
    key: the case's.
    detections: by name; 'candidates' and 'detections' say, or 'boxes'.
    seconds: the time it took.
  """

  key: str
  detections: dict[str, Found]
  seconds: float

  def marks(self, name: str) -> np.ndarray:
    """Returns (n, 4) world x, y, z in mm and score of `types.Detections`."""
    found = self.detections[name]
    return np.column_stack([found.centers.reshape(-1, 3), found.scores])


def fingerprint(weights: Sequence[pathlib.Path], *facts: Any) -> str:
  """Returns a digest of weight files, this code's version and JSON facts."""
  digest = hashlib.sha256(medzoo.__version__.encode())
  for path in weights:
    digest.update(path.read_bytes())
  digest.update(json.dumps(facts, sort_keys=True, default=list).encode())
  return digest.hexdigest()


def map_cases(
  predictor: Any,
  variables: Mapping[str, Any],
  cases: Sequence[tuple[Sequence[types.Case], int]],
  folder: pathlib.Path,
  inputs: str,
  *,
  title: str,
  log: Callable[[str], None],
) -> dict[str, Output]:
  """Runs a predictor over cases, skipping those whose file lies there.

  Args:
    predictor: `(variables, volume) -> detections by name`.
    variables: of the stages it uses.
    cases: each a list of cases, whose `keys` are known without reading them,
      and an index into it.
    folder: where the files go.
    inputs: fingerprint of all that the results depend on.
    title: of the progress.
    log: takes lines.

  Returns:
    The outputs by case key.
  """
  _open(folder, inputs)
  outputs = {}
  with progress.Progress(title, len(cases), emit=log) as bar:
    for done, (source, i) in enumerate(cases):
      path = folder / f'{_name(source.keys[i])}.npz'
      if not path.exists():
        volume = source[i].volume
        began = time.monotonic()
        found = predictor(variables, volume)
        seconds = time.monotonic() - began
        _write(path, Output(source.keys[i], found, seconds))
      output = _read(path)
      outputs[output.key] = output
      bar.update(done + 1)
  return outputs


def read_all(folder: pathlib.Path) -> dict[str, Output]:
  """Reads every output of a folder that `map_cases` filled, by case key."""
  outputs = [_read(path) for path in sorted(folder.glob('*.npz'))]
  return {output.key: output for output in outputs}


def _open(folder: pathlib.Path, inputs: str) -> None:
  """Empties a folder whose files came from something else."""
  note = folder / 'inputs.txt'
  if note.exists() and note.read_text() == inputs:
    return
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  note.write_text(inputs)


def _name(key: str) -> str:
  return hashlib.sha256(key.encode()).hexdigest()[:16]


def _write(path: pathlib.Path, output: Output) -> None:
  """Writes an array `NAME/KIND/FIELD` for every field of all that was found."""
  arrays = {
    f'{name}/{type(found).__name__}/{field.name}': getattr(found, field.name)
    for name, found in output.detections.items()
    for field in dataclasses.fields(found)
  }
  partial = path.with_suffix('.partial')
  with partial.open('wb') as file:
    # Masks take a hundredth of their room.
    np.savez_compressed(file, key=output.key, seconds=output.seconds, **arrays)
  partial.rename(path)


def _read(path: pathlib.Path) -> Output:
  with np.load(path, allow_pickle=False) as arrays:
    columns: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for entry in arrays.files:
      name, *rest = entry.split('/')
      if rest:
        kind, field = rest
        columns.setdefault((name, kind), {})[field] = arrays[entry]
    detections = {
      name: _KINDS[kind](**fields) for (name, kind), fields in columns.items()
    }
    return Output(str(arrays['key']), detections, float(arrays['seconds']))
