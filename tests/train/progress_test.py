from unittest import mock

from absl.testing import absltest

from medzoo.train import progress


class ProgressTest(absltest.TestCase):
  def test_lines_now_and_then(self):
    lines = []
    with mock.patch.object(progress.time, 'monotonic') as clock:
      clock.return_value = 0.0
      with progress.Progress('fit', 120, start=20, emit=lines.append) as bar:
        for step in range(20, 121):
          clock.return_value = float(step - 20)
          bar.update(step, 'loss 1')
    self.assertLen(lines, 10)
    self.assertEqual(lines[0], 'fit: 30/120, 0:01:30 left, loss 1')
    self.assertEqual(lines[-1], 'fit: 120/120, 0:00:00 left, loss 1')

  def test_bar_on_a_terminal(self):
    lines = []
    with (
      mock.patch.object(progress.sys.stderr, 'isatty', lambda: True),
      progress.Progress('fit', 3, emit=lines.append) as bar,
    ):
      for step in range(3):
        bar.update(step + 1, 'loss 1' if step else '')
    self.assertEmpty(lines)


if __name__ == '__main__':
  absltest.main()
