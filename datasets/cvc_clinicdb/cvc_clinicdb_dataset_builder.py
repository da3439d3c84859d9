"""Builder of frames of colonoscopies with their polyps outlined."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from datasets import builders
from datasets import cases
from datasets import splits
from datasets.cvc_clinicdb import sequences
from medzoo import types
from medzoo.io import images
from medzoo.io import tables

FRAMES, MASKS = 'Original', 'Ground Truth'
# Pieces of a mask of fewer pixels than this share of a frame are specks: 22
# pixels of CVC-ClinicDB's 384 x 288, where outlines leave stray ones behind.
LEAST_SHARE = 2e-4


@dataclasses.dataclass(frozen=True)
class Source:
  """A frame to read.

  Attributes:
    path: the file.
    mask: the file with its polyps.
    key: path from the folder of frames, without the ending.
    group: pseudonym of its sequence.
  """

  path: pathlib.Path
  mask: pathlib.Path
  key: str
  group: str


@dataclasses.dataclass(eq=False)
class Config(builders.Config):
  """Options of frames with polyps.

  Attributes:
    ungrouped: whether every frame is a sequence by itself where nothing says
      which frames belong together.
    shares: of the splits, where the table of sequences has none.
    split_seed: chooses among the divisions.
  """

  ungrouped: bool = False
  shares: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(splits.DEFAULT_SHARES)
  )
  split_seed: int = 0


def read(source: Source) -> cases.Example:
  """Reads one frame and its polyps."""
  try:
    pixels, mask = images.read(source.path), images.read(source.mask)
  except ValueError as error:
    raise cases.LeftOut(source.key, 'unreadable', str(error)) from None
  if pixels.ndim == 2:
    pixels = np.stack([pixels] * 3, axis=-1)
  if mask.ndim == 3:
    mask = mask.max(axis=-1)
  if mask.shape != pixels.shape[:2]:
    raise cases.LeftOut(
      source.key,
      'size_mismatch',
      f'{source.mask}: found {mask.shape} pixels, expected those of its frame,'
      f' {pixels.shape[:2]}',
    )
  polyps, specks = _polyps(mask, source)
  volume = types.Volume(
    pixels[None],
    (None, None, None),
    series_uid=source.key,
    repairs=('specks',) if specks else (),
  )
  nothing = tables.to_findings(np.zeros((0, 4)))
  masks = types.Masks(polyps, np.ones(len(polyps), np.int32))
  return cases.encode(
    types.Case(volume, source.group, nothing, nothing, masks=masks)
  )


def _polyps(mask: np.ndarray, source: Source) -> tuple[np.ndarray, int]:
  """Returns (n, h, w) bool, a polyp each, and how many specks were dropped."""
  # Some values of published masks lie between black and white.
  inside = mask > 127
  if mask.any() and not inside.any():
    raise cases.LeftOut(
      source.key,
      'dark_mask',
      f'{source.mask}: found values up to {mask.max()}, expected 0 and 255',
    )
  pieces, count = ndimage.label(inside, np.ones((3, 3)))
  areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
  kept = 1 + np.flatnonzero(areas >= LEAST_SHARE * mask.size)
  if count and not len(kept):
    raise cases.LeftOut(
      source.key,
      'only_specks',
      f'{source.mask}: found pieces of up to {areas.max()} pixels, expected'
      f' a polyp of at least {LEAST_SHARE * mask.size:.0f}',
    )
  return pieces == kept[:, None, None], count - len(kept)


class Builder(builders.CaseBuilder):
  """Frames of colonoscopies with masks of their polyps."""

  HASHES_CONTENTS = True
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'The folder with {FRAMES}/ and {MASKS}/, and {sequences.TABLE} with the'
    ' columns file and sequence unless frames are numbered as CVC-ClinicDB'
    ' numbers them.'
  )
  BUILDER_CONFIGS = [Config(name='frames')]
  read = staticmethod(read)

  @classmethod
  def raw_files(
    cls, manual_dir: pathlib.Path, config: builders.Config
  ) -> list[pathlib.Path]:
    """Returns the pictures and the table; nothing else is read."""
    del config
    table = manual_dir / sequences.TABLE
    folders = (manual_dir / FRAMES, manual_dir / MASKS)
    found = [path for folder in folders for path in builders.walk(folder)]
    return found + ([table] if table.is_file() else [])

  def list_cases(self, manual_dir: pathlib.Path) -> cases.Listing:
    """Joins frames, masks and sequences."""
    config = self.builder_config
    frames, masks = (_pictures(manual_dir / name) for name in (FRAMES, MASKS))
    found = sequences.find(manual_dir, list(frames), ungrouped=config.ungrouped)
    left_out = {x.series: x for x in found.left_out}
    for ours, theirs, code, what in (
      (frames, masks, 'no_mask', MASKS),
      (masks, frames, 'missing', FRAMES),
    ):
      for key in ours.keys() - theirs.keys():
        problem = f'{ours[key]}: found no picture of this name in {what}/'
        left_out.setdefault(key, cases.LeftOut(key, code, problem))
    sources = [
      Source(path, masks[key], key, found.groups[key])
      for key, path in frames.items()
      if key not in left_out
    ]
    if found.splits:
      divided = {split: [] for split in ('train', 'validation', 'test')}
      for source in sources:
        divided[found.splits[source.key]].append(source)
    else:
      divided = splits.divide(
        sources, [x.group for x in sources], config.shares, config.split_seed
      )
    ordered = sorted(left_out.values(), key=lambda x: x.series)
    return cases.Listing(
      divided, tuple(ordered), found.notes, ('polyp',), background='mucosa'
    )


def _pictures(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the pictures of a folder by key, numbers in their own order."""
  if not folder.is_dir():
    raise ValueError(
      f'{folder}: found no such folder, expected {FRAMES}/ and {MASKS}/ with'
      ' pictures of the same names'
    )
  found: dict[str, pathlib.Path] = {}
  for path in filter(images.is_picture_file, builders.walk(folder)):
    key = path.relative_to(folder).with_suffix('').as_posix()
    if found.setdefault(key, path) != path:
      raise ValueError(
        f'{path}: found {found[key].name} beside it, expected one picture of a'
        ' name'
      )
  return dict(sorted(found.items(), key=lambda item: _rank(item[0])))


def _rank(key: str) -> tuple[int, str]:
  return int(key) if key.isdecimal() else 0, key
