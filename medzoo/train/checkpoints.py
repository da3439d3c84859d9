"""Checkpoints that are either whole or noticed to be not.

A checkpoint is a folder named by its step: orbax writes variables, optimiser
state, the selected variables and the grain iterator into it; a manifest with
the SHA-256 of every file comes last, and only then the folder takes its name.
What a killed program leaves behind has another name, and what a disk spoils
later no longer fits the manifest; in both cases the previous one is used.
"""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from medzoo.train import state as state_lib

_MANIFEST = 'manifest.json'
# Room for what orbax writes round the arrays, estimated generously.
_BYTES_PER_ARRAY = 8 * 2**10
_BYTES_MORE = 2**19


class CheckpointError(OSError):
  """A checkpoint could not be written; the previous ones are intact."""


class _Damaged(ValueError):
  """The files of a checkpoint are not those that were written."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint holds besides the iterator, which is set in place.

  Attributes:
    step: steps done.
    state: the training state.
    best: the selected variables, None where none was selected.
    extra: the JSON values given to `save`.
  """

  step: int
  state: state_lib.TrainState
  best: Any
  extra: dict[str, Any]


class Checkpoints:
  """The newest few checkpoints of one training, in one folder."""

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep: int = 2,
    warn: Callable[[str], None] = logging.warning,
  ):
    """Opens the folder, which need not exist yet.

    Args:
      directory: where the checkpoints lie, nothing else.
      keep: how many to keep.
      warn: takes the line about a damaged checkpoint.
    """
    self._directory = pathlib.Path(directory).absolute()
    self._keep = keep
    self._warn = warn

  def steps(self) -> list[int]:
    """Steps of the finished checkpoints, oldest first; damaged ones too."""
    if not self._directory.is_dir():
      return []
    names = [path.name for path in self._directory.iterdir()]
    return sorted(int(name) for name in names if name.isdigit())

  def save(
    self,
    step: int,
    state: state_lib.TrainState,
    iterator: grain.DatasetIterator,
    extra: Mapping[str, Any],
    *,
    best: Any = None,
  ) -> None:
    """Writes a checkpoint, then removes those too old to keep.

    Args:
      step: steps done, the name of the checkpoint.
      state: the training state.
      iterator: its position is written.
      extra: JSON values; floats come back to the last bit.
      best: the selected variables, if there are such.

    Raises:
      CheckpointError: the disk is full, or writing failed otherwise; what
        was written of this checkpoint is removed.
    """
    items = {
      'variables': _save_args(state.variables),
      'optimizer': _save_args(_optimizer(state)),
      'iterator': grain.checkpoint.CheckpointSave(iterator),
      'extra': ocp.args.JsonSave(dict(extra)),
    }
    if best is not None:
      items['best'] = _save_args(best)
    trees = [state.variables, state.opt_state, best]
    try:
      self._clear()
      self._reserve(_size(trees))
      self._write(step, ocp.args.Composite(**items))
    except (OSError, ValueError, RuntimeError) as error:
      self._clear(ignore_errors=True)
      raise _explain(self._directory, step, error) from error
    self._prune()

  def restore_latest(
    self, template: state_lib.TrainState, iterator: grain.DatasetIterator
  ) -> Restored | None:
    """Reads the newest checkpoint that is whole, and sets the iterator.

    Args:
      template: shapes, types and shardings of the state.
      iterator: is moved to where it stood.

    Returns:
      None where there is no whole checkpoint. Damaged ones that are newer
      than the one read are named by `warn` and removed.
    """
    step = self._newest_whole()
    if step is None:
      return None
    items = {
      'variables': _restore_args(template.variables),
      'optimizer': _restore_args(_optimizer(template)),
      'iterator': grain.checkpoint.CheckpointRestore(iterator),
      'extra': ocp.args.JsonRestore(),
    }
    if (self._directory / str(step) / 'best').exists():
      items['best'] = _restore_args(template.variables)
    read = _restore(self._directory / str(step), items)
    variables = dict(read['variables'])
    state = state_lib.TrainState(
      step=read['optimizer']['step'],
      params=variables.pop('params'),
      model_state=variables,
      opt_state=read['optimizer']['opt_state'],
    )
    return Restored(step, state, read.get('best'), read['extra'])

  def read_extra(self) -> dict[str, Any] | None:
    """Reads only the JSON values of the newest whole checkpoint."""
    step = self._newest_whole()
    if step is None:
      return None
    path = self._directory / str(step)
    return _restore(path, {'extra': ocp.args.JsonRestore()})['extra']

  def read_best(self) -> dict[str, Any] | None:
    """Reads the selected variables, or the last, as numpy arrays."""
    step = self._newest_whole()
    if step is None:
      return None
    path = self._directory / str(step)
    name = 'best' if (path / 'best').exists() else 'variables'
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(epath.Path(path / name)).tree
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    args = ocp.args.PyTreeRestore(restore_args=as_numpy)
    return _restore(path, {name: args})[name]

  def _write(self, step: int, items: ocp.args.Composite) -> None:
    partial = self._directory / f'{step}.partial'
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      checkpointer.save(partial, args=items)
    if jax.process_index() == 0:
      _seal(partial)
      self._remove(step)
      partial.rename(self._directory / str(step))
    _wait('saved')

  def _reserve(self, size: int) -> None:
    """Raises OSError if the disk has no room for so many bytes.

    The threads in which orbax writes print a page each when the disk is full.
    """
    if jax.process_index() == 0:
      self._directory.mkdir(parents=True, exist_ok=True)
      path = self._directory / 'reserved'
      with path.open('wb') as file:
        os.posix_fallocate(file.fileno(), 0, size)
      path.unlink()
    _wait('reserved')

  def _newest_whole(self) -> int | None:
    """The newest step whose files are whole; process 0 decides for all."""
    found = -1
    if jax.process_index() == 0:
      for step in reversed(self.steps()):
        try:
          _verify(self._directory / str(step))
        except _Damaged as error:
          self._warn(
            f'{self._directory / str(step)}: damaged checkpoint ({error}), '
            'removed; using the one before it'
          )
          self._remove(step)
        else:
          found = step
          break
    if jax.process_count() > 1:
      found = int(multihost_utils.broadcast_one_to_all(np.int32(found)))
    return None if found < 0 else found

  def _prune(self) -> None:
    if jax.process_index() == 0:
      for step in self.steps()[: -self._keep]:
        self._remove(step)

  def _remove(self, step: int) -> None:
    """Removes a checkpoint so that a kill leaves no half of it."""
    path = self._directory / str(step)
    if path.exists():
      doomed = path.with_name(f'{step}.removed')
      shutil.rmtree(doomed, ignore_errors=True)
      path.rename(doomed)
      shutil.rmtree(doomed)

  def _clear(self, ignore_errors: bool = False) -> None:
    """Removes what an unfinished save or removal left."""
    if jax.process_index() == 0 and self._directory.is_dir():
      for path in self._directory.iterdir():
        if path.is_file():
          path.unlink()
        elif not path.name.isdigit():
          shutil.rmtree(path, ignore_errors=ignore_errors)
    _wait('cleared')


def _optimizer(state: state_lib.TrainState) -> dict[str, Any]:
  return {'step': state.step, 'opt_state': state.opt_state}


def _size(trees: Any) -> int:
  """Bytes that a checkpoint may take: the arrays and room for the rest."""
  leaves = jax.tree.leaves(trees)
  return sum(leaf.nbytes + _BYTES_PER_ARRAY for leaf in leaves) + _BYTES_MORE


def _save_args(tree: Any) -> ocp.args.PyTreeSave:
  """Saves from the host: orbax would have each device cut and copy a part."""
  return ocp.args.PyTreeSave(jax.device_get(tree))


def _restore_args(template: Any) -> ocp.args.PyTreeRestore:
  return ocp.args.PyTreeRestore(
    template,
    restore_args=ocp.checkpoint_utils.construct_restore_args(template),
  )


def _restore(path: pathlib.Path, items: Mapping[str, Any]) -> Any:
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    return checkpointer.restore(path, args=ocp.args.Composite(**items))


def _wait(name: str) -> None:
  """Lets all processes arrive before any goes on."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f'checkpoint {name}')


def _digests(directory: pathlib.Path) -> dict[str, str]:
  """SHA-256 of every file but the manifest, by relative path."""
  digests = {}
  for path in sorted(directory.rglob('*')):
    if path.is_file() and path.name != _MANIFEST:
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256')
      digests[path.relative_to(directory).as_posix()] = digest.hexdigest()
  return digests


def _seal(directory: pathlib.Path) -> None:
  """Writes the manifest and waits for it to be on the disk."""
  with (directory / _MANIFEST).open('w') as file:
    json.dump({'sha256': _digests(directory)}, file, indent=1)
    file.flush()
    os.fsync(file.fileno())


def _verify(directory: pathlib.Path) -> None:
  """Raises _Damaged if the files do not fit the manifest."""
  try:
    expected = json.loads((directory / _MANIFEST).read_bytes())['sha256']
  except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
    raise _Damaged(f'unreadable {_MANIFEST}') from error
  found = _digests(directory)
  if found.keys() != expected.keys():
    name = min(found.keys() ^ expected.keys())
    raise _Damaged(f'{name} is missing or does not belong')
  for name, digest in expected.items():
    if found[name] != digest:
      raise _Damaged(f'{name} has changed')


def _explain(
  directory: pathlib.Path, step: int, error: Exception
) -> CheckpointError:
  """One line about a failed save."""
  text = ' '.join(str(error).split())
  code = error.errno if isinstance(error, OSError) else None
  if code == errno.ENOSPC or 'No space left' in text:
    code, text = errno.ENOSPC, 'no space left on the disk'
  return CheckpointError(
    code or errno.EIO,
    f'cannot write the checkpoint of step {step}: {text[:200]}; earlier '
    'checkpoints are intact, run the same command again to go on',
    str(directory),
  )
