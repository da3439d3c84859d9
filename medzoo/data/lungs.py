"""Where in a scan to look for lesions.

Masks are made on a grid of about 2 mm by thresholds, components and
morphology, no trained model. They err on the generous side: a lesion outside
the region is lost for good, a place too many only costs time.
"""

import logging
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medzoo import types
from medzoo.data import volumes

# Half way between lung or air and soft tissue.
_TISSUE_HU = -500.0
_GRID_MM = 2.0
_CLOSING_GRID_MM = 4.0
# Bowel and stomach hold nothing but gas, a lung more, even an emphysematous
# one.
_GAS_HU = -970.0
_OUTSIDE_HU = -940.0
_TRACHEA_HU = -930.0
_SMALLEST_LUNGS_ML = 50.0
# In plane. A scan that is smaller shows a part of a lung at most.
_SMALLEST_CHEST_MM = 80.0
_SMALLEST_SHARE = 0.02
# A nodule of 23 mm that sits on the pleura is bridged by a ball of this radius
# down to about 3 mm, which the rim makes up for.
_CLOSING_MM = 25.0
_RIM_MM = 4.0


class NoLungs(ValueError):
  """No lung was found in a scan."""


def search_region(volume: types.Volume, name: str) -> np.ndarray:
  """Returns where a detector looks for lesions.

  Args:
    volume: scan at about 1 mm, not windowed; Hounsfield units in CT.
    name: 'lung' (everything where the scan is a cube too small to hold a
      lung; where no lung is found the whole body, with a warning in the log),
      'body', or 'none' for everything.

  Returns:
    (d, h, w) bool.

  Raises:
    ValueError: the name is another.
  """
  extent = np.multiply(volume.voxels.shape[1:], volume.spacing[1:])
  if name == 'none' or (name == 'lung' and max(extent) < _SMALLEST_CHEST_MM):
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
  """Marks the patient with everything inside, without the table.

  In CT, and in a volume without modality that has values like air's, tissue is
  what lies above -500 HU; elsewhere, in MR say, Otsu's threshold tells it from
  the background.

  Args:
    volume: scan at about 1 mm, not windowed.

  Returns:
    (d, h, w) bool; all True where the scan holds nothing but air.
  """
  coarse, _ = _thin_out(volume.voxels, volume.spacing, _GRID_MM)
  is_ct = volume.modality == 'CT' or (
    not volume.modality and coarse.min() < _TISSUE_HU
  )
  threshold = _TISSUE_HU if is_ct else _otsu(coarse)
  limit = _OUTSIDE_HU if is_ct else threshold
  body = _body(~_outside(coarse, coarse < threshold, limit))
  return _enlarge(body if body.any() else ~body, volume.voxels.shape)


def lung_mask(volume: types.Volume) -> np.ndarray:
  """Marks both lungs, with nodules on the pleura, without the trachea.

  Air that no slice connects to the outside, is inside the body and is not gas
  alone makes the lungs. A ball of 25 mm closes what pleural nodules and vessels
  indent, so parts of the hila and of the mediastinum are inside too, and a rim
  of 4 mm is added. Lung that is replaced by fluid or tissue is found only as
  far as this closing reaches.

  Args:
    volume: CT at about 1 mm, not windowed, Hounsfield units.

  Returns:
    (d, h, w) bool.

  Raises:
    NoLungs: no such air of 50 ml or more is there.
  """
  coarse, spacing = _thin_out(volume.voxels, volume.spacing, _GRID_MM)
  air = coarse < _TISSUE_HU
  solid = ~_outside(coarse, air, _OUTSIDE_HU)
  body = _body(solid)
  inner = air & body
  lungs = _lung_air(coarse, inner, spacing)
  if not lungs.any():
    raise NoLungs(
      f'{volume.series_uid or "volume"}: no lung; expected at least '
      f'{_SMALLEST_LUNGS_ML:.0f} ml of air inside the body'
    )
  trachea = _trachea(coarse, inner, lungs, spacing)
  # Once more, to lose the crumbs of the trachea's wall.
  lungs = _lung_air(coarse, lungs & ~trachea, spacing)
  mask = _close(lungs, spacing) & solid & ~trachea
  return _enlarge(mask, volume.voxels.shape)


def lung_mask_of_scan(volume: types.Volume) -> np.ndarray:
  """Marks both lungs on the grid on which the scan was acquired.

  Args:
    volume: CT of any spacing, not windowed, Hounsfield units.

  Returns:
    (d, h, w) bool: `lung_mask` at 1 mm, of which each voxel takes the nearest.

  Raises:
    NoLungs: as `lung_mask` does.
    ValueError: the spacing along z is not known.
  """
  mask = lung_mask(volumes.resample(volume))
  nearest = [
    np.minimum(np.rint(np.arange(n) * step).astype(int), size - 1)
    for n, step, size in zip(
      volume.voxels.shape, volume.spacing, mask.shape, strict=True
    )
  ]
  return mask[np.ix_(*nearest)]


def _thin_out(
  voxels: np.ndarray, spacing: Sequence[float], step: float
) -> tuple[np.ndarray, tuple[float, ...]]:
  """Averages blocks of voxels down to about `step` mm; a rest is cut off."""
  factors = [
    min(max(round(step / old), 1), n)
    for old, n in zip(spacing, voxels.shape, strict=True)
  ]
  size = [n // f for n, f in zip(voxels.shape, factors, strict=True)]
  total = np.zeros(size, np.float32)
  for place in np.ndindex(*factors):
    total += voxels[
      tuple(
        slice(p, p + n * f, f)
        for p, n, f in zip(place, size, factors, strict=True)
      )
    ]
  total /= np.prod(factors)
  return total, tuple(s * f for s, f in zip(spacing, factors, strict=True))


def _enlarge(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Repeats voxels to a shape; the rest that was cut off repeats the last."""
  for axis, n in enumerate(shape):
    factor = n // mask.shape[axis]
    index = np.minimum(np.arange(n) // factor, mask.shape[axis] - 1)
    mask = mask.take(index, axis=axis)
  return mask


def _outside(coarse: np.ndarray, air: np.ndarray, limit: float) -> np.ndarray:
  """Marks the air round the patient: it touches the rim of its slice.

  Lung may touch it too, where the field of view is narrow, but its mean is not
  below `limit`.
  """
  in_plane = np.zeros((3, 3, 3), bool)
  in_plane[1] = ndimage.generate_binary_structure(2, 1)
  label, count = ndimage.label(air, in_plane)
  outside = np.zeros(count + 1, bool)
  for rim in (label[:, 0], label[:, -1], label[:, :, 0], label[:, :, -1]):
    outside[rim] = True
  flat = label.ravel()
  size = np.bincount(flat, minlength=count + 1)
  total = np.bincount(flat, coarse.ravel(), minlength=count + 1)
  outside &= total < limit * size
  outside[0] = False
  return outside[label]


def _body(solid: np.ndarray) -> np.ndarray:
  """Keeps the largest object, after cutting thin bridges to the table."""
  # A square of 14 mm slides inside each slice; clothes, tubes and the shell of
  # the table are thinner.
  opened = solid.astype(np.uint8)
  for filter_fn in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):
    for axis in (1, 2):
      opened = filter_fn(opened, 7, axis=axis, mode='nearest')
  label, count = ndimage.label(opened)
  if not count:
    return np.zeros(solid.shape, bool)
  return label == np.bincount(label.ravel())[1:].argmax() + 1


def _lung_air(
  coarse: np.ndarray, inner: np.ndarray, spacing: Sequence[float]
) -> np.ndarray:
  """Keeps the components of the air inside the body that are lung."""
  label, count = ndimage.label(inner)
  ml = np.bincount(label.ravel(), minlength=count + 1) * np.prod(spacing) / 1e3
  ml[0] = 0
  keep = np.zeros(count + 1, bool)
  for k in np.flatnonzero(ml >= max(_SMALLEST_SHARE * ml.max(), 1)):
    keep[k] = np.median(coarse[label == k]) > _GAS_HU
  if ml[keep].sum() < _SMALLEST_LUNGS_ML:
    return np.zeros(inner.shape, bool)
  return keep[label]


def _trachea(
  coarse: np.ndarray,
  inner: np.ndarray,
  lungs: np.ndarray,
  spacing: Sequence[float],
) -> np.ndarray:
  """Marks trachea and main bronchi: the largest tube of gas in the middle."""
  label, _ = ndimage.label(inner & (coarse < _TRACHEA_HU))
  box = ndimage.find_objects(lungs.astype(np.uint8))[0]
  found, largest = (), 0
  for k, place in enumerate(ndimage.find_objects(label), 1):
    ml = (label[place] == k).sum() * np.prod(spacing) / 1e3
    length = (place[0].stop - place[0].start) * spacing[0]
    # Emphysema is gas too, but wide; a tube that leaks into it is left alone.
    if length >= 30 and largest < ml <= 100 and _in_middle(place, box):
      found, largest = (k,), ml
  return ndimage.binary_dilation(np.isin(label, found), iterations=2)


def _in_middle(place: Sequence[slice], box: Sequence[slice]) -> bool:
  """Whether a component's centre is in the middle third of a box's y and x."""
  return all(
    abs((p.start + p.stop) - (b.start + b.stop)) / 2 <= (b.stop - b.start) / 6
    for p, b in zip(place[1:], box[1:], strict=True)
  )


def _close(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
  """Closes a mask with a ball and adds a rim, on a coarser grid still."""
  share, steps = _thin_out(mask, spacing, _CLOSING_GRID_MM)
  # What the scan's border cuts is taken to go on as it is there.
  reach = [int(np.ceil((_CLOSING_MM + _RIM_MM) / step)) for step in steps]
  padded = np.pad(share >= 0.5, [(n, n) for n in reach], mode='edge')
  near = ndimage.distance_transform_edt(~padded, steps) <= _CLOSING_MM
  depth = ndimage.distance_transform_edt(near, steps)
  closed = depth > _CLOSING_MM - _RIM_MM
  closed = closed[tuple(slice(n, -n) for n in reach)]
  return _enlarge(closed, mask.shape) | mask


def _otsu(values: np.ndarray) -> float:
  """Returns the threshold that parts a histogram into two best (Otsu 1979)."""
  counts, edges = np.histogram(values, 256)
  centers = (edges[:-1] + edges[1:]) / 2
  below = np.cumsum(counts)
  above = below[-1] - below
  sums = np.cumsum(counts * centers)
  gap = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
  return float(edges[1:][np.argmax(below * above * gap**2)])
