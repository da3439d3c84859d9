"""Tests of training films on disk."""

import dataclasses
import pathlib
import pickle

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import picture_store
from medzoo.data import pictures
from tests.data import film_cases

_PREPROCESS = {'shape': (64, 64), 'equalize': True}


def _cases():
  return film_cases.Cases(
    [
      film_cases.film('a'),
      film_cases.film('b', (60, 90), labels=(2,)),
      film_cases.film('c', labels=()),
      film_cases.film('d', labels=(2, 1)),
    ]
  )


class PictureStoreTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'x' / 'train'

  def store(self, cases):
    picture_store.derive(cases, self.folder, preprocess=_PREPROCESS)
    return picture_store.PictureStore(self.folder)

  def test_every_film_with_its_masks_side_by_side(self):
    cases = _cases()
    store = self.store(cases)
    self.assertLen(store, 4)
    self.assertTrue(store.positive.all())
    self.assertEqual(store.positive.shape, (4,))
    for example, case in zip(store, cases, strict=True):
      picture = pictures.prepare(case.volume, **_PREPROCESS)
      np.testing.assert_array_equal(example['image'], picture.pixels)
      self.assertEqual(example['sizes'].tolist(), list(picture.inner))
      self.assertEqual(example['masks'].shape, (2, 64, 64))
      self.assertEqual(example['masks'].dtype, np.uint8)
      for label in (1, 2):
        mask = case.masks.masks[case.masks.labels == label]
        found = example['masks'][label - 1]
        self.assertEqual(found.any(), bool(len(mask)))
        self.assertLessEqual(found.max(), 1)
        if len(mask):
          np.testing.assert_array_equal(found, picture.place(mask)[0] >= 0.5)
          share = found.sum() / np.prod(picture.inner)
          self.assertAlmostEqual(share, mask.mean(), delta=0.01)
    # The order of a case's masks does not matter, their labels do.
    np.testing.assert_array_equal(store[0]['masks'], store[3]['masks'])

  def test_lungs_may_overlap(self):
    case = film_cases.film()
    case.masks.masks[:, 50:60, 40:60] = True
    masks = self.store([case])[0]['masks']
    self.assertTrue((masks[0] & masks[1]).any())

  def test_another_process_opens_the_files_itself(self):
    store = self.store(_cases())
    data = pickle.dumps(store)
    self.assertLess(len(data), 1000)
    copy = pickle.loads(data)
    for one, other in zip(copy, store, strict=True):
      for name in one:
        np.testing.assert_array_equal(one[name], other[name])

  def test_what_an_example_is_changed_to_stays_off_the_disk(self):
    store = self.store(_cases())
    before = store[0]['image'].copy()
    store[0]['image'][:] = 7
    np.testing.assert_array_equal(store[0]['image'], before)

  @parameterized.named_parameters(
    ('no_masks', None, 'x-7: found no masks, expected'),
    (
      'another_label',
      types.Masks(np.ones((1, 120, 100), bool), np.array([3], np.int32)),
      r'x-7: found masks with the labels \[3\], expected \(1, 2\)',
    ),
  )
  def test_refuses(self, masks, message):
    case = dataclasses.replace(film_cases.film('x-7'), masks=masks)
    with self.assertRaisesRegex(ValueError, message):
      self.store([*_cases(), case])
    self.assertFalse(self.folder.exists())
    # What is left of it is in nobody's way.
    self.assertLen(self.store(_cases()), 4)

  def test_refuses_no_case(self):
    with self.assertRaisesRegex(ValueError, 'no case'):
      self.store([])


if __name__ == '__main__':
  absltest.main()
