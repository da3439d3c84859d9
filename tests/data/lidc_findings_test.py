import collections
import io
import json
from xml.etree import ElementTree

from absl.testing import absltest

from medzoo.data import lidc_findings
from medzoo.io import lidc_xml
from tests import real_data
from tests.io import lidc_messages as messages

_SQUARE = [(10, 20), (14, 20), (14, 24), (10, 24)]
_HOLE = [(11, 21), (13, 21), (13, 23), (11, 23)]


def _parse(*sessions, series='1.2.3'):
  return lidc_xml.parse(messages.ct(*sessions, series=series).encode())


class FindingsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.document = _parse(
      messages.nodule(
        messages.roi(_SQUARE, '1.1'),
        messages.roi(_HOLE, '1.1', hole=True),
        messages.roi([(12, 22)], '1.2'),
      ),
      messages.nodule(messages.roi([(5, 6)], '1.2'), rated=False)
      + messages.non_nodule(7, 8, '1.2')
      + messages.non_nodule(9, 8, '1.3'),
    )

  def test_contours_by_image(self):
    found = lidc_findings.by_image(self.document)
    self.assertEqual(list(found), ['1.1', '1.2', '1.3'])
    outline, hole = found['1.1']['nodules']
    self.assertEqual(found['1.1']['small_nodules'], [])
    self.assertEqual(
      {key: value for key, value in outline.items() if key != 'points'},
      {
        'reader': 0,
        'mark': 0,
        'inclusion': True,
        'centroid': [12.0, 22.0],
        'box': [10, 20, 15, 25],
        'characteristics': dict(
          self.document.sessions[0].nodules[0].characteristics
        ),
      },
    )
    self.assertLen(outline['characteristics'], 9)
    self.assertEqual(outline['points'], [list(x) for x in _SQUARE])
    self.assertFalse(hole['inclusion'])
    self.assertEqual(hole['mark'], outline['mark'])
    self.assertEqual(hole['centroid'], [12.0, 22.0])
    (small,) = found['1.2']['small_nodules']
    self.assertEqual((small['reader'], small['characteristics']), (1, {}))
    self.assertEqual((small['centroid'], small['box']), ([5, 6], [5, 6, 6, 7]))
    marks = [found[uid]['non_nodules'][0]['mark'] for uid in ('1.2', '1.3')]
    self.assertEqual(marks, [0, 1])

  def test_written_one_after_the_other(self):
    other = _parse(messages.non_nodule(1, 2, '2.1'), series='2')
    for documents in ([], [self.document], [self.document, other]):
      file = io.StringIO()
      images = lidc_findings.write(iter(documents), file)
      expected = {}
      for document in documents:
        expected |= lidc_findings.by_image(document)
      self.assertEqual(json.loads(file.getvalue()), expected)
      self.assertLen(expected, images)

  def test_counts_of_the_real_patients(self):
    for path in real_data.folder('lidc_idri').rglob('*.xml'):
      found = lidc_findings.by_image(lidc_xml.parse(path))
      counts = collections.Counter()
      for uid, image in found.items():
        for kind, marks in image.items():
          counts[uid, kind] += len(marks)
      self.assertEqual(+counts, _count(path))


def _count(path):
  """Counts contours by image and kind with the standard library's reader."""
  space = '{http://www.nih.gov}'
  counts = collections.Counter()
  for nodule in ElementTree.parse(path).iter(f'{space}unblindedReadNodule'):
    rated = nodule.find(f'{space}characteristics/{space}malignancy') is not None
    for uid in nodule.iter(f'{space}imageSOP_UID'):
      counts[uid.text, 'nodules' if rated else 'small_nodules'] += 1
  for other in ElementTree.parse(path).iter(f'{space}nonNodule'):
    counts[other.find(f'{space}imageSOP_UID').text, 'non_nodules'] += 1
  return counts


if __name__ == '__main__':
  absltest.main()
