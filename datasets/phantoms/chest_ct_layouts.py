"""Lays phantom chest CTs out on disk as real ones are published.

Each layout has a part per scan, which worker processes write, and tables of
all scans, which are written once from the rows that the scans return.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import SimpleITK as sitk

from datasets.phantoms import chest_ct_dicom as dicoms
from datasets.phantoms import chest_ct_pictures as pictures
from datasets.phantoms import chest_ct_records as records
from datasets.phantoms import chest_ct_xml as xml

# Sessions that make a nodule one to be found, as LUNA16 counts.
_READERS = 3
_SUBSETS = 10


@dataclasses.dataclass(frozen=True)
class Row:
  """What the tables say of one scan.

  Attributes:
    series_uid: its name.
    patient: whose it is.
    path: of its files, from the layout's root.
    found: (n, 4) world x, y, z and diameter, mm, of nodules with 3 readers.
    excluded: (n, 4) of all else that readers marked; diameter -1 for points.
    index: (n, 3) zero-based voxel indices x, y, z of `found`.
    distractors: (n, 3) world x, y, z, mm.
  """

  series_uid: str
  patient: str
  path: str
  found: np.ndarray
  excluded: np.ndarray
  index: np.ndarray
  distractors: np.ndarray


def write_lidc(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path
) -> None:
  """Writes TCIA's tree: patient, study, series, with the readers' XML.

  Args:
    phantoms: the scans.
    directory: root of the tree.
  """
  _write(phantoms, pathlib.Path(directory), 'lidc')


def write_luna16(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path
) -> None:
  """Writes LUNA16's ten subsets of .mhd and .raw, and its tables.

  Args:
    phantoms: the scans.
    directory: root of the subsets.
  """
  _write(phantoms, pathlib.Path(directory), 'luna16')


def write_luna16_dicom(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path
) -> None:
  """Writes what a hospital has: DICOM series and annotations.csv by series.

  Args:
    phantoms: the scans.
    directory: gets the table, and a folder of series.
  """
  _write(phantoms, pathlib.Path(directory), 'luna16_dicom')


def write_series_csv(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path
) -> None:
  """Writes convnet3d's list of series and its class map.

  Args:
    phantoms: the scans.
    directory: gets annotations.csv, mapping.csv and the series, most of them
      folders of DICOM, every fourth one .mhd file.
  """
  _write(phantoms, pathlib.Path(directory), 'series_csv')


def write_boxes_json(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path
) -> None:
  """Writes slices as pictures, with TensorBox's lists of their boxes.

  Args:
    phantoms: the scans.
    directory: gets a list a scan, and a folder of pictures.
  """
  _write(phantoms, pathlib.Path(directory), 'boxes_json')


def _write(
  phantoms: Iterable[records.Phantom], directory: pathlib.Path, layout: str
) -> None:
  rows = [
    write_scan(phantom, directory, layout, number)
    for number, phantom in enumerate(phantoms)
  ]
  write_tables(rows, directory, layout)


def write_scan(
  phantom: records.Phantom, directory: pathlib.Path, layout: str, number: int
) -> Row:
  """Writes the files of one scan.

  Args:
    phantom: it.
    directory: root of the layout.
    layout: a key of `LAYOUTS`.
    number: of the scan among all.

  Returns:
    What the layout's tables need of it.
  """
  path = LAYOUTS[layout][0](phantom, directory, number)
  found, excluded = annotations(phantom)
  index = phantom.volume.world_to_index(found[:, :3])[:, ::-1]
  centers = [d.center for d in phantom.distractors]
  return Row(
    phantom.volume.series_uid,
    phantom.patient,
    path.as_posix(),
    found,
    excluded,
    index,
    np.array(centers).reshape(-1, 3),
  )


def write_tables(
  rows: Sequence[Row], directory: pathlib.Path, layout: str
) -> None:
  """Writes the tables of a layout, from the rows of all of its scans."""
  directory.mkdir(parents=True, exist_ok=True)
  LAYOUTS[layout][1](rows, directory)


def annotations(
  phantom: records.Phantom,
) -> tuple[np.ndarray, np.ndarray]:
  """Merges readers' marks as LUNA16 did, knowing which mark means what.

  Args:
    phantom: the scan.

  Returns:
    (n, 4) nodules of three and more readers, and (n, 4) what is excluded from
    scoring: every mark of the other nodules, and points, with diameter -1.
    Columns are world x, y, z and diameter, mm.
  """
  by_nodule: dict[int, list[np.ndarray]] = {}
  points = []
  for reading in reversed(phantom.readings):
    for mark in reading.marks:
      value = np.append(mark.center, mark.diameter)
      by_nodule.setdefault(mark.nodule, []).append(value)
    for index in (*reading.small, *reading.others):
      points.append(np.append(phantom.volume.index_to_world(index), -1.0))
  found, excluded = [], []
  for values in by_nodule.values():
    merged = values[0]
    for value in values[1:]:
      merged = (merged + value) / 2
    (found if len(values) >= _READERS else excluded).append(merged)
  return (
    np.array(found).reshape(-1, 4),
    np.array(excluded + points).reshape(-1, 4),
  )


def _lidc_scan(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  del number
  uid = phantom.volume.series_uid
  path = pathlib.Path(phantom.patient, phantom.study_uid, uid)
  dicoms.write_series(phantom, directory / path)
  (directory / path / '069.xml').write_text(xml.message(phantom))
  return path


def _luna16_scan(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  folder = pathlib.Path(f'subset{number % _SUBSETS}')
  path = folder / f'{phantom.volume.series_uid}.mhd'
  # Like some of LUNA16's, every fifth scan is stored from the other corner.
  _write_mhd(phantom, directory / path, flipped=number % 5 == 4)
  return path


def _write_mhd(
  phantom: records.Phantom, path: pathlib.Path, flipped: bool
) -> None:
  volume = phantom.volume
  voxels, origin, direction = volume.voxels, volume.origin, np.eye(3)
  if flipped:
    direction = np.diag([-1.0, -1.0, 1.0])
    corner = np.array([0, *voxels.shape[1:]]) - [0, 1, 1]
    origin = tuple(float(v) for v in volume.index_to_world(corner))
    voxels = voxels[:, ::-1, ::-1]
  image = sitk.GetImageFromArray(voxels)
  image.SetSpacing(volume.spacing[::-1])
  image.SetOrigin(origin)
  image.SetDirection(direction.ravel())
  path.parent.mkdir(parents=True, exist_ok=True)
  sitk.WriteImage(image, str(path))


def _dicom_scan(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  path = pathlib.Path('series', f'{number:04d}')
  dicoms.write_series(phantom, directory / path)
  return path


def _mixed_scan(
  phantom: records.Phantom, directory: pathlib.Path, number: int
) -> pathlib.Path:
  if number % 4 != 3:
    return _dicom_scan(phantom, directory, number)
  path = pathlib.Path('series', f'{number:04d}.mhd')
  _write_mhd(phantom, directory / path, flipped=False)
  return path


def _no_tables(rows: Sequence[Row], directory: pathlib.Path) -> None:
  del rows, directory


def _luna16_tables(rows: Sequence[Row], directory: pathlib.Path) -> None:
  _annotation_tables(rows, directory)
  place = ('seriesuid', 'coordX', 'coordY', 'coordZ')
  candidates = []
  for row in rows:
    for kind, places in ((1, row.found[:, :3]), (0, row.distractors)):
      candidates += [(row.series_uid, *map(str, p), kind) for p in places]
  _write_csv(directory / 'candidates_V2.csv', (*place, 'class'), candidates)
  lines = [(row.series_uid,) for row in rows]
  _write_csv(directory / 'seriesuids.csv', None, lines)


def _annotation_tables(rows: Sequence[Row], directory: pathlib.Path) -> None:
  header = ('seriesuid', 'coordX', 'coordY', 'coordZ', 'diameter_mm')
  for name in ('found', 'excluded'):
    lines = [
      (row.series_uid, *map(str, mark))
      for row in rows
      for mark in getattr(row, name)
    ]
    suffix = '' if name == 'found' else '_excluded'
    _write_csv(directory / f'annotations{suffix}.csv', header, lines)


def _series_tables(rows: Sequence[Row], directory: pathlib.Path) -> None:
  lines = []
  for row in rows:
    for index, mark in zip(row.index, row.found, strict=True):
      numbers = (*index, mark[3])
      lines.append((row.path, 'nodule', *map(str, numbers), row.patient))
    if not len(row.found):
      lines.append((row.path, 'bg', '', '', '', '', row.patient))
  _write_csv(directory / 'annotations.csv', None, lines)
  classes = [('bg', 0), ('nodule', 1)]
  _write_csv(directory / 'mapping.csv', None, classes)


def _write_csv(
  path: pathlib.Path,
  header: Sequence[str] | None,
  lines: Iterable[Sequence[object]],
) -> None:
  with path.open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    if header:
      writer.writerow(header)
    writer.writerows(lines)


_Scan = Callable[[records.Phantom, pathlib.Path, int], pathlib.Path]
_Tables = Callable[[Sequence[Row], pathlib.Path], None]

# By name, what writes a layout's scans and what its tables.
LAYOUTS: dict[str, tuple[_Scan, _Tables]] = {
  'lidc': (_lidc_scan, _no_tables),
  'luna16': (_luna16_scan, _luna16_tables),
  'luna16_dicom': (_dicom_scan, _annotation_tables),
  'series_csv': (_mixed_scan, _series_tables),
  'boxes_json': (pictures.write, _no_tables),
}
