"""An encoder for tests of what stands on one."""

import flax.linen as nn


class TinyEncoder(nn.Module):
  """Four convolutions, as a whole ResNet takes long to compile."""

  @nn.compact
  def __call__(self, x, *, train):
    del train
    maps = {}
    for i in range(2, 6):
      step = 4 if i == 2 else 2
      x = nn.relu(nn.Conv(8, (step, step), step, name=f'c{i}')(x))
      maps[f'c{i}'] = x
    return maps
