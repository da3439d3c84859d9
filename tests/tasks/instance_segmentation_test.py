"""Tests of the task that Mask R-CNN trains on."""

import jax
import numpy as np
import optax
from absl.testing import absltest

from medzoo.data import lung_shapes
from medzoo.models import mask_rcnn
from medzoo.tasks import instance_segmentation
from tests.models import tiny_encoder

_TERMS = ['rpn_objectness', 'rpn_box', 'classification', 'box', 'mask']


def _batch(present):
  """Films of dark rectangles; of each, which of two lungs it has."""
  rng = np.random.default_rng(0)
  masks = np.zeros((len(present), 2, 64, 64), np.uint8)
  for i, some in enumerate(present):
    for side in some:
      x = (6, 36)[side] + i
      masks[i, side, 10 + i : 50, x : x + 20] = 1
  image = 0.9 - 0.6 * masks.max(1) + 0.05 * rng.random(masks[:, 0].shape)
  there = masks.any((2, 3))
  return {
    'image': image[..., None].astype(np.float32),
    'masks': masks,
    'boxes': np.stack([lung_shapes.boxes_of(x) for x in masks]),
    'labels': np.where(there, [1, 2], 0).astype(np.int32),
    'sizes': np.full((len(present), 2), 64, np.int32),
    'valid': np.ones(len(present), bool),
  }


class InstanceSegmentationTest(absltest.TestCase):
  def test_one_compiled_step_learns_whatever_the_number_of_lungs(self):
    model = mask_rcnn.MaskRCNN(
      encoder=tiny_encoder.TinyEncoder(),
      fpn_channels=16,
      rpn_channels=16,
      anchor_sizes=(8, 16, 32, 64, 128),
      box_units=32,
      mask_channels=(16,),
      num_classes=3,
      norm='group',
      groups=4,
      aligned=True,
    )
    task = instance_segmentation.InstanceSegmentation(
      model,
      train_proposals=32,
      sampled_anchors=32,
      sampled_regions=16,
      test_proposals=16,
      min_score=0.05,
      max_detections=4,
    )
    batch = _batch([(0, 1), (0, 1), (1,), ()])
    variables = jax.jit(task.init)(jax.random.key(0, impl='rbg'), batch)
    tx = optax.adam(3e-3)

    @jax.jit
    def step(variables, state, batch, key):
      (_, (terms, _)), gradient = jax.value_and_grad(
        lambda v: task.loss(v, batch, key, train=True), has_aux=True
      )(variables)
      updates, state = tx.update(gradient, state)
      return optax.apply_updates(variables, updates), state, terms

    state, rows = tx.init(variables), []
    batches = [batch, _batch([(0,), (0, 1), (), (0, 1)])]
    for i in range(60):
      variables, state, terms = step(
        variables, state, batches[i % 2], jax.random.key(i)
      )
      rows.append(terms)
    self.assertEqual(step._cache_size(), 1)
    self.assertCountEqual(rows[0], _TERMS)
    first, last = (
      {name: np.mean([row[name] for row in some]) for name in _TERMS}
      for some in (rows[:4], rows[-4:])
    )
    for name in ('rpn_objectness', 'classification', 'mask'):
      self.assertLess(last[name], 0.7 * first[name], name)

  def test_dice_worked_by_hand(self):
    batch = _batch([(0, 1), (1,), (0,)])
    maps = batch['masks'].astype(np.float32)
    maps[0, 0, :30] = 0  # Half of the first lung of the first film.
    maps[1, 0] = 1  # No lung is there: nothing counts.
    maps[1, 1] = 0  # Missed.
    batch['valid'][2] = False
    evaluator = instance_segmentation.Evaluator()
    evaluator.update(batch, {'maps': maps})
    half = 2 * 20 / (20 + 40)
    self.assertAlmostEqual(evaluator.compute()['dice'], (half + 1 + 0) / 3)
    nothing = instance_segmentation.Evaluator()
    self.assertTrue(np.isnan(nothing.compute()['dice']))


if __name__ == '__main__':
  absltest.main()
