"""All published LIDC-IDRI messages against what LUNA16 made of them."""

import collections

import numpy as np
from absl.testing import absltest

from medzoo.io import lidc_lesions
from medzoo.io import lidc_xml
from medzoo.io import tables
from tests import real_data


class CorpusTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    archive = real_data.folder('lidc_xml') / 'tcia-lidc-xml-1318.tar.xz'
    cls.documents = [document for _, document in lidc_xml.find(archive)]
    cls.scans = {x.series_uid: x for x in cls.documents if x.kind == 'ct'}
    luna16 = real_data.folder('luna16')
    cls.luna16 = tables.read_seriesuids(luna16 / 'seriesuids.csv')
    cls.nodules, cls.excluded = (
      tables.read_marks(luna16 / name, 'diameter_mm')
      for name in ('annotations.csv', 'annotations_excluded.csv')
    )

  def test_totals(self):
    counts = collections.Counter()
    for document in self.documents:
      counts[document.kind] += 1
      counts[document.kind, 'sessions'] += len(document.sessions)
      counts[document.kind, 'empty'] += not document.sessions
      for session in document.sessions:
        counts[document.kind, 'rated'] += len(session.nodules)
        counts[document.kind, 'unrated'] += len(session.small_nodules)
        counts[document.kind, 'non'] += len(session.non_nodules)
        for nodule in (*session.nodules, *session.small_nodules):
          drawn = any(len(x.points) > 1 for x in nodule.contours)
          counts['drawn'] += drawn
          counts['both'] += drawn and 'malignancy' in nodule.characteristics
    self.assertEqual((counts['ct'], counts['film']), (1035, 283))
    self.assertLen(self.scans, 1018)
    self.assertEqual(counts['ct', 'sessions'], 4143)
    self.assertEqual(counts['ct', 'rated'] + counts['ct', 'unrated'], 20362)
    self.assertEqual(counts['ct', 'rated'], 7032)
    self.assertEqual((counts['drawn'], counts['both']), (7032, 7030))
    self.assertEqual(counts['ct', 'non'], 21787)
    self.assertEqual(counts['film', 'sessions'], 1059)
    self.assertEqual(counts['film', 'rated'], 2716)
    self.assertEqual(counts['film', 'empty'], 16)

  def test_outlines(self):
    counts = collections.Counter()
    for document in self.documents:
      for session in document.sessions:
        for nodule in session.nodules + session.small_nodules:
          images = {x.sop_uid for x in nodule.contours}
          counts['holes'] += not all(x.inclusion for x in nodule.contours)
          counts['parts'] += len(images) < len(nodule.contours)
          for contour in nodule.contours:
            ends = contour.points[[0, -1]]
            counts['open'] += (ends[0] != ends[1]).any()
    self.assertEqual((counts['holes'], counts['parts']), (241, 341))
    self.assertEqual(counts['open'], 76)

  def test_marks_of_the_luna16_scans(self):
    sessions = [x for uid in self.luna16 for x in self.scans[uid].sessions]
    self.assertEqual(sum(len(x.nodules) for x in sessions), 5865)
    self.assertEqual(sum(len(x.small_nodules) for x in sessions), 11509)
    self.assertEqual(sum(len(x.non_nodules) for x in sessions), 19004)

  def test_lesions_of_the_luna16_scans_by_a_nominal_pixel(self):
    same = collections.Counter()
    heights = []
    for uid in self.luna16:
      grid = lidc_lesions.nominal_grid(self.scans[uid])
      lesions, excluded = lidc_lesions.findings(self.scans[uid], *grid)
      theirs = self.nodules.get(uid, np.zeros((0, 4)))
      same['nodules'] += len(lesions) == len(theirs)
      same['excluded'] += len(excluded) == len(self.excluded[uid])
      if len(lesions) == len(theirs):
        # Heights do not depend on the pixel; they are right if every mark's
        # voxels and its place in the order are.
        ours = np.sort(lesions.centers[:, 2])
        heights.extend(abs(ours - np.sort(theirs[:, 2])))
    self.assertGreaterEqual(same['nodules'], 884)
    self.assertGreaterEqual(same['excluded'], 884)
    self.assertGreater(np.mean(np.array(heights) < 0.02), 0.98)


if __name__ == '__main__':
  absltest.main()
