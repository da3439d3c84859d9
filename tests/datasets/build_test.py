import json
import multiprocessing
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from datasets import build
from datasets import builders
from datasets.luna16 import luna16_dataset_builder
from medzoo import types
from medzoo.data import sources
from medzoo.io import tables
from medzoo.io import volumes
from tests.datasets import raw_files


def write_luna16(folder, scans=4):
  """Writes scans over two subsets, each with one lesion."""
  folder = pathlib.Path(folder)
  marks = {}
  for i in range(scans):
    subset = folder / f'subset{i % 2}'
    subset.mkdir(parents=True, exist_ok=True)
    volume = types.Volume(
      raw_files.scan(i), raw_files.SPACING, raw_files.ORIGIN
    )
    volumes.write(volume, subset / f'1.2.{i}.mhd')
    marks[f'1.2.{i}'] = np.array([[-2.0, -4.0, -24.0, 5.0]])
  tables.write_marks(folder / 'annotations.csv', marks, 'diameter_mm')
  return folder


class BuildTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.data = self.folder / 'data'
    self.raw = write_luna16(self.folder / 'raw')

  def prepare(self, **options):
    return build.prepare(
      'luna16', manual_dir=self.raw, data_dir=self.data, **options
    )

  def test_builds_once(self):
    first = self.prepare()
    before = sorted(self.data.rglob('*'))
    with mock.patch.object(build, '_build') as built:
      self.assertEqual(self.prepare(), first)
    built.assert_not_called()
    self.assertEqual(sorted(self.data.rglob('*')), before)

  def test_other_options_give_other_data(self):
    self.assertNotEqual(self.prepare(), self.prepare(split_seed=1))

  def test_other_raw_files_give_other_data(self):
    first = self.prepare()
    write_luna16(self.raw, scans=5)
    second = self.prepare()
    self.assertLen(sources.open_cases(first, 'all'), 4)
    self.assertLen(sources.open_cases(second, 'all'), 5)

  def test_an_interrupted_build_is_redone(self):
    calls = []

    def read_two(source):
      calls.append(source)
      if len(calls) > 2:
        raise KeyboardInterrupt
      return luna16_dataset_builder.read(source)

    builder = luna16_dataset_builder.Builder
    with (
      mock.patch.object(builder, 'read', staticmethod(read_two)),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.prepare()
    self.assertEmpty(list(self.data.rglob('*array_record*')))
    self.assertLen(sources.open_cases(self.prepare(), 'all'), 4)

  def test_a_killed_build_is_redone(self):
    program = (
      'import os, sys\n'
      'from datasets import build\n'
      'from datasets.luna16 import luna16_dataset_builder as luna16\n'
      'read = luna16.read\n'
      'luna16.Builder.read = staticmethod(\n'
      "  lambda x: os._exit(9) if x.series == '1.2.1' else read(x))\n"
      'build.prepare("luna16", manual_dir=sys.argv[1], data_dir=sys.argv[2])\n'
    )
    done = subprocess.run(
      [sys.executable, '-c', program, self.raw, self.data], check=False
    )
    self.assertEqual(done.returncode, 9)
    self.assertNotEmpty(list(self.data.rglob('.*incomplete')))
    self.assertLen(sources.open_cases(self.prepare(), 'all'), 4)
    self.assertEmpty(list(self.data.rglob('.*incomplete')))

  def test_processes_give_what_one_gives(self):
    alone = sources.open_cases(self.prepare(), 'all')
    self.data = self.folder / 'other'
    with mock.patch.object(build, '_choose_workers', return_value=2):
      shared = sources.open_cases(self.prepare(), 'all')
    self.assertEqual(alone.keys, shared.keys)
    for a, b in zip(alone, shared, strict=True):
      np.testing.assert_array_equal(a.volume.voxels, b.volume.voxels)
    self.assertEmpty(multiprocessing.active_children())

  def test_a_broken_scan_is_left_out_and_counted(self):
    (self.raw / 'subset0' / '1.2.2.raw').write_bytes(b'short')
    directory = self.prepare()
    report = json.loads(
      (pathlib.Path(directory) / builders.REPORT_FILE).read_text()
    )
    self.assertEqual(report['left_out'], {'unreadable': 1})
    self.assertEqual(report['left_out_cases'][0]['series'], '1.2.2')
    self.assertLen(sources.open_cases(directory, 'all'), 3)

  def test_a_split_without_any_good_scan_is_an_error(self):
    for path in (self.raw / 'subset1').glob('*.raw'):
      path.write_bytes(b'short')
    with self.assertRaisesRegex(ValueError, 'subset1: none of 2 .*2 unreadabl'):
      self.prepare()

  @parameterized.parameters(
    ('nothing', {}, "found dataset 'nothing'"),
    ('luna16/nothing', {}, "found configuration 'nothing'"),
    ('luna16', {}, 'found no --manual_dir'),
    ('luna16', {'manual_dir': '/does/not/exist'}, 'no such folder'),
  )
  def test_a_wrong_call_is_a_usage_error(self, name, options, message):
    with self.assertRaisesRegex(build.UsageError, message):
      build.prepare(name, data_dir=self.data, **options)

  def test_a_wrong_option_is_a_usage_error(self):
    with self.assertRaisesRegex(build.UsageError, "'split_sed', expected one"):
      self.prepare(split_sed=1)

  def test_an_unwritable_data_dir_is_a_usage_error(self):
    (self.folder / 'file').write_text('')
    with self.assertRaisesRegex(build.UsageError, 'cannot be made'):
      build.prepare(
        'luna16', manual_dir=self.raw, data_dir=self.folder / 'file' / 'data'
      )

  @parameterized.parameters('lidc_idri', 'luna16', 'series_csv', 'boxes_json')
  def test_an_empty_folder_is_bad_data(self, name):
    empty = self.folder / 'empty'
    empty.mkdir()
    with self.assertRaisesRegex(ValueError, 'empty: found no') as caught:
      build.prepare(name, manual_dir=empty, data_dir=self.data)
    self.assertNotIsInstance(caught.exception, build.UsageError)
    self.assertNotIn('\n', str(caught.exception))

  def test_the_command_exits_by_whose_fault_it_is(self):
    data = f'--data_dir={self.data}'
    empty = self.folder / 'empty'
    empty.mkdir()
    self.assertEqual(build.main(['luna16', data]), 2)
    self.assertEqual(build.main(['luna16', data, f'--manual_dir={empty}']), 1)
    self.assertEqual(
      build.main(['luna16', data, f'--manual_dir={self.raw}']), 0
    )

  def test_no_tensorflow_is_imported(self):
    program = (
      'import sys\nfrom datasets import build\n'
      'from medzoo.data import sources\n'
      'raw, data = sys.argv[1:]\n'
      'd = build.prepare("luna16", manual_dir=raw, data_dir=data)\n'
      'sources.open_cases(d, "all")[0]\n'
      'assert "tensorflow" not in sys.modules and "jax" not in sys.modules\n'
    )
    subprocess.run(
      [sys.executable, '-c', program, self.raw, self.data], check=True
    )


if __name__ == '__main__':
  absltest.main()
