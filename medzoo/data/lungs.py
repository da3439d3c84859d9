"""Where in a scan to look for lesions."""

import logging

import numpy as np
from scipy import ndimage

from medzoo import types

_AIR_HU = -500.0


class NoLungs(ValueError):
  """No lung was found in a scan."""


def search_region(volume: types.Volume, name: str) -> np.ndarray:
  """Returns where a detector looks for lesions.

  Args:
    volume: scan at about 1 mm, not windowed; Hounsfield units in CT.
    name: 'lung' (the whole body, with a warning in the log, where no lung is
      found), 'body', or 'none' for everything.

  Returns:
    (d, h, w) bool.

  Raises:
    ValueError: the name is another.
  """
  if name == 'none':
    return np.ones(volume.voxels.shape, bool)
  if name == 'body':
    return body_mask(volume)
  if name != 'lung':
    raise ValueError(f"search region {name!r}; expected 'lung', 'body', 'none'")
  try:
    return lung_mask(volume)
  except NoLungs as error:
    logging.getLogger(__name__).warning('%s; the body is searched', error)
    return body_mask(volume)


def body_mask(volume: types.Volume) -> np.ndarray:
  """Marks the patient."""
  mask = volume.voxels > _AIR_HU
  label, _ = ndimage.label(mask)
  return label == np.bincount(label[mask]).argmax()


def lung_mask(volume: types.Volume) -> np.ndarray:
  """Marks the lungs."""
  return volume.voxels < _AIR_HU
