"""Tests of the maps of what speaks for class 1."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from medzoo.losses import classification
from medzoo.predictors import saliency
from tests.predictors import picture_models

_grad_cam = jax.jit(saliency.grad_cam, static_argnums=0)
_gradients = jax.jit(
  saliency.integrated_gradients, static_argnums=0, static_argnames='steps'
)


class _Linear(nn.Module):
  """Two maps, a picture's red and its doubled blue, weighed by place."""

  def encode(self, x, *, train):
    del train
    return x[..., ::2] * jnp.array([1.0, 2.0])

  def classify(self, maps, *, train):
    del train
    weights = self.variables['params']['weights']
    return {'logits': jnp.einsum('bhwc,hwc->b', maps, weights)[:, None] + 5}


_WEIGHTS = np.array(
  [[[1, -1], [0, 0], [5, 0]], [[0, 2], [0, -4], [0, 0]]], np.float32
)


def _linear():
  """A network, its variables and two pictures."""
  image = np.random.default_rng(0).uniform(size=(2, 2, 3, 3))
  variables = ({'params': {'weights': jnp.array(_WEIGHTS)}},)
  return saliency.Whole(_Linear()), variables, jnp.array(image, jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _init(model, key, image):
  return model.init(key, image, train=False)


@functools.cache
def _toy():
  model = picture_models.Toy(outputs=2)
  rng = np.random.default_rng(0)
  image = jnp.array(rng.uniform(size=(3, 12, 10, 3)), jnp.float32)
  variables = _init(model, jax.random.key(0), image)
  return model, variables, image


def _log_odds(model, variables, image):
  outputs = model.apply(variables, image, train=False)
  return classification.log_odds(outputs['logits'])


class GradCamTest(absltest.TestCase):
  def test_hand_worked(self):
    """The weights of the maps are the means of theirs: 1 and -1/2."""
    network, variables, image = _linear()
    found = _grad_cam(network, variables, image)
    expected = np.maximum(image[..., 0] - 0.5 * 2 * image[..., 2], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    self.assertTrue(0 < (expected > 0).sum() < expected.size)


class IntegratedGradientsTest(parameterized.TestCase):
  def test_of_a_linear_network_they_are_its_terms(self):
    """In one step, whatever the baseline."""
    network, variables, image = _linear()
    for baseline in (0.0, 0.3):
      found = _gradients(network, variables, image, baseline, steps=1)
      red, blue = (image[..., c] - baseline for c in (0, 2))
      expected = red * _WEIGHTS[..., 0] + 2 * blue * _WEIGHTS[..., 1]
      np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

  def test_completeness(self):
    """They add up to what the network says, less what it says of black."""
    model, variables, image = _toy()
    difference = _log_odds(model, variables, image) - _log_odds(
      model, variables, jnp.zeros_like(image)
    )
    self.assertGreater(abs(difference).min(), 0.1)
    errors = []
    for steps in (4, 32):
      found = _gradients(
        saliency.Whole(model), (variables,), image, 0.0, steps=steps
      )
      self.assertEqual(found.shape, image.shape[:3])
      errors.append(abs(found.sum((1, 2)) - difference).max())
    self.assertLess(errors[1], 2e-3 * abs(difference).max())
    # The midpoint rule is of the second order.
    self.assertLess(errors[1], errors[0] / 10)

  def test_of_several_classes_it_is_the_one_that_was_called(self):
    model = picture_models.Toy(outputs=4)
    image = _toy()[2]
    variables = _init(model, jax.random.key(1), image)
    explainer = saliency.Explainer({'t': model}, steps=32, stage='t')
    maps, gradients = explainer({'t': variables}, image)

    def shares(image):
      logits = model.apply(variables, image, train=False)['logits']
      return jax.nn.softmax(logits)

    called = shares(image).argmax(-1)
    own = [
      np.take_along_axis(shares(x), called[:, None], 1)[:, 0]
      for x in (image, jnp.zeros_like(image))
    ]
    own, black = (np.log(x / (1 - x)) for x in own)
    np.testing.assert_allclose(
      gradients.sum((1, 2)), own - black, atol=5e-3 * abs(own - black).max()
    )
    network = saliency.Whole(model)
    other = _grad_cam(network, (variables,), image, (called + 1) % 4)
    self.assertGreater(abs(maps - other).max(), 1e-3)
    np.testing.assert_allclose(
      maps, _grad_cam(network, (variables,), image, called), atol=1e-6
    )

  def test_sensitivity(self):
    """What is as in the baseline, or not looked at, has no part in it."""
    network, variables, image = _linear()
    found = _gradients(
      network, variables, image.at[:, 0, 0].set(0), 0.0, steps=3
    )
    self.assertFalse(found[:, 0, :2].any() or found[:, 1, 2].any())
    self.assertTrue(found[:, 0, 2].all())


class ExplainerTest(parameterized.TestCase):
  def test_one_network(self):
    """Of bytes as of floats; pictures of a batch do not mix."""
    model, variables, image = _toy()
    explainer = saliency.Explainer({'a': model}, steps=8, stage='a')
    self.assertEqual(explainer.stages, ('a',))
    pixels = np.rint(255 * np.asarray(image)).astype(np.uint8)
    found = explainer({'a': variables}, pixels)
    self.assertEqual([x.shape for x in found], [(3, 6, 5), (3, 12, 10)])
    order = np.array([2, 0, 1])
    image = jnp.array(pixels[order], jnp.float32) / 255
    network, own = saliency.Whole(model), (variables,)
    expected = (
      _grad_cam(network, own, image),
      _gradients(network, own, image, 0.0, steps=8),
    )
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one[order], other, rtol=1e-3, atol=1e-6)

  @parameterized.parameters('pool5', 'pool4')
  def test_an_encoder_and_a_head(self, tap):
    """The last convolution's maps, though the head sees them pooled."""
    models = {'e': picture_models.Encoder(), 'h': picture_models.Head()}
    image = jnp.array(np.random.default_rng(0).uniform(size=(2, 8, 6, 3)))
    encoder = _init(models['e'], jax.random.key(0), image)
    outputs = models['e'].apply(encoder, image, train=False)
    head = _init(models['h'], jax.random.key(1), outputs[tap])
    explainer = saliency.Explainer(
      models, steps=64, encoder='e', tap=tap, head='h'
    )
    self.assertEqual(explainer.stages, ('e', 'h'))
    cam, gradients = explainer({'e': encoder, 'h': head}, image)
    self.assertEqual((cam.shape, gradients.shape), ((2, 8, 6), (2, 8, 6)))

    def log_odds(image):
      codes = models['e'].apply(encoder, image, train=False)[tap]
      return _log_odds(models['h'], head, codes)

    difference = log_odds(image) - log_odds(jnp.zeros_like(image))
    np.testing.assert_allclose(
      gradients.sum((1, 2)), difference, atol=0.03 * abs(difference).max()
    )
    # The kernel is linear in its input, so by hand: at each place the largest
    # of 2 x 2 takes all the weight.
    kernel = np.asarray(head['params']['Dense_0']['kernel'])
    kernel = (kernel[:, 1] - kernel[:, 0]).reshape(outputs[tap].shape[1:])
    maps = np.asarray(outputs['block5_conv3'])
    weights = kernel.sum((0, 1)) / (8 * 6)
    expected = np.maximum((weights * maps).sum(-1), 0)
    np.testing.assert_allclose(cam, expected, rtol=1e-4, atol=1e-6)


if __name__ == '__main__':
  absltest.main()
