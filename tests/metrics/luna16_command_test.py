import contextlib
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from medzoo.metrics import luna16_command

_HEADER = 'seriesuid,coordX,coordY,coordZ,'


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.write(
      'r', _HEADER + 'probability', 'a,0,0,0,0.9', 'a,90,0,0,0.5', 'x,1,1,1,1'
    )
    self.write('a', _HEADER + 'diameter_mm', 'a,1,0,0,5', 'b,0,0,0,5')
    self.write('e', _HEADER + 'diameter_mm', 'b,50,0,0,-1')
    self.write('s', 'a', 'b', 'c', 'd')

  def write(self, name, *lines):
    text = '\n'.join(lines) + '\n'
    (self.folder / f'{name}.csv').write_text(text, newline='')

  def arguments(self, *more):
    names = {
      'results': 'r',
      'annotations': 'a',
      'excluded': 'e',
      'seriesuids': 's',
    }
    files = [
      word
      for name, file in names.items()
      for word in (f'--{name}', str(self.folder / f'{file}.csv'))
    ]
    return [*files, *more]

  def run_main(self, *more):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        luna16_command.main(self.arguments(*more))
      except SystemExit as exit_:
        code = exit_.code
    return code, out.getvalue(), err.getvalue()

  def test_prints_and_writes(self):
    output = self.folder / 'deep' / 'out'
    code, out, err = self.run_main('--output', str(output))
    self.assertEqual((code, err), (0, ''))
    self.assertIn('1 of 2 nodules found', out)
    self.assertIn('left out: 1 marks of 1 series', out)
    document = json.loads((output / 'luna16.json').read_text())
    capped, every = document['scores']
    self.assertEqual((capped['max_marks'], every['max_marks']), (100, None))
    self.assertEqual(capped['cpm']['interpolated']['value'], 0.5)
    self.assertEqual(capped['cpm']['interpolated']['n'], 4)
    self.assertEqual(capped['curve']['fps'][-1], 0.25)
    self.assertIsNone(capped['curve']['threshold'][0])
    with Image.open(output / 'froc.png') as image:
      self.assertGreater(image.size[0], 600)

  def test_runs_as_a_module(self):
    done = subprocess.run(
      [sys.executable, '-m', 'medzoo.metrics.luna16', *self.arguments()],
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('CPM        0.5000', done.stdout)

  def test_cap(self):
    _, out, _ = self.run_main('--max-marks', '1')
    self.assertIn('At most 1 marks a scan', out)
    self.assertIn('found by 1 marks', out)
    _, out, _ = self.run_main('--max-marks', 'none')
    self.assertNotIn('At most', out)
    code, _, err = self.run_main('--max-marks', '0')
    self.assertEqual(code, 2)
    self.assertIn('neither a positive number nor none', err)

  def test_columns_go_by_name_and_blank_lines_do_not_matter(self):
    self.write(
      'r',
      '\ufeffprobability,coordZ,coordY,coordX,note,seriesuid\r',
      '9e-1,0,0,0,x,a\r',
      '\r',
    )
    _, out, _ = self.run_main()
    self.assertIn('1 of 2 nodules found', out)

  @parameterized.named_parameters(
    ('short', 'a,0,0,0', 'r.csv, line 3: expected a series UID and four'),
    ('word', 'a,0,zero,0,1', "line 3: .*found 'a,0,zero,0,1'"),
    ('nan', 'a,0,0,0,nan', 'line 3'),
    ('infinite', 'a,0,0,0,inf', 'line 3'),
  )
  def test_bad_line(self, line, message):
    self.write('r', _HEADER + 'probability', 'a,0,0,0,1', line)
    code, _, err = self.run_main()
    self.assertEqual(code, 1)
    self.assertRegex(err, message)
    self.assertEqual(err.count('\n'), 1)

  @parameterized.named_parameters(
    ('value', _HEADER + 'score', 'no column probability'),
    ('headless', 'a,0,0,0,1', 'no column seriesuid, coordX'),
    ('empty', '', 'no column seriesuid'),
  )
  def test_bad_header(self, header, message):
    self.write('r', header)
    code, _, err = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn(message, err)

  def test_missing_or_binary_file_is_one_line(self):
    (self.folder / 'r.csv').write_bytes(bytes(range(256)))
    code, _, err = self.run_main()
    self.assertEqual((code, err.count('\n')), (1, 1))
    (self.folder / 'r.csv').unlink()
    code, _, err = self.run_main()
    self.assertEqual((code, err.count('\n')), (1, 1))
    self.assertIn('r.csv', err)

  def test_no_marks_at_all(self):
    self.write('r', _HEADER + 'probability')
    code, out, _ = self.run_main()
    self.assertEqual(code, 0)
    self.assertIn('0 of 2 nodules found', out)

  def test_no_nodules_is_undefined_not_a_crash(self):
    self.write('a', _HEADER + 'diameter_mm')
    output = self.folder / 'out'
    code, out, _ = self.run_main('--output', str(output))
    self.assertEqual(code, 0)
    self.assertIn('undefined', out)
    document = json.loads((output / 'luna16.json').read_text())
    self.assertIsNone(document['scores'][0]['cpm']['nearest']['value'])

  def test_series_list_may_have_a_header(self):
    self.write('s', 'seriesuid', 'a')
    uids = luna16_command.read_seriesuids(self.folder / 's.csv')
    self.assertEqual(uids, ['a'])

  def test_reads_in_file_order(self):
    marks = luna16_command.read_marks(self.folder / 'r.csv', 'probability')
    self.assertEqual(list(marks), ['a', 'x'])
    np.testing.assert_array_equal(marks['a'], [[0, 0, 0, 0.9], [90, 0, 0, 0.5]])


if __name__ == '__main__':
  absltest.main()
