import dataclasses
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest

from medzoo.data import lidc_pictures
from medzoo.data import lidc_scans
from tests.datasets import raw_files
from tests.io import lidc_messages as messages

_SQUARE = [(4, 4), (18, 4), (18, 18), (4, 18)]
_HOLE = [(8, 8), (14, 8), (14, 14), (8, 14)]


class PicturesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    folder = pathlib.Path(temporary.name)
    raw_files.write_dicom(folder, '1.1', 'NAME', raw_files.scan(0))
    (folder / '1.xml').write_text(
      messages.ct(
        messages.nodule(
          messages.roi(_SQUARE, '1.1.2'),
          messages.roi(_HOLE, '1.1.2', hole=True),
        ),
        messages.nodule(messages.roi(_SQUARE, '1.1.3'))
        + messages.nodule(messages.roi([(11, 12)], '1.1.5'), rated=False),
        messages.non_nodule(11, 12, '1.1.6'),
        series='1.1',
      )
    )
    (scan,) = lidc_scans.find(folder)
    cls.reading = lidc_scans.measure(scan, lidc_scans.read(scan))

  def draw(self, index, lungs=None):
    picture = lidc_pictures.draw(self.reading, index, lungs)
    self.assertEqual(picture.mode, 'RGB')
    pixels = np.asarray(picture).astype(int)
    self.zoom = pixels.shape[1] // 24
    self.assertEqual(pixels.shape[1], 24 * self.zoom)
    return pixels[: 24 * self.zoom]

  def coloured(self, pixels):
    """(h, w) bool, and (n, 3) the colours other than grey."""
    found = np.ptp(pixels, axis=-1) > 0
    return found, np.unique(pixels[found], axis=0)

  def at(self, x, y):
    return int((y + 0.5) * self.zoom), int((x + 0.5) * self.zoom)

  def test_slices_with_a_mark(self):
    self.assertEqual(lidc_pictures.marked(self.reading), [1, 2, 4, 5])

  def test_a_slice_without_marks_is_the_window(self):
    pixels = self.draw(0)
    plane = self.reading.volume.voxels[0].astype(float)
    expected = np.rint(255 * np.clip((plane + 1200) / 1600, 0, 1))
    expected = np.kron(expected, np.ones((self.zoom, self.zoom)))
    for channel in np.moveaxis(pixels, -1, 0):
      np.testing.assert_allclose(channel, expected, atol=1)

  def test_each_reader_has_a_colour(self):
    colours = []
    for index in (1, 2):
      found, used = self.coloured(self.draw(index))
      self.assertLen(used, 1)
      colours.append(tuple(used[0]))
      for x, y in ((4, 4), (11, 4), (18, 11), (11, 18), (4, 11)):
        self.assertTrue(found[self.at(x, y)])
      self.assertFalse(found[self.at(11, 11)])
      self.assertFalse(found[self.at(2, 11)])
    self.assertNotEqual(*colours)

  def test_a_hole_is_dotted(self):
    found, _ = self.coloured(self.draw(1))
    for x, y in _HOLE:
      self.assertTrue(found[self.at(x, y)])
    self.assertFalse(found[self.at(11, 8)])

  def test_symbols_differ_and_leave_their_middle_free(self):
    shapes = []
    for index in (4, 5):
      found, _ = self.coloured(self.draw(index))
      places = np.argwhere(found)
      middle = np.array(self.at(11, 12))
      self.assertLess(np.abs(places - middle).max(), 15)
      self.assertFalse(found[tuple(middle)])
      shapes.append(found)
    self.assertGreater((shapes[0] != shapes[1]).sum(), 30)

  def test_edge_of_the_lungs(self):
    lungs = np.zeros(self.reading.volume.voxels.shape, bool)
    lungs[0, 6:12, 6:12] = True
    found, used = self.coloured(self.draw(0, lungs))
    self.assertLen(used, 1)
    inside = np.kron(lungs[0], np.ones((self.zoom, self.zoom))) > 0
    self.assertFalse(found[~inside].any())
    self.assertFalse(found[self.at(8, 8)])
    self.assertTrue(found[6 * self.zoom, 6 * self.zoom : 12 * self.zoom].all())

  def test_legend_names_every_session(self):
    used = []
    for sessions in (1, 3):
      reading = dataclasses.replace(self.reading, sessions=sessions)
      picture = np.asarray(lidc_pictures.draw(reading, 0)).astype(int)
      legend = picture[picture.shape[1] :]
      vivid = legend[np.ptp(legend, axis=-1) > 150]
      used.append(len({tuple(np.argsort(colour)) for colour in vivid}))
    self.assertGreater(used[1], used[0])


if __name__ == '__main__':
  absltest.main()
