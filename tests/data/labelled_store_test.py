"""Tests of training pictures with a class, on disk and in memory."""

import pathlib
import pickle

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.data import labelled_pictures
from medzoo.data import labelled_store
from medzoo.data import labelled_transforms
from medzoo.data import pipeline
from tests.data import labelled_cases

_COLOUR = {'shape': (24, 32), 'colour': True, 'equalize': False}
_GREY = {'shape': (24, 24), 'colour': False, 'equalize': True}
_LABELS = [1, 0, 0, 1, 0]


def _cases():
  return [
    labelled_cases.picture(f'c{i}', label=label, seed=i)
    for i, label in enumerate(_LABELS)
  ]


class LabelledStoreTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'x' / 'train'

  def store(self, cases, preprocess=_COLOUR):
    labelled_store.derive(cases, self.folder, preprocess=preprocess)
    return labelled_store.LabelledStore(self.folder)

  @parameterized.named_parameters(('colour', _COLOUR), ('grey', _GREY))
  def test_every_picture_with_its_class(self, preprocess):
    cases = _cases()
    store = self.store(cases, preprocess)
    self.assertLen(store, 5)
    self.assertEqual(store.labels.tolist(), _LABELS)
    self.assertEqual(store.positive.tolist(), [bool(x) for x in _LABELS])
    for example, case in zip(store, cases, strict=True):
      picture = labelled_pictures.prepare(case.volume, **preprocess)
      np.testing.assert_array_equal(example['image'], picture.pixels)
      self.assertEqual(example['image'].dtype, np.uint8)
      self.assertEqual(example['label'], case.label)
      self.assertEqual(example['label'].dtype, np.int32)
      self.assertEqual(example['sizes'].tolist(), list(picture.inner))

  def test_more_than_two_classes(self):
    cases = [labelled_cases.picture(f'c{i}', label=i % 4) for i in range(5)]
    store = self.store(cases)
    self.assertEqual(store.labels.tolist(), [0, 1, 2, 3, 0])
    self.assertEqual(store.positive.tolist(), [0, 1, 2, 3, 0])
    self.assertEqual(store[3]['label'], 3)

  def test_another_process_opens_the_files_itself(self):
    store = self.store(_cases())
    data = pickle.dumps(store)
    self.assertLess(len(data), 1000)
    for one, other in zip(pickle.loads(data), store, strict=True):
      for name in one:
        np.testing.assert_array_equal(one[name], other[name])

  def test_what_an_example_is_changed_to_stays_off_the_disk(self):
    store = self.store(_cases())
    before = store[0]['image'].copy()
    store[0]['image'][:] = 7
    np.testing.assert_array_equal(store[0]['image'], before)

  def test_refuses_a_picture_of_no_class(self):
    case = labelled_cases.picture('x-7', label=None)
    with self.assertRaisesRegex(ValueError, 'x-7: found no label, expected'):
      self.store([*_cases(), case])
    self.assertFalse(self.folder.exists())
    # What is left of it is in nobody's way.
    self.assertLen(self.store(_cases()), 5)

  def test_refuses_no_case(self):
    with self.assertRaisesRegex(ValueError, 'no case'):
      self.store([])


class CodeStoreTest(parameterized.TestCase):
  def test_gives_codes_the_form_of_pictures(self):
    codes = np.random.default_rng(0).normal(size=(5, 2, 2, 3))
    store = labelled_store.CodeStore(codes, np.array(_LABELS))
    self.assertLen(store, 5)
    self.assertEqual(store.positive.tolist(), [bool(x) for x in _LABELS])
    for example, code, label in zip(store, codes, _LABELS, strict=True):
      self.assertEqual(example['image'].dtype, np.float32)
      np.testing.assert_array_equal(example['image'], code.astype(np.float32))
      self.assertEqual(example['label'], label)

  def test_goes_through_the_pipeline(self):
    codes = np.arange(5.0)[:, None]
    store = labelled_store.CodeStore(codes, np.array(_LABELS))
    finish = [labelled_transforms.ToExample()]
    (batch,) = pipeline.eval_batches(store, batch_size=6, transforms=finish)
    self.assertEqual(batch['image'].tolist(), [*codes.tolist(), [0]])
    self.assertEqual(batch['label'].tolist(), [*_LABELS, 0])
    self.assertEqual(batch['valid'].tolist(), [True] * 5 + [False])

  @parameterized.parameters([[[0, 1, None]], [[0, 1]], [[0, 1, -1]]])
  def test_refuses(self, labels):
    with self.assertRaisesRegex(ValueError, 'expected a class from 0 for each'):
      labelled_store.CodeStore(np.zeros((3, 4)), np.array(labels))


if __name__ == '__main__':
  absltest.main()
