"""Builder of NODE21's nodule cubes."""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from datasets import builders
from datasets import cases
from datasets import splits
from medzoo import types
from medzoo.io import tables

_NAME = re.compile(r'(?P<series>.+)_dcm_(?P<number>\d+)\.mha')


@dataclasses.dataclass(frozen=True)
class Source:
  """A cube to read.

  Attributes:
    image: the .mha file.
    mask: the .mha file of its nodule.
    series: UID of the scan from which it was cut.
    number: tells the cubes of a series apart.
    group: pseudonym of the patient, or of the series.
    nodule: (4,) world x, y, z and diameter in mm by LUNA16; None where only
      the mask knows.
    others: (n, 4) the other nodules of the scan that LUNA16 has.
  """

  image: pathlib.Path
  mask: pathlib.Path
  series: str
  number: str
  group: str
  nodule: np.ndarray | None
  others: np.ndarray


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of the cubes.

  Attributes:
    exclude_series: UIDs of scans whose cubes are left out.
    exclude_patients: identifiers of patients whose cubes are left out; needs
      `patient_map`.
    patient_map: file that says whose every series is, as TCIA publishes it;
      '' where there is none, then the series is the group.
    shares: of the splits.
    split_seed: chooses among the divisions.
  """

  exclude_series: Sequence[str] = ()
  exclude_patients: Sequence[str] = ()
  patient_map: str = ''
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {'train': 0.85, 'validation': 0.15}
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one cube; its nodule is the lesion, others in it are excluded."""
  name = f'{source.series}_{source.number}'
  volume = cases.read_file(source.image, name)
  volume = dataclasses.replace(volume, modality='CT', series_uid=name)
  mask = cases.read_file(source.mask, name).voxels > 0
  if mask.shape != volume.voxels.shape or not mask.any():
    raise cases.LeftOut(
      name, 'bad_mask', f'{mask.sum()} voxels of {mask.shape}'
    )
  measured = _measure(mask, volume)
  nodule = measured if source.nodule is None else source.nodule
  limits = np.array(volume.voxels.shape) - 0.5
  index = volume.world_to_index(source.others[:, :3])
  near = ((index >= -0.5) & (index <= limits)).all(axis=1)
  lesions, others = map(
    tables.to_findings, (nodule.reshape(1, 4), source.others[near])
  )
  extra = {
    'mask': mask.astype(np.uint8),
    'scan': source.series,
    'label': 1,
    'center': nodule[:3].astype(np.float64),
    'diameter': nodule[3:].astype(np.float64),
    'mask_diameter': measured[3:].astype(np.float64),
  }
  case = types.Case(volume, source.group, lesions, others)
  return cases.encode(case, extra=extra)


def _measure(mask: np.ndarray, volume: types.Volume) -> np.ndarray:
  """Returns the centroid and the diameter of the sphere of equal volume."""
  center = volume.index_to_world(np.argwhere(mask).mean(axis=0))
  content = mask.sum() * np.prod(volume.spacing)
  return np.append(center, np.cbrt(6 * content / np.pi))


class Builder(builders.CaseBuilder):
  """Cubes of 50 x 50 x 50 voxels of 1 mm round nodules of LUNA16."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with the *_dcm_k.mha and *_seg_k.mha files.'
  )
  BUILDER_CONFIGS = [Config(name='cubes')]
  read = staticmethod(read)

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: Config
  ) -> list[pathlib.Path]:
    """Adds the map of patients, which may lie elsewhere."""
    return builders.walk(manual_dir) + cases.optional_file(config.patient_map)

  @classmethod
  def extra_features(cls) -> dict[str, tfds.features.FeatureConnector]:
    """Returns the mask and what describes the nodule in the middle."""
    tensor = tfds.features.Tensor
    return {
      'mask': tensor(shape=(None,) * 3, dtype=np.uint8, encoding='zlib'),
      'scan': tfds.features.Text(),
      'label': tfds.features.Scalar(dtype=np.int32),
      'center': tensor(shape=(3,), dtype=np.float64, encoding='zlib'),
      'diameter': tensor(shape=(1,), dtype=np.float64, encoding='zlib'),
      'mask_diameter': tensor(shape=(1,), dtype=np.float64, encoding='zlib'),
    }

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins cubes with masks and divides them by patient."""
    config = self.builder_config
    owners = _read_owners(config)
    sources = _list_cubes(manual_dir, owners)
    excluded = {cases.pseudonym(name) for name in config.exclude_patients}
    kept, left_out = [], []
    for source in sources:
      if source.series in config.exclude_series or source.group in excluded:
        left_out.append(
          cases.LeftOut(source.series, 'excluded', 'left out on request')
        )
      else:
        kept.append(source)
    known = sum(source.nodule is not None for source in kept)
    notes = (
      f'centre and diameter: {known} from manifest.csv (LUNA16),'
      f' {len(kept) - known} from the mask, which runs larger',
      f'groups: {"patients" if owners else "series, no patient_map was given"}',
    )
    found = splits.divide(
      kept, [x.group for x in kept], config.shares, config.split_seed
    )
    return cases.Listing(found, tuple(left_out), notes)


def _read_owners(config: Config) -> dict[str, str]:
  if config.patient_map:
    return cases.read_patients(pathlib.Path(config.patient_map))
  if config.exclude_patients:
    raise ValueError(
      'found exclude_patients without patient_map, expected the file that'
      ' says whose every series is'
    )
  return {}


def _list_cubes(root: pathlib.Path, owners: Mapping[str, str]) -> list[Source]:
  files = builders.walk(root)
  nodules = _read_manifest([x for x in files if x.name == 'manifest.csv'])
  matches = [(path, _NAME.fullmatch(path.name)) for path in files]
  sources = []
  for image, match in matches:
    if match:
      series, number = match['series'], match['number']
      mask = image.with_name(f'{series}_seg_{number}.mha')
      if not mask.is_file():
        raise ValueError(f'{image}: found no mask {mask.name} beside it')
      others = [
        row
        for name, row in nodules.items()
        if name.startswith(f'{series}_dcm_') and name != image.name
      ]
      sources.append(
        Source(
          image,
          mask,
          series,
          number,
          cases.pseudonym(owners.get(series, series)),
          nodules.get(image.name),
          np.array(others).reshape(-1, 4),
        )
      )
  if not sources:
    raise ValueError(f'{root}: found no *_dcm_k.mha with *_seg_k.mha')
  return sources


def _read_manifest(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
  """Reads the LUNA16 nodule of every cube, by the cube's file name."""
  columns = ('luna_x', 'luna_y', 'luna_z', 'luna_diameter_mm')
  found = {}
  for path in paths:
    with path.open(newline='', encoding='utf-8-sig') as file:
      table = csv.DictReader(file)
      if not {'file', *columns} <= set(table.fieldnames or ()):
        raise ValueError(
          f'{path}: found the columns {table.fieldnames}, expected file,'
          f' {", ".join(columns)}'
        )
      for row in table:
        try:
          values = [float(row[name]) for name in columns if row[name]]
        except ValueError:
          raise ValueError(
            f'{path}:{table.line_num}: found no number in {columns}'
          ) from None
        if len(values) == len(columns):
          found[row['file']] = np.array(values)
  return found
