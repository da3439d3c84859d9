import io

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo.report import plots


def _image(png):
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert('RGB')).astype(int)


def _near(image, colour, tolerance=40):
  """How many pixels are nearly of a colour."""
  return int((np.abs(image - np.array(colour)).max(axis=-1) < tolerance).sum())


class FrocTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.annotations = {'a': np.array([[0, 0, 0, 8.0]]), 'b': np.empty((0, 4))}
    self.good = {'a': np.array([[0, 0, 0, 0.9]])}
    self.bad = {'a': np.array([[90, 0, 0, 0.9], [0, 0, 0, 0.1]])}

  def draw(self, systems, annotations):
    return plots.froc(systems, annotations, {}, ['a', 'b'], resamples=20)

  def test_draws_each_system_in_its_colour(self):
    one = _image(self.draw({'model': self.good}, self.annotations))
    systems = {'model': self.good, 'baseline': self.bad}
    two = _image(self.draw(systems, self.annotations))
    self.assertEqual(_near(one, (217, 119, 6)), 0)
    self.assertGreater(_near(two, (217, 119, 6)), 200)
    self.assertGreater(_near(two, (37, 99, 235)), 200)

  def test_is_repeatable(self):
    first = self.draw({'model': self.bad}, self.annotations)
    self.assertEqual(first, self.draw({'model': self.bad}, self.annotations))

  def test_without_nodules_or_marks(self):
    self.assertTrue(self.draw({'model': self.good}, {}))
    self.assertTrue(self.draw({'model': {}}, self.annotations))


class CurvesTest(parameterized.TestCase):
  def test_nothing_to_draw(self):
    self.assertIsNone(plots.training_curves([]))
    rows = [{'stage': 's', 'step': 1, 'train/learning_rate': 1e-3}]
    self.assertIsNone(plots.training_curves(rows))

  def test_a_row_a_stage_and_a_panel_a_quantity(self):
    def rows(stage, *names):
      return [
        {'stage': stage, 'step': s, **dict.fromkeys(names, 1 / s)}
        for s in (1, 2, 3)
      ]

    one = _image(plots.training_curves(rows('a', 'train/loss')))
    both = rows('a', 'train/loss', 'validation/loss')
    together = _image(plots.training_curves(both))
    self.assertEqual(one.shape, together.shape)
    self.assertGreater(_near(together, (217, 119, 6)), 0)
    tall = plots.training_curves(
      rows('a', 'train/loss') + both + rows('b', 'train/loss')
    )
    self.assertGreater(_image(tall).shape[0], 1.8 * one.shape[0])
    names = ('train/loss', 'validation/auc', 'validation/location_error')
    wide = _image(plots.training_curves(rows('a', *names)))
    self.assertGreater(wide.shape[1], 1.8 * one.shape[1])

  def test_folds_share_a_panel_and_gaps_are_left_out(self):
    rows = [
      {'stage': f'fold_{k}/a', 'step': s, 'train/loss': None if s == 2 else s}
      for k in range(3)
      for s in (1, 2, 3)
    ]
    alone = [{**row, 'stage': 'a'} for row in rows[:3]]
    self.assertEqual(
      _image(plots.training_curves(rows)).shape,
      _image(plots.training_curves(alone)).shape,
    )


class MontageTest(parameterized.TestCase):
  def test_without_panels(self):
    self.assertIsNone(plots.montage([]))

  @parameterized.parameters(
    ('hit', (34, 197, 94)),
    ('miss', (244, 63, 94)),
    ('false positive', (245, 158, 11)),
  )
  def test_circle_is_where_it_should_be(self, kind, colour):
    image = np.zeros((40, 60), np.float32)
    framed, circled = (
      _image(
        plots.montage(
          [plots.Panel(image=image, title='5 mm', circle=circle, kind=kind)]
        )
      )
      for circle in (None, (10.0, 45.0, 5.0))
    )
    ys, xs = np.nonzero(np.abs(framed - circled).max(axis=-1) > 80)
    # The panel is drawn to scale: its black part tells where it lies.
    black_y, black_x = np.nonzero(framed.max(axis=-1) < 10)
    y = (ys.mean() - black_y.min()) / np.ptp(black_y) * 40
    x = (xs.mean() - black_x.min()) / np.ptp(black_x) * 60
    self.assertAlmostEqual(y, 10.5, delta=1)
    self.assertAlmostEqual(x, 45.5, delta=1)
    self.assertGreater(_near(circled, colour), _near(framed, colour))

  def test_several_rows(self):
    panel = plots.Panel(
      image=np.ones((8, 8)), title='', circle=None, kind='hit'
    )
    one, three = (_image(plots.montage([panel] * n)) for n in (6, 13))
    self.assertEqual(one.shape[1], three.shape[1])
    self.assertGreater(three.shape[0], 2.8 * one.shape[0])


if __name__ == '__main__':
  absltest.main()
