"""The stages of experiments that judge pictures by VGG16.

`pretrain` trains a network from scratch, with a head that it loses; `encoder`
is that network, or another's, as it is, `codes` what its last pooling makes of
every picture, `head` a small network that judges codes, and `finetune` both in
one, of which the last blocks and the head are trained further.
"""

from collections.abc import Mapping
from typing import Any

# What the encoder of this run starts from, after `pretrain`.
PRETRAINED = (dict(stage='pretrain', modules=(), of='encoder'),)


def encoder(width: int, style: str) -> dict[str, Any]:
  """Returns a VGG16 of a style to train from scratch, thus with a norm."""
  return dict(
    name='vgg16', width=width, num_classes=None, style=style, norm='batch'
  )


def classifier(
  network: Mapping[str, Any], head: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns an encoder and a head in one."""
  return dict(
    name='picture_classifier',
    encoder=dict(network),
    head=dict(name='dense_head', **head),
    tap='pool5',
  )


def scratch(
  network: Mapping[str, Any], head: Mapping[str, Any], **stage: Any
) -> dict[str, Any]:
  """Returns a stage that trains an encoder and a head from scratch."""
  return dict(
    kind='fit',
    task=dict(name='classification'),
    model=classifier(network, head),
    init_from=(),
    trainable=(),
    select=dict(metric='auc', mode='max', patience=None),
    **stage,
  )


def load(
  network: Mapping[str, Any], shape: tuple[int, int], workdir: str
) -> dict[str, Any]:
  """Returns the stage that takes the encoder of another work folder.

  Of Keras's or torch's file it takes the weights with
  `init_from=(dict(weights=FILE, model='vgg16', modules=()),)`, `ignore` of
  ('classifier',) where the file has one, and a model with `width` 64, their
  `style` and no `norm`.
  """
  return dict(
    kind='load',
    model=dict(network),
    input_shape=(*shape, 3),
    init_from=(dict(workdir=workdir, stage='encoder', modules=()),),
  )


def codes() -> dict[str, Any]:
  """Returns the stage that works out codes, once."""
  return dict(
    kind='map',
    predictor=dict(name='codes', encoder='encoder', tap='pool5'),
    data=dict(split='train+validation'),
  )


def head(model: Mapping[str, Any], **stage: Any) -> dict[str, Any]:
  """Returns the stage that trains a head on codes."""
  return dict(
    kind='fit',
    task=dict(name='classification'),
    model=dict(name='dense_head', **model),
    data=dict(feed='codes', stage='codes', positive_share=0.5, workers=0),
    init_from=(),
    trainable=(),
    **stage,
  )


def finetune(
  network: Mapping[str, Any],
  model: Mapping[str, Any],
  blocks: tuple[str, ...],
  **stage: Any,
) -> dict[str, Any]:
  """Returns the stage that trains some blocks and the head further."""
  return dict(
    kind='fit',
    task=dict(name='classification'),
    model=classifier(network, model),
    init_from=(
      dict(stage='encoder', modules=(), to='encoder'),
      dict(stage='head', modules=(), to='head'),
    ),
    trainable=(*(f'encoder/{name}' for name in blocks), 'head'),
    **stage,
  )
