import contextlib
import csv
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import SimpleITK as sitk
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from pydicom import config

from datasets import build
from datasets.phantoms import chest_ct
from medzoo.data import lidc
from medzoo.data import lidc_scans
from medzoo.data import slices
from medzoo.data import sources
from medzoo.io import box_lists
from medzoo.io import lidc_lesions
from medzoo.io import lidc_xml
from tests import real_data
from tests.datasets import raw_files

_UID = '1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192'


def _run(*arguments):
  out, err, code = io.StringIO(), io.StringIO(), 0
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      code = lidc.main([str(x) for x in arguments])
    except SystemExit as exit_:
      code = exit_.code
  return code, out.getvalue(), err.getvalue()


def _itk(folder):
  reader = sitk.ImageSeriesReader()
  reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
  return reader.Execute()


def _window(values):
  return np.rint(255 * np.clip((values.astype(float) + 1200) / 1600, 0, 1))


class _Test(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.output = pathlib.Path(self.create_tempdir().full_path) / 'out'

  def run_well(self, command, *arguments):
    code, out, err = _run(command, self.path, *arguments)
    self.assertEqual(code, 0, err)
    return out, err

  def table(self, file):
    with file.open(newline='') as lines:
      return list(csv.DictReader(lines))

  def check_masks(self, ending, volume_litres, median):
    folders = {x.parent for x in self.path.rglob('*.dcm')}
    self.assertLen(list(self.output.iterdir()), len(folders))
    for folder in folders:
      scan = _itk(folder)
      mask = sitk.ReadImage(str(self.output / f'{folder.name}.{ending}'))
      self.assertEqual(mask.GetSize(), scan.GetSize())
      for name in ('GetSpacing', 'GetOrigin', 'GetDirection'):
        np.testing.assert_allclose(
          getattr(mask, name)(), getattr(scan, name)(), atol=1e-4
        )
      inside = sitk.GetArrayViewFromImage(mask)
      self.assertEqual(np.unique(inside).tolist(), [0, 1])
      litres = inside.sum() * np.prod(mask.GetSpacing()) / 1e6
      self.assertBetween(litres, *volume_litres)
      values = sitk.GetArrayViewFromImage(scan)[inside == 1]
      self.assertLess(np.median(values), median)

  def check_tiles(self):
    rows = self.table(self.output / 'tiles.csv')
    files = {str(x.relative_to(self.output)) for x in self.output.glob('*/*')}
    self.assertEqual({row['file'] for row in rows}, files)
    self.assertLen(rows, len(files))
    scans = {}
    for folder in {x.parent for x in self.path.rglob('*.dcm')}:
      uid = folder.name
      scans[uid] = sitk.GetArrayFromImage(_itk(folder))
    for row in rows:
      self.assertEqual(pathlib.Path(row['file']).parent.name, row['class'])
      z, y, x = (int(row[name]) for name in 'zyx')
      with Image.open(self.output / row['file']) as image:
        self.assertEqual(image.mode, 'L')
        pixels = np.asarray(image).astype(float)
      half = len(pixels) // 2
      padded = np.pad(
        scans[row['series']][z], half, constant_values=np.int16(-2000)
      )
      cut = padded[y : y + len(pixels), x : x + len(pixels)]
      np.testing.assert_allclose(pixels, _window(cut), atol=1)
    return rows

  def check_slices(self, shape, pixel_mm):
    """Returns the boxes by series; compares them with those of the XML."""
    records = {x.image: x for x in box_lists.read(self.output / 'boxes.json')}
    found = {}
    for scan in lidc_scans.find(self.path):
      volume = lidc_scans.read(scan)
      reading = lidc_scans.measure(scan, volume)
      boxes = lidc_lesions.boxes(scan.document, reading.slices, volume)
      stack = slices.prepare(
        volume,
        shape=shape,
        pixel_mm=pixel_mm,
        window={'name': 'window', 'low': -1000.0, 'high': 400.0},
        region='lung',
      )
      found[scan.uid] = boxes
      self.assertGreater((~boxes.ignored).sum(), 0)
      corners = stack.to_pixels(boxes.corners)
      before = None
      for z in range(len(volume.voxels)):
        name = f'{reading.group}/{scan.uid}_{z:04d}.png'
        record = records.pop(name)
        mine = boxes.slices == z
        for ignored in (False, True):
          one = corners[mine & (boxes.ignored == ignored)]
          other = record.corners[record.ignored == ignored]
          np.testing.assert_allclose(other, one, atol=0.006)
        with Image.open(self.output / name) as image:
          pixels = np.asarray(image)
        self.assertEqual(pixels.shape, (*shape, 3))
        np.testing.assert_array_equal(pixels[..., 1], stack.pixels[z])
        # What is below here is what was shown one before, and so on.
        below = pixels[..., 1] if before is None else before[..., 1]
        np.testing.assert_array_equal(pixels[..., 0], below)
        if before is not None:
          np.testing.assert_array_equal(before[..., 2], pixels[..., 1])
        before = pixels
      np.testing.assert_array_equal(before[..., 2], before[..., 1])
    self.assertEmpty(records)
    self.assertEmpty(list(self.output.glob('*.part')))
    return found


class PhantomTest(_Test):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = tempfile.TemporaryDirectory()
    cls.addClassCleanup(temporary.cleanup)
    cls.path = pathlib.Path(temporary.name)
    chest_ct.write(cls.path, cases=2, size='smoke')
    cls.uids = sorted(x.parent.name for x in cls.path.rglob('*.xml'))

  def test_list(self):
    out, err = self.run_well('list')
    self.assertEqual(err, '')
    rows = list(csv.DictReader(io.StringIO(out)))
    self.assertCountEqual([row['series'] for row in rows], self.uids)
    self.run_well('list', '--output', self.output / 'list.csv')
    self.assertEqual((self.output / 'list.csv').read_text(), out)
    self.assertNotIn('PHANTOM-', out)

  def test_findings(self):
    path = self.output / 'findings.json'
    self.run_well('findings', '--output', path)
    images = json.loads(path.read_text()).values()
    documents = lidc_xml.read_all(self.path).values()
    sessions = [x for document in documents for x in document.sessions]
    self.assertEqual(
      sum(len(x['nodules']) for x in images),
      sum(len(n.contours) for x in sessions for n in x.nodules),
    )
    self.assertEqual(
      sum(len(x['non_nodules']) for x in images),
      sum(len(x.non_nodules) for x in sessions),
    )
    self.assertEqual([x.name for x in self.output.iterdir()], [path.name])

  @parameterized.parameters('mha', 'nii.gz')
  def test_masks(self, ending):
    self.run_well('masks', '--output', self.output, '--format', ending)
    # A child's lungs, which the rim and the closing of the mask outweigh.
    self.check_masks(ending, (0.1, 1), -200)

  def test_pictures(self):
    _, err = self.run_well('pictures', '--output', self.output)
    names = [x.name for x in self.output.iterdir()]
    self.assertIn(f'/2 {self.uids[0]}: ', err)
    everything = sum(1 for _ in self.path.rglob('*.dcm'))
    self.assertBetween(len(names), 10, everything - 10)
    for name in names:
      self.assertRegex(name, r'^[0-9.]+_\d{3}\.png$')

  def test_all_pictures(self):
    (folder,) = self.path.rglob(self.uids[0])
    options = ('--output', self.output, '--all', '--lungs')
    code, _, err = _run('pictures', folder, *options)
    self.assertEqual(code, 0, err)
    self.assertLen(
      list(self.output.iterdir()), sum(1 for _ in folder.glob('*.dcm'))
    )

  def test_slices(self):
    options = ('--shape', 48, 80, '--pixel_mm', 1.5)
    _, err = self.run_well('slices', '--output', self.output, *options)
    self.assertRegex(err, r'\d+ slices, \d+ boxes, \d+ ignored\n')
    boxes = self.check_slices((48, 80), 1.5)
    files = [x for x in self.output.glob('*/*') if x.is_file()]
    self.assertLen(files, sum(1 for _ in self.path.rglob('*.dcm')))
    # The builder of anyone's pictures takes them as they are.
    directory = build.prepare(
      'boxes_json',
      manual_dir=self.output,
      data_dir=self.output.parent / 'data',
      shares={'train': 1},
    )
    cases = sources.open_cases(directory, 'train')
    self.assertLen(cases, len(files))
    self.assertLen(set(cases.groups), 2)
    for ignored in (False, True):
      self.assertEqual(
        sum((x.ignored == ignored).sum() for x in cases.boxes),
        sum((x.ignored == ignored).sum() for x in boxes.values()),
      )
    code, _, err = _run('slices', self.path, '--output', self.output)
    self.assertEqual(code, 2)
    self.assertRegex(err, r'found files, expected an empty folder\n$')

  def test_tiles(self):
    options = ('--size', 16, '--stride', 4, '--none', 7)
    self.run_well('tiles', '--output', self.output, *options)
    rows = self.check_tiles()
    counts = {}
    for row in rows:
      key = row['series'], row['class']
      counts[key] = counts.get(key, 0) + 1
    for uid in self.uids:
      self.assertEqual(counts[uid, 'none'], 7)
      self.assertGreater(counts[uid, 'nodule'], 0)
    # Both are one patient's or not, as the phantom has it; never by name.
    patients = {x.parent.parent.parent.name for x in self.path.rglob('*.xml')}
    self.assertLen({row['group'] for row in rows}, len(patients))
    self.assertNoCommonElements({row['group'] for row in rows}, patients)
    directory = build.prepare(
      'image_folder',
      manual_dir=self.output,
      data_dir=self.output.with_name('data'),
      shares={'train': 1},
    )
    cases = sources.open_cases(directory, 'train')
    names = sorted({row['class'] for row in rows})
    self.assertGreater(len(names), 2)
    self.assertEqual(
      {
        key: names[label]
        for key, label in zip(cases.keys, cases.labels, strict=True)
      },
      {row['file']: row['class'] for row in rows},
    )
    self.assertLen(set(cases.groups), len(patients))
    code, _, err = _run('tiles', self.path, '--output', self.output)
    self.assertEqual(code, 2)
    self.assertRegex(err, r'found files, expected an empty folder\n$')

  def test_runs_as_a_module(self):
    done = subprocess.run(
      [sys.executable, '-m', 'medzoo.data.lidc', 'list', self.path],
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertEqual(done.stdout.count('\n'), 3)

  @parameterized.parameters(
    ('masks',),
    ('list', '--size', '3'),
    ('tiles', '--output', 'x', '--size', '0'),
    ('tiles', '--output', 'x', '--none', '-1'),
    ('masks', '--output', 'x', '--format', 'png'),
    ('slices', '--output', 'x', '--shape', '9'),
    ('slices', '--output', 'x', '--shape', '9', '0'),
    ('slices', '--output', 'x', '--pixel_mm', '0'),
    ('slices', '--output', 'x', '--pixel_mm', 'nan'),
  )
  def test_bad_calls(self, command, *more):
    self.assertEqual(_run(command, self.path, *more)[0], 2)

  def test_outputs_that_cannot_be(self):
    self.output.mkdir()
    file = self.output / 'file'
    file.touch()
    for command, output in (
      ('findings', self.output),
      ('list', self.output),
      ('masks', file),
      ('findings', file / 'x.json'),
    ):
      code, _, err = _run(command, self.path, '--output', output)
      self.assertEqual(code, 2)
      self.assertStartsWith(err, '--output ')
      self.assertEqual(err.count('\n'), 1)


class BadDataTest(_Test):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path)

  def fail(self, command, *more):
    code, out, err = _run(command, self.path, *more)
    self.assertEqual((code, out), (1, ''))
    return err.splitlines()

  def test_nothing(self):
    for command in ('list', 'findings', 'masks'):
      more = () if command == 'list' else ('--output', self.output / 'x')
      (line,) = self.fail(command, *more)
      self.assertEqual(
        line,
        f'lidc: {self.path}: found nothing to read, expected DICOM images, or'
        ' XML of LIDC-IDRI on CT',
      )

  def test_broken_xml_leaves_no_half_file(self):
    raw_files.write_xml(self.path / '1.xml', '1.1')
    (self.path / '2.xml').write_text('<LidcReadMessage')
    file = self.output / 'x.json'
    (line,) = self.fail('findings', '--output', file)
    self.assertRegex(line, r'^lidc: .*2\.xml: found broken XML')
    self.assertEmpty(list(self.output.iterdir()))

  def test_the_xml_alone_makes_no_pictures(self):
    raw_files.write_xml(self.path / '1.xml', '1.1')
    (line,) = self.fail('pictures', '--output', self.output)
    self.assertIn('found 0 image series', line)

  def test_what_is_left_out_is_named(self):
    for series in ('1.1', '1.2'):
      folder = self.path / series
      raw_files.write_dicom(folder, series, 'NAME', raw_files.scan(0))
      raw_files.write_xml(folder / '1.xml', series)
    (self.path / '1.1/3.dcm').unlink()
    code, _, err = _run('pictures', self.path, '--output', self.output)
    self.assertEqual(code, 0)
    first, second = err.splitlines()
    self.assertStartsWith(first, '1/2 1.1: left out, missing_slices: ')
    self.assertEqual(second, '2/2 1.2: 4 pictures')
    # 24 pixels of 0.8 mm hold no lung.
    *lines, last = self.fail('masks', '--output', self.output)
    self.assertIn('left out, no_lungs', lines[1])
    self.assertIn('found 2 image series and could use none', last)

  def test_a_uid_is_no_path(self):
    with config.disable_value_validation():
      raw_files.write_dicom(self.path, '../../1', 'NAME', raw_files.scan(0))
    raw_files.write_xml(self.path / '1.xml', '../../1')
    code, _, err = _run('pictures', self.path, '--output', self.output)
    self.assertEqual(code, 0, err)
    for file in self.output.iterdir():
      self.assertStartsWith(file.name, '.._.._1_')
    self.assertLen(list(self.output.iterdir()), 4)


class RealTest(_Test):
  def setUp(self):
    super().setUp()
    self.path = real_data.folder('lidc_idri')

  def test_masks(self):
    self.run_well('masks', '--output', self.output)
    self.check_masks('mha', (4, 8), -700)

  def test_tiles(self):
    self.run_well('tiles', '--output', self.output, '--none', 10)
    rows = self.check_tiles()
    classes = [row['class'] for row in rows]
    self.assertEqual(classes.count('none'), 20)
    self.assertLen({row['group'] for row in rows}, 2)
    # The nodule of the first patient, 23 mm round world (56.2, 86.3, -115.9).
    image = _itk(next(self.path.rglob(_UID)))
    found = [
      image.TransformIndexToPhysicalPoint([int(row[k]) for k in 'xyz'])
      for row in rows
      if (row['series'], row['class']) == (_UID, 'nodule')
    ]
    gaps = np.array(found) - (56.2, 86.3, -115.9)
    self.assertBetween(len(found), 8, 11)
    self.assertLess(np.abs(gaps[:, :2]).max(), 6)
    self.assertLess(np.abs(gaps[:, 2]).max(), 14)

  def test_a_slice_shows_the_nodule_in_its_box(self):
    folder = next(self.path.rglob(_UID))
    code, _, err = _run('slices', folder, '--output', self.output)
    self.assertEqual(code, 0, err)
    _, _, z = _itk(folder).TransformPhysicalPointToIndex((56.2, 86.3, -115.9))
    (record,) = (
      x
      for x in box_lists.read(self.output / 'boxes.json')
      if x.image.endswith(f'{_UID}_{z:04d}.png')
    )
    with Image.open(self.output / record.image) as image:
      pixels = np.asarray(image)[..., 1]
    self.assertEqual(pixels.shape, (256, 352))
    (box,) = record.corners[~record.ignored]
    # 23 mm round, drawn by several hands, in pixels of 0.9 to 1.2 mm.
    sides = box[2:] - box[:2]
    self.assertBetween(sides.min(), 19, sides.max())
    self.assertLess(sides.max(), 36)
    y, x = np.rint((box[:2] + box[2:]) / 2).astype(int)
    # Soft tissue fills its middle, lung lies to its side.
    inside = pixels[y - 5 : y + 6, x - 5 : x + 6]
    self.assertBetween(inside.mean(), 150, 220)
    y0, x0, y1, x1 = np.rint(box).astype(int)
    around = pixels[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3]
    self.assertGreater(inside.mean() - np.median(around[:, :3]), 60)

  def test_a_picture_shows_the_nodule(self):
    folder = next(self.path.rglob(_UID))
    code, _, err = _run('pictures', folder, '--output', self.output)
    self.assertEqual(code, 0, err)
    x, y, z = _itk(folder).TransformPhysicalPointToIndex((56.2, 86.3, -115.9))
    with Image.open(self.output / f'{_UID}_{z:03d}.png') as image:
      pixels = np.asarray(image).astype(int)[:1024]
    places = np.argwhere(np.ptp(pixels, axis=-1) > 0) / 2
    # Outlines lie round it, up to some 25 pixels of 0.7 mm away.
    np.testing.assert_allclose(places.mean(axis=0), (y, x), atol=4)
    self.assertLess(np.abs(places - (y, x)).max(), 25)
    self.assertGreater(np.ptp(places, axis=0).min(), 25)


if __name__ == '__main__':
  absltest.main()
