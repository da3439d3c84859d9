"""Where a model, its losses and the batch meet for training.

A task knows what the training loop does not: how to initialise its model, what
the loss of a batch is, and how validation batches are scored. One task a file;
each file ends with the alias `Task` by which a config finds it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def init(
  model: nn.Module, key: jax.Array, batch: dict[str, Any]
) -> dict[str, Any]:
  """Returns a model's fresh variables for images (b, ...) such as a batch's.

  Lazily: nothing of the network but its variables is computed or compiled.
  """
  shape = (1, *batch['image'].shape[1:])
  return model.lazy_init(
    key, jax.ShapeDtypeStruct(shape, jnp.float32), train=False
  )
