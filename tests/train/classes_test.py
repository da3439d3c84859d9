"""Tests of how many classes a network tells."""

from absl.testing import absltest
from absl.testing import parameterized

from medzoo.train import build
from medzoo.train import classes

_NAMES = ['none', 'nodule', 'small']


def _config(num_classes, nested=False, **data):
  head = {'name': 'dense_head', 'num_classes': num_classes}
  model = {'name': 'picture_classifier', 'head': head} if nested else head
  return {
    'stages': {
      'order': ('encoder', 'head'),
      'encoder': {'kind': 'load', 'model': {'num_classes': None}},
      'head': {
        'kind': 'fit',
        'task': {'name': 'classification'},
        'model': model,
        'data': data,
      },
    }
  }


class FillTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_as_many_as_the_dataset_has(self, nested):
    config = _config(None, nested)
    found = classes.fill(config, _NAMES)
    self.assertEqual(found, _config(3, nested))
    self.assertEqual(config, _config(None, nested))
    self.assertEqual(classes.fill(config, _NAMES[:2]), _config(2, nested))

  @parameterized.parameters(1, 2)
  def test_two_classes_take_one_output_or_two(self, number):
    config = _config(number)
    self.assertEqual(classes.fill(config, _NAMES[:2]), config)
    self.assertEqual(classes.fill(config, []), config)

  def test_a_view_of_its_own_shows_two(self):
    config = _config(2, view={'name': 'film_patches'})
    self.assertEqual(classes.fill(config, _NAMES), config)

  @parameterized.parameters(
    (2, False, 3, _NAMES), (4, True, 3, _NAMES), (3, False, 2, _NAMES[:2])
  )
  def test_another_number_is_refused(self, number, nested, expected, names):
    place = 'stages.head.model.head' if nested else 'stages.head.model'
    with self.assertRaisesRegex(
      build.ConfigError,
      rf'^{place}\.num_classes: found {number}, expected {expected}, for the '
      f'dataset has the classes {", ".join(names)}$',
    ):
      classes.fill(_config(number, nested), names)


class CheckTest(absltest.TestCase):
  def test_a_class_without_training_pictures(self):
    classes.check_training([0, 2, 1, 1], _NAMES, '')
    with self.assertRaisesRegex(
      ValueError, '^fold_0/train: found no picture of the class nodule, expect'
    ):
      classes.check_training([0, 2, 2], _NAMES, 'fold_0/')

  def test_other_classes_than_trained_on(self):
    classes.check_same(_NAMES, _NAMES)
    # Two may have other names.
    classes.check_same(['normal', 'nodule'], ['healthy', 'ill'])
    with self.assertRaisesRegex(ValueError, 'expected normal, nodule, which'):
      classes.check_same(['normal', 'nodule'], ['nodule', 'normal'])
    for found in (_NAMES[:2], _NAMES[::-1], [*_NAMES, 'x']):
      with self.assertRaisesRegex(
        ValueError,
        f'^found the classes {", ".join(found)}, expected none, nodule, small',
      ):
        classes.check_same(_NAMES, found)


if __name__ == '__main__':
  absltest.main()
