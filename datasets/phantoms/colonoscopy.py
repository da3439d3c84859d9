"""Phantom colonoscopies with the polyps' true masks.

`make` gives the frames of one sequence: a bent tube with haustral folds,
vessels, stool, liquid and foam, in which polyps grow, seen by a wide-angle
camera that drifts and has its lamp beside the lens. `write` makes many and
lays them out as CVC-ClinicDB is published, with a table of sequences.

A mask is what is seen of a polyp, its stalk included, up to where its surface
meets the wall's and up to the field's border; what liquid covers is not in
it. Of several pieces of one polyp the largest is kept, and a polyp of which
next to nothing is seen is not outlined.

`python -m datasets.phantoms.colonoscopy --output DIR --cases N --frames N`
"""

import functools
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from datasets import progress
from datasets import splits
from datasets.phantoms import colonoscopy_bubbles as bubbles
from datasets.phantoms import colonoscopy_camera as cameras
from datasets.phantoms import colonoscopy_files as files
from datasets.phantoms import colonoscopy_light as lights
from datasets.phantoms import colonoscopy_scene as scenes
from datasets.phantoms import colonoscopy_video as videos
from datasets.phantoms import command
from datasets.phantoms import workers as processes

SHARES = {'train': 150, 'validation': 30, 'test': 160}

# Polyps of each seven sequences, in an order of their own.
_POLYPS = (0, 1, 1, 1, 1, 1, 2)
# Rays per pixel along each axis: frames are soft, and rays take time.
_RAYS = 0.6
# Of a frame; of smaller pieces nobody would say what they are.
_LEAST_SHARE = 0.0015


def polyps_of(seed: int, index: int) -> int:
  """Returns how many polyps a sequence has, if there is a place for them."""
  block, place = divmod(index, len(_POLYPS))
  order = np.random.default_rng([seed, block, 8])
  return int(order.permutation(_POLYPS)[place])


def make(
  seed: int, index: int, *, frames: int = 4, size: int = 384
) -> list[files.Frame]:
  """Makes the frames of one sequence.

  Args:
    seed: of the whole set.
    index: of the sequence in it.
    frames: how many.
    size: a frame's width in pixels; its height is three quarters of it.

  Returns:
    The frames, the same for the same arguments.
  """
  rng = np.random.default_rng([seed, index, 6])
  scene, camera = scenes.make(rng, polyps_of(seed, index))
  foam = bubbles.draw(rng, scene)
  processor = videos.make(rng, size * 3 // 4, size)
  gloss = tuple(rng.uniform((0.5, 120, 0.08), (2.0, 400, 0.25)))
  drift = rng.normal(0, (0.03, 0.03, 0.08)), rng.normal(0, 0.05, 3)
  made = []
  for number in range(frames):
    noise = np.random.default_rng([seed, index, 7, number])
    here = camera.moved(
      number * drift[0] + noise.normal(0, 0.02, 3),
      number * drift[1] + noise.normal(0, 0.03, 3),
    )
    picture, mask = _frame(scene, here, foam, processor, gloss, noise)
    name = str(index * frames + number + 1)
    made.append(files.Frame(name, f'PHANTOM-{index + 1:04d}', picture, mask))
  return made


def _frame(
  scene: scenes.Scene,
  camera: cameras.Camera,
  foam: np.ndarray,
  processor: videos.Processor,
  gloss: tuple[float, float, float],
  rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
  shape = processor.field.shape
  few = round(shape[0] * _RAYS), round(shape[1] * _RAYS)
  view = scenes.look(scene, camera, *few)
  light, under = lights.shade(scene, camera, view, gloss)
  picture = light.reshape(*few, 3)
  bubbles.paint(picture, foam, camera, view.reach.reshape(few))
  mask = np.zeros(shape, bool)
  for share in np.where(under, 0, view.shares):
    whole = videos.resize(share.reshape(few), shape) > 0.5
    mask |= _largest(whole & (processor.field > 0.5))
  return videos.develop(picture, processor, rng), mask


def _largest(mask: np.ndarray) -> np.ndarray:
  """Keeps a mask's largest piece, without holes."""
  pieces, _ = ndimage.label(mask)
  sizes = np.bincount(pieces.ravel())
  sizes[0] = 0
  if sizes.max() < _LEAST_SHARE * mask.size:
    return np.zeros_like(mask)
  return ndimage.binary_fill_holes(pieces == sizes.argmax())


def write(
  directory: str | os.PathLike,
  *,
  cases: int,
  frames: int = 4,
  seed: int = 0,
  size: int = 384,
  workers: int | None = None,
) -> None:
  """Makes frames and writes them as CVC-ClinicDB is laid out.

  `Original/*.png` in RGB and `Ground Truth/*.png` of the same names, 255 in
  polyps, numbered from 1; `sequences.csv` with columns file (the name without
  its suffix), sequence, split.

  Args:
    directory: root of the layout; made if need be, must be empty.
    cases: sequences; each is in one split.
    frames: of each sequence.
    seed: of the whole set.
    size: a frame's width in pixels, 64 and more.
    workers: processes; None for one on each core, or for one alone where
      frames take less time than processes to start. What is written does not
      depend on it.

  Raises:
    ValueError: an argument is impossible, or the directory is not empty.
  """
  directory = pathlib.Path(directory)
  for name, value, least in (
    ('cases', cases, 1),
    ('frames', frames, 1),
    ('size', size, 64),
  ):
    if value < least:
      raise ValueError(f'found {name} {value}, expected at least {least}')
  processes.make_empty(directory)
  for folder in (files.FRAMES, files.MASKS):
    (directory / folder).mkdir()
  if workers is None:
    workers = 1 if cases * size < 5000 else len(os.sched_getaffinity(0))
  job = functools.partial(_write_one, directory, seed, frames, size)
  rows = [
    row
    for some in progress.track(
      processes.run(job, range(cases), workers), 'sequences', cases
    )
    for row in some
  ]
  names = sorted({sequence for _, sequence in rows})
  parts = splits.divide(names, names, SHARES, seed)
  split_of = {name: split for split, part in parts.items() for name in part}
  files.write_table(rows, split_of, directory)


def _write_one(
  directory: pathlib.Path, seed: int, frames: int, size: int, index: int
) -> list[tuple[str, str]]:
  made = make(seed, index, frames=frames, size=size)
  return [files.write(frame, directory) for frame in made]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return command.run(
    write,
    arguments,
    prog='python -m datasets.phantoms.colonoscopy',
    description="Writes phantom colonoscopies with the polyps' masks.",
    cases=8,
    frames=4,
    seed=0,
    size=384,
  )


if __name__ == '__main__':
  sys.exit(main())
