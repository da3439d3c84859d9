"""Tests of the agreement of masks, against SimpleITK and brute force."""

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized
from scipy import ndimage
from scipy.spatial import distance

from medzoo.metrics import segmentation


def _blobs(seed, shape=(40, 30)):
  """Two overlapping masks with several parts, holes and pixels at edges."""
  noise = np.random.default_rng(seed).normal(size=(2, *shape))
  first, second = ndimage.gaussian_filter(noise, (0, *[4] * len(shape)))
  return first > 0, first + 0.5 * second > 0


def _edges(mask):
  """The places of the pixels with a neighbour out of the mask, by hand."""
  padded = np.pad(mask, 1)
  inner = np.ones_like(mask)
  for axis in range(mask.ndim):
    for step in (-1, 1):
      moved = np.roll(padded, step, axis)
      inner &= moved[(slice(1, -1),) * mask.ndim]
  return np.argwhere(mask & ~inner)


class SegmentationTest(parameterized.TestCase):
  @parameterized.parameters(*range(5))
  def test_dice_and_iou_equal_simpleitk(self, seed):
    first, second = _blobs(seed)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(
      *(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (first, second))
    )
    self.assertAlmostEqual(
      segmentation.dice(first, second), measures.GetDiceCoefficient()
    )
    self.assertAlmostEqual(
      segmentation.iou(first, second), measures.GetJaccardCoefficient()
    )

  @parameterized.product(
    seed=(0, 1, 2), spacing=(None, (0.7, 0.2)), percentile=(95.0, 50.0, 100.0)
  )
  def test_distance_equals_brute_force(self, seed, spacing, percentile):
    first, second = _blobs(seed)
    steps = np.ones(2) if spacing is None else np.array(spacing)
    apart = distance.cdist(_edges(first) * steps, _edges(second) * steps)
    expected = max(
      np.percentile(apart.min(axis=axis), percentile) for axis in (0, 1)
    )
    found = segmentation.hausdorff(first, second, spacing, percentile)
    self.assertAlmostEqual(found, expected)
    self.assertEqual(
      found, segmentation.hausdorff(second, first, spacing, percentile)
    )

  @parameterized.parameters((0, (40, 30)), (1, (40, 30)), (2, (9, 12, 10)))
  def test_hundredth_percentile_equals_simpleitk(self, seed, shape):
    first, second = _blobs(seed, shape)
    spacing = np.linspace(0.5, 1.5, len(shape))
    images = []
    for mask in (first, second):
      edges = np.zeros(shape, np.uint8)
      edges[tuple(_edges(mask).T)] = 1
      images.append(sitk.GetImageFromArray(edges))
      images[-1].SetSpacing(spacing[::-1].tolist())
    measures = sitk.HausdorffDistanceImageFilter()
    measures.Execute(*images)
    self.assertAlmostEqual(
      segmentation.hausdorff(first, second, spacing, 100),
      measures.GetHausdorffDistance(),
      places=5,
    )

  def test_by_hand(self):
    first, second = np.zeros((2, 12, 20), bool)
    first[2:8, 3:9] = True
    second[2:8, 5:11] = True
    self.assertAlmostEqual(segmentation.dice(first, second), 4 / 6)
    self.assertAlmostEqual(segmentation.iou(first, second), 4 / 8)
    # Of 20 edge pixels each way the 6 of one side are two pixels off.
    self.assertEqual(segmentation.hausdorff(first, second), 2)
    self.assertEqual(segmentation.hausdorff(first, second, (5, 0.5)), 1)
    self.assertEqual(segmentation.hausdorff(first, first), 0)

  def test_the_larger_direction_counts(self):
    first, second = np.zeros((2, 8, 80), bool)
    first[2:6, 2:6] = second[2:6, 2:6] = True
    second[2:6, 60:64] = True
    self.assertEqual(segmentation.hausdorff(first, second), 58)
    self.assertEqual(segmentation.hausdorff(second, first), 58)

  def test_a_few_far_pixels_do_not_count(self):
    first, second = np.zeros((2, 60, 90), bool)
    first[5:45, 5:45] = second[5:45, 5:45] = True
    second[50, 85] = True
    self.assertEqual(segmentation.hausdorff(first, second), 0)
    self.assertGreater(segmentation.hausdorff(first, second, None, 100), 40)

  def test_masks_at_the_border_have_an_edge_there(self):
    full, inner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    inner[3:7, 3:7] = True
    self.assertAlmostEqual(
      segmentation.hausdorff(full, inner, None, 100), 3 * np.sqrt(2)
    )

  def test_empty_masks(self):
    first, _ = _blobs(0)
    nothing = np.zeros_like(first)
    self.assertEqual(segmentation.dice(first, nothing), 0)
    self.assertEqual(segmentation.iou(nothing, first), 0)
    for function in (segmentation.dice, segmentation.iou):
      self.assertTrue(np.isnan(function(nothing, nothing)))
    for pair in ((first, nothing), (nothing, first), (nothing, nothing)):
      self.assertTrue(np.isnan(segmentation.hausdorff(*pair)))

  def test_shapes_must_agree(self):
    for name in ('dice', 'iou', 'hausdorff'):
      with self.assertRaisesRegex(ValueError, r'\(3, 4\) and \(4, 3\)'):
        getattr(segmentation, name)(np.ones((3, 4)), np.ones((4, 3)))


if __name__ == '__main__':
  absltest.main()
