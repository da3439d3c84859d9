from absl.testing import absltest

from medzoo.models import small_encoder
from medzoo.train import build


class BuildTest(absltest.TestCase):
  def test_builds_what_a_model_is_made_of(self):
    encoder = {'name': 'small_encoder', 'widths': [4, 8], 'coarse_stride': 4}
    model = build.build(
      'models', {'name': 'cnn_lstm', 'encoder': encoder, 'steps': 3}
    )
    self.assertEqual(
      model.encoder, small_encoder.SmallEncoder((4, 8), coarse_stride=4)
    )
    self.assertEqual(model.steps, 3)

  def test_names_what_is_wrong_inside(self):
    for encoder, words in (
      ({'name': 'small_encoders'}, "'small_encoders'"),
      ({'name': 'small_encoder', 'width': 4}, "small_encoder.*'width'"),
    ):
      with self.assertRaisesRegex(build.ConfigError, words):
        build.build('models', {'name': 'cnn_lstm', 'encoder': encoder})


if __name__ == '__main__':
  absltest.main()
