import json
import pathlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.io import box_lists

# The first of the pictures that lidc_nodule_detection was shown with.
_SHIPPED = """[
 {
  "rects": [
   {
    "y1": 168, 
    "x2": 320, 
    "x1": 289, 
    "y2": 199
   }
  ], 
  "image_path": "./lung_data/LIDC-IDRI-0103.dat_53_.bmp"
 }
]
"""  # noqa: W291
_TXT = """./lung_data/LIDC-IDRI-0904.dat_57_.bmp
0
./lung_data/LIDC-IDRI-0904.dat_58_.bmp
2
3\t123\t210\t21\t21
1\t119\t201\t10\t10
./lung_data/LIDC-IDRI-0072.dat_45_.bmp
1
2\t-1\t121\t27\t27
"""


class BoxListsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def read(self, name, content):
    path = self.folder / name
    if not isinstance(content, str):
      content = json.dumps(content)
    path.write_text(content)
    return box_lists.read(path)

  def assert_fault(self, name, content, place, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      self.read(name, content)
    text = str(caught.exception)
    self.assertStartsWith(text, f'{self.folder / name}{place}: found ')
    self.assertNotIn('\n', text)
    self.assertLess(len(text), 300)

  def test_json_as_it_was_shipped(self):
    (record,) = self.read('test_small.json', _SHIPPED)
    self.assertEqual(record.image, './lung_data/LIDC-IDRI-0103.dat_53_.bmp')
    np.testing.assert_array_equal(record.corners, [[168, 289, 199, 320]])
    self.assertEqual(record.names, ('',))
    self.assertEqual(record.ignored.tolist(), [False])
    self.assertEqual(record.place, f'{self.folder}/test_small.json: entry 1')

  def test_json_with_what_is_ignored(self):
    box = {'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4}
    entry = {
      'image_path': 'a.png',
      'rects': [box],
      'ignored': [box | {'x2': 9, 'class': 'cyst'}, box],
    }
    (record,) = self.read('a.json', [entry])
    np.testing.assert_array_equal(
      record.corners, [[2, 1, 4, 3], [2, 1, 4, 9], [2, 1, 4, 3]]
    )
    self.assertEqual(record.ignored.tolist(), [False, True, True])
    self.assertEqual(record.names, ('', 'cyst', ''))
    for ignored, place, message in (
      (True, ': entry 1', 'found ignored True, expected a list'),
      ([3], ': entry 1, ignored box 1', 'found 3'),
      ([{'x1': 0}], ': entry 1, ignored box 1', 'found y1 nothing'),
    ):
      self.assert_fault(
        'b.json', [entry | {'ignored': ignored}], place, message
      )

  def test_what_is_written_is_read(self):
    records = [
      box_lists.Record('p/ä.png', np.zeros((0, 4)), (), np.zeros(0, bool), ''),
      box_lists.Record(
        'b.png',
        np.array([[1.5, 0.01, 3, 4], [-1, 2, 9, 9], [5, 6, 7, 8]]),
        ('', 'cyst', 'ö'),
        np.array([False, False, True]),
        '',
      ),
    ]
    path = self.folder / 'list.json'
    with path.open('w', encoding='utf-8') as file:
      box_lists.write_json(records, file)
    self.assertTrue(box_lists.is_list(path))
    self.assertEqual(path.read_text().count('\n'), 4)
    for record, found in zip(records, box_lists.read(path), strict=True):
      self.assertEqual(found.image, record.image)
      self.assertEqual(found.names, record.names)
      np.testing.assert_array_equal(found.corners, record.corners)
      np.testing.assert_array_equal(found.ignored, record.ignored)
    # Others see the pictures and what is to be found.
    first, second = json.loads(path.read_text())
    self.assertEqual(first, {'image_path': 'p/ä.png', 'rects': []})
    self.assertEqual(
      second['rects'][0], {'x1': 0.01, 'y1': 1.5, 'x2': 4, 'y2': 3}
    )
    self.assertLen(second['rects'], 2)

  def test_an_empty_list_can_be_written(self):
    path = self.folder / 'list.json'
    with path.open('w') as file:
      box_lists.write_json([], file)
    self.assertEqual(box_lists.read(path), [])

  def test_json_of_several_classes(self):
    box = {'x1': 9.5, 'y1': 8, 'x2': 1, 'y2': 2.25}
    classes = [
      {'class': 'cyst'},
      {'classID': 3},
      {'label': ' a b '},
      {'class': -1},
      {'classID': -1, 'silhouetteID': 2},
      {'class': None, 'score': 0.5},
    ]
    empty, full = self.read(
      'a.json',
      [
        {'image_path': 'a\\b.png', 'rects': [], 'note': 1},
        {'image_path': 'c.png', 'rects': [box | x for x in classes]},
      ],
    )
    self.assertEqual(empty.image, 'a/b.png')
    self.assertEqual(empty.corners.shape, (0, 4))
    self.assertEqual(full.names, ('cyst', '3', 'a b', '', '2', ''))
    np.testing.assert_array_equal(full.corners, [[2.25, 1, 8, 9.5]] * 6)

  def test_idl_in_all_its_forms(self):
    records = self.read(
      'a.idl',
      '\ufeff"a 1.png": (1, 2, 3.5, 4), (30, 40, 10, 20);\r\n'
      '\n'
      '"b.png";\n'
      '"c.png":;\n'
      '"d.png": (1,2,3,4):0.75/2,(1.0, -2e1, 3, 4):-1,( 0,0, 5 ,5 )/-1;\n'
      '"e@2x.png": (1, 2, 3, 4)/cyst;\n'
      '"f.png": (1, 2, 3, 4):0.5.\n',
    )
    self.assertEqual(
      [(x.image, x.names, int(x.place.split(':')[-1])) for x in records],
      [
        ('a 1.png', ('', ''), 1),
        ('b.png', (), 3),
        ('c.png', (), 4),
        ('d.png', ('2', '', ''), 5),
        ('e@2x.png', ('cyst',), 6),
        ('f.png', ('',), 7),
      ],
    )
    np.testing.assert_array_equal(
      np.concatenate([x.corners for x in records]),
      [
        [2, 1, 4, 3.5],
        [20, 10, 40, 30],
        [2, 1, 4, 3],
        [-20, 1, 4, 3],
        [0, 0, 5, 5],
        [2, 1, 4, 3],
        [2, 1, 4, 3],
      ],
    )

  def test_txt_as_it_was_shipped(self):
    records = self.read('lung_val.txt', _TXT)
    self.assertEqual(
      [x.image[-12:] for x in records],
      ['.dat_57_.bmp', '.dat_58_.bmp', '.dat_45_.bmp'],
    )
    self.assertEqual([x.ignored.tolist() for x in records], [[], [1, 0], [1]])
    self.assertEqual(records[1].names, ('nodule', 'nodule'))
    np.testing.assert_array_equal(
      records[1].corners, [[210, 123, 231, 144], [201, 119, 211, 129]]
    )
    np.testing.assert_array_equal(records[2].corners, [[121, -1, 148, 26]])

  def test_three_formats_tell_the_same(self):
    random = np.random.default_rng(0)
    numbers = [random.integers(0, 300, (n, 4)) for n in (3, 0, 1, 2)]
    entries, idl, txt = [], [], []
    for i, boxes in enumerate(numbers):
      entries.append({'image_path': f'{i}.png', 'rects': []})
      quads = []
      txt += [f'{i}.png', str(len(boxes))]
      for x, y, w, h in boxes.tolist():
        ends = (x, y, x + w, y + h)
        entries[-1]['rects'].append(
          dict(zip(('x1', 'y1', 'x2', 'y2'), ends, strict=True))
        )
        quads.append(f'({", ".join(map(str, ends))})')
        txt.append(f'1 {x} {y} {w} {h}')
      idl.append(f'"{i}.png": {", ".join(quads)}')
    lists = [
      self.read('a.json', entries),
      self.read('a.idl', ';\n'.join(idl) + '.\n'),
      self.read('a.txt', '\n'.join(txt)),
    ]
    for records in lists:
      self.assertEqual([x.image for x in records], [x.image for x in lists[0]])
      for record, (x, y, w, h) in zip(
        records, (n.T for n in numbers), strict=True
      ):
        expected = np.stack([y, x, y + h, x + w], axis=1)
        np.testing.assert_array_equal(record.corners, expected)

  @parameterized.parameters(
    ('{"a": 1}', '', 'expected a list of pictures'),
    ('[\n{"image_path": \n]', ':3', 'no JSON: Expecting value'),
    ('[' * 100_000, '', 'nested without end'),
    ([3], ': entry 1', 'found 3, expected an object with image_path'),
    ([{'rects': []}], ': entry 1', 'image_path nothing, expected the path'),
    ([{'image_path': ' ', 'rects': []}], ': entry 1', "image_path ' '"),
    ([{'image_path': 'a'}], ': entry 1', 'rects nothing, expected a list'),
  )
  def test_a_faulty_json_is_named(self, content, place, message):
    self.assert_fault('a.json', content, place, message)

  @parameterized.parameters(
    (7, 'found 7, expected an object with x1, y1, x2, y2'),
    ({'x1': 1, 'y1': 1, 'x2': 2}, 'y2 nothing, expected a number'),
    ({'x1': '1'}, "x1 '1', expected a number"),
    ({'x1': True}, 'x1 True, expected a number'),
    ({'x1': float('nan')}, 'x1 nan, expected a number'),
    ({'x1': 10**400}, r'x1 10+\.\.\., expected a number'),
    (
      {'x1': 1, 'y1': 1, 'x2': 2, 'y2': 2, 'class': ['a']},
      r"class \['a'\], expected a name",
    ),
    ({'x1': 1, 'y1': 1, 'x2': 2, 'y2': 2, 'label': ''}, "label '', expected"),
  )
  def test_a_faulty_box_is_named(self, box, message):
    good = {'image_path': 'a', 'rects': []}
    fine = {'x1': 1, 'y1': 1, 'x2': 2, 'y2': 2}
    bad = {'image_path': 'b', 'rects': [fine, box]}
    self.assert_fault('a.json', [good, bad], ': entry 2, box 2', message)

  @parameterized.parameters(
    ('a.png: (1, 2, 3, 4);', 'expected "PICTURE": '),
    ('"a.png" (1, 2, 3, 4);', 'expected "PICTURE": '),
    ('"": (1, 2, 3, 4);', 'expected "PICTURE": '),
    ('"a.avi@17": (1, 2, 3, 4);', 'a frame of a video, expected a picture'),
    ('"a.png": (1, 2, 3);', r"found '\(1, 2, 3\)' as box 1, expected \(x1"),
    ('"a.png": (1, 2, 3, 4) (1, 2, 3, 4);', 'as box 1, expected'),
    ('"a.png": (1, 2, 3, 4), (1, 2, x, 4);', 'as box 2, expected'),
    ('"a.png": (1, 2, 3, nan);', 'as box 1, expected'),
    ('"a.png": (1, 2, 3, 1e999);', "found '1e999', expected a number"),
    ('"a.png": (1, 2, 3, 4):high;', 'as box 1, expected'),
  )
  def test_a_faulty_idl_is_named(self, line, message):
    self.assert_fault('a.idl', f'"0.png";\n\n{line}\n', ':3', message)

  @parameterized.parameters(
    ('b.png', ':3', "found nothing, expected the number of boxes in 'b.png'"),
    ('b.png\nc.png', ':4', "found 'c.png', expected the number of boxes"),
    ('b.png\n-1', ':4', "found '-1', expected the number of boxes"),
    ('b.png\n2\n1 1 1 1 1', ':5', 'found the end after 1 of 2 boxes'),
    ('b.png\n1\nc.png\n0', ':5', "found 'c.png', expected a box: kind"),
    ('b.png\n1\n4 1 1 1 1', ':5', "found '4 1 1 1 1', expected a box: kind"),
    ('b.png\n1\n1 1 1 1', ':5', "found '1 1 1 1', expected a box: kind"),
    ('b.png\n1\n1 1 x 1 1', ':5', "found 'x', expected a number"),
    ('b.png\n1\n1 1 1 -1 1', ':5', 'found a box of -1 x 1 pixels'),
  )
  def test_a_faulty_txt_is_named(self, lines, place, message):
    self.assert_fault('a.txt', f'a.png\n0\n{lines}\n', place, message)

  def test_other_files_are_named(self):
    self.assert_fault('a.al', '', '', "the ending '.al', expected one of .json")
    path = self.folder / 'a.txt'
    path.write_bytes(b'\xb2\xe2.png\n0\n')
    with self.assertRaisesRegex(ValueError, 'byte 0 outside of UTF-8'):
      box_lists.read(path)

  @parameterized.parameters(
    ('a.json', ' \n[]', True),
    ('a.JSON', '[', True),
    ('hypes.json', '{"batch": 1}', False),
    ('a.idl', '', True),
    ('a.txt', _TXT, True),
    ('README.txt', 'Read me.\nThere are 2 lists.', False),
    ('empty.txt', '', False),
    ('a.csv', '[', False),
  )
  def test_lists_are_told_from_other_files(self, name, content, expected):
    path = self.folder / name
    path.write_text(content)
    self.assertEqual(box_lists.is_list(path), expected)


if __name__ == '__main__':
  absltest.main()
