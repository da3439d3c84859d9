"""The zoo: one architecture a file, each usable alone in a notebook.

A model maps an image to a dict of raw outputs: no loss, no decoding and no
suppression in it. Each file states its `FACTS`, which `python -m
medzoo.models` lists, and ends with the alias `Model`, by which a config finds
it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Facts:
  """What the zoo's list says of a model and cannot work out by itself.

  Attributes:
    task: what the model is for.
    input_shape: of one example at the published size, channels last.
    weights: whose weights load into it.
  """

  task: str
  input_shape: tuple[int, ...]
  weights: str
