"""An encoder of pictures and a head that judges one of its maps.

The two train together here, or the head alone under `trainable=('head',)`,
from what stages of their own have learned:

  init_from=(dict(stage='encoder', modules=(), to='encoder'),
             dict(stage='head', modules=(), to='head'))

The defaults are Xvision's: VGG16 up to its last pooling, and two layers of 512
units (github.com/ayush1997/Xvision).
"""

import flax.linen as nn
from jaxtyping import Array, Float

from medzoo import models
from medzoo.models import blocks
from medzoo.models import dense_head
from medzoo.models import vgg16

FACTS = models.Facts(
  task='judges pictures',
  input_shape=(224, 224, 3),
  weights="its encoder's, under to='encoder'",
)


class PictureClassifier(nn.Module):
  """Judges pictures of the size that the head was made for.

  Attributes:
    encoder: gives a dict of maps, a VGG16 without classifier say.
    head: gives a dict with `logits` for one map.
    tap: the name of that map.
  """

  encoder: nn.Module = vgg16.VGG16()
  head: nn.Module = dense_head.DenseHead()
  tap: str = 'pool5'

  def __call__(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b num_classes']]:
    """Runs the network.

    Args:
      x: pictures as the encoder wants them, RGB in [0, 1] for a VGG16.
      train: as the encoder and the head have it.

    Returns:
      `logits` (b, num_classes), float32.

    Raises:
      ValueError: the encoder gives no such map.
    """
    return self.classify(self.encode(x, train=train), train=train)

  def encode(
    self, x: Float[Array, 'b h w c'], *, train: bool
  ) -> Float[Array, 'b h2 w2 o']:
    """Returns the rectified maps that Grad-CAM weighs.

    They are the tapped ones, or, where those are pooled, what was pooled.
    """
    maps = self.encoder(x, train=train)
    if self.tap not in maps:
      raise ValueError(
        f'tap: found {self.tap!r}, expected one of {", ".join(maps)}'
      )
    return maps[vgg16.POOLED.get(self.tap, self.tap)]

  def classify(
    self, maps: Float[Array, 'b h w c'], *, train: bool
  ) -> dict[str, Float[Array, 'b num_classes']]:
    """Returns the outputs for what `encode` gave."""
    if self.tap in vgg16.POOLED:
      maps = blocks.max_pool_2d(maps, 2, 2)
    return self.head(maps, train=train)


Model = PictureClassifier
