"""Fixed-size training cubes cut from whole scans, kept on disk.

A scan is resampled and windowed once, its cubes are cut and written, and only
then is the next one read, so that deriving needs the memory of a scan or two
however long the list of cases. Cubes are larger than the network's patch by a
margin on every side, so that augmentation can shift and turn them.
"""

import concurrent.futures
import dataclasses
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medzoo import types
from medzoo.data import places
from medzoo.data import volumes


@dataclasses.dataclass(frozen=True)
class _Spec:
  """What decides the cubes of a case; the arguments of `derive`."""

  size: tuple[int, int, int]
  shape: tuple[int, int, int]
  window: Mapping[str, object]
  spacing: tuple[float, float, float]
  region: str
  shifted: int
  shift_mm: float
  random_per_scan: int
  hard_per_scan: int
  exclusion_mm: float
  inside: bool
  seed: int


@dataclasses.dataclass(frozen=True)
class _Cubes:
  """The cubes of one case and their rows of the table."""

  voxels: np.ndarray
  rows: dict[str, np.ndarray]


def derive(
  cases: Sequence[types.Case],
  directory: pathlib.Path | str,
  *,
  shape: Sequence[int],
  margin: int | Sequence[int],
  window: Mapping[str, object],
  spacing: Sequence[float],
  region: str,
  shifted: int,
  shift_mm: float,
  random_per_scan: int,
  hard: Mapping[str, np.ndarray] | None,
  hard_per_scan: int,
  exclusion_mm: float = 5.0,
  inside: bool = False,
  seed: int,
  workers: int = 2,
) -> pathlib.Path:
  """Cuts training cubes from cases and stores them in a folder.

  Positives are each lesion and copies of it shifted at random. Negatives are
  cubes whose *centre* lies outside every lesion and every excluded finding
  plus a distance: random places of the search region, and hard ones that a
  detector took for lesions, surest first, as many from every scan. A lesion of
  unknown place (an image-level label) gives no positive, and its case no
  negative.

  Written are `cubes.npy` (n, D + 2m, H + 2m, W + 2m), float16 in [0, 1], and
  `table.npz` with a row for each: `labels` (0 for negatives), `offset` (z, y,
  x) from the centre of the cube to the lesion's, mm, `diameter` in mm (0 for
  negatives, NaN where unknown), `kind` (annotation, shifted, random, hard),
  `series` and `group`. Same arguments, same bytes.

  Args:
    cases: scans with their findings; each is read once.
    directory: folder to make; must not exist. It appears when it is complete.
    shape: (D, H, W) of the network's patch, voxels of the new grid.
    margin: what a cube has more on every side, voxels; one number or (z, y, x).
    window: intensity window, see `volumes.window`.
    spacing: grid of the cubes, (z, y, x) mm.
    region: where random negatives lie, see `places.anywhere`.
    shifted: number of shifted copies of each lesion.
    shift_mm: largest shift along an axis, mm.
    random_per_scan: random negatives of each scan.
    hard: candidates of a detector by series, (n, 4) world x, y, z in mm and
      score; None has no hard negatives.
    hard_per_scan: hard negatives of each scan, at most.
    exclusion_mm: distance of a negative's centre from the rim of a finding, mm.
    inside: keeps the whole patch of a random negative (without its margin)
      inside the scan, which small scans need: otherwise only negatives show
      the air that pads a cube where it leaves the scan.
    seed: of the random shifts and places.
    workers: cases in work at a time, each holding a resampled scan.

  Returns:
    The folder.

  Raises:
    ValueError: the folder exists, a lesion lies outside its scan, or there is
      nothing to cut.
  """
  directory = pathlib.Path(directory)
  if directory.exists():
    raise ValueError(f'{directory}: exists already; patches are never added')
  margin = tuple(int(m) for m in np.broadcast_to(margin, 3))
  spec = _Spec(
    size=tuple(n + 2 * m for n, m in zip(shape, margin, strict=True)),
    shape=tuple(shape),
    window=dict(window),
    spacing=tuple(spacing),
    region=region,
    shifted=shifted,
    shift_mm=shift_mm,
    random_per_scan=random_per_scan,
    hard_per_scan=hard_per_scan,
    exclusion_mm=exclusion_mm,
    inside=inside,
    seed=seed,
  )
  partial = directory.with_name(directory.name + '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  _write(partial, spec.size, _cut_cases(cases, hard or {}, spec, workers))
  partial.rename(directory)
  return directory


def crop(
  voxels: np.ndarray, centers: np.ndarray, size: Sequence[int]
) -> np.ndarray:
  """Cuts cubes of whole voxels; what lies outside the scan is 0.

  Args:
    voxels: (d, h, w).
    centers: (n, 3) index coordinates (z, y, x).
    size: (D, H, W) voxels.

  Returns:
    (n, D, H, W) float16, the cubes whose middles `middles` gives.
  """
  cubes = np.zeros((len(centers), *size), np.float16)
  for cube, start in zip(cubes, _starts(centers, size), strict=True):
    low = np.maximum(start, 0)
    high = np.minimum(start + size, voxels.shape)
    if (low < high).all():
      source = tuple(map(slice, low, high))
      cube[tuple(map(slice, low - start, high - start))] = voxels[source]
  return cubes


def middles(centers: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Returns the middles of the cubes nearest to (n, 3) centres."""
  return _starts(centers, size) + (np.asarray(size) - 1) / 2


def _starts(centers: np.ndarray, size: Sequence[int]) -> np.ndarray:
  """Returns (n, 3) first voxels of cubes."""
  return np.round(centers - (np.asarray(size) - 1) / 2).astype(int)


class PatchStore:
  """Random access to the cubes of a folder that `derive` made.

  Attributes:
    labels: (n,) int32 class ids, 0 for background.
    positive: (n,) bool, whether it is a cube of a lesion.
    kinds: (n,) annotation, shifted, random or hard.
    groups: (n,) pseudonym of the patient.
  """

  def __init__(self, directory: pathlib.Path | str):
    self._directory = pathlib.Path(directory)
    self._cubes = np.load(self._directory / 'cubes.npy', mmap_mode='r')
    with np.load(self._directory / 'table.npz') as table:
      self.labels = table['labels']
      self.positive = self.labels > 0
      self.kinds = table['kind']
      self.groups = table['group']
      self._offsets = table['offset']
      self._diameters = table['diameter']

  def __reduce__(self) -> tuple:
    # Worker processes open the file themselves; the map is not sent.
    return PatchStore, (self._directory,)

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns image (D', H', W') float16, label, offset (3,) and diameter."""
    return {
      'image': np.array(self._cubes[index]),
      'label': self.labels[index],
      'offset': self._offsets[index],
      'diameter': self._diameters[index],
    }


def _cut_cases(
  cases: Sequence[types.Case],
  hard: Mapping[str, np.ndarray],
  spec: _Spec,
  workers: int,
) -> Iterator[_Cubes]:
  """Yields the cubes of each case, in order."""
  # numpy and scipy let go of the interpreter in their loops, so threads do;
  # processes could not be forked beside JAX, nor be sent an open dataset.
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    waiting = []
    for index in range(len(cases)):
      waiting.append(pool.submit(lambda i: _cut(cases[i], hard, spec), index))
      if len(waiting) > workers:
        yield waiting.pop(0).result()
    for future in waiting:
      yield future.result()


def _cut(
  case: types.Case, hard: Mapping[str, np.ndarray], spec: _Spec
) -> _Cubes:
  """Cuts the cubes of one case."""
  uid = case.volume.series_uid
  rng = np.random.default_rng([spec.seed, zlib.crc32(uid.encode())])
  volume = volumes.resample(case.volume, spec.spacing)
  lesions = _with_place(case.lesions)
  index = places.lesion_index(lesions, volume)
  found = {'annotation': index, 'shifted': _shifted(index, spec, rng)}
  lesion = np.arange(len(index))
  owners = np.append(lesion, np.repeat(lesion, spec.shifted))
  # A lesion of unknown place may be anywhere, so nowhere is surely free of it.
  if len(lesions) == len(case.lesions):
    candidates = hard.get(uid, np.zeros((0, 4)))
    found |= _negatives(case, volume, candidates, spec, rng)
  centers = np.concatenate(list(found.values()))
  rows = np.zeros((len(centers), 5))
  rows[: len(owners), 0] = lesions.labels[owners]
  rows[: len(owners), 1] = lesions.diameters[owners]
  offset = index[owners] - middles(centers[: len(owners)], spec.size)
  rows[: len(owners), 2:] = offset * spec.spacing
  voxels = volumes.window(volume.voxels, spec.window)
  return _Cubes(
    voxels=crop(voxels, centers, spec.size),
    rows={
      'labels': rows[:, 0].astype(np.int32),
      'diameter': rows[:, 1].astype(np.float32),
      'offset': rows[:, 2:].astype(np.float32),
      'kind': np.repeat(list(found), [len(some) for some in found.values()]),
      'series': np.full(len(centers), uid),
      'group': np.full(len(centers), case.group),
    },
  )


def _shifted(
  index: np.ndarray, spec: _Spec, rng: np.random.Generator
) -> np.ndarray:
  """Returns the centres of the shifted copies, index (z, y, x)."""
  centers = np.repeat(index, spec.shifted, axis=0)
  shift = rng.uniform(-spec.shift_mm, spec.shift_mm, centers.shape)
  return centers + shift / spec.spacing


def _with_place(findings: types.Findings) -> types.Findings:
  """Keeps the findings whose place is known."""
  centers = findings.centers.reshape(-1, 3)
  known = np.isfinite(centers).all(axis=1)
  return types.Findings(
    centers[known], findings.diameters[known], findings.labels[known]
  )


def _negatives(
  case: types.Case,
  volume: types.Volume,
  candidates: np.ndarray,
  spec: _Spec,
  rng: np.random.Generator,
) -> dict[str, np.ndarray]:
  """Returns centres of negatives by kind, index (z, y, x)."""
  spheres = places.forbidden(case, volume, spec.exclusion_mm)
  return {
    'hard': places.surest(volume, candidates, spheres, spec.hard_per_scan),
    'random': places.anywhere(
      volume,
      spec.region,
      spheres,
      spec.random_per_scan,
      whole_shape=spec.shape if spec.inside else None,
      rng=rng,
    ),
  }


def _write(
  directory: pathlib.Path, size: Sequence[int], cases: Iterator[_Cubes]
) -> None:
  """Streams cubes to cubes.npy and gathers the rows of table.npz."""
  rows = []
  header = {'descr': '<f2', 'fortran_order': False}
  with (directory / 'cubes.npy').open('wb') as file:
    # numpy pads the header, so the count can be written over it at the end.
    np.lib.format.write_array_header_1_0(file, header | {'shape': (0, *size)})
    begin = file.tell()
    for cubes in cases:
      file.write(cubes.voxels.astype('<f2').tobytes())
      rows.append(cubes.rows)
    total = sum(len(row['labels']) for row in rows)
    file.seek(0)
    np.lib.format.write_array_header_1_0(
      file, header | {'shape': (total, *size)}
    )
    assert file.tell() == begin
  if not total:
    raise ValueError(f'{directory}: the cases give no patch at all')
  names = rows[0].keys()
  table = {name: np.concatenate([row[name] for row in rows]) for name in names}
  np.savez(directory / 'table.npz', **table)
