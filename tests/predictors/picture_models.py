"""Tiny networks that judge pictures, for the tests of several files."""

import flax.linen as nn
import jax.numpy as jnp


class Toy(nn.Module):
  """Two convolutions and a mean; smooth, so that its gradients integrate."""

  outputs: int = 1

  def setup(self):
    self.first = nn.Conv(4, (3, 3))
    self.second = nn.Conv(5, (3, 3), strides=(2, 2))
    self.dense = nn.Dense(self.outputs)

  def encode(self, x, *, train):
    del train
    return nn.softplus(self.second(jnp.tanh(self.first(4 * x))))

  def classify(self, maps, *, train):
    del train
    return {'logits': 3 * self.dense(maps.mean((1, 2)))}

  def __call__(self, x, *, train):
    return self.classify(self.encode(x, train=train), train=train)


class Encoder(nn.Module):
  """Gives its layers' outputs by name, as VGG16 does."""

  @nn.compact
  def __call__(self, x, *, train):
    del train
    maps = jnp.tanh(nn.Conv(4, (3, 3))(x))
    return {
      'pool4': maps,
      'block5_conv3': maps,
      'pool5': nn.max_pool(maps, (2, 2), strides=(2, 2)),
    }


class Head(nn.Module):
  """Judges a layer's output."""

  @nn.compact
  def __call__(self, x, *, train):
    del train
    return {'logits': nn.Dense(2)(x.reshape(len(x), -1))}
