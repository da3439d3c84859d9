"""One mesh axis over all devices, and moving trees onto it and back.

Parameters are replicated and batches are split along their first axis. The
same code serves one device, several, and several hosts, where each process
brings its own part of every batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

AXIS = 'data'


def make_mesh(
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """Returns a mesh of one axis, `data`, over `devices` (default: all)."""
  devices = jax.devices() if devices is None else devices
  # Explicit axes, the default of jax.make_mesh, break Linen's Dropout.
  return jax.make_mesh(
    (len(devices),),
    (AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=devices,
  )


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The sharding of parameters: a copy on every device."""
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def split(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The sharding of batches: a part of the first axis on every device."""
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def replicate(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Copies every leaf to every device of the mesh."""
  # A donated array must not share memory with an array of the caller.
  return jax.device_put(tree, replicated(mesh), may_alias=False)


def shard_batch(
  batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Spreads a batch over the mesh.

  Args:
    batch: arrays (b, ...); with several processes, this process's share.
    mesh: from `make_mesh`.

  Returns:
    Global arrays, split along their first axis.

  Raises:
    ValueError: b is not a multiple of the number of local devices.
  """
  local = len(mesh.local_devices)
  size = len(next(iter(batch.values())))
  if size % local:
    raise ValueError(
      f'batch_size: found {size}, expected a multiple of the {local} devices '
      'of this machine'
    )
  sharding = split(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
    for name, array in batch.items()
  }


def fetch(tree: Any) -> Any:
  """Returns the tree as numpy arrays, gathered from all processes."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
