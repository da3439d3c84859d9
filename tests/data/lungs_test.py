import dataclasses
import logging
import pathlib

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import lungs
from medzoo.data import volumes
from tests import real_data

# Nodules of two LIDC scans as LUNA16 lists them: world x, y, z and diameter.
_REAL = {
  'LIDC-IDRI-0001': ((56.208, 86.343, -115.868, 23.35),),
  'LIDC-IDRI-0003': (
    (72.287, 76.900, -190.459, 21.45),
    (23.491, -47.634, -172.279, 8.79),
    (-47.403, -30.171, -169.624, 12.82),
  ),
}
_SHAPE = (100, 150, 180)


def _ellipsoid(center, radii):
  axes = np.ogrid[tuple(map(slice, _SHAPE))]
  gaps = zip(axes, center, radii, strict=True)
  return sum(((a - c) / r) ** 2 for a, c, r in gaps) < 1


def _thorax(noise=20.0):
  """Body, table, two lungs, a trachea and a bubble of bowel gas, at 1 mm."""
  parts = {
    'body': _ellipsoid((50, 70, 90), (1e9, 55, 75)),
    'right': _ellipsoid((45, 70, 55), (38, 42, 28)),
    'left': _ellipsoid((45, 70, 125), (38, 42, 28)),
    'trachea': _ellipsoid((50, 70, 90), (1e9, 6, 6)),
    'gas': _ellipsoid((92, 50, 110), (8, 12, 15)),
    'table': _ellipsoid((50, 235, 90), (1e9, 100, 140))
    & ~_ellipsoid((50, 240, 90), (1e9, 100, 140)),
  }
  parts['trachea'][:45] = False
  voxels = np.full(_SHAPE, -1000.0)
  for name, value in (
    ('table', -100),
    ('body', 40),
    ('right', -850),
    ('left', -850),
    ('trachea', -1000),
    ('gas', -1000),
  ):
    voxels[parts[name]] = value
  rng = np.random.default_rng(0)
  voxels += noise * rng.standard_normal(_SHAPE)
  volume = types.Volume(
    voxels.astype(np.float32), (1.0, 1.0, 1.0), modality='CT', series_uid='1.2'
  )
  return volume, parts


def _with_ball(volume, center, radius, value):
  voxels = volume.voxels.copy()
  voxels[_ellipsoid(center, (radius,) * 3)] = value
  return dataclasses.replace(volume, voxels=voxels)


class LungsTest(parameterized.TestCase):
  def test_thorax(self):
    volume, parts = _thorax()
    mask = lungs.lung_mask(volume)
    self.assertEqual(mask.dtype, bool)
    self.assertEqual(mask.shape, _SHAPE)
    both = parts['right'] | parts['left']
    self.assertGreater(mask[both].mean(), 0.999)
    self.assertLess(mask.sum(), 2 * both.sum())
    self.assertLess(mask[parts['trachea']].mean(), 0.05)
    self.assertLess(mask[parts['gas']].mean(), 0.05)
    self.assertGreater(parts['body'][mask].mean(), 0.99)

  @parameterized.parameters(
    ((45, 70, 55), 10.0),  # in the middle of the lung
    ((45, 70, 28), 11.5),  # centred on the pleura
    ((45, 70, 84), 11.5),  # towards the mediastinum
    ((83, 70, 125), 8.0),  # on the diaphragm
  )
  def test_nodules_are_inside(self, center, radius):
    volume, parts = _thorax()
    volume = _with_ball(volume, center, radius, 40)
    mask = lungs.lung_mask(volume)
    self.assertTrue(mask[center])
    lung = parts['right'] | parts['left']
    nodule = _ellipsoid(center, (radius,) * 3) & lung
    self.assertGreater(mask[nodule].mean(), 0.99)

  def test_body(self):
    volume, parts = _thorax()
    mask = lungs.body_mask(volume)
    self.assertGreater(mask[parts['body']].mean(), 0.98)
    self.assertLess(mask[~parts['body']].mean(), 0.03)
    self.assertLess(mask[parts['table'] & ~parts['body']].mean(), 0.1)

  def test_body_in_mr(self):
    _, parts = _thorax()
    rng = np.random.default_rng(0)
    voxels = rng.rayleigh(10, _SHAPE) + 300 * parts['body']
    volume = types.Volume(voxels, (1.0, 1.0, 1.0), modality='MR')
    mask = lungs.body_mask(volume)
    self.assertGreater(mask[parts['body']].mean(), 0.98)
    self.assertLess(mask[~parts['body']].mean(), 0.03)

  @parameterized.parameters('top', 'bottom', 'narrow')
  def test_cut_scans(self, name):
    volume, parts = _thorax()
    box = {
      'top': np.s_[40:],
      'bottom': np.s_[:40],
      'narrow': np.s_[:, 30:110, 40:140],
    }[name]
    cut = dataclasses.replace(volume, voxels=volume.voxels[box])
    both = (parts['right'] | parts['left'])[box]
    self.assertGreater(lungs.lung_mask(cut)[both].mean(), 0.97)

  def test_odd_sizes_and_spacing(self):
    volume, parts = _thorax()
    odd = types.Volume(
      volume.voxels[1:98:2, 1:, 3:], (2.0, 1.0, 1.0), modality='CT'
    )
    both = (parts['right'] | parts['left'])[1:98:2, 1:, 3:]
    mask = lungs.lung_mask(odd)
    self.assertEqual(mask.shape, both.shape)
    self.assertGreater(mask[both].mean(), 0.995)

  def test_on_the_grid_of_the_scan(self):
    volume, parts = _thorax()
    scan = types.Volume(
      volume.voxels[::3, ::2, ::2], (3.0, 2.0, 2.0), modality='CT'
    )
    mask = lungs.lung_mask_of_scan(scan)
    both = (parts['right'] | parts['left'])[::3, ::2, ::2]
    self.assertEqual(mask.shape, both.shape)
    self.assertGreater(mask[both].mean(), 0.995)
    # Each voxel of the scan lies on one of the grid of 1 mm.
    fine = lungs.lung_mask(volumes.resample(scan))
    np.testing.assert_array_equal(mask, fine[::3, ::2, ::2])

  def test_no_lungs(self):
    volume, parts = _thorax()
    voxels = np.where(parts['body'], 40.0, -1000.0)
    voxels[parts['gas']] = -1000
    full = dataclasses.replace(volume, voxels=voxels)
    with self.assertRaisesRegex(lungs.NoLungs, '1.2: no lung'):
      lungs.lung_mask(full)
    with self.assertLogs('medzoo.data.lungs', logging.WARNING) as logs:
      region = lungs.search_region(full, 'lung')
    self.assertIn('the body is searched', logs.output[0])
    np.testing.assert_array_equal(region, lungs.body_mask(full))

  def test_air_alone(self):
    empty = types.Volume(np.full((20, 20, 20), -1000.0), (1.0, 1.0, 1.0))
    self.assertTrue(lungs.body_mask(empty).all())
    with self.assertRaises(lungs.NoLungs):
      lungs.lung_mask(empty)

  def test_names(self):
    volume, _ = _thorax()
    self.assertTrue(lungs.search_region(volume, 'none').all())
    np.testing.assert_array_equal(
      lungs.search_region(volume, 'body'), lungs.body_mask(volume)
    )
    np.testing.assert_array_equal(
      lungs.search_region(volume, 'lung'), lungs.lung_mask(volume)
    )
    with self.assertRaisesRegex(ValueError, "search region 'lungs'"):
      lungs.search_region(volume, 'lungs')

  @parameterized.parameters(*_REAL)
  def test_real_scans(self, patient):
    volume = _read_series(real_data.folder('lidc_idri') / patient)
    volume = volumes.resample(volume)
    mask = lungs.lung_mask(volume)
    body = lungs.body_mask(volume)
    self.assertBetween(mask.sum() / 1e6, 4.0, 8.0)
    self.assertGreater(body[mask].mean(), 0.99)
    for x, y, z, diameter in _REAL[patient]:
      place = volume.world_to_index(np.array([x, y, z]))
      axes = np.ogrid[tuple(map(slice, mask.shape))]
      square = sum((a - p) ** 2 for a, p in zip(axes, place, strict=True))
      self.assertTrue(mask[square <= (diameter / 2) ** 2].all())


def _read_series(folder: pathlib.Path) -> types.Volume:
  """Reads the longest series below a folder with SimpleITK."""
  reader = sitk.ImageSeriesReader
  folders = {path.parent for path in folder.rglob('*.dcm')}
  names = [reader.GetGDCMSeriesFileNames(str(path)) for path in folders]
  image = sitk.ReadImage(max(names, key=len))
  return types.Volume(
    sitk.GetArrayFromImage(image),
    image.GetSpacing()[::-1],
    image.GetOrigin(),
    np.array(image.GetDirection()).reshape(3, 3),
    'CT',
  )


if __name__ == '__main__':
  absltest.main()
