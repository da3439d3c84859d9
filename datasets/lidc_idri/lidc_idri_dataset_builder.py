"""Builder of LIDC-IDRI from TCIA's DICOM files and the readers' XML."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datasets import builders
from datasets import cases
from datasets import splits
from medzoo import types
from medzoo.io import dicom
from medzoo.io import dicom_geometry
from medzoo.io import lidc_lesions
from medzoo.io import lidc_types
from medzoo.io import lidc_xml
from medzoo.io import tables

# Nominal 2.5 mm positions differ by rounding.
_TOLERANCE_MM = 0.01


@dataclasses.dataclass(frozen=True)
class Source:
  """A scan to read.

  Attributes:
    series: its slices.
    document: what its readers marked.
    readers: how many must have marked a lesion.
  """

  series: dicom.Series
  document: lidc_types.Document
  readers: int


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of LIDC-IDRI.

  Attributes:
    max_slice_mm: the thickest slices, measured between positions.
    readers: how many must have marked a lesion that is to be found.
    shares: of the splits.
    split_seed: chooses among the divisions.
  """

  max_slice_mm: float = 2.5
  readers: int = 3
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one scan and clusters its readers' marks."""
  series, document = source.series, source.document
  volume = cases.read_dicom(series)
  slices = dicom.slice_index(series)
  try:
    found, excluded = lidc_lesions.findings(
      document, slices, volume, source.readers
    )
    counts = [x.readers for x in lidc_lesions.lesions(document, slices, volume)]
    boxes = lidc_lesions.boxes(document, slices, volume, source.readers)
  except ValueError as error:
    raise cases.LeftOut(series.uid, 'bad_marks', str(error)) from None
  return cases.encode(
    types.Case(volume, series.patient, found, excluded, boxes),
    readers=np.array([n for n in counts if n >= source.readers]),
  )


class Builder(builders.CaseBuilder):
  """Chest CT with the lesions that three of four readers marked."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'The folder with the DICOM series and the XML files of LIDC-IDRI, in any'
    ' arrangement; the XML may be in a tar archive.'
  )
  BUILDER_CONFIGS = [Config(name='tcia')]
  read = staticmethod(read)

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins CT series with their XML and divides them by patient."""
    config = self.builder_config
    found = dicom.find_series(manual_dir)
    if not found:
      raise ValueError(f'{manual_dir}: found no DICOM images')
    documents = {
      uid: document
      for uid, document in lidc_xml.read_all(manual_dir).items()
      if document.kind == 'ct'
    }
    if not documents:
      raise ValueError(f'{manual_dir}: found no XML of LIDC-IDRI on CT')
    sources, left_out = [], []
    for series in found:
      try:
        _check(series, documents, config.max_slice_mm)
      except cases.LeftOut as error:
        left_out.append(error)
      else:
        document = documents[series.uid]
        sources.append(Source(series, document, config.readers))
    divided = splits.divide(
      sources,
      [source.series.patient for source in sources],
      config.shares,
      config.split_seed,
    )
    lost = len(set(documents) - {series.uid for series in found})
    notes = [f'{lost} XML files are on CT series that are not here']
    return cases.Listing(divided, tuple(left_out), tuple(notes if lost else ()))

  def write_tables(
    self, directory: pathlib.Path, entries: Sequence[dict[str, Any]]
  ) -> None:
    """Writes what is to be found in LUNA16's form."""
    for file, name in (
      ('annotations.csv', 'lesions'),
      ('annotations_excluded.csv', 'excluded'),
    ):
      marks = {entry['series']: _marks(entry[name]) for entry in entries}
      tables.write_marks(directory / file, marks, 'diameter_mm')
    tables.write_seriesuids(
      directory / 'seriesuids.csv', [entry['series'] for entry in entries]
    )


def _check(
  series: dicom.Series,
  documents: Mapping[str, lidc_types.Document],
  max_slice_mm: float,
) -> None:
  """Leaves a series out for what its headers say."""
  if series.modality != 'CT':
    raise cases.LeftOut(series.uid, 'no_ct', f'modality {series.modality}')
  if series.uid not in documents:
    raise cases.LeftOut(series.uid, 'no_xml', 'no readers marked it')
  slices = [plane for plane in series.slices if not plane.file.localizer]
  try:
    pile = dicom_geometry.stack(slices or series.slices)
    dicom_geometry.check_spacing(pile)
  except dicom.Refused as error:
    raise cases.LeftOut(series.uid, error.code, error.detail) from None
  step = float(pile.heights[-1]) / (len(pile.places) - 1)
  if step > max_slice_mm + _TOLERANCE_MM:
    raise cases.LeftOut(
      series.uid, 'thick_slices', f'{step:.2f} mm, {max_slice_mm} mm is allowed'
    )


def _marks(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
  """Turns rows of the index into LUNA16's, where -1 is an unknown size."""
  table = np.array(rows, float).reshape(-1, 4)
  return np.where(np.isnan(table), -1, table)
