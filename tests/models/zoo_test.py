import pathlib
import subprocess
import sys

from absl.testing import absltest

from medzoo import models


class ZooTest(absltest.TestCase):
  def test_lists_every_file_that_ends_with_a_model(self):
    done = subprocess.run(
      [sys.executable, '-m', 'medzoo.models'],
      capture_output=True,
      text=True,
      check=True,
      cwd=pathlib.Path(models.__file__).parents[2],
    )
    folder = pathlib.Path(models.__file__).parent
    files = [p for p in folder.glob('*.py') if '\nModel = ' in p.read_text()]
    self.assertGreaterEqual(len(files), 2)
    names = [line for line in done.stdout.splitlines() if line[:1].isalpha()]
    self.assertSameElements(names, [path.stem for path in files])
    self.assertIn('2,364,000', done.stdout)


if __name__ == '__main__':
  absltest.main()
