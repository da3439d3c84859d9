"""Applies a trained model to scans and pictures that nobody has labelled.

All it needs of a work folder is `model/`, which can be copied elsewhere: the
parameters as safetensors files, the config, the operating threshold and the
names of the classes. Several models of one kind may vote, see
`predictors.voting`. What is written of what was found is the protocol's, see
`train.protocols`.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from medzoo import types
from medzoo.predictors import voting
from medzoo.train import build
from medzoo.train import evaluate
from medzoo.train import inputs
from medzoo.train import mapping
from medzoo.train import progress
from medzoo.train import stages
from medzoo.train import videos

# Where a protocol writes label images, if it does.
MASKS = 'masks'
_PICTURES = 'pictures'
# File systems take 255 bytes; a UID has 64 at most.
_LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model in a folder.

  Attributes:
    folder: of the parameters.
    config: the experiment's, as plain dicts.
    thresholds: operating points, chosen on validation cases: `threshold` and,
      where whole pictures are searched besides, `detection_threshold`.
    classes: names of the class ids from 1; () where the dataset named none.
    background: name of class 0 of whole pictures.
  """

  folder: pathlib.Path
  config: dict[str, Any]
  thresholds: Mapping[str, Any]
  classes: Sequence[str] = ()
  background: str = ''

  @property
  def section(self) -> str:
    """The section of the config that says what the model is used for."""
    return list(evaluate.sections(self.config))[-1]

  @property
  def threshold(self) -> Any:
    """The operating point of that section."""
    return self.thresholds[evaluate.sections(self.config)[self.section]]

  @property
  def digest(self) -> str:
    """Identifies the parameters: the start of their SHA-256."""
    digest = hashlib.sha256()
    for path in sorted(self.folder.glob('*.safetensors')):
      digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

  def class_name(self, label: int) -> str:
    """Returns what a class id stands for."""
    names = dict(enumerate((self.background, *self.classes)))
    return names.get(label) or f'class {label}'


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
        return Model(
          folder,
          facts['config'],
          {
            key: facts[key]
            for key in evaluate.sections(facts['config']).values()
          },
          tuple(facts.get('classes', ())),
          facts.get('background', ''),
        )
  raise build.ConfigError(
    f'{workdir}: found no model/config.json, expected a finished work folder; '
    'train first, or name one with --workdir'
  )


def predict(
  workdirs: Sequence[pathlib.Path], source: pathlib.Path, output: pathlib.Path
) -> str:
  """Looks at everything of the protocol's kinds under a path.

  Writes `detections.json`: of every case what was found at or above the
  operating threshold and which files below `pictures` show it, and what was
  skipped; of a video what `videos.annotate` tells. What else it writes is the
  protocol's.

  Args:
    workdirs: where the models lie; several vote.
    source: a picture, a film, a video, a volume file, a DICOM folder, or a
      folder of any of these.
    output: the folder to write to.

  Returns:
    A summary in a few lines.

  Raises:
    build.ConfigError: there is no model, no such path, or the path is where
      pictures are to be written; or several models do not fit together.
    ValueError: there is nothing that can be read.
  """
  models = [read_model(workdir) for workdir in workdirs]
  model = _agreed(models)
  rules = evaluate.protocol(model.config, model.section)
  look = _predictor(models)
  own = [output / name for name in (_PICTURES, MASKS)]
  readers, skipped = inputs.find(source, rules.READS, own)
  clips = []
  if 'videos' in rules.READS:
    clips, drawn_before = inputs.find_videos(source)
    skipped += drawn_before
  digest = '+'.join(one.digest for one in models)
  cases, outputs, grids = [], {}, {}
  with progress.Progress('predict', len(readers)) as bar:
    for done, (name, read) in enumerate(readers, 1):
      try:
        volume = read()
        began = time.monotonic()
        found = look(volume)
      except ValueError as error:
        # A refusal of the DICOM reader has a code.
        skipped.append(inputs.Skipped(name, getattr(error, 'code', str(error))))
        continue
      # Files of several folders may share a name.
      key = name if volume.series_uid in outputs else volume.series_uid or name
      one = mapping.Output(key, found, time.monotonic() - began)
      grids[key] = volume.grid
      cases.append(
        {
          'case': key,
          'model': digest,
          'threshold': model.threshold,
          'repairs': list(volume.repairs),
          **rules.describe(one, volume, model),
          'pictures': _write_pictures(
            output, key, rules.draw(one, volume, model), volume.grid.is_picture
          ),
        }
      )
      # It is drawn by now, and all films' together would fill the memory.
      found.pop('saliency', None)
      outputs[key] = one
      bar.update(done)
  watched, stems = [], videos.stems([name for name, _ in clips])
  for name, path in clips:
    stem = file_name(stems[name])
    try:
      seen = videos.annotate(path, name, look, rules, model, output, stem)
    except ValueError as error:
      skipped.append(inputs.Skipped(name, str(error)))
      continue
    facts = {'case': name, 'model': digest, 'threshold': model.threshold}
    watched.append({**facts, 'frame': 'pixels', **dataclasses.asdict(seen)})
  if not cases and not watched:
    reasons = ', '.join(sorted({s.reason for s in skipped})) or 'nothing in it'
    raise ValueError(f'{source}: found no case that can be read: {reasons}')
  output.mkdir(parents=True, exist_ok=True)
  written = rules.write_found(output, outputs, grids, model) if cases else []
  missed = [dataclasses.asdict(s) for s in skipped]
  everything = [*cases, *watched]
  whole = everything[0] if len(everything) == 1 else {'cases': everything}
  text = json.dumps({**whole, 'skipped': missed}, indent=2)
  (output / 'detections.json').write_text(text + '\n')
  written += [one[kind] for one in watched for kind in ('video', 'table')]
  summary = _summary(cases, skipped, output, [*written, 'detections.json'])
  return '\n'.join([*map(videos.tell, watched), summary])


def _agreed(models: Sequence[Model]) -> Model:
  """Returns what several models have in common, and their mean threshold.

  Raises:
    build.ConfigError: they do not score the same classes by the same protocol,
      or it is none whose models vote.
  """
  first = models[0]
  if len(models) == 1:
    return first
  name = first.config[first.section]['protocol']
  if not evaluate.protocol(first.config, first.section).VOTES:
    raise build.ConfigError(
      f'--workdir: found {len(models)} folders of the protocol {name}, '
      'expected one: only masks are voted on'
    )
  for other in models[1:]:
    pairs = {
      'protocol': (name, other.config[other.section]['protocol']),
      'classes': (list(first.classes), list(other.classes)),
    }
    for what, (one, another) in pairs.items():
      if one != another:
        raise build.ConfigError(
          f'--workdir: found the {what} {one} in {first.folder} and {another} '
          f'in {other.folder}, expected the same'
        )
  thresholds = {'threshold': float(np.mean([m.threshold for m in models]))}
  return dataclasses.replace(first, thresholds=thresholds)


def _predictor(
  models: Sequence[Model],
) -> Callable[[types.Volume], dict[str, mapping.Found]]:
  """Returns what looks at one case with all models."""
  predictors, variables = [], []
  for model in models:
    section = model.config[model.section]
    predictor = build.build(
      'predictors',
      section.get('explainer') or section['predictor'],
      stages.models(model.config),
      model.config['preprocess'],
    )
    predictors.append(predictor)
    variables.append(stages.load_variables(model.folder, predictor.stages))
  if len(models) == 1:
    return functools.partial(predictors[0], variables[0])
  return functools.partial(voting.Voting(predictors), variables)


def _write_pictures(
  folder: pathlib.Path,
  key: str,
  drawn: Iterable[tuple[int, np.ndarray]],
  single: bool,
) -> list[str]:
  """Writes pictures of slices, of a scan into a folder of their own.

  Returns:
    Their paths from the folder.
  """
  name, paths = f'{_PICTURES}/{file_name(key)}', []
  for number, pixels in drawn:
    paths.append(f'{name}.png' if single else f'{name}/{number}.png')
    path = folder / paths[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
  return paths


def file_name(key: str) -> str:
  """Returns a name that every file system takes, another for every key.

  Args:
    key: of a case; '.png' at its end is left out.
  """
  key = key.removesuffix('.png')
  name = re.sub(r'[^\w.-]+', '_', key, flags=re.ASCII).lstrip('.')
  name = name[-_LONGEST_NAME:]
  if name and name == key:
    return name
  return f'{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}'


def _summary(
  cases: list[dict[str, Any]],
  skipped: list[inputs.Skipped],
  output: pathlib.Path,
  written: Sequence[str],
) -> str:
  lines = [f'{case["case"]}: {_told(case)}' for case in cases]
  lines += [f'{s.series}: skipped, {s.reason}' for s in skipped]
  lines.append('written: ' + ', '.join(f'{output}/{name}' for name in written))
  count = sum(len(case['pictures']) for case in cases)
  if count:
    lines.append(f'drawn: {count} in {output}/{_PICTURES}')
  lines.append('research use only, not a medical device')
  return '\n'.join(lines)


def _told(case: Mapping[str, Any]) -> str:
  """Says in words what came of a case."""
  if case['threshold'] is None:
    return f'{case["class"]}, of probability {case["probability"]:.3f}'
  threshold = f'{case["threshold"]:.3f}'
  if 'class' in case:
    return (
      f'{case["class"]}, as the probability of {case["probability_of"]} is '
      f'{case["probability"]:.3f} and the threshold {threshold}'
    )
  return f'{len(case["detections"])} above the threshold {threshold}'
