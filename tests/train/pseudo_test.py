"""Tests of labels for films that nobody has outlined."""

import csv
import dataclasses
import json
import pathlib
from unittest import mock

import numpy as np
from absl.testing import absltest
from PIL import Image
from pycocotools import coco

from medzoo import types
from medzoo.data import lung_shapes
from medzoo.train import mapping
from medzoo.train import pseudo
from medzoo.train import stages
from tests.data import film_cases


def _lungs(case, scores):
  masks = case.masks
  return types.MaskDetections(
    masks.masks,
    lung_shapes.boxes_of(masks.masks),
    np.array(scores, float),
    masks.labels,
  )


class PseudoTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'pseudo'
    truth = [
      film_cases.film('hand'),
      film_cases.film('sure', (90, 140)),
      film_cases.film('unsure'),
      film_cases.film('one', labels=(1,)),
    ]
    self.truth = dict(
      zip(('hand', 'sure', 'unsure', 'one'), truth, strict=True)
    )
    self.cases = film_cases.Cases(
      [truth[0], *(dataclasses.replace(x, masks=None) for x in truth[1:])]
    )
    self.scores = {'sure': (0.97, 0.92), 'unsure': (0.97, 0.8), 'one': (0.99,)}

  def label(self):
    """Has the stage run, with a predictor that knows the truth."""

    def predict(variables, volume):
      del variables
      key = volume.series_uid
      return {'lungs': _lungs(self.truth[key], self.scores[key])}

    predict.stages = ()
    run = stages.Run(
      config={
        'preprocess': {},
        'stages': {
          'order': ('pseudo',),
          'pseudo': {
            'kind': 'pseudo',
            'predictor': {'name': 'known'},
            'data': {'split': 'train'},
            'min_confidence': 0.9,
          },
        },
      },
      folder=self.folder.parent,
      name='',
      cases={'train': self.cases},
      inputs='',
      writer=mock.Mock(),
    )
    with mock.patch.object(stages.build, 'build', return_value=predict):
      return stages.run_stages(run)

  def test_keeps_sure_films_and_sets_others_aside(self):
    (row,) = self.label()
    self.assertEqual((row['cases'], row['kept']), (3, 1))
    with (self.folder / 'films.csv').open() as file:
      rows = {row['film']: row for row in csv.DictReader(file)}
    self.assertEqual(
      {key: (row['confidence'], row['kept']) for key, row in rows.items()},
      {
        'sure': ('0.9200', 'yes'),
        'unsure': ('0.8000', 'no'),
        'one': ('0.0000', 'no'),
      },
    )
    for row in rows.values():
      with Image.open(self.folder / 'panels' / row['panels']) as image:
        self.assertEqual(image.mode, 'RGB')

  def test_the_list_is_cocos(self):
    self.label()
    with mock.patch('builtins.print'):
      document = coco.COCO(str(self.folder / 'coco.json'))
    (image,) = document.dataset['images']
    self.assertEqual(image['file_name'], 'sure')
    self.assertEqual((image['height'], image['width']), (90, 140))
    truth = self.truth['sure'].masks
    names = {row['id']: row['name'] for row in document.dataset['categories']}
    for label, mask in zip(truth.labels.tolist(), truth.masks, strict=True):
      (row,) = document.loadAnns(document.getAnnIds(catIds=[label]))
      np.testing.assert_array_equal(document.annToMask(row), mask)
      self.assertEqual(names[label], ('right lung', 'left lung')[label - 1])

  def test_a_later_stage_gets_them_as_masks(self):
    self.label()
    labelled = pseudo.Labelled(self.cases, self.folder)
    self.assertEqual(
      [case.volume.series_uid for case in labelled], ['hand', 'sure']
    )
    for case in labelled:
      truth = self.truth[case.volume.series_uid].masks
      np.testing.assert_array_equal(case.masks.masks, truth.masks)
      np.testing.assert_array_equal(case.masks.labels, truth.labels)

  def test_films_with_masks_are_not_looked_at(self):
    self.label()
    outputs = mapping.read_all(self.folder / 'outputs')
    self.assertCountEqual(outputs, ('sure', 'unsure', 'one'))

  def test_without_such_films_the_lists_are_empty(self):
    self.cases = self.cases.subset([0])
    (row,) = self.label()
    self.assertEqual((row['cases'], row['kept']), (0, 0))
    document = json.loads((self.folder / 'coco.json').read_text())
    self.assertEqual(document['images'], [])
    self.assertLen(pseudo.Labelled(self.cases, self.folder), 1)


if __name__ == '__main__':
  absltest.main()
