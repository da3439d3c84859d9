"""Tests of applying a model, with predictors that say what they are told."""

import contextlib
import dataclasses
import io
import json
import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image
from pycocotools import coco as pycoco

from medzoo import types
from medzoo.data import drawing
from medzoo.io import tables
from medzoo.io import volumes
from medzoo.train import build
from medzoo.train import predict
from medzoo.train.protocols import nodules
from tests.io import dicom_maker
from tests.train import lung_cases
from tests.train import slice_cases

_BOX = np.array([8.0, 16, 24, 40])
_OTHER = np.array([40.0, 48, 60, 60])


class _Told:
  """Finds two lesions in every scan, three boxes in every picture."""

  stages = ()

  def __call__(self, variables, volume):
    del variables
    if volume.spacing[0] is None:
      boxes = slice_cases.found(
        (0, _BOX, 0.9, -1, False),
        (0, _BOX + 2, 0.8, -1, True),
        (0, _OTHER, 0.4, -1, False),
      )
      boxes = dataclasses.replace(boxes, labels=np.array([2, 1, 1]))
      return {'boxes': boxes, 'detections': slice_cases.lesions()}
    return {
      'boxes': slice_cases.found(
        (2, _BOX, 0.9, 0, False),
        (2, _BOX + 2, 0.6, -1, True),
        (2, _OTHER, 0.3, -1, True),
        (3, _BOX, 0.5, 0, False),
        (4, _OTHER, 0.4, 1, False),
        (5, _OTHER, 0.9, -1, True),
      ),
      'detections': slice_cases.lesions(
        ((2.5, 15.5, 27.5), 0.7), ((4, 49.5, 53.5), 0.4)
      ),
    }


class _Outlines:
  """Finds two lungs in every picture, the left one as sure as it is told."""

  stages = ()

  def __init__(self, score):
    self.score = score

  def __call__(self, variables, volume):
    del variables
    masks = lung_cases.lungs(volume.grid.shape[1:])
    return {'lungs': lung_cases.found(masks, [1, 2], [0.9, self.score])}


class _Shades:
  """Takes red pictures for class 1, and dark greys."""

  stages = ()

  def __call__(self, variables, volume):
    del variables
    if volume.series_uid == 'unfit.png':
      raise ValueError('found it unfit')
    red = volume.voxels.ndim == 4 and (volume.voxels[..., 0] > 99).all()
    dark = volume.voxels.ndim == 3 and volume.voxels.mean() < 30
    logit = np.float32(2 if red or dark else -3)
    return {'picture': types.PictureScore(logit)}


class PredictTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path)
    self.workdir, self.output = root / 'run', root / 'out'
    self.input = root / 'in'
    self.input.mkdir()
    self.save_model('slice_boxes', ['nodule', 'cyst'])
    told = mock.patch.object(build, 'build', lambda *_: _Told())
    self.enter_context(told)

  def save_model(
    self, protocol, classes, *, name='run', predictor=None, threshold=0.5
  ):
    config = {
      'stages': {'order': ()},
      'evaluation': {'protocol': protocol, 'predictor': predictor or {}},
      'preprocess': {
        'shape': (64, 96),
        'pixel_mm': 1.0,
        'window': {'name': 'window', 'low': -1000.0, 'high': 400.0},
        'region': 'none',
      },
    }
    folder = self.workdir.with_name(name) / 'model'
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
      'config': config,
      'threshold': threshold,
      'classes': classes,
      'background': 'mucosa',
    }
    (folder / 'config.json').write_text(json.dumps(facts))

  def save_scan(self, name):
    path = self.input / f'{name}.mha'
    path.parent.mkdir(exist_ok=True, parents=True)
    voxels = np.full((8, 64, 96), -1000, np.int16)
    volumes.write(types.Volume(voxels, (2.0, 1.0, 1.0)), path)

  def save_picture(self, name, size=(96, 64)):
    path = self.input / name
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new('RGB', size, (90, 90, 90)).save(path)

  def predict(self, source=None, workdirs=('run',)):
    """Returns what is printed and what is in detections.json."""
    folders = [self.workdir.with_name(name) for name in workdirs]
    told = predict.predict(folders, source or self.input, self.output)
    return told, json.loads((self.output / 'detections.json').read_text())

  def written(self):
    return sorted(
      path.relative_to(self.output).as_posix()
      for path in self.output.rglob('*')
      if path.is_file()
    )

  def coco(self):
    with contextlib.redirect_stdout(io.StringIO()):
      return pycoco.COCO(str(self.output / 'coco.json'))

  def test_a_scan(self):
    self.save_scan('scan')
    told, found = self.predict()
    self.assertStartsWith(told, 'scan: 1 above the threshold 0.500\n')
    self.assertIn('drawn: 2 in', told)
    (lesion,) = found.pop('detections')
    self.assertEqual(
      found,
      {
        'case': 'scan',
        'model': found['model'],
        'threshold': 0.5,
        'repairs': [],
        'frame': 'LPS mm',
        'pictures': ['pictures/scan/2.png', 'pictures/scan/3.png'],
        'skipped': [],
      },
    )
    self.assertEqual(
      lesion,
      {
        **{'x': 27.5, 'y': 15.5, 'z': 5.0, 'diameter_mm': 10.0, 'score': 0.7},
        'class': 'nodule',
      },
    )
    marks = tables.read_marks(self.output / 'luna16.csv', 'probability')
    np.testing.assert_allclose(marks['scan'][:, 3], [0.7, 0.4])
    document = self.coco()
    rows = document.loadAnns(document.getAnnIds())
    names = [document.imgs[row['image_id']]['file_name'] for row in rows]
    self.assertEqual(names, ['scan/2', 'scan/3'])
    self.assertEqual([row['score'] for row in rows], [0.9, 0.5])
    self.assertEqual(rows[0]['bbox'], [16, 8, 24, 16])
    self.assertLen(document.imgs, 8)
    classes = {i: row['name'] for i, row in document.cats.items()}
    self.assertEqual(classes, {1: 'nodule', 2: 'cyst'})

  def test_drawn_are_boxes_that_reach_the_threshold(self):
    self.save_scan('scan')
    self.predict()
    drawn = {}
    for number in (2, 3):
      path = self.output / 'pictures' / 'scan' / f'{number}.png'
      drawn[number] = np.array(Image.open(path))
      # Five times as large, so that the scores can be read.
      self.assertEqual(drawn[number].shape, (320, 480, 3))
      self.assertEqual(tuple(drawn[number][40, 80]), drawing.GREEN)
      self.assertEqual(tuple(drawn[number][119, 199]), drawing.GREEN)
    reds = [(each == drawing.RED).all(-1) for each in drawn.values()]
    self.assertTrue(reds[0][(8 + 2) * 5, (16 + 2) * 5])
    self.assertFalse(reds[0][40 * 5, 48 * 5])
    self.assertFalse(reds[1].any())

  @parameterized.parameters('a.png', 'a.bmp', 'a.jpg', 'a.JPEG', 'a.tif')
  def test_a_picture(self, name):
    self.save_picture(name, (192, 128))
    _, found = self.predict(self.input / name)
    self.assertEqual(found['case'], name)
    self.assertEqual(found['frame'], 'pixels')
    (box,) = found['detections']
    self.assertEqual(
      box,
      {'x0': 16, 'y0': 8, 'x1': 40, 'y1': 24, 'score': 0.9, 'class': 'cyst'},
    )
    (path,) = found['pictures']
    self.assertEqual(
      path, f'pictures/{name}' if name == 'a.png' else f'pictures/{name}.png'
    )
    self.assertEqual(self.written(), ['coco.json', 'detections.json', path])
    drawn = np.array(Image.open(self.output / path))
    # Half as large to the network, five times as large to the reader.
    self.assertEqual(tuple(drawn[20, 40]), drawing.GREEN)
    (image,) = self.coco().imgs.values()
    self.assertEqual(image['file_name'], name)

  def test_a_folder_of_both(self):
    self.save_scan('sub/scan')
    self.save_scan('other/scan')
    self.save_picture('sub/a b.png')
    self.save_picture('sub_a b.png')
    (self.input / 'broken.png').write_text('no picture')
    told, found = self.predict()
    keys = [case['case'] for case in found['cases']]
    self.assertEqual(
      keys, ['scan', 'sub/a b.png', 'sub/scan.mha', 'sub_a b.png']
    )
    self.assertEqual(
      [case['frame'] for case in found['cases']], ['LPS mm', 'pixels'] * 2
    )
    (skipped,) = found['skipped']
    self.assertEqual(skipped['series'], 'broken.png')
    self.assertIn('broken.png: skipped, ', told)
    paths = [path for case in found['cases'] for path in case['pictures']]
    self.assertLen(set(paths), 6)
    for path in paths:
      self.assertRegex(path, r'^pictures/[\w.-]+(/\d)?\.png$')
      self.assertTrue((self.output / path).is_file())
    marks = tables.read_marks(self.output / 'luna16.csv', 'probability')
    self.assertEqual(list(marks), ['scan', 'sub/scan.mha'])
    names = [row['file_name'] for row in self.coco().imgs.values()]
    self.assertLen(names, 2 * 8 + 2)
    self.assertContainsSubset(
      ['scan/7', 'sub/a b.png', 'sub/scan.mha/0', 'sub_a b.png'], names
    )

  def test_its_own_pictures_are_not_looked_at(self):
    self.save_picture('a.png')
    self.output = self.input
    before = (self.input / 'a.png').read_bytes()
    self.predict()
    _, found = self.predict()
    self.assertEqual(found['case'], 'a.png')
    skipped = [s['series'] for s in found['skipped']]
    self.assertEqual(skipped, ['pictures', 'coco.json', 'detections.json'])
    with self.assertRaisesRegex(build.ConfigError, 'choose another --output'):
      self.predict(self.input / 'pictures')
    self.assertEqual((self.input / 'a.png').read_bytes(), before)

  @parameterized.parameters('../../a', '..', '/etc/a', '', 'ä/ö', 'x' * 300)
  def test_no_name_leaves_the_folder(self, key):
    name = predict.file_name(key)
    self.assertRegex(name, r'^[A-Za-z0-9_-][\w.-]{,110}$')
    self.assertNotEqual(name, predict.file_name(key + 'x'))

  def test_nodules_take_no_pictures(self):
    self.save_model('nodules', [])
    self.save_scan('scan')
    self.save_picture('a.png')
    told, found = self.predict()
    self.assertEqual(
      found['skipped'], [{'series': 'a.png', 'reason': 'picture'}]
    )
    self.assertEqual(found['detections'][0]['class'], 'class 1')
    self.assertEqual(found['pictures'], [])
    self.assertEqual(self.written(), ['detections.json', 'luna16.csv'])
    with self.assertRaisesRegex(ValueError, 'can be read: picture'):
      self.predict(self.input / 'a.png')

  def save_voters(self):
    """Three models, of which one hardly sees a left lung."""
    for name, score in (('a', 0.8), ('b', 0.7), ('c', 0.3)):
      spec = {'score': score}
      self.save_model('lung_masks', ['right lung', 'left lung'], name=name,
                      predictor=spec, threshold=score - 0.1)  # fmt: skip
    told = mock.patch.object(
      build, 'build', lambda _, spec, *__: _Outlines(spec['score'])
    )
    self.enter_context(told)

  def test_several_models_vote(self):
    self.save_voters()
    self.save_picture('film.png')
    told, found = self.predict(workdirs='abc')
    self.assertAlmostEqual(found['threshold'], 0.5)
    self.assertLen(found['model'].split('+'), 3)
    rows = found['detections']
    self.assertEqual([r['class'] for r in rows], ['right lung', 'left lung'])
    np.testing.assert_allclose([r['score'] for r in rows], [0.9, 0.6])
    masks = lung_cases.lungs((64, 96))
    self.assertEqual([r['area_px'] for r in rows], masks.sum((1, 2)).tolist())
    # The file does not say how large a pixel is.
    self.assertEqual([r['area_mm2'] for r in rows], [None, None])
    self.assertEqual(
      self.written(),
      [
        *('coco.json', 'detections.json', 'lungs.csv', 'masks/film.png'),
        'pictures/film.png',
      ],
    )
    self.assertIn('lungs.csv', told)
    _, found = self.predict(workdirs='c')
    self.assertLen(found['detections'], 2)
    self.assertAlmostEqual(found['threshold'], 0.2)

  def test_films_of_every_kind(self):
    self.save_voters()
    self.save_picture('a/grey.png')
    self.save_scan('scan')
    (self.input / 'broken.jpg').write_text('no picture')
    stored = np.arange(50 * 80, dtype=np.uint16).reshape(50, 80)
    header = dicom_maker.image(
      stored, 0, Modality='DX', PixelSpacing=[0.2, 0.1]
    )
    del header.ImagePositionPatient, header.ImageOrientationPatient
    dicom_maker.save(header, self.input / 'film')
    told, found = self.predict(workdirs='a')
    cases = {case['case']: case for case in found['cases']}
    self.assertEqual(list(cases), ['a/grey.png', 'film'])
    skipped = {row['series']: row['reason'] for row in found['skipped']}
    self.assertEqual(set(skipped), {'broken.jpg', 'scan.mha'})
    self.assertEqual(skipped['scan.mha'], 'not_a_film')
    # Pixels of 0.2 x 0.1 mm.
    for row in cases['film']['detections']:
      self.assertAlmostEqual(row['area_mm2'], row['area_px'] / 50)
    self.assertEqual(cases['film']['pictures'], ['pictures/film.png'])
    self.assertIn('broken.jpg: skipped', told)

  def test_its_own_masks_are_not_looked_at(self):
    self.save_voters()
    self.save_picture('film.png')
    self.output = self.input
    self.predict(workdirs='a')
    _, found = self.predict(workdirs='a')
    self.assertEqual(found['case'], 'film.png')
    self.assertEqual(
      [s['series'] for s in found['skipped']],
      ['pictures', 'masks', 'coco.json', 'detections.json', 'lungs.csv'],
    )

  def test_models_that_do_not_fit_together(self):
    self.save_voters()
    self.save_picture('film.png')
    self.save_model('lung_masks', ['left lung', 'right lung'], name='d')
    with self.assertRaisesRegex(build.ConfigError, 'found the classes'):
      self.predict(workdirs='ad')
    with self.assertRaisesRegex(build.ConfigError, 'lung_masks in .*slice_b'):
      self.predict(workdirs=('a', 'run'))
    with self.assertRaisesRegex(build.ConfigError, 'only masks are voted on'):
      self.predict(workdirs=('run', 'a'))

  def test_pictures_are_judged_as_wholes(self):
    point = {'threshold': 0.7, 'scale': 2.0, 'shift': 0.5}
    self.save_model('pictures', ['polyp'], threshold=point)
    self.enter_context(mock.patch.object(build, 'build', lambda *_: _Shades()))
    # Colours are kept, and so are greys of 16 bits and films in DICOM.
    Image.new('RGB', (30, 20), (200, 9, 9)).save(self.input / 'red.png')
    self.save_picture('b/grey.png')
    deep = np.full((20, 30), 12, np.uint16)
    Image.fromarray(deep).save(self.input / 'deep.png')
    header = dicom_maker.image(deep, 0, Modality='DX')
    del header.ImagePositionPatient, header.ImageOrientationPatient
    dicom_maker.save(header, self.input / 'film')
    (self.input / 'broken.jpg').write_text('no picture')
    self.save_picture('unfit.png')
    told, found = self.predict()
    cases = {case['case']: case for case in found['cases']}
    self.assertEqual(
      {key: case['class'] for key, case in cases.items()},
      {
        'b/grey.png': 'mucosa',
        'deep.png': 'polyp',
        'film': 'polyp',
        'red.png': 'polyp',
      },
    )
    self.assertAlmostEqual(
      cases['red.png']['probability'], 1 / (1 + np.exp(-4.5))
    )
    self.assertEqual(cases['red.png']['threshold'], 0.7)
    self.assertStartsWith(
      told,
      'b/grey.png: mucosa, as the probability of polyp is 0.004 and the '
      'threshold 0.700\n',
    )
    self.assertIn('broken.jpg: skipped', told)
    self.assertIn('unfit.png: skipped, found it unfit', told)
    self.assertEqual(
      self.written(),
      [
        'detections.json',
        'pictures/b_grey-' + self.written()[1].split('-')[1],
        'pictures/deep.png',
        'pictures/film.png',
        'pictures/red.png',
        'predictions.csv',
      ],
    )

  def test_classes_are_named(self):
    model = predict.Model(self.workdir, {}, 0.5, ('polyp',), 'mucosa')
    names = [model.class_name(label) for label in range(3)]
    self.assertEqual(names, ['mucosa', 'polyp', 'class 2'])
    nameless = predict.Model(self.workdir, {}, 0.5)
    self.assertEqual(nameless.class_name(0), 'class 0')

  def test_nothing_there(self):
    with self.assertRaisesRegex(ValueError, 'no case that can be read: noth'):
      self.predict()
    with self.assertRaisesRegex(build.ConfigError, 'no such file'):
      self.predict(self.input / 'absent')

  def test_a_diameter_that_is_not_known_is_null(self):
    lesion = slice_cases.lesions(((0, 0, 0), 0.9))
    lesion = dataclasses.replace(lesion, diameters=np.array([np.nan]))
    output = mock.Mock(detections={'detections': lesion})
    model = predict.Model(self.workdir, {'evaluation': {}}, {'threshold': 0.5})
    (row,) = nodules.describe(output, None, model)['detections']
    self.assertIsNone(row['diameter_mm'])


if __name__ == '__main__':
  absltest.main()
