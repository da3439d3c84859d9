"""Tests of the predictors of whole pictures and of their codes."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo import types
from medzoo.data import labelled_pictures
from medzoo.losses import classification
from medzoo.predictors import codes
from medzoo.predictors import picture_classifier
from medzoo.train import mapping
from tests.data import film_cases
from tests.data import labelled_cases
from tests.predictors import picture_models

_COLOUR = {'shape': (12, 16), 'colour': True, 'equalize': False}
_GREY = {'shape': (16, 16), 'colour': False, 'equalize': False}


def _image(volume, preprocess):
  pixels = labelled_pictures.prepare(volume, **preprocess).pixels
  return jnp.array(pixels[None], jnp.float32) / 255


@functools.partial(jax.jit, static_argnums=0)
def _init(model, key, image):
  return model.init(key, image, train=False)


@functools.cache
def _toy(channels):
  model = picture_models.Toy()
  image = jnp.zeros((1, 16, 16, channels))
  return model, _init(model, jax.random.key(0), image)


class PictureClassifierTest(parameterized.TestCase):
  def test_judges_and_explains(self):
    model, variables = _toy(3)
    predictor = picture_classifier.Predictor({'a': model}, _COLOUR, stage='a')
    self.assertEqual(predictor.stages, ('a',))
    volume = labelled_cases.picture().volume
    found = predictor({'a': variables}, volume)
    self.assertEqual(list(found), ['picture', 'saliency'])
    image = _image(volume, _COLOUR)
    expected = classification.log_odds(
      model.apply(variables, image, train=False)['logits']
    )[0]
    np.testing.assert_allclose(found['picture'].logit, expected, rtol=1e-5)
    self.assertEqual(np.shape(found['picture'].logit), ())
    self.assertEqual(found['saliency'].grad_cam.shape, (6, 8))
    self.assertEqual(found['saliency'].gradients.shape, (12, 16))
    black = classification.log_odds(
      model.apply(variables, jnp.zeros_like(image), train=False)['logits']
    )[0]
    self.assertAlmostEqual(
      found['saliency'].gradients.sum(), expected - black, delta=0.01
    )

  def test_without_saliency(self):
    model, variables = _toy(3)
    predictor = picture_classifier.PictureClassifier(
      {'a': model}, _COLOUR, stage='a', saliency_steps=0
    )
    found = predictor({'a': variables}, labelled_cases.picture().volume)
    self.assertEqual(list(found), ['picture'])

  def test_maps_span_the_film_and_not_what_is_round_it(self):
    model, variables = _toy(1)
    arguments = dict(stage='a', saliency_steps=2)
    predictor = picture_classifier.PictureClassifier(
      {'a': model}, _GREY, **arguments
    )
    # Eleven of sixteen columns are film, of the maps five and a half of eight.
    volume = film_cases.film(shape=(64, 44)).volume
    found = predictor({'a': variables}, volume)['saliency']
    self.assertEqual(found.gradients.shape, (16, 11))
    self.assertEqual(found.grad_cam.shape, (8, 6))
    image = _image(volume, _GREY)
    whole = predictor._explainer({'a': variables}, np.asarray(image))
    np.testing.assert_allclose(
      found.gradients, whole[1][0, :, :11], rtol=1e-3, atol=1e-6
    )
    coarse = np.asarray(whole[0][0])
    self.assertGreaterEqual(found.grad_cam.min(), coarse[:, :6].min() - 1e-6)
    self.assertLessEqual(found.grad_cam.max(), coarse[:, :6].max() + 1e-6)

  def test_codes_and_a_head_say_the_same_as_both_networks(self):
    models = {'e': picture_models.Encoder(), 'h': picture_models.Head()}
    volume = labelled_cases.picture().volume
    image = _image(volume, _COLOUR)
    encoder = _init(models['e'], jax.random.key(0), image)
    coder = codes.Predictor(models, _COLOUR, encoder='e')
    self.assertEqual(coder.stages, ('e',))
    code = coder({'e': encoder}, volume)['codes'].values
    self.assertEqual((code.shape, code.dtype), ((6, 8, 4), np.float32))
    expected = models['e'].apply(encoder, image, train=False)['pool5'][0]
    np.testing.assert_allclose(code, expected, rtol=1e-5, atol=1e-6)
    head = _init(models['h'], jax.random.key(1), code[None])
    predictor = picture_classifier.PictureClassifier(
      models, _COLOUR, encoder='e', head='h', saliency_steps=1
    )
    self.assertEqual(predictor.stages, ('e', 'h'))
    found = predictor({'e': encoder, 'h': head}, volume)
    logits = models['h'].apply(head, code[None], train=False)['logits'][0]
    np.testing.assert_allclose(
      found['picture'].logit, logits[1] - logits[0], rtol=1e-4
    )
    self.assertEqual(found['saliency'].grad_cam.shape, (12, 16))

  @parameterized.parameters(
    {}, {'stage': 'a', 'encoder': 'a', 'head': 'a'}, {'encoder': 'a'}
  )
  def test_refuses_other_than_one_network_or_two(self, **stages):
    with self.assertRaisesRegex(ValueError, 'expected a stage alone'):
      picture_classifier.PictureClassifier(
        {'a': picture_models.Toy()}, _COLOUR, **stages
      )

  def test_a_map_stage_keeps_all_of_it(self):
    model, variables = _toy(3)
    predictor = picture_classifier.PictureClassifier(
      {'a': model}, _COLOUR, stage='a'
    )
    cases = film_cases.Cases([labelled_cases.picture('x')])
    folder = pathlib.Path(self.create_tempdir().full_path) / 'outputs'
    outputs = mapping.map_cases(
      predictor,
      {'a': variables},
      [(cases, 0)],
      folder,
      'inputs',
      title='',
      log=lambda line: None,
    )
    found = predictor({'a': variables}, cases[0].volume)
    read = outputs['x'].detections
    self.assertIsInstance(read['picture'], types.PictureScore)
    self.assertIsInstance(read['saliency'], types.Saliency)
    for name, one in found.items():
      for field in dataclasses.fields(one):
        np.testing.assert_array_equal(
          getattr(read[name], field.name), getattr(one, field.name)
        )


if __name__ == '__main__':
  absltest.main()
