from absl.testing import absltest

from medzoo.data import crops
from medzoo.data import views
from tests.train import frame_cases
from tests.train import picture_cases

_CROPS = {'name': 'crops', 'margin': 0.0, 'seed': 0}


class ViewsTest(absltest.TestCase):
  def test_no_view_shows_the_cases_themselves(self):
    cases = picture_cases.coloured(6)
    viewed = views.Viewed({'train': cases}, {'name': ''})
    self.assertIs(viewed['train'], cases)
    self.assertEqual(list(viewed), ['train'])

  def test_crops_are_cut_once(self):
    viewed = views.Viewed(
      {'train': frame_cases.cases(), 'test': frame_cases.cases()}, _CROPS
    )
    self.assertIsInstance(viewed['train'], crops.Crops)
    self.assertIs(viewed['train'], viewed['train'])
    self.assertIsNot(viewed['train'], viewed['test'])
    self.assertLen(viewed, 2)

  def test_an_unknown_view_is_named(self):
    with self.assertRaisesRegex(ValueError, "'tiles', expected one of crops"):
      views.Viewed({}, {'name': 'tiles'})

  def test_joined(self):
    one, two = picture_cases.coloured(4), picture_cases.coloured(6, seed=1)
    joined = views.Joined([one, two])
    self.assertLen(joined, 10)
    self.assertEqual(joined.keys, one.keys + two.keys)
    self.assertEqual(joined.groups, one.groups + two.groups)
    self.assertEqual(joined.labels, one.labels + two.labels)
    self.assertIs(joined[4], two[0])


if __name__ == '__main__':
  absltest.main()
