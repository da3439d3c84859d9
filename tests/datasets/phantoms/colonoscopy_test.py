import collections
import csv
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest
from PIL import Image
from scipy import ndimage

from datasets.phantoms import colonoscopy
from datasets.phantoms import colonoscopy_camera as cameras
from datasets.phantoms import colonoscopy_light as lights
from datasets.phantoms import colonoscopy_polyps as polyps
from datasets.phantoms import colonoscopy_scene as scenes
from datasets.phantoms import colonoscopy_video as videos
from datasets.phantoms import colonoscopy_wall as walls


def _tube(bend=(0.0, 0.0)):
  """A straight tube of radius 1, all of one colour."""
  shape = (32, 24)
  return walls.Wall(
    np.ones(shape, np.float32),
    np.full((*shape, 3), 0.5, np.float32),
    np.full(3, 0.5),
    np.array(bend),
  )


def _camera(**changes):
  arguments = {'origin': np.zeros(3), 'axes': np.eye(3), 'half_angle': 1.0}
  return cameras.Camera(**arguments | changes)


def _ball(center, radius):
  return polyps.Polyp(
    center=np.array(center, np.float32),
    radius=radius,
    reach=radius,
    centers=np.array([center], np.float32),
    axes=np.eye(3, dtype=np.float32)[None],
    radii=np.full((1, 3), radius, np.float32),
    albedo=np.array([0.6, 0.3, 0.2]),
    texture=(0.1, 1.0),
    seam=0.01,
  )


def _scene(*balls, wall=None, pool=None):
  grain = np.zeros((4, 4, 4, 3), np.float32)
  return scenes.Scene(wall or _tube(), balls, pool, grain)


class CameraTest(absltest.TestCase):
  def test_project_is_the_inverse_of_rays(self):
    camera = cameras.make(np.random.default_rng(0))
    rays = camera.rays(6, 8)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    seen = camera.project(camera.origin + 2.5 * rays).reshape(6, 8, 2)
    columns = (np.arange(8) + 0.5) / 4 - 1
    rows = (np.arange(6) + 0.5) / 4 - 0.75
    np.testing.assert_allclose(seen[0, :, 0], columns, atol=1e-5)
    np.testing.assert_allclose(seen[:, 3, 1], rows, atol=1e-5)

  def test_edges_are_at_half_the_angle(self):
    seen = _camera(half_angle=0.8).project(
      np.array([[np.sin(0.8), 0, np.cos(0.8)], [0, -np.sin(0.4), np.cos(0.4)]])
    )
    np.testing.assert_allclose(seen, [[1, 0], [0, -0.5]], atol=1e-6)

  def test_moved_stays_a_rotation(self):
    camera = _camera().moved(np.ones(3), np.array([0.1, -0.3, 0.7]))
    np.testing.assert_allclose(
      camera.axes @ camera.axes.T, np.eye(3), atol=1e-9
    )
    self.assertAlmostEqual(np.linalg.det(camera.axes), 1)
    np.testing.assert_array_equal(camera.origin, np.ones(3))

  def test_rays_meet_a_tube_where_geometry_says(self):
    camera = _camera()
    view = scenes.look(_scene(), camera, 60, 80)
    sine = np.hypot(view.rays[:, 0], view.rays[:, 1])
    expected = np.minimum(1 / np.maximum(sine, 1e-6), cameras.FAR)
    near = expected < 3
    np.testing.assert_allclose(view.reach[near], expected[near], rtol=0.01)


class SceneTest(absltest.TestCase):
  def test_a_ball_is_seen_as_the_disc_it_is(self):
    # In the middle of the tube, half as wide as far: asin(0.5) of 1 radian.
    scene = _scene(_ball((0.0, 0.0, 1.0), 0.5))
    view = scenes.look(scene, _camera(), 120, 160)
    mask = view.shares[0].reshape(120, 160) > 0.5
    self.assertAlmostEqual(
      mask.sum(), np.pi * (np.arcsin(0.5) * 80) ** 2, delta=120
    )

  def test_what_is_behind_is_hidden(self):
    scene = _scene(_ball((0.0, 0.0, 1.0), 0.3), _ball((0.0, 0.0, 2.0), 0.3))
    first, second = scenes.look(scene, _camera(), 60, 80).shares
    self.assertGreater((first > 0.5).sum(), 100)
    self.assertEqual((second > 0.5).sum(), 0)

  def test_bent_tubes_are_as_wide_as_straight_ones(self):
    wall = _tube(bend=(0.1, -0.2))
    points = np.array([[0.1 * 4 + 0.6, -0.2 * 4, 2.0]])
    np.testing.assert_allclose(wall.distance(points), 0.4, atol=1e-6)
    point = wall.point(2.0, 0.0)
    np.testing.assert_allclose(point, [1.4, -0.8, 2.0], atol=1e-6)

  def test_distance_to_lobes(self):
    ball = _ball((0.2, 0.0, 1.0), 0.25)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    expected = np.linalg.norm(points - ball.center, axis=1) - 0.25
    np.testing.assert_allclose(ball.distance(points), expected, atol=1e-4)

  def test_a_pool_covers_what_is_below_its_level(self):
    scene = _scene(pool=np.array([0, 1.0, 0, 0.6]))
    camera = _camera()
    view = scenes.look(scene, camera, 30, 40)
    light, under = lights.shade(scene, camera, view, (0.0, 100.0, 0.0))
    np.testing.assert_array_equal(under, view.points[:, 1] > 0.6)
    self.assertTrue(under.any())
    # All of the tube is grey, liquid is not.
    grey = np.ptp(light, axis=1) < 1e-6
    np.testing.assert_array_equal(grey[view.points[:, 1] < 0.59], True)
    self.assertFalse(grey[view.points[:, 1] > 0.7].any())

  def test_noise_is_periodic(self):
    noise = walls.noise(np.random.default_rng(0), (64, 48), 8)
    self.assertEqual(noise.shape, (64, 48))
    inside = np.abs(np.diff(noise, axis=0)).mean()
    across = np.abs(noise[0] - noise[-1]).mean()
    self.assertLess(across, 2 * inside)


class MakeTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.sequences = [
      colonoscopy.make(0, i, frames=2, size=96) for i in range(10)
    ]
    cls.frames = [frame for some in cls.sequences for frame in some]

  def test_pictures(self):
    names = [frame.name for frame in self.frames]
    self.assertEqual(names, [str(i + 1) for i in range(20)])
    for frame in self.frames:
      self.assertEqual(frame.picture.shape, (72, 96, 3))
      self.assertEqual(frame.picture.dtype, np.uint8)
      self.assertEqual(frame.mask.shape, (72, 96))
      self.assertEqual(frame.mask.dtype, bool)
      self.assertGreater(frame.picture.max(), 120)

  def test_corners_are_black(self):
    for frame in self.frames:
      for row in (0, -1):
        for column in (0, -1):
          self.assertLess(frame.picture[row, column].max(), 40)
          self.assertFalse(frame.mask[row, column])

  def test_mucosa_is_red(self):
    for frame in self.frames:
      red, _, blue = frame.picture[frame.picture.max(-1) > 60].mean(0)
      self.assertGreater(red, 1.1 * blue)

  def test_most_sequences_have_polyps_and_some_have_none(self):
    pieces = [ndimage.label(frame.mask)[1] for frame in self.frames]
    self.assertLessEqual(max(pieces), 2)
    seen = [any(frame.mask.any() for frame in x) for x in self.sequences]
    self.assertBetween(np.mean(seen), 0.6, 0.95)

  def test_polyps_of_the_scene_are_outlined(self):
    for i in range(4):
      scene, camera = scenes.make(np.random.default_rng([0, i, 6]))
      view = scenes.look(scene, camera, 72, 96)
      for polyp, share in zip(scene.polyps, view.shares, strict=True):
        mask = share.reshape(72, 96) > 0.5
        middle = np.array(ndimage.center_of_mass(mask))[::-1]
        seen = camera.project(polyp.center[None])[0] * 48 + [48, 36]
        side = max(mask.any(0).sum(), mask.any(1).sum())
        self.assertBetween(side, 6, 56)
        self.assertLess(np.abs(middle - seen).max(), side)

  def test_frames_of_a_sequence_resemble_each_other(self):
    def vector(frame):
      small = Image.fromarray(frame.picture).resize((24, 18))
      values = np.asarray(small, float).ravel()
      return (values - values.mean()) / values.std()

    first, second = np.array(
      [[vector(frame) for frame in some] for some in self.sequences]
    ).transpose(1, 0, 2)
    alike = first @ second.T / first.shape[1]
    same = np.diag(alike)
    others = alike[~np.eye(len(alike), dtype=bool)]
    self.assertGreater(same.mean(), others.mean() + 0.15)
    self.assertGreater((alike.argmax(1) == np.arange(len(alike))).mean(), 0.8)

  def test_same_arguments_same_frames(self):
    again = colonoscopy.make(0, 3, frames=2, size=96)
    for frame, first in zip(again, self.sequences[3], strict=True):
      np.testing.assert_array_equal(frame.picture, first.picture)
      np.testing.assert_array_equal(frame.mask, first.mask)
    one, other = self.sequences[3]
    self.assertNotEqual(one.picture.tobytes(), other.picture.tobytes())
    (changed,) = colonoscopy.make(1, 3, frames=1, size=96)
    self.assertNotEqual(changed.picture.tobytes(), one.picture.tobytes())


class VideoTest(absltest.TestCase):
  def test_text_and_black_stay_outside_of_the_field(self):
    field = np.zeros((48, 64), np.float32)
    field[14:, 4:] = 1
    processor = videos.Processor(
      field, 0.0, np.ones(3), 2.0, 0.7, 0.0, 0.0, 95, '12:34'
    )
    light = np.ones((24, 32, 3), np.float32)
    frame = videos.develop(light, processor, np.random.default_rng(0))
    self.assertEqual(frame.shape, (48, 64, 3))
    self.assertGreater(frame[2:12, 2:30].max(), 120)
    self.assertLess(frame[2:12, 40:].max(), 30)
    self.assertLess(np.ptp(frame[24:44, 14:60].astype(int)), 8)


class WriteTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    cls.root = pathlib.Path(temporary.name) / 'set'
    colonoscopy.write(cls.root, cases=4, frames=2, size=96)
    with (cls.root / 'sequences.csv').open() as file:
      cls.rows = list(csv.DictReader(file))

  def test_the_layout(self):
    expected = [
      frame
      for i in range(4)
      for frame in colonoscopy.make(0, i, frames=2, size=96)
    ]
    self.assertEqual(
      [row['file'] for row in self.rows], [frame.name for frame in expected]
    )
    for row, frame in zip(self.rows, expected, strict=True):
      self.assertEqual(row['sequence'], frame.sequence)
      name = f'{frame.name}.png'
      picture = np.asarray(Image.open(self.root / 'Original' / name))
      np.testing.assert_array_equal(picture, frame.picture)
      mask = np.asarray(Image.open(self.root / 'Ground Truth' / name))
      np.testing.assert_array_equal(mask, 255 * frame.mask.astype(np.uint8))
    for folder in ('Original', 'Ground Truth'):
      self.assertLen(list((self.root / folder).iterdir()), 8)

  def test_sequences_are_in_one_split(self):
    splits = collections.defaultdict(set)
    for row in self.rows:
      splits[row['sequence']].add(row['split'])
    self.assertLen(splits, 4)
    self.assertTrue(all(len(names) == 1 for names in splits.values()))

  def test_workers_write_what_one_process_writes(self):
    with tempfile.TemporaryDirectory() as folder:
      root = pathlib.Path(folder)
      colonoscopy.write(root, cases=4, frames=2, size=96, workers=2)
      for path in self.root.rglob('*'):
        if path.is_file():
          other = root / path.relative_to(self.root)
          self.assertEqual(other.read_bytes(), path.read_bytes(), path.name)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'expected an empty folder'):
      colonoscopy.write(self.root, cases=1)
    with self.assertRaisesRegex(ValueError, 'size 10, expected at least 64'):
      colonoscopy.write(self.root, cases=1, size=10)
    self.assertEqual(colonoscopy.main(['--output', str(self.root)]), 2)


if __name__ == '__main__':
  absltest.main()
