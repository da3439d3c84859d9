"""Tests of the stages that load an encoder, and of codes that are kept."""

import pathlib
from unittest import mock

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from medzoo.models import small_encoder
from medzoo.predictors import codes
from medzoo.train import feeds
from medzoo.train import stages
from medzoo.weights import native
from tests.train import picture_cases

_MODEL = {
  'name': 'small_encoder',
  'widths': (2,),
  'coarse_stride': 2,
  'fine_stride': 2,
}
_STAGES = {
  'order': ('encoder', 'codes'),
  'encoder': {
    'kind': 'load',
    'model': _MODEL,
    'input_shape': (8, 8, 3),
    'init_from': (),
  },
  'codes': {
    'kind': 'map',
    'predictor': {'name': 'codes', 'encoder': 'encoder', 'tap': 'coarse'},
    'data': {'split': 'train+validation'},
  },
  'head': {'data': {'feed': 'codes', 'stage': 'codes'}},
}


class CodesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.cases = picture_cases.coloured(10)
    self.run_ = self.make_run()

  def make_run(self, inputs='one'):
    folder = getattr(self, 'run_', None) and self.run_.folder
    return stages.Run(
      config={
        'seed': 0,
        'preprocess': {'shape': (8, 8), 'colour': True, 'equalize': False},
        'view': {'name': ''},
        'stages': _STAGES,
      },
      folder=folder or pathlib.Path(self.create_tempdir().full_path),
      name='',
      cases={
        'train': self.cases.subset(range(6)),
        'validation': self.cases.subset(range(6, 10)),
      },
      inputs=inputs,
      writer=mock.Mock(),
    )

  def count(self, run, until=None):
    """Runs the stages; returns of how many pictures codes were worked out."""
    real, calls = codes.Predictor.__call__, []

    def look(predictor, variables, volume):
      if until is not None and len(calls) == until:
        raise KeyboardInterrupt
      calls.append(volume.series_uid)
      return real(predictor, variables, volume)

    with mock.patch.object(codes.Predictor, '__call__', look):
      try:
        stages.run_stages(run)
      except KeyboardInterrupt:
        self.assertIsNotNone(until)
    return len(calls)

  def test_a_head_gets_what_the_encoder_makes_of_every_picture(self):
    rows = stages.run_stages(self.run_)
    self.assertEqual([row['kind'] for row in rows], ['load', 'map'])
    self.assertEqual(rows[1]['cases'], 10)
    feed = feeds.make(self.run_, 'head')
    self.assertEqual(feed.training.labels.tolist(), self.cases.labels[:6])
    self.assertLen(feed.validation, 4)
    variables, _ = native.load(self.run_.parameters('encoder'))
    found = feed.training[3]['image']
    picture = codes.labelled_pictures.prepare(
      self.cases[3].volume, **self.run_.config['preprocess']
    )
    model = small_encoder.SmallEncoder((2,), 2, 2)
    image = jnp.asarray(picture.pixels[None], jnp.float32) / 255
    expected = model.apply(variables, image, train=False)['coarse'][0]
    np.testing.assert_allclose(found, expected, atol=1e-6)

  def test_what_was_worked_out_before_a_stop_is_kept(self):
    self.assertEqual(self.count(self.run_, until=7), 7)
    self.assertEqual(self.count(self.run_), 3)
    self.assertEqual(self.count(self.run_), 0)

  def test_one_byte_of_the_weights_makes_all_anew(self):
    stages.run_stages(self.run_)
    path = self.run_.parameters('encoder')
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    self.assertEqual(self.count(self.run_), 10)

  def test_another_prepared_dataset_makes_all_anew(self):
    stages.run_stages(self.run_)
    self.assertEqual(self.count(self.make_run('other')), 10)


if __name__ == '__main__':
  absltest.main()
