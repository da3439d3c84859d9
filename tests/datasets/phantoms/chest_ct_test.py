"""Tests of phantom chest CTs: repeatable, and true to what they say."""

import pathlib
import tempfile

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized

from datasets.phantoms import chest_ct
from datasets.phantoms import chest_ct_layouts as layouts
from datasets.phantoms import chest_ct_records as records


def _sphere(phantom: records.Phantom, finding: records.Finding) -> np.ndarray:
  """Returns the voxels in the inner half of a finding."""
  volume = phantom.volume
  index = np.indices(volume.voxels.shape).reshape(3, -1).T
  distance = np.linalg.norm(
    volume.index_to_world(index) - finding.center, axis=1
  )
  inside = distance < max(0.25 * finding.diameter, max(volume.spacing))
  return volume.voxels.ravel()[inside]


class MakeTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.phantoms = [chest_ct.make(5, i, size='smoke') for i in range(8)]

  def test_same_arguments_same_phantom(self):
    again = chest_ct.make(5, 3, size='smoke')
    first = self.phantoms[3]
    np.testing.assert_array_equal(again.volume.voxels, first.volume.voxels)
    self.assertEqual(again.volume.series_uid, first.volume.series_uid)
    for a, b in zip(again.readings, first.readings, strict=True):
      for mark, other in zip(a.marks, b.marks, strict=True):
        np.testing.assert_array_equal(mark.center, other.center)

  def test_other_seed_other_phantom(self):
    other = chest_ct.make(6, 3, size='smoke')
    first = self.phantoms[3]
    self.assertNotEqual(other.volume.series_uid, first.volume.series_uid)
    self.assertNotEqual(other.volume.spacing, first.volume.spacing)

  def test_a_patient_with_two_scans(self):
    patients = [p.patient for p in self.phantoms]
    self.assertLen(set(patients), 7)
    self.assertEqual(patients[6], patients[7])
    first, second = self.phantoms[6:8]
    self.assertNotEqual(first.volume.series_uid, second.volume.series_uid)
    self.assertLen(second.nodules, len(first.nodules))
    for before, after in zip(first.nodules, second.nodules, strict=True):
      self.assertEqual(before.kind, after.kind)
      self.assertGreaterEqual(after.diameter, before.diameter)

  def test_counts_of_sixteen_patients(self):
    counts = [chest_ct.count_nodules(2, patient) for patient in range(1, 49)]
    for first in range(0, 48, 16):
      self.assertEqual(sum(counts[first : first + 16]), 73)
    self.assertEqual(min(counts), 0)
    self.assertEqual(max(counts), 8)

  def test_solid_nodules_are_dense_where_they_should_be(self):
    seen = 0
    for phantom in self.phantoms:
      for nodule in phantom.nodules:
        if nodule.kind == 'solid' and nodule.diameter > 6:
          self.assertGreater(_sphere(phantom, nodule).mean(), -350)
          seen += 1
    self.assertGreater(seen, 3)

  def test_sides(self):
    volume = self.phantoms[0].volume
    middle = volume.voxels.shape[2] // 2
    half = len(volume.voxels) // 3
    lower = volume.voxels[half - 3 : half + 3]
    # The heart takes some of the left lung; the spine is bone, and behind.
    air = ((lower < -600) & (lower > -950)).sum((0, 1))
    self.assertGreater(air[:middle].sum(), air[middle:].sum())
    bone = (lower[:, :, middle - 5 : middle + 5] > 180).sum((0, 2))
    rows = np.arange(len(bone))
    self.assertGreater((bone * rows).sum() / bone.sum(), len(bone) / 2)

  def test_intensities(self):
    for phantom in self.phantoms:
      voxels = phantom.volume.voxels
      self.assertEqual(voxels.dtype, np.int16)
      self.assertGreaterEqual(voxels.min(), -2048)
      lung = voxels[(voxels > -950) & (voxels < -700)]
      self.assertGreater(lung.size, 0.03 * voxels.size)
      self.assertBetween(np.median(lung), -920, -790)

  def test_readers_measure_the_truth(self):
    ratios = []
    for phantom in self.phantoms:
      for reading in phantom.readings:
        for mark in reading.marks:
          truth = phantom.nodules[mark.nodule]
          distance = np.linalg.norm(mark.center - truth.center)
          self.assertLess(distance, 0.3 * truth.diameter + 1.5)
          if truth.diameter > 6:
            ratios.append(mark.diameter / truth.diameter)
    self.assertGreater(len(ratios), 20)
    self.assertBetween(np.mean(ratios), 0.93, 1.07)
    self.assertBetween(np.std(ratios), 0.01, 0.15)

  def test_readers_disagree(self):
    readers = [
      sum(mark.nodule == k for r in phantom.readings for mark in r.marks)
      for phantom in self.phantoms
      for k, nodule in enumerate(phantom.nodules)
      if nodule.kind != 'micro'
    ]
    self.assertIn(4, readers)
    self.assertLess(np.mean(readers), 4)
    self.assertGreater(np.mean(readers), 3)

  def test_ratings_are_within_their_scales(self):
    highest = (5, 4, 6, 5, 5, 5, 5, 5, 5)
    for phantom in self.phantoms:
      for reading in phantom.readings:
        for mark in reading.marks:
          self.assertTrue(
            all(1 <= v <= h for v, h in zip(mark.ratings, highest, strict=True))
          )

  def test_unknown_size(self):
    with self.assertRaisesRegex(ValueError, "'tiny', expected one of full"):
      chest_ct.make(0, 0, size='tiny')


class SmallTest(absltest.TestCase):
  def test_the_default_size(self):
    phantom = chest_ct.make(1, 2)
    d, h, w = phantom.volume.voxels.shape
    self.assertEqual((h, w), (256, 256))
    z, y, x = phantom.volume.spacing
    self.assertBetween(y, 0.6, 0.95)
    self.assertEqual(x, y)
    self.assertBetween(z, 1.0, 2.5)
    self.assertBetween(d * z, 90, 230)
    self.assertBetween(len(phantom.distractors), 6, 12)
    clear = [
      np.linalg.norm(nodule.center - distractor.center)
      > (nodule.diameter + distractor.diameter) / 2
      for nodule in phantom.nodules
      if nodule.kind != 'micro'
      for distractor in phantom.distractors
    ]
    self.assertTrue(all(clear))


class WriteTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)

  def test_workers_write_what_one_process_writes(self):
    trees = []
    for workers in (1, 2):
      root = self.folder / str(workers)
      chest_ct.write(root, cases=2, size='smoke', workers=workers)
      trees.append(
        {
          str(path.relative_to(root)): path.read_bytes()
          for path in root.rglob('*')
          if path.is_file()
        }
      )
    self.assertEqual(trees[0], trees[1])

  def test_nodule_is_bright_in_the_files(self):
    phantom = chest_ct.make(7, 1, size='smoke')
    layouts.write_lidc([phantom], self.folder)
    series = next(self.folder.glob('*/*/*'))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    found, _ = layouts.annotations(phantom)
    self.assertNotEmpty(found)
    voxels = sitk.GetArrayFromImage(image)
    largest = found[found[:, 3].argmax()]
    index = image.TransformPhysicalPointToIndex(largest[:3].tolist())
    self.assertGreater(voxels[index[::-1]], -500)

  def test_refuses_a_folder_with_files(self):
    (self.folder / 'x').write_text('')
    with self.assertRaisesRegex(ValueError, 'expected an empty folder'):
      chest_ct.write(self.folder, cases=1)

  def test_command(self):
    root = self.folder / 'made'
    code = chest_ct.main(
      [
        *('--output', str(root), '--cases', '1', '--size', 'smoke'),
        *('--layout', 'luna16'),
      ]
    )
    self.assertEqual(code, 0)
    self.assertTrue((root / 'annotations.csv').exists())
    self.assertEqual(chest_ct.main(['--output', str(root)]), 2)


if __name__ == '__main__':
  absltest.main()
