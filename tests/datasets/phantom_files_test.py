import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest

from datasets import build
from datasets import phantom_files
from datasets.phantoms import chest_ct
from medzoo.data import sources


class PhantomFilesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    cls.data = pathlib.Path(temporary.name)

  def prepare(self, name, **phantom):
    return build.prepare(
      f'{name}/phantom_smoke',
      data_dir=self.data,
      phantom={'cases': 3, **phantom},
    )

  def test_every_layout_tells_the_same(self):
    found = {}
    # Pictures hold a part of the scan only, films none.
    for name, layout in phantom_files.LAYOUTS.items():
      if name == 'boxes_json' or layout in phantom_files.PICTURES:
        continue
      cases = sources.open_cases(self.prepare(name), 'all')
      self.assertLen(cases, 3)
      found[name] = {
        case.volume.voxels.tobytes(): case.lesions for case in cases
      }
    for lesions in found.values():
      # A tree may store the same scan from another corner; three never are.
      self.assertEqual(lesions.keys(), found['lidc_idri'].keys())
      for voxels, expected in found['lidc_idri'].items():
        for field in ('centers', 'diameters'):
          np.testing.assert_allclose(
            np.sort(getattr(lesions[voxels], field), axis=0),
            np.sort(getattr(expected, field), axis=0),
            atol=0.01,
          )

  def test_files_are_made_once(self):
    first = self.prepare('lidc_idri')
    with mock.patch.object(chest_ct, 'write') as write:
      self.assertEqual(self.prepare('lidc_idri'), first)
    write.assert_not_called()

  def test_films(self):
    root = phantom_files.make(
      'lung_cxr', 'phantom_smoke', {'cases': 2, 'poses': 1}, self.data
    )
    self.assertStartsWith(root.name, 'folders-')
    self.assertLen(list((root / 'images').iterdir()), 2)
    self.assertTrue((root / 'patients.csv').exists())
    with self.assertRaisesRegex(ValueError, "'layout', expected one of cases"):
      phantom_files.make(
        'lung_cxr', 'phantom_smoke', {'layout': 'lidc'}, self.data
      )

  def test_frames(self):
    root = phantom_files.make(
      'cvc_clinicdb', 'phantom_smoke', {'cases': 2}, self.data
    )
    self.assertStartsWith(root.name, 'frames-')
    for folder in ('Original', 'Ground Truth'):
      self.assertCountEqual(
        [path.name for path in (root / folder).iterdir()],
        ['1.png', '2.png', '3.png', '4.png'],
      )
    self.assertTrue((root / 'sequences.csv').exists())

  def test_films_with_nodules(self):
    arguments = ('openi_cxr', 'phantom_smoke', {'cases': 2}, self.data)
    root = phantom_files.make(*arguments)
    self.assertStartsWith(root.name, 'nlmcxr-')
    self.assertNotEmpty(list((root / 'NLMCXR_png').glob('CXR1_IM-0001-*.png')))
    self.assertLen(list((root / 'NLMCXR_reports').rglob('*.xml')), 2)

  def test_an_interrupted_making_is_redone(self):
    def fail(path, **unused):
      (path / 'file').write_text('half')
      raise KeyboardInterrupt

    arguments = ('lidc_idri', 'phantom_smoke', {'cases': 1}, self.data)
    with (
      mock.patch.object(chest_ct, 'write', fail),
      self.assertRaises(KeyboardInterrupt),
    ):
      phantom_files.make(*arguments)
    root = phantom_files.make(*arguments)
    self.assertNotEmpty(list(root.rglob('*.dcm')) + list(root.rglob('*.xml')))
    self.assertFalse((root / 'file').exists())

  def test_refuses_raw_files_and_unknown_arguments(self):
    with self.assertRaisesRegex(build.UsageError, 'lidc_idri/tcia for real'):
      build.prepare(
        'lidc_idri/phantom_smoke', manual_dir=self.data, data_dir=self.data
      )
    with self.assertRaisesRegex(ValueError, "'nodules', expected one of cases"):
      self.prepare('lidc_idri', nodules=3)


if __name__ == '__main__':
  absltest.main()
