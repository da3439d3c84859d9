import collections

import numpy as np
from absl.testing import absltest

from medzoo import types
from medzoo.data import film_patches
from tests.train import picture_cases
from tests.train import slice_cases

_SIDE = 24


def film(name, middles, shape=(90, 70)):
  """A dim film with a bright square of 6 pixels at each of the middles."""
  pixels = np.random.default_rng(len(name)).integers(0, 60, shape)
  corners = [(y - 3, x - 3, y + 3, x + 3) for y, x in middles]
  for y0, x0, y1, x1 in corners:
    pixels[y0:y1, x0:x1] = 255
  number = len(corners)
  boxes = types.Boxes(
    np.zeros(number, np.int32),
    np.array(corners, float).reshape(-1, 4),
    np.ones(number, np.int32),
    np.zeros(number, bool),
    np.arange(number, dtype=np.int32),
  )
  case = picture_cases.case(
    name, f'study {name}', int(number > 0), pixels[None].astype(np.uint8)
  )
  return types.Case(case.volume, case.group, *[case.lesions] * 2, boxes=boxes)


def patches(films, seed=0):
  return film_patches.Patches(
    slice_cases.Cases(films),
    side=_SIDE,
    per_nodule=3,
    seed=seed,
    shape=(90, 90),
    equalize=False,
  )


class FilmPatchesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.films = [
      film('one', [(40, 30)]),
      film('clean', []),
      film('two ', [(10, 60), (84, 8)]),
      film('clear ', []),
    ]

  def test_nodules_are_whole_in_their_patches(self):
    found = patches(self.films)
    self.assertLen(found, 18)
    self.assertEqual(sum(found.labels), 9)
    for i, label in enumerate(found.labels):
      case = found[i]
      self.assertEqual(case.volume.voxels.shape, (1, _SIDE, _SIDE))
      self.assertEqual(case.label, label)
      film_key = found.keys[i].split('/')[0]
      if label:
        # A whole nodule is 36 pixels.
        self.assertEqual((case.volume.voxels > 200).sum(), 36, found.keys[i])
      else:
        self.assertStartsWith(film_key, 'cle')
      self.assertEqual(found.groups[i], f'study {film_key}')

  def test_every_nodule_has_as_many_and_clean_films_share_the_rest(self):
    counts = collections.Counter(
      key.split('/')[0] for key in patches(self.films).keys
    )
    self.assertEqual(counts['one'], 3)
    self.assertEqual(counts['two '], 6)
    self.assertEqual(counts['clean'] + counts['clear '], 9)

  def test_the_order_of_films_does_not_matter_but_the_seed_does(self):
    def pixels(found):
      rows = {
        (key.split('/')[0], found[i].volume.voxels.tobytes())
        for i, key in enumerate(found.keys)
        if found.labels[i]
      }
      return rows

    first = pixels(patches(self.films))
    self.assertEqual(pixels(patches(self.films[::-1])), first)
    self.assertNotEqual(pixels(patches(self.films, seed=1)), first)

  def test_refusals(self):
    unknown = picture_cases.case('film', 'study', 0)
    for films, words in (
      (self.films[:1], '1 films with nodules and 0 without'),
      (self.films[1:2], '0 films with nodules and 1 without'),
      ([unknown], 'film: found no boxes'),
    ):
      with self.assertRaisesRegex(ValueError, words):
        patches(films)


if __name__ == '__main__':
  absltest.main()
