import collections
import dataclasses
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest

from medzoo.data import lidc_scans
from medzoo.data import lidc_tiles
from medzoo.io import lidc_lesions
from tests.datasets import raw_files


def _window(values):
  return np.rint(255 * np.clip((values.astype(float) + 1200) / 1600, 0, 1))


class TilesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    folder = pathlib.Path(temporary.name)
    raw_files.write_dicom(folder, '1.1', 'NAME', raw_files.scan(0))
    raw_files.write_xml(folder / '1.xml', '1.1')
    (scan,) = lidc_scans.find(folder)
    cls.reading = lidc_scans.measure(scan, lidc_scans.read(scan))

  def with_points(self, *points):
    return dataclasses.replace(
      self.reading,
      points=tuple(
        lidc_scans.Point(kind, 0, np.array(index, float))
        for kind, index in points
      ),
    )

  def none(self, reading, lungs=None, **changes):
    if lungs is None:
      lungs = np.ones(reading.volume.voxels.shape, bool)
    options = dict(size=4, stride=2, count=20, seed=0) | changes
    return lidc_tiles.of_nothing(reading, lungs, **options)

  def test_a_lesion_gives_a_tile_a_slice(self):
    tiles = lidc_tiles.of_findings(self.reading, 8)
    self.assertEqual(
      [(tile.kind, tile.index) for tile in tiles],
      [
        ('nodule', (2, 10, 10)),
        ('nodule', (3, 10, 10)),
        ('nodule', (4, 10, 10)),
        ('non_nodule', (0, 4, 3)),
      ],
    )
    for tile in tiles[:3]:
      z, y, x = tile.index
      cut = self.reading.volume.voxels[z, y - 4 : y + 4, x - 4 : x + 4]
      np.testing.assert_allclose(tile.pixels, _window(cut), atol=1)
      self.assertEqual(tile.pixels.dtype, np.uint8)

  def test_lesions_with_one_middle_share_a_tile(self):
    first = self.reading.marks[0]
    twice = dataclasses.replace(self.reading, marks=(first, first))
    self.assertLen(lidc_lesions.cluster(twice.marks), 2)
    tiles = lidc_tiles.of_findings(twice, 8)
    self.assertLen([x for x in tiles if x.kind == 'nodule'], 3)

  def test_beyond_the_image_is_black(self):
    tile = lidc_tiles.of_findings(self.reading, 33)[-1]
    self.assertEqual(tile.pixels.shape, (33, 33))
    # The middle, 16, shows row 4 and column 3.
    inside = tile.pixels[12:, 13:]
    self.assertFalse(tile.pixels[:12].any() or tile.pixels[:, :13].any())
    cut = self.reading.volume.voxels[0, :21, :20]
    np.testing.assert_allclose(inside, _window(cut), atol=1)

  def test_a_place_has_one_class(self):
    reading = self.with_points(
      ('non_nodule', (3, 10, 10)),  # in the lesion
      ('non_nodule', (3, 10, 14)),  # 1.6 mm beside it
      ('small', (0, 20, 20)),
      ('small', (0, 20, 23)),  # 2.4 mm from the last
      ('non_nodule', (1, 20, 20)),  # 2 mm above the small nodule
      ('non_nodule', (0, 20, 12)),
    )
    tiles = lidc_tiles.of_findings(reading, 8)
    self.assertEqual(
      [(x.kind, x.index) for x in tiles if x.kind != 'nodule'],
      [('small', (0, 20, 20)), ('non_nodule', (0, 20, 12))],
    )

  def test_nothing_is_in_the_mask_and_far_from_marks(self):
    lungs = np.zeros(self.reading.volume.voxels.shape, bool)
    lungs[:, 2:, 4:] = True
    reading = dataclasses.replace(
      self.with_points(('small', (0, 23, 23))), marks=()
    )
    tiles = self.none(reading, lungs, count=10**6)
    places = {tile.index for tile in tiles}
    self.assertEqual({tile.kind for tile in tiles}, {'none'})
    # 10 mm are 5 slices and 12.5 pixels; a tile reaches 2 pixels.
    expected = {
      (z, y, x)
      for z in range(6)
      for y in range(2, 24, 2)
      for x in range(4, 24, 2)
      if y + 2 <= 10.5 or x + 2 <= 10.5
    }
    self.assertEqual(places, expected)

  def test_nothing_near_a_lesion(self):
    self.assertEmpty(self.none(self.reading))

  def test_draw_depends_on_seed_and_series(self):
    reading = dataclasses.replace(self.reading, marks=(), points=())
    draws = collections.Counter()
    other = dataclasses.replace(
      reading, volume=dataclasses.replace(reading.volume, series_uid='1.2')
    )
    for scan, seed in ((reading, 0), (reading, 0), (reading, 1), (other, 0)):
      tiles = self.none(scan, seed=seed)
      self.assertLen({tile.index for tile in tiles}, 20)
      draws[tuple(tile.index for tile in tiles)] += 1
    self.assertEqual(list(draws.values()), [2, 1, 1])


if __name__ == '__main__':
  absltest.main()
