import contextlib
import io
import json
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

from medzoo.metrics import lesion_boxes_command

_TRUTH = [1, 3, 10, 20, 19, 29]
_FALSE = [9, 9, 0, 0, 1, 1, [1]]
_DUMP = [
  ['a', [_TRUTH, _TRUTH], [[*_TRUTH, [0.2, 0.9, 0.5]], _FALSE]],
  [2, [_TRUTH], [[*_TRUTH, [0.7]]]],
  ['c', [], []],
  ['c', [_TRUTH], []],
]


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = folder / 'dump.json'
    self.path.write_text(json.dumps(_DUMP))

  def run_main(self, *more):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        lesion_boxes_command.main(['--boxes', str(self.path), *more])
      except SystemExit as exit_:
        code = exit_.code
    return code, out.getvalue(), err.getvalue()

  def test_reads_ends_as_inclusive_and_the_largest_score(self):
    scan = lesion_boxes_command.read(self.path)[0]
    self.assertEqual(scan.truths[0].tolist(), [1, 20, 10, 4, 30, 20])
    self.assertEqual(scan.detections[1].tolist(), [9, 0, 0, 10, 2, 2])
    self.assertEqual(scan.scores.tolist(), [0.9, 1])

  def test_table(self):
    code, out, err = self.run_main()
    self.assertEqual((code, err), (0, ''))
    self.assertIn('4 scans, 4 truths merged to 3, 3 detections', out)
    self.assertIn('2 of 3 truths found at 0.25 false positives per scan', out)
    # Nothing at 1/8, two of three lesions from 1/4 on.
    self.assertRegex(out, r'\n +0.125 +0\.0000 ')
    self.assertRegex(out, r'\n +0.25 +0\.6667 ')
    self.assertRegex(out, r'\nfroc_mean_boxes +0\.5714 +0\.\d+ to ')
    self.assertIn('interpolated 0.5714', out)

  def test_json(self):
    code, out, _ = self.run_main('--json')
    scores = json.loads(out)
    self.assertEqual(code, 0)
    self.assertAlmostEqual(scores['froc_mean_boxes']['value'], 4 / 7)
    self.assertEqual(scores['froc_mean_boxes']['n'], 4)
    self.assertEqual(scores['sensitivity']['8']['value'], 2 / 3)
    self.assertEqual(scores['raw_truths'], 4)

  def test_without_lesions(self):
    self.path.write_text('[["a", [], []]]')
    code, out, _ = self.run_main()
    self.assertEqual(code, 0)
    self.assertIn('undefined: there is no lesion', out)
    self.assertEqual(self.run_main('--json')[0], 0)

  def test_runs_as_a_module(self):
    done = subprocess.run(
      [sys.executable, '-m', 'medzoo.metrics.lesions', '--boxes', self.path],
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('froc_mean_boxes', done.stdout)

  @parameterized.named_parameters(
    ('text', 'z1,z2', 'dump.json: not a JSON file'),
    ('bytes', b'\xff\x00', 'dump.json: not a JSON file'),
    ('empty_file', '', 'dump.json: not a JSON file'),
    ('no_scans', '[]', r'dump.json: expected a list of scans, .* found \[\]'),
    ('table', '{"a": 1}', 'expected a list of scans, .* found {"a": 1}'),
    ('short', '[["a", []]]', r'entry 1: expected \[id, truths, detections\]'),
    ('word', '[["a", 3, []]]', r'entry 1 \("a"\): expected a list of truths'),
    ('truth_5', '[["a", [[1, 2, 3, 4, 5]], []]]', 'truth 1: expected six'),
    ('truth_nan', '[["a", [[1, 2, 3, 4, 5, NaN]], []]]', 'truth 1: .*NaN'),
    ('truth_text', '[["a", [[1, 2, 3, 4, 5, "6"]], []]]', 'truth 1'),
    ('truth_true', '[["a", [[1, 2, 3, 4, 5, true]], []]]', 'truth 1'),
    ('inside_out', '[["a", [[2, 1, 0, 0, 5, 5]], []]]', 'no less than its'),
    ('no_list', '[["a", [], [[1, 2, 3, 4, 5, 6, 0.5]]]]', 'detection 1: exp'),
    ('no_score', '[["a", [], [[1, 2, 3, 4, 5, 6, []]]]]', 'detection 1'),
    ('missing', '[["a", [], [[1, 2, 3, 4, 5, 6]]]]', 'detection 1'),
    ('nothing', '[["a", [], [[]]]]', r'detection 1: .* found \[\]'),
    ('nan', '[["a", [], [[1, 2, 3, 4, 5, 6, [NaN]]]]]', 'detection 1'),
    ('huge', f'[["a", [[0, 0, 0, 0, 0, {10**400}]], []]]', 'truth 1'),
  )
  def test_bad_file(self, text, message):
    self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, out, err = self.run_main()
    self.assertEqual((code, out), (1, ''))
    self.assertRegex(err, f'^lesions: .*{message}')
    self.assertEqual(err.count('\n'), 1)

  def test_no_file(self):
    self.path.unlink()
    code, _, err = self.run_main()
    self.assertEqual(code, 1)
    self.assertIn('dump.json', err)
    self.assertEqual(err.count('\n'), 1)


if __name__ == '__main__':
  absltest.main()
