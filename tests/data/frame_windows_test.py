import numpy as np
from absl.testing import absltest

from medzoo.data import crop_places
from medzoo.data import frame_windows
from medzoo.ops import boxes
from tests.train import frame_cases
from tests.train import slice_cases


def _frames():
  """Frames with two, one and no polyp, large enough to search."""
  polyps = {
    'a/1': [(10, 10, 40, 50), (80, 100, 110, 130)],
    'a/2': [(60, 20, 100, 60)],
    'b/3': [],
  }
  return slice_cases.Cases(
    [frame_cases.case(key, found, (140, 180)) for key, found in polyps.items()]
  )


def _windows(frames=None, seed=0):
  return frame_windows.Windows(
    frames or _frames(), margin=0.1, per_polyp=6, seed=seed
  )


class WindowsTest(absltest.TestCase):
  def test_what_they_hold_is_what_they_are_called(self):
    frames, found = _frames(), _windows()
    self.assertEqual(sum(found.labels), 18)
    self.assertLen(found, 36)
    overlaps = {0: [], 1: []}
    for corners, label, key in zip(
      found.corners, found.labels, found.keys, strict=True
    ):
      index = frames.keys.index(key.rpartition('/')[0])
      polyps = crop_places.look(frames, index, 0.1).crops.astype(float)
      iou = boxes.iou(corners[None].astype(float), polyps)
      overlaps[label].append(iou.max(initial=0))
      self.assertTrue((corners[:2] >= 0).all())
      self.assertTrue((corners[2:] <= (140, 180)).all())
    self.assertGreaterEqual(min(overlaps[1]), 0.5)
    self.assertLess(max(overlaps[0]), 0.25)
    # Not only the crops themselves, and parts of polyps too.
    self.assertLess(np.mean(overlaps[1]), 0.95)
    self.assertGreater(max(overlaps[0]), 0)

  def test_frames_without_polyps_are_looked_at_too(self):
    groups = [g for g, y in zip(_windows().groups, _windows().labels,
                                strict=True) if not y]  # fmt: skip
    self.assertEqual(groups.count('b'), 6)

  def test_pixels_are_those_of_the_frame(self):
    frames, found = _frames(), _windows()
    for i in (0, 13, 35):
      case = found[i]
      index = frames.keys.index(found.keys[i].rpartition('/')[0])
      y0, x0, y1, x1 = found.corners[i]
      np.testing.assert_array_equal(
        case.volume.voxels, frames[index].volume.voxels[:, y0:y1, x0:x1]
      )
      self.assertEqual(case.volume.origin, (x0, y0, 0))
      self.assertEqual(case.group, frames.groups[index])

  def test_the_order_of_frames_does_not_matter_but_the_seed_does(self):
    def on_polyps(found):
      rows = zip(found.keys, found.corners, found.labels, strict=True)
      return {(key, *corners.tolist()) for key, corners, y in rows if y}

    first = on_polyps(_windows())
    frames = slice_cases.Cases(list(_frames())[::-1])
    self.assertEqual(on_polyps(_windows(frames)), first)
    self.assertNotEqual(on_polyps(_windows(seed=1)), first)

  def test_refuses_frames_without_any_polyp(self):
    with self.assertRaisesRegex(ValueError, '1 frames without a polyp'):
      _windows(_frames().subset([2]))


if __name__ == '__main__':
  absltest.main()
