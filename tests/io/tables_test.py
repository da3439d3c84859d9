import pathlib
import time

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.io import tables
from tests import real_data

_HEADER = 'seriesuid,coordX,coordY,coordZ,diameter_mm\n'
_CLASSES = {'bg': 0, 'nodule': 1, 'scar': 2}


class TableTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = folder / 'table.csv'

  def write(self, text: str | bytes) -> pathlib.Path:
    self.path.write_bytes(text.encode() if isinstance(text, str) else text)
    return self.path

  def assert_refused(self, read, text: str | bytes, where: str, *said: str):
    with self.assertRaises(ValueError) as raised:
      read(self.write(text))
    message = str(raised.exception)
    self.assertStartsWith(message, f'{self.path}{where}: found ')
    self.assertNotIn('\n', message)
    for part in said:
      self.assertIn(part, message)


def _read_diameters(path: pathlib.Path) -> dict[str, np.ndarray]:
  return tables.read_marks(path, 'diameter_mm')


class MarksTest(TableTest):
  def test_rows_are_kept_by_series_in_order(self):
    text = _HEADER + 'b,1,2.5,-3,4\na,5,6,7,-1\nb,0.1,1e2,0,9\n'
    marks = _read_diameters(self.write(text))
    self.assertEqual(list(marks), ['b', 'a'])
    np.testing.assert_array_equal(
      marks['b'], [[1, 2.5, -3, 4], [0.1, 100, 0, 9]]
    )
    self.assertEqual(marks['a'].dtype, np.float64)

  @parameterized.named_parameters(
    ('windows', _HEADER.replace('\n', '\r\n') + 'a,1,2,3,4\r\n'),
    ('mark', '\ufeff' + _HEADER + 'a,1,2,3,4'),
    ('blank', '\n' + _HEADER + '\n\na,1,2,3,4\n\n'),
    ('spaces', 'seriesuid, coordX,coordY ,coordZ,diameter_mm\na , 1,2,3, 4\n'),
    ('quotes', _HEADER + '"a",1,"2",3,4\n'),
    ('order', 'coordZ,x,diameter_mm,coordX,coordY,seriesuid\n3,no,4,1,2,a\n'),
  )
  def test_layouts_that_do_not_matter(self, text: str):
    marks = _read_diameters(self.write(text))
    np.testing.assert_array_equal(marks['a'], [[1, 2, 3, 4]])

  def test_other_values(self):
    header = 'seriesuid,coordX,coordY,coordZ,class\n'
    marks = tables.read_marks(self.write(header + 'a,1,2,3,0\n'), 'class')
    self.assertEqual(marks['a'][0, 3], 0)
    self.assertEmpty(tables.read_marks(self.write(header), 'class'))

  @parameterized.named_parameters(
    ('empty', '', ':1', 'nothing', 'seriesuid'),
    ('no_header', 'a,1,2,3,4\n', ':1', "'a'", "'diameter_mm'"),
    ('wrong_column', 'seriesuid,coordX,coordY,coordZ,class\n', ':1', 'class'),
    ('twice', _HEADER.replace('coordY', 'coordX'), ':1', 'coordX', 'once'),
    ('short', _HEADER + 'a,1,2,3\n', ':2', '4 fields, expected 5'),
    ('long', _HEADER + '\na,1,2,3,4,5\n', ':3', '6 fields, expected 5'),
    ('commas', _HEADER + ',\n', ':2', '2 fields'),
    ('no_series', _HEADER + ',1,2,3,4\n', ':2', 'empty seriesuid'),
    ('word', _HEADER + 'a,1,x,3,4\n', ':2', "coordY 'x'", 'finite'),
    ('gap', _HEADER + 'a,1,2,3,\n', ':2', "diameter_mm ''"),
    ('nan', _HEADER + 'a,1,2,3,4\na,1,2,nan,4\n', ':3', "coordZ 'nan'"),
    ('inf', _HEADER + 'a,-inf,2,3,4\n', ':2', "coordX '-inf'"),
    ('huge', _HEADER + 'a,1e999,2,3,4\n', ':2', "coordX '1e999'"),
    ('quote', _HEADER + 'a,1,2,"3,4\n', ':3', 'no CSV'),
    ('bytes', _HEADER.encode() + b'a\xff,1,2,3,4\n', ':1', 'no CSV in UTF-8'),
  )
  def test_refuses(self, text: str | bytes, where: str, *said: str):
    self.assert_refused(_read_diameters, text, where, *said)

  def test_round_trip_is_exact(self):
    rng = np.random.default_rng(0)
    marks = {'b': rng.normal(size=(5, 4)) * 1e3, 'a,"c"': np.ones((1, 4)) / 3}
    tables.write_marks(self.path, marks, 'probability')
    back = tables.read_marks(self.path, 'probability')
    self.assertEqual(list(back), list(marks))
    for uid, rows in marks.items():
      np.testing.assert_array_equal(back[uid], rows)

  def test_writes_what_luna16_writes(self):
    tables.write_marks(self.path, {'a': [[1.5, -2, 0, -1]]}, 'diameter_mm')
    self.assertEqual(self.path.read_text(), _HEADER + 'a,1.5,-2,0,-1\n')

  def test_writes_no_number_that_is_none(self):
    marks = {'a': np.array([[0, 0, 0, np.nan]])}
    with self.assertRaisesRegex(ValueError, 'not finite'):
      tables.write_marks(self.path, marks, 'probability')

  def test_half_a_million_candidates_are_quick(self):
    rows = np.round(np.random.default_rng(0).normal(size=(550, 4)), 6)
    marks = {f'1.2.{i}': rows for i in range(1000)}
    tables.write_marks(self.path, marks, 'probability')
    start = time.process_time()
    back = tables.read_marks(self.path, 'probability')
    self.assertLess(time.process_time() - start, 10)
    self.assertEqual(sum(map(len, back.values())), 550_000)

  def test_findings_have_nan_where_files_have_minus_one(self):
    findings = types.Findings(
      np.arange(6.0).reshape(2, 3), np.array([4, np.nan]), np.ones(2, int)
    )
    rows = tables.from_findings(findings)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 4], [3, 4, 5, -1]])
    back = tables.to_findings(rows)
    np.testing.assert_array_equal(back.centers, findings.centers)
    np.testing.assert_array_equal(back.diameters, findings.diameters)
    self.assertEqual(back.labels.tolist(), [1, 1])

  def test_real_tables(self):
    folder = real_data.folder('luna16')
    marks = _read_diameters(folder / 'annotations.csv')
    self.assertEqual((len(marks), sum(map(len, marks.values()))), (601, 1186))
    rows = np.concatenate(
      list(_read_diameters(folder / 'annotations_excluded.csv').values())
    )
    self.assertEqual((len(rows), (rows[:, 3] == -1).sum()), (35192, 30513))
    uids = tables.read_seriesuids(folder / 'seriesuids.csv')
    self.assertLen(uids, 888)
    self.assertContainsSubset(marks, uids)


class SeriesuidsTest(TableTest):
  def test_header_is_optional(self):
    for text in ('b\r\na\r\n', 'seriesuid\nb\n\na'):
      self.assertEqual(tables.read_seriesuids(self.write(text)), ['b', 'a'])

  def test_round_trip(self):
    tables.write_seriesuids(self.path, ['1.2', '1.1'])
    self.assertEqual(tables.read_seriesuids(self.path), ['1.2', '1.1'])

  @parameterized.named_parameters(
    ('twice', 'a\nb\na\n', ':3', 'line 1 again'),
    ('columns', 'a\nb,c\n', ':2', '2 fields, expected 1'),
  )
  def test_refuses(self, text: str, where: str, *said: str):
    self.assert_refused(tables.read_seriesuids, text, where, *said)


class ClassMapTest(TableTest):
  def test_reads(self):
    classes = tables.read_class_map(self.write('nodule,1\nbg,0\r\n\nscar,2'))
    self.assertEqual(
      list(classes.items()), [('nodule', 1), ('bg', 0), ('scar', 2)]
    )

  @parameterized.named_parameters(
    ('no_background', 'nodule,1\n', '', "'nodule'", 'bg,0'),
    ('empty', '', '', 'nothing', 'bg,0'),
    ('background_id', 'bg,1\nnodule,0\n', '', 'bg,0'),
    ('name', 'bg,0\nnodule,1\nnodule,2\n', ':3', "'nodule' with id 2", 'once'),
    ('id', 'bg,0\nnodule,1\nscar,1\n', ':3', "'scar' with id 1", 'once'),
    ('negative', 'bg,0\nnodule,-1\n', ':2', "'-1'", 'whole number'),
    ('fraction', 'bg,0\nnodule,1.0\n', ':2', "'1.0'"),
    ('columns', 'bg,0\nnodule\n', ':2', '1 fields, expected 2'),
    ('no_name', 'bg,0\n,1\n', ':2', "''"),
  )
  def test_refuses(self, text: str, where: str, *said: str):
    self.assert_refused(tables.read_class_map, text, where, *said)


def _read_rows(path: pathlib.Path) -> list[tables.SeriesRow]:
  return tables.read_series_rows(path, _CLASSES)


class SeriesRowsTest(TableTest):
  def test_reads_every_kind_of_row(self):
    text = (
      'a/b,nodule,1,2.5,3,4,p1\n\n"c,d.mhd",scar,0,0,0,,p2\ne,bg,,,,,p2\n'
      'f,,,,,,p3\n'
    )
    row = tables.SeriesRow
    self.assertEqual(
      _read_rows(self.write(text)),
      [
        row('a/b', 1, 1.0, 2.5, 3.0, 4.0, 'p1', 1),
        row('c,d.mhd', 2, 0.0, 0.0, 0.0, None, 'p2', 3),
        row('e', 0, None, None, None, None, 'p2', 4),
        row('f', None, None, None, None, None, 'p3', 5),
      ],
    )

  @parameterized.named_parameters(
    ('class', 'a,tumour,1,2,3,4,g\n', ':1', "'tumour'", "'bg', 'nodule'"),
    ('no_class', 'a,,1,2,3,4,g\n', ':1', "class ''"),
    ('header', 'path,class,x,y,z,d,group\n', ':1', "x 'x'", 'finite'),
    ('short', '\na,nodule,1,2,3,4\n', ':2', '6 fields, expected 7'),
    ('word', 'a,bg,,,,,g\na,nodule,1,2,3,big,g\n', ':2', "d 'big'"),
    ('nan', 'a,nodule,nan,2,3,4,g\n', ':1', "x 'nan'"),
    ('half', 'a,nodule,1,,3,4,g\n', ':1', '1, , 3, 4', 'all of x, y, z'),
    ('only_d', 'a,nodule,,,,4,g\n', ':1', 'only with them'),
    ('zero', 'a,nodule,1,2,3,0,g\n', ':1', 'diameter 0', 'more than 0'),
    ('no_group', 'a,nodule,1,2,3,4,\n', ':1', 'path or group'),
    ('no_path', ',nodule,1,2,3,4,g\n', ':1', 'path or group'),
  )
  def test_refuses(self, text: str, where: str, *said: str):
    self.assert_refused(_read_rows, text, where, *said)


if __name__ == '__main__':
  absltest.main()
