"""Applies a trained model to scans that nobody has labelled.

All it needs of a work folder is `model/`, which can be copied elsewhere: the
parameters as safetensors files, the config, and the operating threshold.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from medzoo import types
from medzoo.io import dicom
from medzoo.io import tables
from medzoo.io import volumes
from medzoo.metrics import luna16
from medzoo.train import build
from medzoo.train import progress
from medzoo.train import stages

# The name of a scan, and the function that reads it.
Readable = tuple[str, Callable[[], types.Volume]]


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model in a folder.

  Attributes:
    folder: of the parameters.
    config: the experiment's, as plain dicts.
    threshold: the operating threshold, chosen on validation scans.
  """

  folder: pathlib.Path
  config: dict[str, Any]
  threshold: float

  @property
  def digest(self) -> str:
    """Identifies the parameters: the start of their SHA-256."""
    digest = hashlib.sha256()
    for path in sorted(self.folder.glob('*.safetensors')):
      digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A series that was not read, and why, by the reader's code."""

  series: str
  reason: str


def read_model(workdir: pathlib.Path) -> Model:
  """Opens the model of a finished work folder, or a copy of its `model`.

  Raises:
    build.ConfigError: there is none.
  """
  for folder in (workdir / 'model', workdir / 'final' / 'model', workdir):
    path = folder / 'config.json'
    if path.exists():
      facts = json.loads(path.read_text())
      if 'threshold' in facts:
        return Model(folder, facts['config'], facts['threshold'])
  raise build.ConfigError(
    f'{workdir}: found no model/config.json, expected a finished work folder; '
    'train first, or name one with --workdir'
  )


def predict(
  workdir: pathlib.Path, source: pathlib.Path, output: pathlib.Path
) -> str:
  """Finds lesions in every scan under a path.

  Writes `luna16.csv`, up to 100 candidates a scan in world mm, and
  `detections.json`, those at or above the operating threshold and what was
  skipped.

  Args:
    workdir: where the model lies.
    source: a volume file, a DICOM folder, or a folder of any of these.
    output: the folder to write to.

  Returns:
    A summary in a few lines.

  Raises:
    ValueError: there is no scan that can be read.
  """
  model = read_model(workdir)
  predictor = build.build(
    'predictors',
    model.config['evaluation']['predictor'],
    stages.models(model.config),
    model.config['preprocess'],
  )
  variables = stages.load_variables(model.folder, predictor.stages)
  marks, cases = {}, []
  readers, skipped = _find(source)
  with progress.Progress('predict', len(readers)) as bar:
    for done, (name, read) in enumerate(readers, 1):
      try:
        volume = read()
      except ValueError as error:
        # A refusal of the DICOM reader has a code.
        skipped.append(Skipped(name, getattr(error, 'code', str(error))))
        continue
      name = volume.series_uid or name
      found = predictor(variables, volume)['detections']
      marks[name] = np.column_stack(
        [found.centers.reshape(-1, 3), found.scores]
      )
      cases.append(_describe(name, volume, found, model))
      bar.update(done)
  if not marks:
    reasons = ', '.join(sorted({s.reason for s in skipped})) or 'nothing in it'
    raise ValueError(f'{source}: found no scan that can be read: {reasons}')
  output.mkdir(parents=True, exist_ok=True)
  capped = {k: luna16.capped(m, luna16.MAX_MARKS) for k, m in marks.items()}
  tables.write_marks(output / 'luna16.csv', capped, 'probability')
  missed = [dataclasses.asdict(s) for s in skipped]
  whole = cases[0] if len(cases) == 1 else {'cases': cases}
  text = json.dumps({**whole, 'skipped': missed}, indent=2)
  (output / 'detections.json').write_text(text + '\n')
  return _summary(cases, skipped, output)


def _find(source: pathlib.Path) -> tuple[list[Readable], list[Skipped]]:
  """Finds every scan under a path, in a volume file or as a DICOM series."""
  if not source.exists():
    raise build.ConfigError(f'--input {source}: found no such file or folder')
  files = sorted(source.rglob('*')) if source.is_dir() else [source]
  scans = [
    (path.name, functools.partial(volumes.read, path))
    for path in files
    if volumes.is_volume_file(path)
  ]
  series = dicom.find_series(source) if len(scans) < len(files) else []
  scans += [(one.uid, functools.partial(dicom.read, one)) for one in series]
  beside = {
    (pathlib.Path(path).name, kind)
    for one in series
    for path, kind in one.skipped
  }
  return scans, [Skipped(*row) for row in sorted(beside)]


def _describe(
  name: str, volume: types.Volume, found: types.Detections, model: Model
) -> dict[str, Any]:
  """Returns a case of `detections.json`."""
  sure = np.flatnonzero(found.scores >= model.threshold)
  return {
    'case': name,
    'model': model.digest,
    'threshold': model.threshold,
    'frame': 'LPS mm',
    'repairs': list(volume.repairs),
    'detections': [
      {
        **dict(zip('xyz', found.centers[i].tolist(), strict=True)),
        'diameter_mm': _or_none(found.diameters[i]),
        'score': float(found.scores[i]),
      }
      for i in sure
    ],
  }


def _or_none(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None


def _summary(
  cases: list[dict[str, Any]], skipped: list[Skipped], output: pathlib.Path
) -> str:
  lines = [
    f'{case["case"]}: {len(case["detections"])} above the threshold '
    f'{case["threshold"]:.3f}'
    for case in cases
  ]
  lines += [f'{s.series}: skipped, {s.reason}' for s in skipped]
  lines.append(f'written: {output}/luna16.csv, {output}/detections.json')
  lines.append('research use only, not a medical device')
  return '\n'.join(lines)
