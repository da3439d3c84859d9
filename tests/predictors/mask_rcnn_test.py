import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl.testing import absltest

from medzoo.models import mask_rcnn as models
from medzoo.models import mask_rcnn_forward
from medzoo.ops import proposals
from medzoo.predictors import mask_rcnn
from tests.models import tiny_encoder

_GOLDEN = pathlib.Path(__file__).parents[1] / 'models/golden/mask_rcnn.npz'


class DetectTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    model = models.MaskRCNN(
      encoder=tiny_encoder.TinyEncoder(),
      fpn_channels=8,
      rpn_channels=8,
      anchor_sizes=(8, 16, 32, 48, 64),
      box_units=16,
      mask_channels=(8,),
      num_classes=3,
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(
      lambda key: model.lazy_init(key, image, train=False), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
      lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes
    )
    settings = mask_rcnn_forward.Inference(
      proposals.Settings(pre_nms=50, post_nms=20),
      min_score=0.2,
      max_detections=18,
    )
    cls.images = [rng.random((40, 50, 3)), rng.random((80, 48, 3))]
    cls.detect = functools.partial(
      mask_rcnn.detect_all,
      model,
      variables,
      settings=settings,
      preparation=mask_rcnn.Preparation(min_side=60, max_side=90),
    )

  def test_images_of_several_sizes(self):
    found = self.detect(self.images)
    for image, one in zip(self.images, found, strict=True):
      count = len(one['scores'])
      self.assertGreater(count, 0)
      self.assertEqual(one['boxes'].shape, (count, 4))
      self.assertEqual(one['masks'].shape, (count, *image.shape[:2]))
      self.assertBetween(one['masks'].min(), 0, 1)
      self.assertBetween(one['masks'].max(), 0, 1)
      self.assertContainsSubset(one['labels'], [1, 2])
      limits = np.tile(image.shape[:2], 2) + 1e-3
      self.assertTrue((one['boxes'] <= limits).all())
      self.assertGreater((one['boxes'] / limits).max(), 0.8)
      # A mask lies in its box, but for the cell that fades around it.
      for box, mask in zip(one['boxes'], one['masks'], strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
          margin = (box[2:] - box[:2]) / 28 + 2
          self.assertGreaterEqual(rows.min(), box[0] - margin[0])
          self.assertLessEqual(columns.max(), box[3] + margin[1])

  def test_bytes_are_shares_of_255(self):
    pixels = np.round(255 * self.images[0]).astype(np.uint8)
    pair = self.detect([pixels, self.images[1]])
    same = self.detect([pixels / 255, self.images[1]])
    for name, x in pair[0].items():
      np.testing.assert_allclose(x, same[0][name], atol=1e-3)

  def test_images_that_are_none(self):
    with self.assertRaisesRegex(ValueError, r'shape \(4, 5\), expected \(h, w'):
      self.detect([np.zeros((4, 5))])
    with self.assertRaisesRegex(ValueError, 'found int64, expected uint8'):
      self.detect([np.zeros((4, 5, 3), np.int64)])


class LoadTest(absltest.TestCase):
  def test_files(self):
    with np.load(_GOLDEN) as golden:
      shapes = json.loads(str(golden['facts']))['shapes']
    tensors = {n: np.zeros(s, np.float32) for n, s in shapes.items()}
    layer = 'roi_heads.box_predictor.cls_score'
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'weights.safetensors'
      safetensors.numpy.save_file(tensors, path)
      model, variables = mask_rcnn.load_torch(path)
      self.assertEqual(model.num_classes, 3)
      self.assertFalse(any(x.any() for x in jax.tree.leaves(variables)))
      with self.assertRaisesRegex(
        ValueError, f'{path}: .*misshapen: .*{layer}'
      ):
        mask_rcnn.load_torch(path, num_classes=5)
      model, variables = mask_rcnn.load_torch(
        path, num_classes=5, ignore=models.CLASS_LAYERS
      )
      params = variables['params']
      self.assertEqual(params['box_head']['logits']['kernel'].shape, (1024, 5))
      self.assertGreater(np.ptp(params['box_head']['logits']['kernel']), 0)
      self.assertFalse(params['box_head']['fc1']['kernel'].any())
      safetensors.numpy.save_file({'conv1.weight': np.zeros(2)}, path)
      with self.assertRaisesRegex(ValueError, f'found no {layer}.bias'):
        mask_rcnn.load_torch(path)


class ResizeTest(absltest.TestCase):
  def test_by_hand(self):
    image = np.array([[0.0, 1], [2, 3]], np.float32)[..., None]
    found = mask_rcnn._resize(image, (4, 2))
    np.testing.assert_allclose(
      found[..., 0], [[0, 1], [0.5, 1.5], [1.5, 2.5], [2, 3]]
    )
    np.testing.assert_array_equal(mask_rcnn._resize(image, (2, 2)), image)
    np.testing.assert_allclose(
      mask_rcnn._resize(image, (2, 1))[..., 0], [[0.5], [2.5]]
    )


if __name__ == '__main__':
  absltest.main()
