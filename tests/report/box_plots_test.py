import io

import numpy as np
from absl.testing import absltest
from PIL import Image

from medzoo.report import box_plots

_BLUE, _ORANGE = (37, 99, 235), (217, 119, 6)
_GREEN, _RED = (22, 163, 74), (220, 38, 38)


def _image(png):
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert('RGB')).astype(int)


def _near(image, colour):
  """How many pixels are nearly of a colour."""
  return int((np.abs(image - np.array(colour)).max(axis=-1) < 40).sum())


def _curve(thresholds=(0.9, 0.5), recall=(0.25, 0.5)):
  return {
    'thresholds': thresholds,
    'precision': [1.0, None][: len(thresholds)],
    'recall': recall,
    'false_positives_per_image': [0.0, 0.5][: len(thresholds)],
  }


class PrecisionRecallTest(absltest.TestCase):
  def test_nothing_to_draw(self):
    empty = _curve((), ())
    curves = {'coco': empty, 'bipartite': _curve(recall=(None, None))}
    self.assertIsNone(box_plots.precision_recall(curves, 0.5))

  def test_each_rule_has_its_colour(self):
    one = _image(box_plots.precision_recall({'coco': _curve()}, 0.7))
    curves = {'coco': _curve(), 'bipartite': _curve(recall=(0.5, 1.0))}
    two = _image(box_plots.precision_recall(curves, 0.7))
    self.assertEqual(_near(one, _ORANGE), 0)
    self.assertGreater(_near(two, _ORANGE), 200)
    self.assertGreater(_near(two, _BLUE), 200)

  def test_operating_point_is_the_last_at_or_above(self):
    at = {t: box_plots.precision_recall({'coco': _curve()}, t)
          for t in (0.95, 0.9, 0.7, 0.5)}  # fmt: skip
    self.assertEqual(at[0.9], at[0.7])
    self.assertNotEqual(at[0.5], at[0.7])
    # Nothing scores so much: the curve alone.
    self.assertLess(
      _near(_image(at[0.95]), _BLUE), _near(_image(at[0.9]), _BLUE)
    )


class OrderTest(absltest.TestCase):
  def test_nothing_to_draw(self):
    self.assertIsNone(box_plots.order([], 5))

  def test_boxes_lie_where_they_should_in_their_colours(self):
    def draw(*corners, steps, colour=False):
      image = np.zeros((40, 60, 3) if colour else (40, 60), np.uint8)
      corners = np.array(corners, float).reshape(-1, 4)
      panel = box_plots.Written(image, '', corners, np.array(steps, int))
      return _image(box_plots.order([panel], 3))

    plain = draw(steps=[])
    boxed = draw([10, 30, 20, 45], steps=[0])
    ys, xs = np.nonzero(plain.max(axis=-1) < 10)
    height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
    # The frame's lower left corner, away from the number.
    y, x = np.nonzero(np.abs(boxed - plain).max(axis=-1) > 80)
    self.assertAlmostEqual((y.max() - ys.min()) / height * 40, 20, delta=0.5)
    self.assertAlmostEqual((x.min() - xs.min()) / width * 60, 30, delta=0.5)
    yellow, magenta = (255, 255, 0), (255, 0, 255)
    self.assertGreater(_near(boxed, yellow), 100)
    self.assertEqual(_near(boxed, magenta), 0)
    last = draw([10, 30, 20, 45], steps=[2], colour=True)
    self.assertGreater(_near(last, magenta), 100)

  def test_a_row_holds_three(self):
    panel = box_plots.Written(
      np.zeros((30, 40), np.uint8), '', np.zeros((0, 4)), np.zeros(0, int)
    )
    three, four = (_image(box_plots.order([panel] * n, 1)) for n in (3, 4))
    self.assertEqual(three.shape[1], four.shape[1])
    self.assertAlmostEqual(2 * three.shape[0], four.shape[0], delta=2)


class StepsTest(absltest.TestCase):
  def test_nothing_to_draw(self):
    nothing = np.zeros(3, int)
    self.assertIsNone(box_plots.steps({'hit': nothing, 'ignored': nothing}))

  def test_kinds_stand_apart_and_those_without_boxes_are_left_out(self):
    counts = {'hit': np.array([8, 2]), 'false positive': np.array([2, 0])}
    nothing = {'ignored': np.zeros(2, int)}
    png = box_plots.steps(counts)
    self.assertEqual(box_plots.steps(counts | nothing), png)
    image = _image(png)
    self.assertGreater(_near(image, _GREEN), 3 * _near(image, _RED))
    self.assertGreater(_near(image, _RED), 500)


if __name__ == '__main__':
  absltest.main()
