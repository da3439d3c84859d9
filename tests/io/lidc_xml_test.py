import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import unittest

from absl.testing import absltest
from absl.testing import parameterized

from medzoo.io import lidc_types
from medzoo.io import lidc_xml
from tests.io import lidc_messages as messages

_SQUARE = [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3), (1, 2)]

# Run by itself, so that its peak memory is that of the parser; getrusage would
# count the parent's, from before exec.
_HOSTILE = """
import json, sys, time
from medzoo.io import lidc_xml
import pathlib
result = {}
for path in sys.argv[1:]:
  start = time.perf_counter()
  try:
    lidc_xml.parse(pathlib.Path(path))
  except lidc_xml.Refused as error:
    result[pathlib.Path(path).stem] = [time.perf_counter() - start, str(error)]
status = pathlib.Path('/proc/self/status').read_text()
print(json.dumps([result, int(status.split('VmHWM:')[1].split()[0]) / 1024]))
"""


def _parse(text: str) -> lidc_types.Document:
  return lidc_xml.parse(text.encode())


class ParseTest(parameterized.TestCase):
  def test_reads_all_kinds_of_marks(self):
    hole = messages.roi([(2, 2)], z=-1.25, hole=True)
    document = _parse(
      messages.ct(
        messages.nodule(messages.roi(_SQUARE, z=-1.25), hole)
        + messages.nodule(messages.roi([(9, 8)], '1.4'), rated=False)
        + messages.non_nodule(500, 3, '1.7', 4.5),
        '',
      )
    )
    self.assertEqual((document.kind, document.series_uid), ('ct', '1.2.3'))
    session, empty = document.sessions
    self.assertEqual(empty, lidc_types.Session((), (), ()))
    (nodule,) = session.nodules
    self.assertSequenceEqual(
      list(nodule.characteristics), lidc_types.CHARACTERISTICS
    )
    self.assertEqual(nodule.characteristics['malignancy'], 4)
    outline, hole = nodule.contours
    self.assertEqual(outline.points.tolist(), [list(p) for p in _SQUARE])
    self.assertEqual((outline.z, outline.sop_uid), (-1.25, '1.1'))
    self.assertTrue(outline.inclusion)
    self.assertFalse(hole.inclusion)
    (small,) = session.small_nodules
    self.assertEqual(small.contours[0].points.tolist(), [[9, 8]])
    (other,) = session.non_nodules
    self.assertEqual((other.sop_uid, other.z), ('1.7', 4.5))
    self.assertEqual(other.points.tolist(), [[500, 3]])

  def test_reads_chest_films(self):
    document = _parse(messages.FILM)
    self.assertEqual((document.kind, document.series_uid), ('film', '1.5'))
    self.assertLen(document.sessions, 2)
    (nodule,) = document.sessions[0].nodules
    self.assertEqual(
      dict(nodule.characteristics), {'subtlety': 4, 'confidence': 2}
    )
    self.assertEqual(nodule.contours[0].points.tolist(), [[2000, 11]])

  def test_namespace_prefixes_and_other_elements_do_not_matter(self):
    text = messages.ct(messages.non_nodule(1, 2))
    text = text.replace('xmlns=', 'xmlns:a="b" xmlns=')
    text = text.replace('<nonNoduleID>', '<a:locus/><nonNoduleID>')
    self.assertLen(_parse(text).sessions[0].non_nodules, 1)

  @parameterized.named_parameters(
    ('broken', '</locus>', '', 'broken XML'),
    ('letter', '>1</xCoord>', '>a</xCoord>', "xCoord 'a', expected a whole"),
    ('fraction', '>1</xCoord>', '>1.5</xCoord>', "xCoord '1.5'"),
    ('far', '>1</xCoord>', '>65536</xCoord>', '65535'),
    ('endless', '>1</xCoord>', f'>{"1" * 9999}</xCoord>', 'whole number'),
    ('no_y', '<yCoord>2</yCoord>', '', 'no yCoord, expected one'),
    ('two_y', '<yCoord>2</yCoord>', '<yCoord>2</yCoord>' * 2, 'second yCoord'),
    ('no_locus', '<locus>', '<locus/><locus>', 'no xCoord'),
    ('no_image', '<imageSOP_UID>1.1</imageSOP_UID>', '', 'no imageSOP_UID'),
    ('z', '>0</imageZ', '>nan</imageZ', "imageZposition 'nan'"),
    ('no_series', '<SeriesInstanceUid>1.2.3<', '<SeriesInstanceUid><', 'no S'),
    ('place', '<locus>', '<edgeMap/><locus>', 'misplaced edgeMap'),
    ('inclusion', 'TRUE', 'PERHAPS', "inclusion 'PERHAPS', expected TRUE or"),
    ('ratings', '<margin>5</margin>', '', 'characteristics without margin'),
    ('rating', '<margin>5<', '<margin>-5<', "margin '-5'"),
    ('loose', '<locus>', '<xCoord>1</xCoord><locus>', 'misplaced xCoord'),
    ('kind', 'LidcReadMessage', 'html', 'another kind of XML'),
    ('namespace', 'http://www.nih.gov', 'http://nih.gov', 'another kind'),
    ('encoding', 'UTF-8', 'UTF-9', 'broken XML'),
    ('multibyte', 'UTF-8', 'shift_jis', 'broken XML'),
  )
  def test_names_what_is_wrong(self, old: str, new: str, expected: str):
    text = messages.ct(
      messages.nodule(messages.roi(_SQUARE)) + messages.non_nodule(1, 2)
    )
    self.assertIn(old, text)
    with self.assertRaises(lidc_xml.Refused) as raised:
      _parse(text.replace(old, new))
    self.assertIn(expected, str(raised.exception))
    self.assertNotIn('\n', str(raised.exception))

  def test_a_mark_needs_points(self):
    for mark in (messages.nodule(messages.roi([])), '<nonNodule/>'):
      with self.assertRaisesRegex(lidc_xml.Refused, 'a mark without points'):
        _parse(messages.ct(mark))

  def test_errors_name_file_and_line(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'a.xml'
    path.write_text(messages.ct('\n' + messages.nodule()))
    with self.assertRaisesRegex(
      lidc_xml.Refused, r'a\.xml:5: found a nodule without roi'
    ):
      lidc_xml.parse(path)

  @unittest.skipUnless(sys.platform == 'linux', 'reads /proc')
  def test_hostile_files_are_refused_quickly_in_little_memory(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    message = messages.ct('')
    laughs = ''.join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}]>'
    start, end = message.split('<ResponseHeader>')
    for name, text in {
      'bomb': message.replace('<Lidc', bomb + '<Lidc', 1).replace(
        '>1.2.3<', '>&a9;<'
      ),
      'outside': message.replace(
        '<Lidc', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><Lidc', 1
      ),
      'deep': start + '<a>' * 200_000 + '</a>' * 200_000 + end,
      'large': start + ' ' * (70 << 20) + end,
    }.items():
      (folder / f'{name}.xml').write_text(text)
    run = subprocess.run(
      [sys.executable, '-c', _HOSTILE, *map(str, sorted(folder.iterdir()))],
      capture_output=True,
      text=True,
      check=True,
      cwd=pathlib.Path(__file__).parents[2],
    )
    result, peak = json.loads(run.stdout)
    self.assertCountEqual(result, ('bomb', 'outside', 'deep', 'large'))
    for name, expected in {
      'bomb': 'DOCTYPE',
      'outside': 'DOCTYPE',
      'deep': 'deeper',
      'large': 'more than',
    }.items():
      seconds, message = result[name]
      self.assertLess(seconds, 1)
      self.assertIn(expected, message)
    self.assertLess(peak, 200)


class FindTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    deep = self.folder / 'patient' / 'study'
    deep.mkdir(parents=True)
    self.one = messages.ct(messages.non_nodule(1, 2), series='1')
    (deep / '1.XML').write_text(self.one)
    (deep / 'copy.xml').write_text(self.one)
    (deep / 'film.xml').write_text(messages.FILM)
    (deep / 'page.xml').write_text('<html/>')
    (deep / '1.dcm').write_bytes(b'no XML')
    with tarfile.open(self.folder / 'rest.tar.xz', 'w:xz') as archive:
      content = messages.ct('', series='2').encode()
      member = tarfile.TarInfo('../x/2.xml')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))

  def test_reads_folders_and_archives_by_series(self):
    found = lidc_xml.read_all(self.folder)
    self.assertCountEqual(found, ('1', '1.5', '2'))
    self.assertLen(found['1'].sessions[0].non_nodules, 1)
    alone = lidc_xml.read_all(self.folder / 'rest.tar.xz')
    self.assertEqual(alone, {'2': found['2']})

  def test_reads_each_series_once(self):
    uids = [x.series_uid for x in lidc_xml.read_each(self.folder)]
    self.assertEqual(uids, ['1', '1.5', '2'])

  def test_messages_that_disagree_are_refused(self):
    other = self.one.replace('<xCoord>1<', '<xCoord>3<')
    (self.folder / 'other.xml').write_text(other)
    with self.assertRaisesRegex(lidc_xml.Refused, 'other marks on the series'):
      lidc_xml.read_all(self.folder)

  def test_broken_archives_are_refused(self):
    path = self.folder / 'rest.tar.xz'
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b'', b'no archive'):
      path.write_bytes(broken)
      with self.assertRaisesRegex(lidc_xml.Refused, 'broken archive: .+$'):
        lidc_xml.read_all(path)

  def test_command_counts(self):
    with contextlib.redirect_stdout(io.StringIO()) as out:
      self.assertEqual(lidc_xml.main([str(self.folder)]), 0)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    self.assertContainsSubset(
      ['3 ct messages', '2 ct series', '1 film messages', '2 ct non-nodules'],
      lines,
    )
    self.assertIn('1 other XML files', lines)

  def test_command_says_in_one_line_what_is_wrong(self):
    (self.folder / 'bad.xml').write_text('<a')
    with contextlib.redirect_stderr(io.StringIO()) as err:
      self.assertEqual(lidc_xml.main([str(self.folder)]), 1)
      self.assertEqual(lidc_xml.main([str(self.folder / 'nowhere')]), 1)
    first, second = err.getvalue().splitlines()
    self.assertIn('bad.xml: found broken XML', first)
    self.assertIn('nowhere', second)


if __name__ == '__main__':
  absltest.main()
